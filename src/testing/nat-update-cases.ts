/** Cases of what RFC 7857 adds to the RFCs of the single protocols. */
import { dropped, into, type NatCase, type NatStep, out, told, wait } from './nat-case.ts';
import { ping, type TcpOptions, tcp, udp } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const { times } = natTestSettings;
const host = '10.77.0.2';
const neighbour = '10.77.0.3';
const narrow = '10.78.0.2';
const remote = '198.51.100.1';
const stranger = '198.51.100.2';
const shared = '203.0.113.1';

type Counted = Parameters<typeof out>[2][];

/** One connection of {@link host}'s, from a port of its choice. */
function connectionFrom(port: number) {
  const inside = `${host}:${port}`;
  const outside = `${shared}:${port}`;
  const server = `${remote}:80`;
  return {
    sends: (flags: string, options: TcpOptions, ...counted: Counted) =>
      out(
        tcp(`${inside} > ${server}`, flags, options),
        tcp(`${outside} > ${server}`, flags, options),
        ...counted,
      ),
    gets: (flags: string, options: TcpOptions, ...counted: Counted) =>
      into(
        tcp(`${server} > ${outside}`, flags, options),
        tcp(`${server} > ${inside}`, flags, options),
        'reply',
        ...counted,
      ),
    /** The session is gone, and its mapping is still there. */
    hasNoSession: () => dropped('wan-ingress', tcp(`${server} > ${outside}`, 'A'), 'droppedStray'),
    isOver: () => told('wan-ingress', tcp(`${server} > ${outside}`, 'A'), 'request'),
  };
}

type Connection = ReturnType<typeof connectionFrom>;

const opening = connectionFrom(5000);
const closing = connectionFrom(5001);

function handshake({ sends, gets }: Connection): readonly NatStep[] {
  return [
    sends('S', { sequence: 1000 }, ...opened),
    gets('SA', { sequence: 9000, acknowledgement: 1001 }),
    sends('A', { sequence: 1001, acknowledgement: 9001 }),
  ];
}

const oneOpensOneCloses: readonly NatStep[] = [
  opening.sends('S', { sequence: 1000 }, ...opened),
  ...handshake(closing),
  closing.sends('FA', { sequence: 1001, acknowledgement: 9001 }),
  closing.gets('FA', { sequence: 9001, acknowledgement: 1002 }),
];

const timers: readonly NatCase[] = [
  {
    name: 'rfc7857-s2.1 a closed connection may end before one that opens',
    settings: { times: { ...times, tcpOpening: 60, tcpClosing: 50 } },
    steps: [
      ...oneOpensOneCloses,
      wait(51),
      closing.hasNoSession(),
      opening.gets('SA', { sequence: 9000, acknowledgement: 1001 }),
    ],
  },
  {
    name: 'rfc7857-s2.1 a connection that does not come about may end before a closed one',
    settings: { times: { ...times, tcpOpening: 50, tcpClosing: 60 } },
    steps: [
      ...oneOpensOneCloses,
      wait(51),
      opening.hasNoSession(),
      closing.gets('A', { sequence: 9002, acknowledgement: 1002 }),
    ],
  },
  {
    name: 'rfc7857-s7 resets that repeat a reset, or that somebody forged, prolong nothing',
    steps: [
      ...handshake(closing),
      wait(20),
      closing.gets('R', { sequence: 9001 }),
      wait(30),
      closing.gets('R', { sequence: 9001 }),
      closing.gets('R', { sequence: 4711 }, 'tcpResetIgnored'),
      wait(times.tcpClosing + 1 - 30),
      closing.hasNoSession(),
      wait(8),
      closing.isOver(),
    ],
  },
];

const protocols: readonly NatCase[] = [
  {
    name: 'rfc7857-s5 three hosts have one external port, each by another protocol',
    steps: [
      out(udp(`${host}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(
        tcp(`${neighbour}:5000 > ${remote}:80`, 'S'),
        tcp(`${shared}:5000 > ${remote}:80`, 'S'),
        ...opened,
      ),
      out(
        ping(`${narrow} > ${remote}`, { identifier: 5000 }),
        ping(`${shared} > ${remote}`, { identifier: 5000 }),
        ...opened,
      ),
      into(udp(`${remote}:53 > ${shared}:5000`), udp(`${remote}:53 > ${host}:5000`), 'reply'),
      into(
        tcp(`${remote}:80 > ${shared}:5000`, 'SA', { acknowledgement: 1 }),
        tcp(`${remote}:80 > ${neighbour}:5000`, 'SA', { acknowledgement: 1 }),
        'reply',
      ),
      into(
        ping(`${remote} > ${shared}`, { identifier: 5000, type: 0 }),
        ping(`${remote} > ${narrow}`, { identifier: 5000, type: 0 }),
        'reply',
      ),
    ],
  },
  {
    name: 'rfc7857-s5 whom a host has met by one protocol, it has not met by another',
    steps: [
      out(udp(`${narrow}:5000 > ${remote}:53`), udp(`${shared}:5000 > ${remote}:53`), ...opened),
      out(
        tcp(`${narrow}:5000 > ${stranger}:80`, 'S'),
        tcp(`${shared}:5000 > ${stranger}:80`, 'S'),
        ...opened,
      ),
      dropped('wan-ingress', udp(`${stranger}:9 > ${shared}:5000`), 'droppedFiltered'),
      dropped('wan-ingress', tcp(`${remote}:9 > ${shared}:5000`, 'S'), 'droppedFiltered'),
      into(
        tcp(`${stranger}:9 > ${shared}:5000`, 'S'),
        tcp(`${stranger}:9 > ${narrow}:5000`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
    ],
  },
  {
    name: 'rfc7857-s10 the identification stays, though two hosts use the same',
    steps: [
      ...[host, neighbour].map((inside, index) =>
        out(
          udp(`${inside}:${5000 + index} > ${remote}:53`, { identification: 4711 }),
          udp(`${shared}:${5000 + index} > ${remote}:53`, { identification: 4711 }),
          ...opened,
        ),
      ),
      into(
        udp(`${remote}:53 > ${shared}:5001`, { identification: 815 }),
        udp(`${remote}:53 > ${neighbour}:5001`, { identification: 815 }),
        'reply',
      ),
    ],
  },
];

export const natUpdateCases: readonly NatCase[] = [...timers, ...protocols];
