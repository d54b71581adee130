/**
 * Cases of what changes about one address: sessions that it is an end of are judged once more, and
 * others are not.
 */
import { packetMarks } from '../nat/nat-hook.ts';
import { changeAbout, judgedBy, type NatCase, type NatStep, newRules } from './nat-case.ts';
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
import { fragments, icmpError, ping, type Route, rawIp, udp } from './nat-packets.ts';

const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const routed = '192.0.2.2';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const router = '198.51.100.254';
const shared = '203.0.113.1';
/** Its number is the host's, too. */
const sharingPlace = '198.51.137.29';
const opened = ['mappingsOpened', 'sessionsOpened'] as const;
/** Numbers this far apart are the same in the mark. */
const STAMPS = 255;

/** UDP from port 5000 of an inside host to port 53 of a remote, and back. */
function between(inside: string, outside: string) {
  const port = inside === host ? 5000 : 5001;
  const there: Crossing = {
    inside: udp(`${inside}:${port} > ${outside}:53`),
    outside: udp(`${shared}:${port} > ${outside}:53`),
  };
  const back: Crossing = {
    inside: udp(`${outside}:53 > ${inside}:${port}`),
    outside: udp(`${outside}:53 > ${shared}:${port}`),
  };
  return { there, back };
}

const hosts = between(host, remote);
const neighbours = between(neighbour, stranger);

/** Approved both ways by this number. */
function goesOn({ there, back }: ReturnType<typeof between>, number: number): readonly NatStep[] {
  return [
    ...inward(back, approved('reply', number)),
    ...outward(there, approved('request', number)),
  ];
}

/** Approved neither way, until nft has let a request through. */
function isJudgedAnew(
  { there, back }: ReturnType<typeof between>,
  number: number,
): readonly NatStep[] {
  return [
    ...inward(back, unjudged('reply', number)),
    ...outward(there, unjudged('request', number)),
    ...goesOn({ there, back }, number),
  ];
}

/** The host's session and the neighbour's, judged by rules with the number 1. */
const twoSessions: readonly NatStep[] = [
  newRules(1),
  ...outward(hosts.there, unjudged('request', 1), ...opened),
  ...outward(neighbours.there, unjudged('request', 1), ...opened),
];

function changesAbout(address: string, count: number): readonly NatStep[] {
  return Array.from({ length: count }, () => changeAbout(address));
}

const ends: readonly NatCase[] = [
  ...[
    { whose: 'a host', address: host },
    { whose: 'a remote', address: remote },
  ].map(
    ({ whose, address }): NatCase => ({
      name: `a change about ${whose} has its sessions judged once more, and no others`,
      steps: [
        ...twoSessions,
        changeAbout(address),
        ...goesOn(neighbours, 1),
        judgedBy(1, 1),
        ...isJudgedAnew(hosts, 2),
        ...goesOn(neighbours, 1),
        judgedBy(1, 2),
      ],
    }),
  ),
  {
    name: 'changes about both ends, and of the rules, each have a session judged once more',
    steps: [
      ...twoSessions,
      changeAbout(host),
      ...isJudgedAnew(hosts, 2),
      changeAbout(remote),
      ...isJudgedAnew(hosts, 3),
      newRules(2),
      ...isJudgedAnew(hosts, 4),
      ...isJudgedAnew(neighbours, 2),
      judgedBy(2, 4),
    ],
  },
  {
    name: 'a change about an address of nobody concerns only who shares its number',
    steps: [
      ...twoSessions,
      changeAbout('198.51.100.77'),
      ...goesOn(hosts, 1),
      changeAbout(sharingPlace),
      ...goesOn(neighbours, 1),
      ...isJudgedAnew(hosts, 2),
    ],
  },
  {
    name: 'a session between two addresses that share a number is judged by it twice',
    steps: [
      newRules(1),
      ...outward(between(host, sharingPlace).there, unjudged('request', 1), ...opened),
      changeAbout(host),
      ...isJudgedAnew(between(host, sharingPlace), 3),
    ],
  },
  {
    name: 'a change about the external address concerns nobody behind it',
    steps: [...twoSessions, changeAbout(shared), ...goesOn(hosts, 1)],
  },
];

const races: readonly NatCase[] = [
  ...[
    { whose: 'its sender', address: host },
    { whose: 'its receiver', address: remote },
  ].map(
    ({ whose, address }): NatCase => ({
      name: `a packet between its hooks at a change about ${whose} judges nothing`,
      steps: [
        newRules(1),
        comesFromInside(hosts.there, unjudged('request', 1)),
        changeAbout(address),
        leavesOutward(hosts.there, unjudged('request', 1), ...opened),
        judgedBy(0),
        ...isJudgedAnew(hosts, 2),
        comesFromInside(hosts.there, approved('request', 2)),
        changeAbout(address),
        leavesOutward(hosts.there, approved('request', 2)),
        judgedBy(2),
        ...isJudgedAnew(hosts, 3),
      ],
    }),
  ),
  {
    name: 'a packet that came in before a change about somebody else judges its session',
    steps: [
      newRules(1),
      comesFromInside(hosts.there, unjudged('request', 1)),
      changeAbout(neighbour),
      leavesOutward(hosts.there, unjudged('request', 1), ...opened),
      judgedBy(1),
    ],
  },
  {
    name: 'what a stranger sent before a change about the host that it is for judges nothing',
    steps: [
      ...twoSessions,
      comesFromOutside(strange(stranger), unjudged('mapped', 1), 'sessionsOpened'),
      changeAbout(host),
      leavesInward(strange(stranger), unjudged('mapped', 1)),
      judgedBy(0, 1, 1),
      ...inward(strange(stranger), unjudged('mapped', 2)),
      judgedBy(1, 1, 2),
      ...inward(strange(stranger), approved('mapped', 2)),
    ],
  },
];

/** To the host's mapping. */
function strange(from: string): Crossing {
  return {
    inside: udp(`${from}:9 > ${host}:5000`),
    outside: udp(`${from}:9 > ${shared}:5000`),
  };
}

const numbers: readonly NatCase[] = [
  {
    name: 'a number that is in the mark as one of before approves nothing of that',
    steps: [...twoSessions, ...changesAbout(host, STAMPS), ...isJudgedAnew(hosts, 1 + STAMPS)],
  },
  {
    name: 'changes about addresses count from the rules’ number on, around its end',
    steps: [
      newRules(0xffff_ffff),
      ...outward(hosts.there, unjudged('request', 0xffff_ffff), ...opened),
      ...goesOn(hosts, 0xffff_ffff),
      ...changesAbout(host, 2),
      ...isJudgedAnew(hosts, 1),
    ],
  },
  {
    name: 'where the numbers make 0, nothing is judged or approved until the next change',
    steps: [
      newRules(0xffff_ffff),
      changeAbout(host),
      ...outward(hosts.there, unjudged('request', 0), ...opened),
      ...outward(hosts.there, unjudged('request', 0)),
      judgedBy(0),
      changeAbout(remote),
      ...isJudgedAnew(hosts, 1),
    ],
  },
  {
    name: 'without rules, changes about addresses have nothing judged',
    steps: [
      changeAbout(host),
      ...outward(hosts.there, unjudged('request', 0), ...opened),
      ...inward(hosts.back, unjudged('reply', 0)),
      judgedBy(0),
      newRules(1),
      ...isJudgedAnew(hosts, 2),
    ],
  },
];

const { hairpin } = packetMarks;
const hairpinFrames = {
  sent: udp(`${neighbour}:6000 > ${shared}:5000`),
  judged: udp(`${neighbour}:6000 > ${host}:5000`),
  received: udp(`${shared}:6000 > ${host}:5000`),
} as const;

function hairpinned(mark: number): readonly NatStep[] {
  const { sent, judged, received } = hairpinFrames;
  const both = mark | hairpin;
  return [
    passesHook('inside-ingress', { sent, seen: judged }, { before: 0, after: both }, []),
    passesHook(
      'inside-egress',
      { sent: judged, seen: received },
      { before: both, after: both },
      [],
    ),
  ];
}

/** Without translation. */
function same(route: Route): Crossing {
  const packet = udp(route);
  return { inside: packet, outside: packet };
}

const whole = {
  inside: udp(`${remote}:53 > ${host}:5000`, { identification: 7, payloadBytes: 64 }),
  outside: udp(`${remote}:53 > ${shared}:5000`, { identification: 7, payloadBytes: 64 }),
};
const [firstInside, laterInside] = fragments(whole.inside, 24);
const [firstOutside, laterOutside] = fragments(whole.outside, 24);
const first: Crossing = { inside: firstInside, outside: firstOutside };
const later: Crossing = { inside: laterInside, outside: laterOutside };

function errorTo(to: string, quoted: Crossing['inside']) {
  return icmpError(`${router} > ${to}`, { type: 3, code: 1, quoted });
}

/** GRE, or pings, of the host and the remote. */
function gre(direction: 'there' | 'back'): Crossing {
  const route = (address: string): Route =>
    direction === 'there' ? `${address} > ${remote}` : `${remote} > ${address}`;
  return { inside: rawIp(route(host), 47), outside: rawIp(route(shared), 47) };
}

function echo(direction: 'there' | 'back'): Crossing {
  const route = (address: string): Route =>
    direction === 'there' ? `${address} > ${remote}` : `${remote} > ${address}`;
  const options = { identifier: 7, type: direction === 'there' ? 8 : 0 };
  return { inside: ping(route(host), options), outside: ping(route(shared), options) };
}

const kinds: readonly NatCase[] = [
  {
    name: 'rfc4787-req9 survive-62 a change about either host has their hairpin judged once more',
    steps: [
      ...twoSessions.slice(0, 3),
      ...withCounts(hairpinned(unjudged('mapped', 1)), 'sessionsOpened', 'mappingsOpened'),
      ...hairpinned(approved('mapped', 1)),
      changeAbout(host),
      ...hairpinned(unjudged('mapped', 2)),
      ...hairpinned(approved('mapped', 2)),
      changeAbout(neighbour),
      ...hairpinned(unjudged('mapped', 3)),
      ...hairpinned(approved('mapped', 3)),
    ],
  },
  {
    name: 'a later fragment tells the number of who gets it',
    steps: [
      ...twoSessions,
      comesFromOutside(first, approved('reply', 1)),
      changeAbout(host),
      comesFromOutside(later, approved('reply', 2)),
      changeAbout(shared),
      comesFromOutside(later, approved('reply', 2)),
    ],
  },
  {
    name: 'rfc5508-req4 an error tells the number of who reports it and of who gets it',
    steps: [
      ...twoSessions,
      ...[remote, host, router].flatMap((address, index) => [
        changeAbout(address),
        comesFromOutside(
          {
            inside: errorTo(host, hosts.there.inside),
            outside: errorTo(shared, hosts.there.outside),
          },
          unjudged('related', 1 + index),
        ),
      ]),
    ],
  },
  ...[
    { what: 'pings are', there: echo('there'), back: echo('back'), counts: opened },
    {
      what: 'survive-79 a protocol without ports is',
      there: gre('there'),
      back: gre('back'),
      counts: ['sessionsOpened'] as const,
    },
    {
      what: 'a session of a routed host is',
      there: same(`${routed}:5000 > ${remote}:53`),
      back: same(`${remote}:53 > ${routed}:5000`),
      counts: ['sessionsOpened'] as const,
    },
  ].map(
    ({ what, there, back, counts }): NatCase => ({
      name: `${what} judged once more after a change about an end`,
      steps: [
        newRules(1),
        ...outward(there, unjudged('request', 1), ...counts),
        ...goesOn({ there, back }, 1),
        changeAbout(remote),
        ...isJudgedAnew({ there, back }, 2),
        changeAbout(addressAtStart(there)),
        ...isJudgedAnew({ there, back }, 3),
      ],
    }),
  ),
];

/** Of the inside end. */
function addressAtStart({ inside }: Crossing): string {
  return inside.subarray(26, 30).join('.');
}

/** The packet of the first step counts the first name besides, and so on. */
function withCounts(steps: readonly NatStep[], ...names: readonly string[]): readonly NatStep[] {
  return steps.map((step, index) => {
    const name = names[index];
    if (!('packet' in step) || name === undefined) return step;
    const counts = { ...step.outcome.counts, [name]: 1 };
    return { ...step, outcome: { ...step.outcome, counts } };
  });
}

export const natGenerationCases: readonly NatCase[] = [...ends, ...races, ...numbers, ...kinds];
