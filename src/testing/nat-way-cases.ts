/**
 * Cases of the way that a packet takes from one interface to another: only the one between those
 * that its addresses belong to is judged and approved, and what the fast path has done is left
 * alone.
 *
 * Every hook is at the same interface here. So where a packet shall come in or leave by another
 * one than its address belongs to, that address belongs to another.
 */
import { packetMarks } from '../nat/nat-hook.ts';
import {
  type Counted,
  dropped,
  judgedBy,
  type NatCase,
  type NatStep,
  newInterfaces,
  newRules,
} from './nat-case.ts';
import {
  approved,
  type Crossing,
  comesFromInside,
  comesFromOutside,
  inward,
  leavesInward,
  leavesOutward,
  outward,
  passesHook,
  unjudged,
} from './nat-crossing.ts';
import { type Frame, rawIp, tcp, udp, withBytes } from './nat-packets.ts';
import { MADE_BY_GATEWAY, TESTED_INTERFACE_INDEX } from './tested-nat.ts';

const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const elsewhere = '10.78.0.2';
const routed = '192.0.2.2';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const shared = '203.0.113.1';
const opened = ['mappingsOpened', 'sessionsOpened'] as const;

const HERE = TESTED_INTERFACE_INDEX;
const THERE = 2;
const NOWHERE = 0;

/** Where the addresses of 10.77.0.0/24, of 10.78.0.0/24 and of the internet belong. */
function interfaces({ host = HERE, elsewhere = HERE, wan = HERE }): NatStep {
  return newInterfaces({ wan, networks: [host, elsewhere, HERE, HERE] });
}

function cameInBy(index: number, step: NatStep): NatStep {
  return 'packet' in step ? { ...step, packet: { ...step.packet, cameInBy: index } } : step;
}

function to(address: string): Crossing {
  return {
    inside: udp(`${host}:5000 > ${address}:53`),
    outside: udp(`${shared}:5000 > ${address}:53`),
  };
}

function from(address: string): Crossing {
  return {
    inside: udp(`${address}:53 > ${host}:5000`),
    outside: udp(`${address}:53 > ${shared}:5000`),
  };
}

const question = to(remote);
const answer = from(remote);
const strange: Crossing = {
  inside: udp(`${stranger}:9 > ${host}:5000`),
  outside: udp(`${stranger}:9 > ${shared}:5000`),
};
const across: Crossing = same(udp(`${host}:5000 > ${elsewhere}:53`));
const acrossBack: Crossing = same(udp(`${elsewhere}:53 > ${host}:5000`));

function same(packet: Frame): Crossing {
  return { inside: packet, outside: packet };
}

const judgedWays: readonly NatCase[] = [
  {
    name: 'a session is judged when its opener comes in by the interface of its own network',
    steps: [
      interfaces({ host: THERE }),
      newRules(1),
      cameInBy(HERE, leavesOutward(question, unjudged('request', 1), ...opened)),
      judgedBy(0),
      cameInBy(THERE, leavesOutward(question, unjudged('request', 1))),
      judgedBy(1),
      ...inward(answer, approved('reply', 1)),
    ],
  },
  {
    name: 'a session is judged when its opener leaves by the interface of the receiver',
    steps: [
      interfaces({ wan: THERE }),
      newRules(1),
      leavesOutward(question, unjudged('request', 1), ...opened),
      judgedBy(0),
      interfaces({}),
      leavesOutward(question, unjudged('request', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'a session is judged by no interface that is not there',
    steps: [
      interfaces({ host: NOWHERE }),
      newRules(1),
      leavesOutward(question, unjudged('request', 1), ...opened),
      cameInBy(NOWHERE, leavesOutward(question, unjudged('request', 1))),
      judgedBy(0),
      interfaces({ wan: NOWHERE }),
      leavesOutward(question, unjudged('request', 1)),
      judgedBy(0),
    ],
  },
  {
    name: 'what a stranger opened is judged when it came in from the internet',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      interfaces({ wan: THERE }),
      comesFromOutside(strange, unjudged('mapped', 1), 'sessionsOpened'),
      cameInBy(HERE, leavesInward(strange, unjudged('mapped', 1))),
      judgedBy(0, 1),
      cameInBy(THERE, leavesInward(strange, unjudged('mapped', 1))),
      judgedBy(1, 1),
      interfaces({ wan: THERE, host: THERE }),
      cameInBy(THERE, leavesInward(strange, unjudged('mapped', 1))),
      judgedBy(0, 1),
    ],
  },
  {
    name: 'a session between two inside networks is judged on the way between their interfaces',
    steps: [
      interfaces({ host: THERE }),
      newRules(1),
      comesFromInside(across, unjudged('request', 1)),
      cameInBy(HERE, leavesInward(across, unjudged('request', 1), 'sessionsOpened')),
      judgedBy(0),
      cameInBy(THERE, leavesInward(across, unjudged('request', 1))),
      judgedBy(1),
      comesFromInside(acrossBack, approved('reply', 1)),
      comesFromInside(across, unjudged('request', 1)),
      interfaces({ host: THERE, elsewhere: THERE }),
      comesFromInside(acrossBack, unjudged('reply', 1)),
      cameInBy(THERE, leavesInward(across, unjudged('request', 1))),
      judgedBy(0),
    ],
  },
];

const astray: readonly NatCase[] = [
  {
    name: 'the judgement is taken back when nft lets the opener through from another interface',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      ...inward(answer, approved('reply', 1)),
      cameInBy(THERE, leavesOutward(question, unjudged('request', 1))),
      judgedBy(0),
      ...inward(answer, unjudged('reply', 1)),
      ...outward(question, unjudged('request', 1)),
      ...inward(answer, approved('reply', 1)),
    ],
  },
  {
    name: 'the judgement is taken back when the opener leaves by another interface',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      interfaces({ wan: THERE }),
      leavesOutward(question, unjudged('request', 1)),
      judgedBy(0),
      interfaces({}),
      ...inward(answer, unjudged('reply', 1)),
    ],
  },
  {
    name: 'a packet that would judge nothing on its way takes nothing back on another one',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      cameInBy(MADE_BY_GATEWAY, leavesOutward(question, unjudged('request', 1))),
      cameInBy(THERE, leavesOutward(question, unjudged('reply', 1))),
      cameInBy(THERE, leavesOutward(question, unjudged('request', 0))),
      comesFromOutside(strange, unjudged('mapped', 1), 'sessionsOpened'),
      leavesInward(strange, unjudged('mapped', 1)),
      cameInBy(THERE, leavesOutward(toStranger(), unjudged('request', 1))),
      judgedBy(1, 1),
      newRules(0),
      cameInBy(THERE, leavesOutward(question, unjudged('request', 0))),
      judgedBy(1, 1),
    ],
  },
  {
    name: 'the judgement of a routed session is taken back as others are',
    steps: [
      newRules(1),
      ...outward(routedRequest(), unjudged('request', 1), 'sessionsOpened'),
      judgedBy(1),
      cameInBy(THERE, leavesOutward(routedRequest(), unjudged('request', 1))),
      judgedBy(0),
    ],
  },
  {
    name: 'survive-79 the judgement of a protocol without ports is taken back as others are',
    steps: [
      newRules(1),
      ...outward(tunnel(), unjudged('request', 1), 'sessionsOpened'),
      judgedBy(1),
      cameInBy(THERE, leavesOutward(tunnel(), unjudged('request', 1))),
      judgedBy(0),
    ],
  },
  {
    name: 'rfc4787-req9 survive-62 the judgement of a hairpin is taken back as others are',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      comesToHairpin(unjudged('mapped', 1), 'sessionsOpened'),
      leavesByHairpin(unjudged('mapped', 1), 'mappingsOpened'),
      judgedBy(1, 1),
      comesToHairpin(approved('mapped', 1)),
      cameInBy(THERE, leavesByHairpin(approved('mapped', 1))),
      judgedBy(0, 1),
      comesToHairpin(unjudged('mapped', 1)),
      leavesByHairpin(unjudged('mapped', 1)),
      judgedBy(1, 1),
      interfaces({ host: THERE }),
      cameInBy(THERE, leavesByHairpin(unjudged('mapped', 1))),
      judgedBy(0, 1),
    ],
  },
];

function toStranger(): Crossing {
  return {
    inside: udp(`${host}:5000 > ${stranger}:9`),
    outside: udp(`${shared}:5000 > ${stranger}:9`),
  };
}

function routedRequest(): Crossing {
  return same(udp(`${routed}:5000 > ${remote}:53`));
}

function tunnel(): Crossing {
  return { inside: rawIp(`${host} > ${remote}`, 47), outside: rawIp(`${shared} > ${remote}`, 47) };
}

function comesToHairpin(mark: number, ...counted: Counted): NatStep {
  const sent = udp(`${neighbour}:6000 > ${shared}:5000`);
  const seen = udp(`${neighbour}:6000 > ${host}:5000`);
  const after = mark | packetMarks.hairpin;
  return passesHook('inside-ingress', { sent, seen }, { before: 0, after }, counted);
}

function leavesByHairpin(mark: number, ...counted: Counted): NatStep {
  const sent = udp(`${neighbour}:6000 > ${host}:5000`);
  const seen = udp(`${shared}:6000 > ${host}:5000`);
  const both = mark | packetMarks.hairpin;
  return passesHook('inside-egress', { sent, seen }, { before: both, after: both }, counted);
}

const approvedWays: readonly NatCase[] = [
  {
    name: 'a guest that sends in the name of a host of another network is not approved',
    steps: [
      interfaces({ host: THERE }),
      newRules(1),
      cameInBy(THERE, leavesOutward(question, unjudged('request', 1), ...opened)),
      judgedBy(1),
      comesFromInside(question, unjudged('request', 1)),
      cameInBy(HERE, leavesOutward(question, unjudged('request', 1))),
      judgedBy(0),
    ],
  },
  {
    name: 'a host that sends in the name of a remote to a routed host is not approved',
    steps: [
      newRules(1),
      ...outward(routedRequest(), unjudged('request', 1), 'sessionsOpened'),
      interfaces({ wan: THERE }),
      comesFromInside(same(udp(`${remote}:53 > ${routed}:5000`)), unjudged('reply', 1)),
      comesFromOutside(same(udp(`${remote}:53 > ${routed}:5000`)), unjudged('reply', 1)),
      comesFromInside(routedRequest(), approved('request', 1)),
    ],
  },
  {
    name: 'an answer by another interface than the WAN’s is not approved, and takes nothing back',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      interfaces({ wan: THERE }),
      comesFromOutside(answer, unjudged('reply', 1)),
      interfaces({}),
      comesFromOutside(answer, approved('reply', 1)),
    ],
  },
  {
    name: 'nothing is approved of an address whose interface is not there',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      interfaces({ host: NOWHERE, wan: NOWHERE }),
      comesFromInside(question, unjudged('request', 1)),
      comesFromOutside(answer, unjudged('reply', 1)),
      interfaces({}),
      comesFromInside(question, approved('request', 1)),
      comesFromOutside(answer, approved('reply', 1)),
    ],
  },
];

/** What the host needs for {@link sessionsWith}: its mapping. */
const mapped = [newRules(1), ...outward(question, unjudged('request', 1), ...opened)];

/** The host's sessions with all of them, which are judged or never are. */
function sessionsWith(addresses: readonly string[], { areJudged }: { areJudged: boolean }) {
  const mark = areJudged ? approved('reply', 1) : unjudged('reply', 1);
  return addresses.flatMap((address) => [
    leavesOutward(to(address), unjudged('request', 1), 'sessionsOpened'),
    leavesOutward(to(address), unjudged('request', 1)),
    comesFromOutside(from(address), mark),
  ]);
}

const oneToOneExternal = '203.0.113.9';
const nobody = ['0.1.2.3', '127.0.0.1', '224.0.0.5', '255.255.255.255', oneToOneExternal];
const somebody = ['1.0.0.0', '126.255.255.255', '128.0.0.0', '223.255.255.255'];
/** The first and the last of each range. */
const privateAddresses = [
  ...['10.0.0.0', '10.255.255.255', '172.16.0.0', '172.31.255.255'],
  ...['192.168.0.0', '192.168.255.255'],
];
const nearlyPrivate = [
  ...['9.255.255.255', '11.0.0.0', '172.15.255.255', '172.32.0.0'],
  ...['192.167.255.255', '192.169.0.0'],
];

const fromLoopback = same(udp(`127.0.0.1:53 > ${routed}:5000`));

const implausible: readonly NatCase[] = [
  {
    name: 'sessions with addresses that nobody on the internet can have are never judged',
    steps: [...mapped, ...sessionsWith(nobody, { areJudged: false })],
  },
  {
    name: 'sessions with the addresses beside those that nobody can have are judged',
    steps: [...mapped, ...sessionsWith(somebody, { areJudged: true })],
  },
  {
    name: 'sessions with private addresses are judged where the WAN is private itself',
    steps: [...mapped, ...sessionsWith(privateAddresses, { areJudged: true })],
  },
  {
    name: 'sessions with private addresses behind a public WAN are never judged, others are',
    settings: { wanIsPublic: true },
    steps: [
      ...mapped,
      ...sessionsWith(privateAddresses, { areJudged: false }),
      ...sessionsWith(nearlyPrivate, { areJudged: true }),
    ],
  },
  {
    name: 'private addresses of inside networks are judged behind a public WAN, too',
    settings: { wanIsPublic: true },
    steps: [
      newRules(1),
      comesFromInside(across, unjudged('request', 1)),
      leavesInward(across, unjudged('request', 1), 'sessionsOpened'),
      judgedBy(1),
      comesFromInside(acrossBack, approved('reply', 1)),
    ],
  },
  {
    name: 'a session that is opened in the name of an address that nobody can have is never judged',
    steps: [
      newRules(1),
      leavesInward(fromLoopback, unjudged('request', 1), 'sessionsOpened'),
      leavesInward(fromLoopback, unjudged('request', 1)),
      judgedBy(0),
      comesFromOutside(fromLoopback, unjudged('request', 1)),
    ],
  },
];

/** Goes on at WAN egress as it is. */
function leavesDone(packet: Frame, mark: number = packetMarks.done): NatStep {
  const frames = { sent: packet, seen: packet };
  return passesHook('wan-egress', frames, { before: mark, after: mark }, []);
}

const { done } = packetMarks;

/** Its header has 16 bytes. */
const malformed = withBytes(question.inside, 14, [0x44]);

const fastPath: readonly NatCase[] = [
  {
    name: 'what the fast path has done leaves for the internet as it is, whatever it is',
    steps: [
      newRules(1),
      leavesDone(question.inside),
      leavesDone(question.outside, approved('request', 1) | done),
      leavesDone(tcp(`${host}:5000 > ${remote}:80`, 'A')),
      leavesDone(udp('10.99.0.1:5000 > 198.51.100.1:53')),
      leavesDone(malformed),
      judgedBy(),
      ...outward(question, unjudged('request', 1), ...opened),
      newRules(2),
      leavesDone(question.inside, unjudged('request', 2) | done),
      judgedBy(1),
    ],
  },
  {
    name: 'what the gateway made is translated, though its mark says that it was',
    steps: [
      newRules(1),
      cameInBy(MADE_BY_GATEWAY, leavesOutward(question, done, ...opened)),
      judgedBy(0),
      cameInBy(MADE_BY_GATEWAY, dropped('wan-egress', malformed, 'droppedMalformed')),
    ].map((step) => withDone(step)),
  },
  {
    name: 'for an inside host nothing is left out by the mark of the fast path alone',
    steps: [
      newRules(1),
      comesFromInside(across, unjudged('request', 1)),
      leavesInward(across, unjudged('request', 1) | done, 'sessionsOpened'),
      judgedBy(1),
    ],
  },
  {
    name: 'the mark of the fast path means nothing on the way in',
    steps: [
      newRules(1),
      withDone(comesFromInside(question, unjudged('request', 1))),
      leavesOutward(question, unjudged('request', 1), ...opened),
      withDone(comesFromInside(question, approved('request', 1))),
      withDone(comesFromOutside(answer, approved('reply', 1))),
      withDone(comesFromInside(same(withBytes(question.inside, 12, [0x08, 0x06])), 0)),
    ],
  },
];

/** The packet brings the mark of the fast path. */
function withDone(step: NatStep): NatStep {
  if (!('packet' in step)) return step;
  return { ...step, packet: { ...step.packet, mark: (step.packet.mark ?? 0) | done } };
}

export const natWayCases: readonly NatCase[] = [
  ...judgedWays,
  ...astray,
  ...approvedWays,
  ...implausible,
  ...fastPath,
];
