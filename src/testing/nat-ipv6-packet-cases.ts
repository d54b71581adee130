/** Cases of what the NAT takes for a packet of IPv6, and of which sessions packets are. */
import { packetMarks } from '../nat/nat-hook.ts';
import {
  authentication,
  destinationOptions,
  type ExtensionHeader,
  fragmentHeader,
  hopByHop,
  ipv6Fragments,
  routing,
} from './ipv6-packets.ts';
import { judgedBy, type NatCase, type NatStep, newRules } from './nat-case.ts';
import { approved, unjudged } from './nat-crossing.ts';
import { comesFrom, crosses, isRefusedFrom, leavesBy, staysBefore } from './nat-ipv6-crossing.ts';
import { type Frame, ip, ping, rawIp, tcp, udp, withBytes } from './nat-packets.ts';

const host = '2001:db8:77::2';
const remote = '2001:db8:9::1';
const outward = { from: 0, to: 'wan' } as const;
const inward = { from: 'wan', to: 0 } as const;
const request = `[${host}]:5000 > [${remote}]:53` as const;
const response = `[${remote}]:53 > [${host}]:5000` as const;

/** Offsets in a frame. */
const VERSION_AT = 14;
const PAYLOAD_LENGTH_AT = 18;
const BEHIND_HEADER_AT = 54;
const TCP_OFFSET_AT = BEHIND_HEADER_AT + 12;

/** Dropped wherever it comes in, and wherever it would leave. */
function isMalformed(frame: Frame): readonly NatStep[] {
  return [
    ...isRefusedFrom(0, frame, 'droppedMalformed'),
    ...isRefusedFrom('wan', frame, 'droppedMalformed'),
    ...staysBefore(outward, frame, 0, 'droppedMalformed'),
    ...staysBefore(inward, frame, 0, 'droppedMalformed'),
  ];
}

/** It opens a session, so it was understood. */
function isUnderstood(frame: Frame): readonly NatStep[] {
  return crosses(outward, frame, unjudged('request', 0), 'sessionsOpened');
}

function asSuperPacket(step: NatStep): NatStep {
  return 'packet' in step ? { ...step, packet: { ...step.packet, isSuperPacket: true } } : step;
}

function withChain(...extensions: readonly ExtensionHeader[]): Frame {
  return udp(request, { extensions });
}

function times<Item>(count: number, item: Item): readonly Item[] {
  return Array.from({ length: count }, () => item);
}

const headers: readonly NatCase[] = [
  {
    name: 'survive-85 a packet of IPv6 that is not whole, or says another version, is dropped',
    steps: [
      ...isMalformed(withBytes(udp(request), VERSION_AT, [0x40])),
      ...isMalformed(withBytes(udp(request), VERSION_AT, [0x70])),
      ...isMalformed(withBytes(udp(request), PAYLOAD_LENGTH_AT, [0, 255])),
      ...isMalformed(withBytes(udp(request), PAYLOAD_LENGTH_AT, [255, 255])),
      ...isMalformed(withBytes(udp(request), PAYLOAD_LENGTH_AT, [0, 7])),
      ...isMalformed(withBytes(udp(request), PAYLOAD_LENGTH_AT, [0, 0])),
      ...isMalformed(withBytes(tcp(request, 'S'), PAYLOAD_LENGTH_AT, [0, 19])),
      ...isMalformed(withBytes(tcp(request, 'S'), TCP_OFFSET_AT, [4 << 4])),
      ...isMalformed(withBytes(tcp(request, 'S'), TCP_OFFSET_AT, [6 << 4])),
      ...isMalformed(withBytes(udp(request), BEHIND_HEADER_AT, [0, 0])),
      ...isMalformed(withBytes(tcp(request, 'S'), BEHIND_HEADER_AT + 2, [0, 0])),
      ...isMalformed(ip(`${host} > ${remote}`, 58, Uint8Array.of(128, 0, 0, 0, 0, 1, 0))),
      judgedBy(),
    ],
  },
  {
    name: 'survive-74 a super-packet beyond 64 KiB, whose header says no length, is all there is',
    steps: [
      ...[udp(request), tcp(request, 'S'), withChain(hopByHop())]
        .map((frame) => withBytes(frame, PAYLOAD_LENGTH_AT, [0, 0]))
        .flatMap((frame) => [
          ...isMalformed(frame),
          ...comesFrom(0, frame, unjudged('request', 0)).map(asSuperPacket),
        ]),
      ...isMalformed(withBytes(udp(request), PAYLOAD_LENGTH_AT, [0, 255])).map(asSuperPacket),
      ...comesFrom(0, udp(request), unjudged('request', 0)).map(asSuperPacket),
    ],
  },
  {
    name: 'a packet with nothing behind its header is a session without ports',
    steps: [
      ...crosses(
        outward,
        ip(`${host} > ${remote}`, 59, new Uint8Array(0)),
        unjudged('request', 0),
        'sessionsOpened',
      ),
      ...comesFrom('wan', ip(`${remote} > ${host}`, 59, new Uint8Array(0)), unjudged('reply', 0)),
    ],
  },
  {
    name: 'what no router forwards goes on as it came, and nothing is told about it',
    steps: [
      newRules(1),
      ...['fe80::1', 'febf::1', 'ff02::1', '::', '::1'].flatMap((address) => {
        const from = udp(`[${address}]:5000 > [${remote}]:53`);
        const to = udp(`[${remote}]:53 > [${address}]:5000`);
        return [from, to].flatMap((frame) => [
          ...comesFrom(0, frame, 0),
          ...comesFrom('wan', frame, 0),
          ...leavesBy(outward, frame, 0),
          ...leavesBy(inward, frame, 0),
        ]);
      }),
      // Nor is it looked at further.
      ...comesFrom(0, withBytes(udp(`[fe80::1]:5000 > [${remote}]:53`), 20, [0]), 0),
      judgedBy(),
      ...['fe7f::1', 'fec0::1', 'feff::1', '::2', '::ffff:1.2.3.4'].flatMap((address) =>
        comesFrom(0, udp(`[${address}]:5000 > [${remote}]:53`), unjudged('request', 1)),
      ),
    ],
  },
];

/** Sixteen bytes of options, and then no next header. */
const nothingBehind = ip(`${host} > ${remote}`, 59, new Uint8Array(0), {
  extensions: [destinationOptions(16)],
});

const chains: readonly NatCase[] = [
  {
    name: 'extension headers are stepped over: the session is that of the packet without',
    steps: [
      newRules(1),
      ...crosses(outward, udp(request), unjudged('request', 1), 'sessionsOpened'),
      ...[
        [hopByHop()],
        [destinationOptions()],
        [hopByHop(), destinationOptions(24), routing({ type: 2, segmentsLeft: 1 })],
        [routing({ type: 4, segmentsLeft: 1 }), destinationOptions()],
        [routing({ type: 0, segmentsLeft: 0 })],
        [fragmentHeader({ offset: 0, isMore: false, identification: 7 }), destinationOptions()],
      ].flatMap((extensions) => [
        ...comesFrom(0, udp(request, { extensions }), approved('request', 1)),
        ...comesFrom('wan', udp(response, { extensions }), approved('reply', 1)),
      ]),
      judgedBy(1),
    ],
  },
  {
    name: 'a chain has at most eight headers, and 256 bytes',
    steps: [
      ...isUnderstood(withChain(...times(8, destinationOptions()))),
      ...isMalformed(withChain(...times(9, destinationOptions()))),
      ...comesFrom(0, withChain(hopByHop(256)), unjudged('request', 0)),
      ...isMalformed(withChain(hopByHop(264))),
      ...comesFrom(0, withChain(hopByHop(128), destinationOptions(128)), unjudged('request', 0)),
      ...isMalformed(withChain(hopByHop(128), destinationOptions(136))),
      judgedBy(0),
    ],
  },
  {
    name: 'rfc5095 headers in a place where none may stand make a packet malformed',
    steps: [
      ...isMalformed(withChain(destinationOptions(), hopByHop())),
      ...isMalformed(withChain(hopByHop(), hopByHop())),
      ...isMalformed(withChain(routing({ type: 0, segmentsLeft: 1 }))),
      ...isMalformed(withChain(hopByHop(), routing({ type: 0, segmentsLeft: 255 }))),
      ...isMalformed(
        withChain(
          fragmentHeader({ offset: 0, isMore: false, identification: 7 }),
          fragmentHeader({ offset: 0, isMore: true, identification: 7 }),
        ),
      ),
      judgedBy(),
    ],
  },
  {
    name: 'a chain that ends in the middle of a header is malformed',
    steps: [
      ...isMalformed(withBytes(withChain(destinationOptions()), BEHIND_HEADER_AT + 1, [9])),
      ...isMalformed(withBytes(withChain(destinationOptions()), BEHIND_HEADER_AT + 1, [2])),
      ...isMalformed(withBytes(withChain(destinationOptions()), PAYLOAD_LENGTH_AT, [0, 7])),
      ...isMalformed(withBytes(withChain(destinationOptions()), PAYLOAD_LENGTH_AT, [0, 8])),
      ...isMalformed(withBytes(withChain(hopByHop()), PAYLOAD_LENGTH_AT, [0, 0])),
      // Of a protocol without ports nothing has to be behind the chain.
      ...isMalformed(withBytes(nothingBehind, BEHIND_HEADER_AT + 1, [2])),
      ...comesFrom(0, withBytes(nothingBehind, BEHIND_HEADER_AT + 1, [1]), unjudged('request', 0)),
      judgedBy(),
    ],
  },
  ...[
    ['AH', 51],
    ['ESP', 50],
    ['ICMP of IPv4', 1],
    ['a protocol without ports', 253],
  ].map(
    ([name, protocol]): NatCase => ({
      name: `survive-79 ${name} is a session of its own, whatever is behind it`,
      steps: [
        newRules(1),
        ...crosses(
          outward,
          rawIp(`${host} > ${remote}`, Number(protocol)),
          unjudged('request', 1),
          'sessionsOpened',
        ),
        ...crosses(inward, rawIp(`${remote} > ${host}`, Number(protocol)), approved('reply', 1)),
        ...comesFrom('wan', udp(response), unjudged('request', 1)),
        ...comesFrom('wan', rawIp(`${remote} > ${host}`, 252), unjudged('request', 1)),
      ],
    }),
  ),
  ...[
    ['DCCP', 33],
    ['SCTP', 132],
    ['UDP-Lite', 136],
  ].map(
    ([name, protocol]): NatCase => ({
      name: `${name}, whose ports are not told apart, is judged with each packet`,
      steps: [
        newRules(1),
        ...crosses(
          outward,
          rawIp(`${host} > ${remote}`, Number(protocol)),
          unjudged('request', 1),
          'sessionsOpened',
        ),
        ...crosses(inward, rawIp(`${remote} > ${host}`, Number(protocol)), unjudged('reply', 1)),
        ...crosses(outward, rawIp(`${host} > ${remote}`, Number(protocol)), unjudged('request', 1)),
      ],
    }),
  ),
  {
    name: 'survive-79 what AH holds has no session, though the same without AH has one',
    steps: [
      newRules(1),
      ...crosses(outward, udp(request), unjudged('request', 1), 'sessionsOpened'),
      ...comesFrom(
        0,
        udp(request, { extensions: [destinationOptions(), authentication()] }),
        unjudged('request', 1),
      ),
      ...comesFrom(
        'wan',
        udp(response, { extensions: [authentication()] }),
        unjudged('request', 1),
      ),
      ...comesFrom(0, udp(request), approved('request', 1)),
    ],
  },
];

/** Of a datagram from the host, or to it. */
function fragmentsOf(route: typeof request | typeof response, firstBytes: number) {
  const whole = udp(route, { payloadBytes: 64 });
  return ipv6Fragments(whole, { firstBytes, identification: 7 });
}

const tinyFirst = ipv6Fragments(tcp(request, 'S', { payloadBytes: 64 }), {
  firstBytes: 16,
  identification: 7,
})[0];
const chainCutOff = ipv6Fragments(withChain(destinationOptions(16), destinationOptions(16)), {
  firstBytes: 16,
  identification: 7,
})[0];

const fragmentCases: readonly NatCase[] = [
  {
    name: 'survive-65 a first fragment is of its session, and later ones go on, wherever they are',
    steps: [
      newRules(1),
      ...crosses(outward, fragmentsOf(request, 8)[0], unjudged('request', 1), 'sessionsOpened'),
      ...crosses(inward, fragmentsOf(response, 24)[0], approved('reply', 1)),
      ...crosses(outward, fragmentsOf(request, 8)[1], unjudged('request', 1)),
      ...crosses(inward, fragmentsOf(response, 24)[1], unjudged('request', 1)),
      ...leavesBy(inward, fragmentsOf(response, 24)[1], unjudged('stray', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'rfc7112 survive-65 a first fragment without all headers is dropped as malformed',
    steps: [
      ...isMalformed(tinyFirst),
      ...isMalformed(chainCutOff),
      ...isMalformed(
        ipv6Fragments(udp(request, { payloadBytes: 8 }), {
          firstBytes: 0,
          identification: 7,
        })[0],
      ),
      judgedBy(),
    ],
  },
  {
    name: 'of a later fragment nothing is looked at that is behind its fragment header',
    steps: [
      ...crosses(
        outward,
        ipv6Fragments(tcp(request, 'A', { payloadBytes: 64 }), {
          firstBytes: 80,
          identification: 7,
        })[1],
        unjudged('request', 0),
      ),
      ...comesFrom(
        'wan',
        udp(response, {
          extensions: [
            fragmentHeader({ offset: 1, isMore: true, identification: 7 }),
            ...times(8, hopByHop()),
          ],
        }),
        unjudged('request', 0),
      ),
    ],
  },
];

const others: readonly NatCase[] = [
  {
    name: 'rfc4890 messages of ICMPv6 that are neither queries nor errors have no session',
    steps: [
      newRules(1),
      ...[5, 100, 127, 130, 133, 135, 137, 150, 200, 255].flatMap((type) => {
        const out = ping(`${host} > ${remote}`, { identifier: 7, type });
        const back = ping(`${remote} > ${host}`, { identifier: 7, type });
        return [
          ...crosses(outward, out, unjudged('request', 1)),
          ...crosses(inward, back, unjudged('request', 1)),
        ];
      }),
      judgedBy(),
    ],
  },
  {
    name: 'what the gateway says of itself goes on, and makes nothing',
    steps: [
      newRules(1),
      ...leavesBy({ from: 'gateway', to: 'wan' }, udp(request), unjudged('request', 1)),
      ...leavesBy({ from: 'gateway', to: 0 }, udp(response), 0),
      ...leavesBy({ from: 'gateway', to: 0 }, withBytes(udp(response), VERSION_AT, [0x70]), 0),
      judgedBy(),
    ],
  },
  {
    name: 'what is known at ingress is left alone at egress, whatever it is',
    steps: [
      newRules(1),
      ...[
        unjudged('reply', 1),
        unjudged('related', 1),
        approved('request', 1),
        packetMarks.done,
      ].flatMap((mark) =>
        [udp(request), withBytes(udp(request), VERSION_AT, [0x70])].flatMap((frame) => [
          ...leavesBy(outward, frame, mark),
          ...leavesBy(inward, frame, mark),
        ]),
      ),
      ...[unjudged('full', 1), unjudged('stray', 1), unjudged('portForward', 1)].flatMap((mark) => [
        ...leavesBy(outward, udp(request), mark),
        ...leavesBy(inward, udp(response), mark),
      ]),
      judgedBy(),
    ],
  },
];

export const natIpv6PacketCases: readonly NatCase[] = [
  ...headers,
  ...chains,
  ...fragmentCases,
  ...others,
];
