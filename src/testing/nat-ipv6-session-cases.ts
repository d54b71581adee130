/** Cases of sessions of IPv6: kinds, quotas, judgements, and addresses whose digests are alike. */
import { digestOf } from '../nat/ipv6-digest.ts';
import type { NatNetwork } from '../nat/nat-settings.ts';
import { ipv4Address } from '../net/ipv4-address.ts';
import { ipv6Address, parseIpv6Address } from '../net/ipv6-address.ts';
import {
  type Counted,
  changeAbout,
  judgedBy,
  kill,
  type NatCase,
  type NatStep,
  newRules,
  SLOTS_PER_BUCKET,
  told,
  wait,
} from './nat-case.ts';
import { approved, unjudged } from './nat-crossing.ts';
import { comesFrom, crosses, interfacesAt, leavesBy, staysBefore } from './nat-ipv6-crossing.ts';
import { type Frame, icmpError, ping, type Route, rawIp, tcp, udp } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const { times } = natTestSettings;
const host = '2001:db8:77::2';
const neighbour = '2001:db8:78::2';
const remote = '2001:db8:9::1';
const stranger = '2001:db8:9::2';
const router = '2001:db8:ffff::1';
/** Two hosts with the same digest by the key of the tests, and two remotes. */
const alike = ['2001:db8:77::cb95', '2001:db8:77::ce29'] as const;
const alikeRemotes = ['2001:db8:9::1:2a49', '2001:db8:9::2:a780'] as const;
const outward = { from: 0, to: 'wan' } as const;
const inward = { from: 'wan', to: 0 } as const;
const across = { from: 0, to: 1 } as const;
const acrossBack = { from: 1, to: 0 } as const;
const opened: Counted = ['sessionsOpened'];

const question = udp(`[${host}]:5000 > [${remote}]:53`);
const answer = udp(`[${remote}]:53 > [${host}]:5000`);
const others = udp(`[${neighbour}]:5000 > [2001:db8:9::3]:53`);
const strange = udp(`[${stranger}]:9 > [${host}]:80`);
const toStranger = udp(`[${host}]:80 > [${stranger}]:9`);

const kinds: readonly NatCase[] = [
  {
    name: 'rfc6092-rec14 a session of UDP lives for its time behind the last packet of either end',
    steps: [
      ...crosses(outward, question, unjudged('request', 0), ...opened),
      ...crosses(inward, answer, unjudged('reply', 0)),
      wait(times.udp),
      ...comesFrom('wan', answer, unjudged('reply', 0)),
      wait(times.udp),
      ...comesFrom(0, question, unjudged('request', 0)),
      wait(times.udp),
      judgedBy(0),
      wait(1),
      judgedBy(),
    ],
  },
  {
    name: 'rfc6092-rec12 a session of another protocol lives for a time of its own',
    steps: [50, 51, 132, 253].flatMap((protocol) => [
      ...crosses(
        outward,
        rawIp(`${host} > ${remote}`, protocol),
        unjudged('request', 0),
        ...opened,
      ),
      wait(times.other),
      ...comesFrom('wan', rawIp(`${remote} > ${host}`, protocol), unjudged('reply', 0)),
      wait(times.other),
      judgedBy(0),
      wait(1),
      judgedBy(),
    ]),
  },
  {
    name: 'a stranger’s packet is a request, which opens a session where nft lets it through',
    steps: [
      ...comesFrom('wan', strange, unjudged('request', 0)),
      judgedBy(),
      ...leavesBy(inward, strange, unjudged('request', 0), ...opened),
      ...crosses(outward, toStranger, unjudged('reply', 0)),
      ...crosses(inward, strange, unjudged('request', 0)),
      judgedBy(0),
    ],
  },
  {
    name: 'a stranger whom nobody answers is forgotten sooner',
    steps: [
      ...crosses(inward, strange, unjudged('request', 0), ...opened),
      wait(times.udpUnanswered),
      judgedBy(0),
      wait(1),
      judgedBy(),
      ...crosses(inward, strange, unjudged('request', 0), ...opened),
      ...comesFrom(0, toStranger, unjudged('reply', 0)),
      wait(times.udpUnanswered + 1),
      judgedBy(0),
    ],
  },
  {
    name: 'a ping is a session by its identifier, and a reply alone opens none',
    steps: [
      ...crosses(outward, echo(128), unjudged('request', 0), ...opened),
      ...crosses(inward, echoBack(129), unjudged('reply', 0)),
      ...comesFrom('wan', echoBack(129, 8), unjudged('request', 0)),
      ...staysBefore(inward, echoBack(129, 8), unjudged('request', 0), 'droppedStray'),
      ...staysBefore(outward, echo(129, 9), unjudged('request', 0), 'droppedStray'),
      wait(times.icmp + 1),
      judgedBy(),
    ],
  },
  {
    name: 'IPv6 between two networks is a session, charged to whom opened it',
    settings: { sessionsPerHost: 1 },
    steps: [
      ...crosses(across, udp(`[${host}]:1 > [${neighbour}]:2`), unjudged('request', 0), ...opened),
      ...crosses(acrossBack, udp(`[${neighbour}]:2 > [${host}]:1`), unjudged('reply', 0)),
      ...crosses(
        acrossBack,
        udp(`[${neighbour}]:3 > [${host}]:1`),
        unjudged('request', 0),
        ...opened,
      ),
      ...comesFrom(0, question, unjudged('full', 0)),
      ...comesFrom(1, udp(`[${neighbour}]:4 > [${host}]:1`), unjudged('full', 0)),
    ],
  },
  {
    name: 'what came in by nobody’s interface has a session, which is charged to whom it was for',
    settings: { sessionsPerHost: 2 },
    steps: [
      newRules(1),
      ...leavesBy(
        { from: 'elsewhere', to: 0 },
        udp(`[${router}]:1 > [${host}]:2`),
        unjudged('request', 1),
        ...opened,
      ),
      ...leavesBy(
        { from: 'elsewhere', to: 0 },
        udp(`[${router}]:2 > [${host}]:2`),
        unjudged('request', 1),
        'unansweredLimit',
      ),
      judgedBy(0),
      ...comesFrom(0, udp(`[${host}]:2 > [${router}]:1`), unjudged('reply', 1)),
      ...leavesBy(
        { from: 'elsewhere', to: 0 },
        udp(`[${router}]:1 > [${host}]:2`),
        unjudged('request', 1),
      ),
      judgedBy(0),
    ],
  },
];

function echo(type: number, identifier = 7): Frame {
  return ping(`${host} > ${remote}`, { identifier, type });
}

function echoBack(type: number, identifier = 7): Frame {
  return ping(`${remote} > ${host}`, { identifier, type });
}

/** A connection of the host's. */
const toServer = `[${host}]:5000 > [${remote}]:80` as const;
const fromServer = `[${remote}]:80 > [${host}]:5000` as const;

function segment(route: Route, flags: string, sequence: number, acknowledgement = 0): Frame {
  return tcp(route, flags, { sequence, acknowledgement });
}

const established: readonly NatStep[] = [
  ...crosses(outward, segment(toServer, 'S', 1000), unjudged('request', 1), ...opened),
  ...crosses(inward, segment(fromServer, 'SA', 9000, 1001), unjudged('reply', 1)),
  ...comesFrom(0, segment(toServer, 'A', 1001, 9001), approved('request', 1)),
  ...comesFrom('wan', segment(fromServer, 'A', 9001, 1001), approved('reply', 1)),
];

const connections: readonly NatCase[] = [
  {
    name: 'rfc6092-rec35 a connection lives for the time of each of its states',
    steps: [
      newRules(1),
      ...crosses(outward, segment(toServer, 'S', 1000), unjudged('request', 1), ...opened),
      wait(times.tcpOpening),
      judgedBy(1),
      wait(1),
      judgedBy(),
      ...established,
      wait(times.tcpEstablished),
      ...comesFrom('wan', segment(fromServer, 'FA', 9001, 1001), approved('reply', 1)),
      ...comesFrom(0, segment(toServer, 'FA', 1001, 9002), approved('request', 1)),
      wait(times.tcpClosing),
      judgedBy(1),
      wait(1),
      judgedBy(),
    ],
  },
  {
    name: 'survive-67 segments from the internet that nobody would take do nothing',
    steps: [
      newRules(1),
      ...established,
      ...comesFrom('wan', segment(fromServer, 'R', 1), approved('reply', 1), 'tcpResetIgnored'),
      ...comesFrom('wan', segment(fromServer, 'S', 1), unjudged('reply', 1), 'tcpSynIgnored'),
      ...comesFrom(
        'wan',
        segment(fromServer, 'A', 2 ** 31, 1001),
        approved('reply', 1),
        'tcpOutOfWindow',
      ),
      wait(times.tcpClosing + 1),
      judgedBy(1),
    ],
  },
  {
    name: 'a connection that was closed is opened anew by the host, and not by a forged SYN',
    steps: [
      newRules(1),
      ...established,
      ...comesFrom(0, segment(toServer, 'R', 1001), approved('request', 1)),
      ...comesFrom('wan', segment(fromServer, 'S', 1), unjudged('reply', 1), 'tcpSynIgnored'),
      ...comesFrom(0, segment(toServer, 'S', 77), unjudged('request', 1)),
      ...leavesBy(
        outward,
        segment(toServer, 'S', 77),
        unjudged('request', 1),
        'sessionsClosed',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'TCP in the middle of nothing is stray, and is not counted',
    steps: [
      ...['A', 'SA', 'R', 'RA', 'FA', 'F', ''].flatMap((flags) => [
        ...comesFrom(0, segment(toServer, flags, 1), unjudged('stray', 0)),
        ...comesFrom('wan', segment(fromServer, flags, 1), unjudged('stray', 0)),
        ...staysBefore(outward, segment(toServer, flags, 1), 0, 'droppedStray'),
        ...staysBefore(inward, segment(fromServer, flags, 1), 0, 'droppedStray'),
      ]),
      judgedBy(),
    ],
  },
  {
    name: 'for a while after the gateway began, hosts go on with their connections',
    settings: { pickupUntilTick: 2 ** 31 },
    steps: [
      // Where a network is behind the WAN's interface, too.
      told('wan-ingress', segment(toServer, 'A', 1001, 9001), 'stray'),
      ...comesFrom('wan', segment(fromServer, 'A', 9001, 1001), unjudged('stray', 0)),
      ...staysBefore(inward, segment(fromServer, 'A', 9001, 1001), 0, 'droppedStray'),
      ...['SA', 'FA', 'RA', 'F', ''].flatMap((flags) => [
        ...comesFrom(0, segment(toServer, flags, 1), unjudged('stray', 0)),
        ...staysBefore(outward, segment(toServer, flags, 1), 0, 'droppedStray'),
      ]),
      ...staysBefore(
        { from: 'elsewhere', to: 'wan' },
        segment(toServer, 'A', 1001, 9001),
        0,
        'droppedStray',
      ),
      ...crosses(outward, segment(toServer, 'A', 1001, 9001), unjudged('request', 0), ...opened),
      ...crosses(inward, segment(fromServer, 'A', 9001, 1001), unjudged('reply', 0)),
    ],
  },
];

const judgements: readonly NatCase[] = [
  {
    name: 'a change about one address of IPv6 has its sessions judged once more, and no others',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...crosses(inward, strange, unjudged('request', 1), ...opened),
      ...crosses({ from: 1, to: 'wan' }, others, unjudged('request', 1), ...opened),
      judgedBy(1, 1, 1),
      changeAbout(remote),
      ...comesFrom('wan', answer, unjudged('reply', 2)),
      ...comesFrom('wan', strange, approved('request', 1)),
      ...comesFrom(1, others, approved('request', 1)),
      ...leavesBy(outward, question, unjudged('request', 1)),
      judgedBy(1, 1, 1),
      ...crosses(outward, question, unjudged('request', 2)),
      judgedBy(1, 1, 2),
      ...comesFrom('wan', answer, approved('reply', 2)),
      changeAbout(host),
      ...comesFrom('wan', answer, unjudged('reply', 3)),
      ...comesFrom('wan', strange, unjudged('request', 2)),
      ...comesFrom(1, others, approved('request', 1)),
      changeAbout('10.77.0.2'),
      ...comesFrom(1, others, approved('request', 1)),
    ],
  },
  {
    name: 'nft judges a session of IPv6 once, and once more after each change of the rules',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...crosses(inward, answer, approved('reply', 1)),
      newRules(2),
      ...crosses(inward, answer, unjudged('reply', 2)),
      ...leavesBy(outward, question, unjudged('request', 1)),
      judgedBy(1),
      ...crosses(outward, question, unjudged('request', 2)),
      judgedBy(2),
      ...crosses(inward, answer, approved('reply', 2)),
      newRules(0),
      ...comesFrom('wan', answer, unjudged('reply', 0)),
    ],
  },
  {
    name: 'survive-76 a packet by another interface than its end’s place is not approved',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...comesFrom(0, question, approved('request', 1)),
      ...comesFrom(1, question, unjudged('request', 1)),
      ...comesFrom('wan', question, unjudged('request', 1)),
      ...comesFrom('wan', answer, approved('reply', 1)),
      ...comesFrom(0, answer, unjudged('reply', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'a host that moves to another network is judged there, and its way is the new one',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...crosses({ from: 1, to: 'wan' }, question, unjudged('request', 1)),
      ...comesFrom(1, question, approved('request', 1)),
      ...comesFrom(0, question, unjudged('request', 1)),
      ...comesFrom('wan', answer, approved('reply', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'the judgement is taken back where the opener comes or leaves by nobody’s interface',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...leavesBy({ from: 'elsewhere', to: 'wan' }, question, unjudged('request', 1)),
      judgedBy(0),
      ...comesFrom('wan', answer, unjudged('reply', 1)),
      ...crosses(outward, question, unjudged('request', 1)),
      judgedBy(1),
      ...leavesBy({ from: 'elsewhere', to: 'wan' }, question, unjudged('request', 0)),
      ...leavesBy({ from: 'elsewhere', to: 'wan' }, question, unjudged('reply', 1)),
      ...leavesBy({ from: 'gateway', to: 'wan' }, question, unjudged('request', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'an interface that is not there is no place, and approves nothing',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      { newInterfaces: { wan: 0, networks: [0, 0, 0, 0] } },
      ...withoutInterfaces(comesFrom('wan', answer, unjudged('reply', 1))),
      ...withoutInterfaces(comesFrom(0, question, unjudged('request', 1))),
      interfacesAt(0),
      ...comesFrom(0, question, approved('request', 1)),
    ],
  },
  {
    name: 'a session of IPv6 that was killed is opened and judged anew',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      kill,
      judgedBy(),
      ...crosses(outward, question, unjudged('request', 1), 'sessionsClosed', 'sessionsOpened'),
      judgedBy(1),
    ],
  },
];

/** The packets alone. */
function withoutInterfaces(steps: readonly NatStep[]): readonly NatStep[] {
  return steps.filter((step) => 'packet' in step);
}

/** Without permissions, which take room, too. */
const narrow = { filtering: 'address-and-port-dependent' } as const;

const quotas: readonly NatCase[] = [
  {
    name: 'survive-60 a host’s sessions are counted by its address, and strangers take half',
    settings: { sessionsPerHost: 4 },
    steps: [
      ...[1, 2].flatMap((port) =>
        crosses(inward, udp(`[${stranger}]:${port} > [${host}]:80`), 0, ...opened),
      ),
      ...crosses(inward, udp(`[${stranger}]:3 > [${host}]:80`), 0, 'unansweredLimit'),
      ...[1, 2].flatMap((port) =>
        crosses(outward, udp(`[${host}]:${port} > [${remote}]:53`), 0, ...opened),
      ),
      ...comesFrom(0, question, unjudged('full', 0)),
      ...staysBefore(outward, question, 0, 'droppedHostSessions'),
      ...crosses(outward, udp(`[${neighbour}]:1 > [${remote}]:53`), 0, ...opened),
    ],
  },
  {
    name: 'survive-61 where there is no room, what both ends want stays',
    sessionCountMax: SLOTS_PER_BUCKET,
    settings: { networks: natTestSettings.networks.map((one) => ({ ...one, ...narrow })) },
    steps: [
      ...Array.from({ length: SLOTS_PER_BUCKET }, (_, index) => index + 1).flatMap((port) => [
        ...crosses(outward, udp(`[${host}]:${port} > [${remote}]:53`), 0, ...opened),
        ...comesFrom('wan', udp(`[${remote}]:53 > [${host}]:${port}`), unjudged('reply', 0)),
      ]),
      ...comesFrom(0, question, unjudged('full', 0)),
      ...staysBefore(outward, question, 0, 'droppedTableFull'),
      ...crosses(inward, strange, 0, 'unansweredLimit'),
    ],
  },
];

function digestAddress(text: string): number {
  const address = parseIpv6Address(text);
  return digestOf(natTestSettings.hashKey, ipv6Address(address ?? 0n)).digest;
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}

const ofIpv4 = udp(`${dotted(digestAddress(host))}:5000 > ${dotted(digestAddress(remote))}:53`);

/** The first network is the one address of IPv4 that is the host's digest. */
function asRoutedDigest(network: NatNetwork, index: number): NatNetwork {
  if (index > 0) return network;
  const prefix = ipv4Address(digestAddress(host));
  return { ...network, prefix, prefixLength: 32, isTranslated: false };
}

const digests: readonly NatCase[] = [
  {
    name: 'a host is not taken for another whose address has the same digest',
    steps: [
      newRules(1),
      ...crosses(outward, from(alike[0]), unjudged('request', 1), ...opened),
      ...comesFrom('wan', to(alike[1]), unjudged('request', 1)),
      ...comesFrom(0, from(alike[1]), unjudged('request', 1)),
      ...comesFrom(
        'wan',
        icmpError(`${router} > ${alike[1]}`, { type: 1, quoted: from(alike[1]) }),
        unjudged('request', 1),
      ),
      ...comesFrom('wan', to(alike[0]), approved('reply', 1)),
    ],
  },
  {
    name: 'of two sessions whose ends have the same digests, the last one that was opened lives',
    steps: [
      ...crosses(outward, from(alike[0]), unjudged('request', 0), ...opened),
      ...crosses(
        outward,
        from(alike[1]),
        unjudged('request', 0),
        'sessionsClosed',
        'sessionsOpened',
      ),
      judgedBy(0),
      ...comesFrom('wan', to(alike[0]), unjudged('request', 0)),
      ...comesFrom('wan', to(alike[1]), unjudged('reply', 0)),
    ],
  },
  {
    name: 'a remote is not taken for another whose address has the same digest',
    steps: [
      ...crosses(
        outward,
        udp(`[${host}]:5000 > [${alikeRemotes[0]}]:53`),
        unjudged('request', 0),
        ...opened,
      ),
      ...comesFrom('wan', udp(`[${alikeRemotes[1]}]:53 > [${host}]:5000`), unjudged('mapped', 0)),
      ...comesFrom('wan', udp(`[${alikeRemotes[0]}]:53 > [${host}]:5000`), unjudged('reply', 0)),
    ],
  },
  {
    name: 'a session of IPv4 between addresses that are digests is none of IPv6, nor the other way',
    settings: { networks: natTestSettings.networks.map(asRoutedDigest) },
    steps: [
      ...leavesBy(outward, ofIpv4, unjudged('request', 0), ...opened),
      ...comesFrom('wan', to(host), unjudged('request', 0)),
      ...comesFrom(0, from(host), unjudged('request', 0)),
      ...leavesBy(outward, from(host), unjudged('request', 0), ...opened),
      judgedBy(0, 0),
      ...comesFrom('wan', to(host), unjudged('reply', 0)),
      wait(times.udp),
      ...comesFrom(0, ofIpv4, unjudged('request', 0)),
      wait(1),
      judgedBy(0),
    ],
  },
];

/** Between the same two ports always. */
function from(address: string): Frame {
  return udp(`[${address}]:5000 > [${remote}]:53`);
}

function to(address: string): Frame {
  return udp(`[${remote}]:53 > [${address}]:5000`);
}

export const natIpv6SessionCases: readonly NatCase[] = [
  ...kinds,
  ...connections,
  ...judgements,
  ...quotas,
  ...digests,
];
