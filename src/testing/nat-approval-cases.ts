/** Cases of sessions that nft has judged, so that it need not judge each of their packets. */
import { packetMarks } from '../nat/nat-hook.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import {
  type Counted,
  judgedBy,
  kill,
  type NatCase,
  type NatStep,
  newRules,
  wait,
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
import {
  type Frame,
  fragments,
  icmpError,
  ping,
  type Route,
  rawIp,
  tcp,
  udp,
  withBytes,
} from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';
import { MADE_BY_GATEWAY } from './tested-nat.ts';

const { times } = natTestSettings;
const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const routed = '192.0.2.2';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const router = '198.51.100.254';
const shared = '203.0.113.1';
const opened = ['mappingsOpened', 'sessionsOpened'] as const;

const question: Crossing = {
  inside: udp(`${host}:5000 > ${remote}:53`),
  outside: udp(`${shared}:5000 > ${remote}:53`),
};
const answer: Crossing = {
  inside: udp(`${remote}:53 > ${host}:5000`),
  outside: udp(`${remote}:53 > ${shared}:5000`),
};
const strange: Crossing = {
  inside: udp(`${stranger}:9 > ${host}:5000`),
  outside: udp(`${stranger}:9 > ${shared}:5000`),
};
const toStranger: Crossing = {
  inside: udp(`${host}:5000 > ${stranger}:9`),
  outside: udp(`${shared}:5000 > ${stranger}:9`),
};

const changes: readonly NatCase[] = [
  {
    name: 'nft judges the first packet of a session: behind it both directions are approved',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      ...inward(answer, approved('reply', 1)),
      ...outward(question, approved('request', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'other rules approve neither direction until they have let a request through',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      newRules(2),
      ...inward(answer, unjudged('reply', 2)),
      comesFromInside(question, unjudged('request', 2)),
      ...inward(answer, unjudged('reply', 2)),
      leavesOutward(question, unjudged('request', 2)),
      ...inward(answer, approved('reply', 2)),
      ...outward(question, approved('request', 2)),
    ],
  },
  {
    name: 'a packet that came in before other rules, and leaves after them, judges nothing',
    steps: [
      newRules(1),
      comesFromInside(question, unjudged('request', 1)),
      newRules(2),
      leavesOutward(question, unjudged('request', 1), ...opened),
      judgedBy(0),
      ...inward(answer, unjudged('reply', 2)),
      ...outward(question, unjudged('request', 2)),
      comesFromInside(question, approved('request', 2)),
      newRules(3),
      leavesOutward(question, approved('request', 2)),
      judgedBy(2),
      ...inward(answer, unjudged('reply', 3)),
    ],
  },
  {
    name: 'rules whose number is in the mark as that of rules of before approve nothing of theirs',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      newRules(256),
      ...inward(answer, unjudged('reply', 1)),
      ...outward(question, unjudged('request', 1)),
      ...inward(answer, approved('reply', 1)),
      judgedBy(256),
      newRules(0xffff_ffff),
      ...inward(answer, unjudged('reply', 255)),
      ...outward(question, unjudged('request', 255)),
      ...outward(question, approved('request', 255)),
      judgedBy(0xffff_ffff),
    ],
  },
  {
    name: 'the mark tells 255 numbers apart, and has a bit for each of them',
    steps: (
      [
        [1, 0x0100_0000],
        [254, 0x7f80_0000],
        [255, 0x0080_0000],
        [256, 0x0100_0000],
      ] as const
    ).flatMap(([number, mark]) => [newRules(number), comesFromInside(question, mark)]),
  },
  {
    name: 'rules without a number approve nothing',
    steps: [
      ...outward(question, unjudged('request', 0), ...opened),
      ...inward(answer, unjudged('reply', 0)),
      ...outward(question, unjudged('request', 0)),
      judgedBy(0),
    ],
  },
  {
    name: 'a session that is opened anew, after its time or after it was killed, is judged anew',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      wait(times.udp + 1),
      comesFromInside(question, unjudged('request', 1)),
      leavesOutward(question, unjudged('request', 1), 'sessionsOpened'),
      ...outward(question, approved('request', 1)),
      kill,
      judgedBy(),
      comesFromInside(question, unjudged('request', 1)),
      newRules(2),
      leavesOutward(question, unjudged('request', 1), 'sessionsClosed', 'sessionsOpened'),
      judgedBy(0),
      ...outward(question, unjudged('request', 2)),
      ...outward(question, approved('request', 2)),
    ],
  },
];

function madeByGateway(step: NatStep): NatStep {
  if (!('packet' in step)) return step;
  return { ...step, packet: { ...step.packet, cameInBy: MADE_BY_GATEWAY } };
}

const othersThanTheOpener: readonly NatCase[] = [
  {
    name: 'answers never judge a session, whichever way they go',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      comesFromOutside(strange, unjudged('mapped', 1), 'sessionsOpened'),
      leavesInward(strange, unjudged('mapped', 1)),
      judgedBy(1, 1),
      newRules(2),
      ...inward(answer, unjudged('reply', 2)),
      ...outward(toStranger, unjudged('reply', 2)),
      judgedBy(1, 1),
      ...inward(answer, unjudged('reply', 2)),
      ...outward(toStranger, unjudged('reply', 2)),
      ...inward(strange, unjudged('mapped', 2)),
      judgedBy(1, 2),
      ...outward(toStranger, approved('reply', 2)),
    ],
  },
  {
    name: 'an answer that opens a session, since its mapping has ended, was judged as an answer',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      wait(times.udp),
      comesFromOutside(strange, unjudged('mapped', 1), 'sessionsOpened'),
      leavesInward(strange, unjudged('mapped', 1)),
      wait(9),
      comesFromInside(toStranger, approved('reply', 1)),
      leavesOutward(toStranger, approved('reply', 1), 'sessionsClosed', ...opened),
      judgedBy(0),
      ...outward(toStranger, unjudged('request', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'what the gateway makes in a host’s name judges nothing',
    steps: [
      newRules(1),
      madeByGateway(leavesOutward(question, unjudged('request', 1), ...opened)),
      judgedBy(0),
      ...outward(question, unjudged('request', 1)),
      judgedBy(1),
      newRules(2),
      madeByGateway(leavesOutward(question, unjudged('request', 2))),
      judgedBy(1),
      ...inward(answer, unjudged('reply', 2)),
    ],
  },
  {
    name: 'rfc5508-req4 survive-64 errors about an approved session are judged, and judge nothing',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      newRules(2),
      ...inward(
        {
          inside: errorFromRouter(host, question.inside),
          outside: errorFromRouter(shared, question.outside),
        },
        unjudged('related', 2),
      ),
      judgedBy(1),
      ...outward(question, unjudged('request', 2)),
      ...inward(
        {
          inside: errorFromRouter(host, question.inside),
          outside: errorFromRouter(shared, question.outside),
        },
        unjudged('related', 2),
      ),
    ],
  },
];

function errorFromRouter(to: string, quoted: Frame): Frame {
  return icmpError(`${router} > ${to}`, { type: 3, code: 1, quoted });
}

/** A segment between two endpoints inside, or one inside and one outside. */
function segment(
  { inside, outside }: { readonly inside: Route; readonly outside: Route },
  flags: string,
  [sequence, acknowledgement]: readonly [number, number],
): Crossing {
  const numbers = { sequence, acknowledgement };
  return { inside: tcp(inside, flags, numbers), outside: tcp(outside, flags, numbers) };
}

const toServer = {
  inside: `${host}:5000 > ${remote}:80`,
  outside: `${shared}:5000 > ${remote}:80`,
} as const;
const fromServer = {
  inside: `${remote}:80 > ${host}:5000`,
  outside: `${remote}:80 > ${shared}:5000`,
} as const;
const toForward = {
  inside: `${stranger}:9 > ${host}:80`,
  outside: `${stranger}:9 > ${shared}:8080`,
} as const;
const fromForward = {
  inside: `${host}:80 > ${stranger}:9`,
  outside: `${shared}:8080 > ${stranger}:9`,
} as const;
const toWebServer = {
  class: 'tcp',
  external: 0,
  externalPort: 8080,
  insideAddress: requireIpv4Address(host),
  insidePort: 80,
} as const;

const kinds: readonly NatCase[] = [
  {
    name: 'SYN and SYN with ACK are never approved, since nft lowers their MSS',
    steps: [
      newRules(1),
      ...outward(segment(toServer, 'S', [1000, 0]), unjudged('request', 1), ...opened),
      ...outward(segment(toServer, 'S', [1000, 0]), unjudged('request', 1)),
      ...inward(segment(fromServer, 'SA', [9000, 1001]), unjudged('reply', 1)),
      ...outward(segment(toServer, 'A', [1001, 9001]), approved('request', 1)),
      ...inward(segment(fromServer, 'A', [9001, 1001]), approved('reply', 1)),
      comesFromOutside(
        segment(fromServer, 'SA', [9000, 1001]),
        unjudged('reply', 1),
        'tcpSynIgnored',
      ),
      ...inward(segment(fromServer, 'FA', [9001, 1001]), approved('reply', 1)),
      ...outward(segment(toServer, 'R', [1001, 0]), approved('request', 1)),
    ],
  },
  {
    name: 'survive-72 a stranger is approved by a mapping once nft has let a packet of its through',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      comesFromOutside(strange, unjudged('mapped', 1), 'sessionsOpened'),
      comesFromOutside(strange, unjudged('mapped', 1)),
      judgedBy(0, 1),
      leavesInward(strange, unjudged('mapped', 1)),
      judgedBy(1, 1),
      ...inward(strange, approved('mapped', 1)),
      ...outward(toStranger, approved('reply', 1)),
      newRules(2),
      comesFromOutside(strange, unjudged('mapped', 2)),
      ...outward(toStranger, unjudged('reply', 2)),
      leavesInward(strange, unjudged('mapped', 2)),
      ...inward(strange, approved('mapped', 2)),
    ],
  },
  {
    name: 'a connection by a port forward is approved behind its SYN, both ways',
    portForwards: [toWebServer],
    steps: [
      newRules(1),
      comesFromOutside(
        segment(toForward, 'S', [1000, 0]),
        unjudged('portForward', 1),
        'sessionsOpened',
      ),
      leavesInward(segment(toForward, 'S', [1000, 0]), unjudged('portForward', 1)),
      judgedBy(1),
      ...outward(segment(fromForward, 'SA', [9000, 1001]), unjudged('reply', 1)),
      ...inward(segment(toForward, 'A', [1001, 9001]), approved('portForward', 1)),
      ...outward(segment(fromForward, 'A', [9001, 1001]), approved('reply', 1)),
      newRules(2),
      ...inward(segment(toForward, 'A', [1001, 9001]), unjudged('portForward', 2)),
      ...outward(segment(fromForward, 'A', [9001, 1001]), approved('reply', 2)),
    ],
  },
  {
    name: 'pings are approved as other sessions',
    steps: [
      newRules(1),
      ...outward(pinging(8), unjudged('request', 1), ...opened),
      ...inward(ponging(0), approved('reply', 1)),
      ...outward(pinging(8), approved('request', 1)),
      newRules(2),
      ...inward(ponging(0), unjudged('reply', 2)),
      ...outward(pinging(8), unjudged('request', 2)),
      ...inward(ponging(0), approved('reply', 2)),
    ],
  },
  ...[47, 50].map(
    (protocol): NatCase => ({
      name: `survive-79 protocol ${protocol}, which has no ports, is approved as others are`,
      steps: [
        newRules(1),
        ...outward(without(protocol, 'from'), unjudged('request', 1), 'sessionsOpened'),
        ...inward(without(protocol, 'to'), approved('reply', 1)),
        ...outward(without(protocol, 'from'), approved('request', 1)),
        newRules(2),
        ...inward(without(protocol, 'to'), unjudged('reply', 2)),
        ...outward(without(protocol, 'from'), unjudged('request', 2)),
        ...inward(without(protocol, 'to'), approved('reply', 2)),
      ],
    }),
  ),
  {
    name: 'SCTP, whose ports are not told apart, is judged with each packet',
    steps: [
      newRules(1),
      ...outward(without(132, 'from'), unjudged('request', 1), 'sessionsOpened'),
      ...inward(without(132, 'to'), unjudged('reply', 1)),
      ...outward(without(132, 'from'), unjudged('request', 1)),
    ],
  },
];

function pinging(type: number): Crossing {
  return {
    inside: ping(`${host} > ${remote}`, { identifier: 7, type }),
    outside: ping(`${shared} > ${remote}`, { identifier: 7, type }),
  };
}

function ponging(type: number): Crossing {
  return {
    inside: ping(`${remote} > ${host}`, { identifier: 7, type }),
    outside: ping(`${remote} > ${shared}`, { identifier: 7, type }),
  };
}

/** Without ports, from or to the host. */
function without(protocol: number, direction: 'from' | 'to'): Crossing {
  const route = (address: string): Route =>
    direction === 'from' ? `${address} > ${remote}` : `${remote} > ${address}`;
  return { inside: rawIp(route(host), protocol), outside: rawIp(route(shared), protocol) };
}

/** The same on both sides. */
function untranslated(route: Route): Crossing {
  const packet = udp(route);
  return { inside: packet, outside: packet };
}

const routedRequest = untranslated(`${routed}:5000 > ${remote}:53`);
const routedReply = untranslated(`${remote}:53 > ${routed}:5000`);
const routedIn = untranslated(`${stranger}:9 > ${routed}:5000`);
const routedInReply = untranslated(`${routed}:5000 > ${stranger}:9`);
const acrossNetworks = untranslated(`${host}:5000 > 10.78.0.2:53`);
const acrossNetworksReply = untranslated(`10.78.0.2:53 > ${host}:5000`);

/** From one inside host to another, without translation. */
function across(packet: Crossing, mark: number, ...counted: Counted): readonly NatStep[] {
  return [comesFromInside(packet, mark), leavesInward(packet, mark, ...counted)];
}

const untranslatedSessions: readonly NatCase[] = [
  {
    name: 'sessions of a routed network are approved, whoever opens them',
    steps: [
      newRules(1),
      ...outward(routedRequest, unjudged('request', 1), 'sessionsOpened'),
      ...inward(routedReply, approved('reply', 1)),
      ...outward(routedRequest, approved('request', 1)),
      comesFromOutside(routedIn, unjudged('request', 1)),
      leavesInward(routedIn, unjudged('request', 1), 'sessionsOpened'),
      ...outward(routedInReply, approved('reply', 1)),
      ...inward(routedIn, approved('request', 1)),
      newRules(2),
      ...inward(routedReply, unjudged('reply', 2)),
      ...outward(routedInReply, unjudged('reply', 2)),
      judgedBy(1, 1),
      ...outward(routedRequest, unjudged('request', 2)),
      ...inward(routedIn, unjudged('request', 2)),
      judgedBy(2, 2),
      ...inward(routedReply, approved('reply', 2)),
      ...outward(routedInReply, approved('reply', 2)),
    ],
  },
  {
    name: 'a session between two inside networks is approved',
    steps: [
      newRules(1),
      ...across(acrossNetworks, unjudged('request', 1), 'sessionsOpened'),
      ...across(acrossNetworksReply, approved('reply', 1)),
      newRules(2),
      ...across(acrossNetworksReply, unjudged('reply', 2)),
      judgedBy(1),
      ...across(acrossNetworks, unjudged('request', 2)),
      judgedBy(2),
      ...across(acrossNetworks, approved('request', 2)),
    ],
  },
  {
    name: 'what is approved leaves for an inside host at once, by rules of before, too',
    steps: [
      newRules(1),
      ...across(acrossNetworks, unjudged('request', 1), 'sessionsOpened'),
      comesFromInside(acrossNetworks, approved('request', 1)),
      newRules(2),
      kill,
      leavesInward(acrossNetworks, approved('request', 1)),
      judgedBy(),
    ],
  },
];

/** As its sender, nft, and its receiver see it. */
interface HairpinStages {
  readonly sent: Frame;
  readonly judged: Frame;
  readonly received: Frame;
}

const { hairpin } = packetMarks;

function comesToHairpin({ sent, judged }: HairpinStages, mark: number, ...counted: Counted) {
  const marks = { before: 0, after: mark | hairpin };
  return passesHook('inside-ingress', { sent, seen: judged }, marks, counted);
}

function leavesByHairpin({ judged, received }: HairpinStages, mark: number, ...counted: Counted) {
  const marks = { before: mark | hairpin, after: mark | hairpin };
  return passesHook('inside-egress', { sent: judged, seen: received }, marks, counted);
}

const hairpinRequest: HairpinStages = {
  sent: udp(`${neighbour}:6000 > ${shared}:5000`),
  judged: udp(`${neighbour}:6000 > ${host}:5000`),
  received: udp(`${shared}:6000 > ${host}:5000`),
};
const hairpinReply: HairpinStages = {
  sent: udp(`${host}:5000 > ${shared}:6000`),
  judged: udp(`${host}:5000 > ${neighbour}:6000`),
  received: udp(`${shared}:5000 > ${neighbour}:6000`),
};

const hairpins: readonly NatCase[] = [
  {
    name: 'rfc4787-req9 survive-62 an approved hairpin is seen at external endpoints all the same',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      comesToHairpin(hairpinRequest, unjudged('mapped', 1), 'sessionsOpened'),
      judgedBy(0, 1),
      leavesByHairpin(hairpinRequest, unjudged('mapped', 1), 'mappingsOpened'),
      judgedBy(1, 1),
      comesToHairpin(hairpinReply, approved('reply', 1)),
      leavesByHairpin(hairpinReply, approved('reply', 1)),
      comesToHairpin(hairpinRequest, approved('mapped', 1)),
      leavesByHairpin(hairpinRequest, approved('mapped', 1)),
      newRules(2),
      comesToHairpin(hairpinReply, unjudged('reply', 2)),
      leavesByHairpin(hairpinReply, unjudged('reply', 2)),
      judgedBy(1, 1),
      comesToHairpin(hairpinRequest, unjudged('mapped', 2)),
      leavesByHairpin(hairpinRequest, unjudged('mapped', 2)),
      judgedBy(1, 2),
      comesToHairpin(hairpinReply, approved('reply', 2)),
    ],
  },
];

const whole: Crossing = {
  inside: udp(`${remote}:53 > ${host}:5000`, { identification: 7, payloadBytes: 64 }),
  outside: udp(`${remote}:53 > ${shared}:5000`, { identification: 7, payloadBytes: 64 }),
};
const [firstInside, laterInside] = fragments(whole.inside, 24);
const [firstOutside, laterOutside] = fragments(whole.outside, 24);
const first: Crossing = { inside: firstInside, outside: firstOutside };
const later: Crossing = { inside: laterInside, outside: laterOutside };

const MARK_OF_OTHERS = 0x807f_f03f;

function marked(step: NatStep): NatStep {
  if (!('packet' in step) || step.outcome.mark === undefined) return step;
  const mark = (step.outcome.mark | MARK_OF_OTHERS) >>> 0;
  const packet = { ...step.packet, mark: 0xffff_ffff };
  return { packet, outcome: { ...step.outcome, mark } };
}

const marks: readonly NatCase[] = [
  {
    name: 'a later fragment is approved as its first, and tells the rules of its own time',
    steps: [
      newRules(1),
      ...outward(question, unjudged('request', 1), ...opened),
      comesFromOutside(first, approved('reply', 1)),
      comesFromOutside(later, approved('reply', 1)),
      newRules(2),
      comesFromOutside(later, approved('reply', 2)),
    ],
  },
  {
    name: 'the bits of others stay in the mark of what is approved, and ours are told anew',
    steps: [
      newRules(0x155),
      ...outward(question, unjudged('request', 0x155), ...opened),
      marked(comesFromInside(question, approved('request', 0x155))),
      marked(comesFromOutside(answer, approved('reply', 0x155))),
    ],
  },
  {
    name: 'what is no IPv4 has nothing of ours in its mark, the number of the rules neither',
    steps: [
      newRules(1),
      ...(['inside-ingress', 'wan-ingress'] as const).map((at) => {
        const frame = withBytes(question.inside, 12, [0x08, 0x06]);
        return marked(passesHook(at, { sent: frame, seen: frame }, { before: 0, after: 0 }, []));
      }),
    ],
  },
];

export const natApprovalCases: readonly NatCase[] = [
  ...changes,
  ...othersThanTheOpener,
  ...kinds,
  ...untranslatedSessions,
  ...hairpins,
  ...marks,
];
