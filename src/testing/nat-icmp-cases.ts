/** Cases of ICMP: queries and errors (RFC 5508). */
import {
  dropped,
  fromGateway,
  hairpinIn,
  hairpinOut,
  into,
  type NatCase,
  type NatStep,
  out,
  told,
  wait,
} from './nat-case.ts';
import {
  type IcmpErrorOptions,
  icmpError,
  ping,
  rawIp,
  tcp,
  udp,
  withBytes,
} from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const { times } = natTestSettings;
const host = '10.77.0.2';
const remote = '198.51.100.1';
const router = '198.51.100.254';
const shared = '203.0.113.1';
const unreachable = { type: 3, code: 1 } as const;
const leavesFrom = udp(`${host}:5000 > ${remote}:53`, { payloadBytes: 21 });
const leavesAs = udp(`${shared}:5000 > ${remote}:53`, { payloadBytes: 21 });
const start: NatStep = out(leavesFrom, leavesAs, ...opened);

/** The error that a router far away sends, and what the inside host gets. */
function errorInto(options: Omit<IcmpErrorOptions, 'quoted'>): NatStep {
  return into(
    icmpError(`${router} > ${shared}`, { ...options, quoted: leavesAs }),
    icmpError(`${router} > ${host}`, { ...options, quoted: leavesFrom }),
    'related',
  );
}

const queries: readonly NatCase[] = [
  {
    name: 'rfc5508-req1 pings of one identifier to two remotes leave with one identifier',
    steps: [
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
      out(
        ping(`${host} > ${router}`, { identifier: 7 }),
        ping(`${shared} > ${router}`, { identifier: 7 }),
        'sessionsOpened',
      ),
      into(
        ping(`${remote} > ${shared}`, { identifier: 7, type: 0 }),
        ping(`${remote} > ${host}`, { identifier: 7, type: 0 }),
        'reply',
      ),
    ],
  },
  {
    name: 'rfc5508-req1 two hosts that ping with one identifier leave with two',
    steps: [
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
      out(
        ping(`10.77.0.3 > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 60_093 }),
        ...opened,
      ),
      into(
        ping(`${remote} > ${shared}`, { identifier: 60_093, type: 0 }),
        ping(`${remote} > 10.77.0.3`, { identifier: 7, type: 0 }),
        'reply',
      ),
    ],
  },
  {
    name: 'rfc5508-req2 a ping waits for its answer for its whole time',
    steps: [
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
      wait(times.icmp),
      into(
        ping(`${remote} > ${shared}`, { identifier: 7, type: 0 }),
        ping(`${remote} > ${host}`, { identifier: 7, type: 0 }),
        'reply',
      ),
      wait(times.icmp + 9),
      told('wan-ingress', ping(`${remote} > ${shared}`, { identifier: 7, type: 0 }), 'request'),
    ],
  },
  {
    name: 'an answer to a ping that nobody sent leaves by no session',
    steps: [
      dropped(
        'wan-egress',
        ping(`${host} > ${remote}`, { identifier: 7, type: 0 }),
        'droppedStray',
      ),
    ],
  },
];

const errors: readonly NatCase[] = [
  {
    name: 'rfc5508-req4 survive-63 an error about a mapped packet reaches who sent that',
    steps: [start, errorInto(unreachable)],
  },
  {
    name: 'rfc5508-req4 survive-63 eight bytes of the packet that an error is about are enough',
    steps: [
      start,
      errorInto({ ...unreachable, quotedTransportBytes: 8 }),
      dropped(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: leavesAs,
          quotedTransportBytes: 7,
        }),
        'droppedIcmpBroken',
      ),
    ],
  },
  {
    name: 'rfc5508-req3 survive-63 options in the quoted header are stepped over',
    steps: [
      start,
      into(
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: udp(`${shared}:5000 > ${remote}:53`, { optionBytes: 12 }),
        }),
        icmpError(`${router} > ${host}`, {
          ...unreachable,
          quoted: udp(`${host}:5000 > ${remote}:53`, { optionBytes: 12 }),
        }),
        'related',
      ),
    ],
  },
  {
    name: 'rfc5508-req3 survive-63 wrong checksums of the error or the quoted header end it',
    steps: [
      start,
      dropped(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, { ...unreachable, quoted: leavesAs, checksum: 'wrong' }),
        'droppedIcmpBroken',
      ),
      dropped(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: withBytes(leavesAs, 22, [1]),
        }),
        'droppedIcmpBroken',
      ),
    ],
  },
  {
    name: 'rfc5508-req3 survive-63 checksums of quoted transports are changed, never judged',
    steps: (['none', 'wrong'] as const).flatMap((checksum) => [
      ...(checksum === 'none' ? [start] : []),
      into(
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: udp(`${shared}:5000 > ${remote}:53`, { checksum }),
        }),
        icmpError(`${router} > ${host}`, {
          ...unreachable,
          quoted: udp(`${host}:5000 > ${remote}:53`, { checksum }),
        }),
        'related',
      ),
    ]),
  },
  {
    name: 'rfc5508-req4 rfc5382-req9 an error about TCP is translated, short or whole',
    steps: [
      out(
        tcp(`${host}:5000 > ${remote}:80`, 'S'),
        tcp(`${shared}:5000 > ${remote}:80`, 'S'),
        ...opened,
      ),
      ...[8, 16, 18, 20].map((quotedTransportBytes) =>
        into(
          icmpError(`${router} > ${shared}`, {
            ...unreachable,
            quotedTransportBytes,
            quoted: tcp(`${shared}:5000 > ${remote}:80`, 'S'),
          }),
          icmpError(`${router} > ${host}`, {
            ...unreachable,
            quotedTransportBytes,
            quoted: tcp(`${host}:5000 > ${remote}:80`, 'S'),
          }),
          'related',
        ),
      ),
    ],
  },
  {
    name: 'rfc5508-req4 an error about a ping is translated, with the ping’s identifier',
    steps: [
      out(
        ping(`${host} > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 7 }),
        ...opened,
      ),
      out(
        ping(`10.77.0.3 > ${remote}`, { identifier: 7 }),
        ping(`${shared} > ${remote}`, { identifier: 60_093 }),
        ...opened,
      ),
      into(
        icmpError(`${router} > ${shared}`, {
          type: 11,
          quoted: ping(`${shared} > ${remote}`, { identifier: 60_093 }),
        }),
        icmpError(`${router} > 10.77.0.3`, {
          type: 11,
          quoted: ping(`10.77.0.3 > ${remote}`, { identifier: 7 }),
        }),
        'related',
      ),
    ],
  },
  {
    name: 'rfc5508-req4 an error about a protocol without ports reaches who speaks it',
    steps: [
      out(rawIp(`${host} > ${remote}`, 47), rawIp(`${shared} > ${remote}`, 47), 'sessionsOpened'),
      into(
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: rawIp(`${shared} > ${remote}`, 47),
        }),
        icmpError(`${router} > ${host}`, {
          ...unreachable,
          quoted: rawIp(`${host} > ${remote}`, 47),
        }),
        'related',
      ),
    ],
  },
  {
    name: 'survive-64 a forged MTU is raised to what the internet has, a true one stays',
    steps: [
      start,
      into(
        icmpError(`${router} > ${shared}`, { type: 3, code: 4, rest: 68, quoted: leavesAs }),
        icmpError(`${router} > ${host}`, { type: 3, code: 4, rest: 552, quoted: leavesFrom }),
        'related',
      ),
      errorInto({ type: 3, code: 4, rest: 0 }),
      errorInto({ type: 3, code: 4, rest: 1280 }),
    ],
  },
  {
    name: 'survive-64 an error about no session of ours is dropped, or is the gateway’s own',
    steps: [
      start,
      dropped(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: udp(`${shared}:5000 > 198.51.100.9:53`),
        }),
        'droppedIcmpUnknown',
      ),
      told(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, {
          ...unreachable,
          quoted: udp(`${shared}:5001 > ${remote}:53`),
        }),
        'request',
      ),
    ],
  },
  {
    name: 'rfc5508-req6 rfc4787-req12 rfc5382-req10 rfc7857-s7 an error ends and prolongs nothing',
    steps: [
      start,
      wait(20),
      errorInto(unreachable),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      wait(times.udp - 10),
      errorInto({ type: 11 }),
      wait(19),
      told('wan-ingress', udp(`${remote}:53 > ${shared}:5000`), 'request'),
    ],
  },
  {
    name: 'rfc5508-req11 redirects never cross, in neither direction',
    steps: [
      start,
      dropped(
        'wan-ingress',
        icmpError(`${router} > ${shared}`, { type: 5, quoted: leavesAs }),
        'droppedIcmpUnknown',
      ),
      dropped(
        'wan-egress',
        icmpError(`${host} > ${remote}`, { type: 5, quoted: udp(`${remote}:53 > ${host}:5000`) }),
        'droppedIcmpUnknown',
      ),
    ],
  },
  {
    name: 'rfc5508-req11 ICMP that is neither query nor error crosses in no direction',
    steps: [
      start,
      ...[9, 10, 40, 255].flatMap((type) => [
        told('wan-ingress', ping(`${remote} > ${shared}`, { identifier: 5000, type }), 'request'),
        dropped(
          'wan-egress',
          ping(`${host} > ${remote}`, { identifier: 5000, type }),
          'droppedProtocol',
        ),
      ]),
    ],
  },
  {
    name: 'rfc5508-req5 an error of an inside host leaves with external addresses',
    steps: [
      start,
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      out(
        icmpError(`${host} > ${remote}`, {
          type: 3,
          code: 3,
          quoted: udp(`${remote}:53 > ${host}:5000`),
        }),
        icmpError(`${shared} > ${remote}`, {
          type: 3,
          code: 3,
          quoted: udp(`${remote}:53 > ${shared}:5000`),
        }),
      ),
      dropped(
        'wan-egress',
        icmpError(`${host} > ${remote}`, {
          type: 3,
          code: 3,
          quoted: udp(`${remote}:53 > ${host}:5001`),
        }),
        'droppedIcmpUnknown',
      ),
    ],
  },
  {
    name: 'rfc5508-req5 the gateway’s own error tells the external endpoint',
    steps: [
      start,
      fromGateway(
        icmpError(`${shared} > ${remote}`, {
          type: 11,
          quoted: udp(`${remote}:53 > ${host}:5000`),
        }),
        icmpError(`${shared} > ${remote}`, {
          type: 11,
          quoted: udp(`${remote}:53 > ${shared}:5000`),
        }),
      ),
      fromGateway(
        icmpError(`${shared} > ${remote}`, { type: 11, quoted: udp(`${remote}:53 > 192.0.2.2:9`) }),
        icmpError(`${shared} > ${remote}`, { type: 11, quoted: udp(`${remote}:53 > 192.0.2.2:9`) }),
      ),
    ],
  },
  {
    name: 'rfc5508-req7 survive-62 an error about a hairpinned packet tells external endpoints',
    steps: [
      start,
      hairpinIn(
        udp(`10.77.0.3:6000 > ${shared}:5000`),
        udp(`10.77.0.3:6000 > ${host}:5000`),
        'mapped',
        'sessionsOpened',
      ),
      hairpinOut(
        udp(`10.77.0.3:6000 > ${host}:5000`),
        udp(`${shared}:6000 > ${host}:5000`),
        'mapped',
        'mappingsOpened',
      ),
      hairpinIn(
        icmpError(`${host} > ${shared}`, {
          ...unreachable,
          quoted: udp(`${shared}:6000 > ${host}:5000`),
        }),
        icmpError(`${host} > 10.77.0.3`, {
          ...unreachable,
          quoted: udp(`10.77.0.3:6000 > ${host}:5000`),
        }),
        'related',
      ),
      hairpinOut(
        icmpError(`${host} > 10.77.0.3`, {
          ...unreachable,
          quoted: udp(`10.77.0.3:6000 > ${host}:5000`),
        }),
        icmpError(`${shared} > 10.77.0.3`, {
          ...unreachable,
          quoted: udp(`10.77.0.3:6000 > ${shared}:5000`),
        }),
        'related',
      ),
    ],
  },
];

export const natIcmpCases: readonly NatCase[] = [...queries, ...errors];
