/** Cases of TCP: RFC 5382, RFC 7857, and segments that somebody forged (RFC 5961). */
import {
  delivered,
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
import { type TcpOptions, tcp } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';
import { FIRST_TICK } from './tested-nat.ts';

const opened = ['mappingsOpened', 'sessionsOpened'] as const;
const { times } = natTestSettings;
const remote = '198.51.100.1:80';
const inside = '10.77.0.2:5000';
const outside = '203.0.113.1:5000';
const stranger = '198.51.100.2:9';

/** Numbers of a segment: its own, and the one that it acknowledges. */
type Numbers = readonly [sequence: number, acknowledgement: number, payloadBytes?: number];

function sends(flags: string, numbers: Numbers, ...counted: Parameters<typeof out>[2][]): NatStep {
  const options = optionsOf(numbers);
  return out(
    tcp(`${inside} > ${remote}`, flags, options),
    tcp(`${outside} > ${remote}`, flags, options),
    ...counted,
  );
}

function gets(flags: string, numbers: Numbers, ...counted: Parameters<typeof out>[2][]): NatStep {
  const options = optionsOf(numbers);
  return into(
    tcp(`${remote} > ${outside}`, flags, options),
    tcp(`${remote} > ${inside}`, flags, options),
    'reply',
    ...counted,
  );
}

/** The session is gone, and so is its mapping. */
function isOver(): NatStep {
  return told('wan-ingress', tcp(`${remote} > ${outside}`, 'A', {}), 'request');
}

function optionsOf([sequence, acknowledgement, payloadBytes = 0]: Numbers): TcpOptions {
  return { sequence, acknowledgement, payloadBytes };
}

const handshake: readonly NatStep[] = [
  sends('S', [1000, 0], ...opened),
  gets('SA', [9000, 1001]),
  sends('A', [1001, 9001]),
];

/** After the connection was idle for so long that only an established one lives. */
const stillThere: readonly NatStep[] = [wait(times.tcpEstablished), gets('A', [9001, 1001])];

export const natTcpCases: readonly NatCase[] = [
  {
    name: 'rfc5382-req5 survive-69 an established connection may be idle for its whole time',
    steps: [...handshake, ...stillThere, wait(times.tcpEstablished + 9), isOver()],
  },
  {
    name: 'rfc5382-req5 a connection that does not come about ends after the shorter time',
    steps: [
      sends('S', [1000, 0], ...opened),
      wait(times.tcpOpening),
      gets('SA', [9000, 1001]),
      wait(times.tcpOpening + 9),
      isOver(),
    ],
  },
  {
    name: 'rfc5382-req2 survive-66 both ends may open at once',
    steps: [
      sends('S', [1000, 0], ...opened),
      gets('S', [9000, 0]),
      sends('SA', [1000, 9001]),
      gets('SA', [9000, 1001]),
      sends('A', [1001, 9001]),
      ...stillThere,
    ],
  },
  {
    name: 'survive-66 a SYN that carries data opens a connection as any other',
    steps: [
      sends('S', [1000, 0, 10], ...opened),
      gets('SA', [9000, 1011]),
      sends('A', [1011, 9001]),
      ...stillThere,
    ],
  },
  {
    name: 'survive-66 a refusal of the SYN ends the session after the closing time',
    steps: [
      sends('S', [1000, 0], ...opened),
      gets('RA', [0, 1001]),
      wait(times.tcpClosing + 1),
      dropped('wan-ingress', tcp(`${remote} > ${outside}`, 'A'), 'droppedStray'),
    ],
  },
  {
    name: 'survive-66 a reset before the answer that does not know the SYN changes nothing',
    steps: [
      sends('S', [1000, 0], ...opened),
      gets('RA', [0, 4711], 'tcpResetIgnored'),
      gets('R', [0, 0], 'tcpResetIgnored'),
      gets('SA', [9000, 1001]),
      sends('A', [1001, 9001]),
      ...stillThere,
    ],
  },
  {
    name: 'survive-67 a reset outside what both ends have said leaves a connection as it is',
    steps: [...handshake, gets('R', [9500, 0], 'tcpResetIgnored'), ...stillThere],
  },
  {
    name: 'survive-67 a SYN within an established connection leaves it as it is',
    steps: [...handshake, gets('S', [77, 0], 'tcpSynIgnored'), ...stillThere],
  },
  {
    name: 'survive-67 segments and FINs far from the window leave a connection as it is',
    steps: [
      ...handshake,
      gets('A', [9001 + 2 ** 26 + 1, 1001], 'tcpOutOfWindow'),
      gets('A', [9001, 1002], 'tcpOutOfWindow'),
      gets('FA', [2 ** 31, 1001], 'tcpOutOfWindow'),
      sends('FA', [1001, 9001]),
      gets('FA', [9001 + 65_537, 1001]),
      ...stillThere,
    ],
  },
  {
    name: 'rfc5382-req5 a closed connection is kept for the closing time',
    steps: [
      ...handshake,
      sends('FA', [1001, 9001]),
      gets('FA', [9001, 1002]),
      sends('A', [1002, 9002]),
      wait(times.tcpClosing),
      gets('A', [9002, 1002]),
      wait(times.tcpClosing + 9),
      isOver(),
    ],
  },
  {
    name: 'rfc7857-s2.2 survive-68 a reset leaves the closing time for what is still on its way',
    steps: [
      ...handshake,
      gets('R', [9001, 0]),
      wait(times.tcpClosing),
      sends('A', [1001, 9001]),
      wait(times.tcpClosing + 9),
      isOver(),
    ],
  },
  {
    name: 'rfc7857-s2.2 survive-68 who talks on after a reset in its name has not sent it',
    steps: [...handshake, gets('R', [9001, 0]), gets('A', [9001, 1001, 5]), ...stillThere],
  },
  {
    name: 'a new SYN after the end of a connection opens a session in its place',
    steps: [
      ...handshake,
      gets('R', [9001, 0]),
      told('inside-ingress', tcp(`${inside} > ${remote}`, 'S', { sequence: 5 }), 'request'),
      sends('S', [5, 0], 'sessionsClosed', 'sessionsOpened'),
      gets('SA', [70, 6]),
    ],
  },
  {
    name: 'rfc5382-req3 a third party connects to a mapped port',
    steps: [
      sends('S', [1000, 0], ...opened),
      into(
        tcp(`198.51.100.2:9 > ${outside}`, 'S'),
        tcp(`198.51.100.2:9 > ${inside}`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      delivered(tcp(`198.51.100.2:9 > ${inside}`, 'S'), 'mapped'),
      told('inside-ingress', tcp(`${inside} > 198.51.100.2:9`, 'SA'), 'reply'),
      out(tcp(`${inside} > 198.51.100.2:9`, 'SA'), tcp(`${outside} > 198.51.100.2:9`, 'SA')),
    ],
  },
  {
    name: 'survive-67 a SYN from outside does not open a closed connection anew',
    steps: [...handshake, gets('R', [9001, 0]), gets('S', [5, 0], 'tcpSynIgnored')],
  },
  {
    name: 'rfc5382-req2 where a SYN found no room for a session, its answer opens one that counts',
    settings: { outsideSessionsPerMapping: 1 },
    steps: [
      sends('S', [1000, 0], ...opened),
      into(
        tcp(`198.51.100.2:8 > ${outside}`, 'S'),
        tcp(`198.51.100.2:8 > ${inside}`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      into(
        tcp(`${stranger} > ${outside}`, 'S', optionsOf([1, 0])),
        tcp(`${stranger} > ${inside}`, 'S', optionsOf([1, 0])),
        'mapped',
        'unansweredLimit',
      ),
      delivered(tcp(`${stranger} > ${inside}`, 'S', optionsOf([1, 0])), 'mapped'),
      told('inside-ingress', tcp(`${inside} > ${stranger}`, 'SA', optionsOf([500, 2])), 'request'),
      out(
        tcp(`${inside} > ${stranger}`, 'SA', optionsOf([500, 2])),
        tcp(`${outside} > ${stranger}`, 'SA', optionsOf([500, 2])),
        'sessionsOpened',
      ),
      ...[0, times.tcpEstablished].flatMap((ticks) => [
        wait(ticks),
        into(
          tcp(`${stranger} > ${outside}`, 'A', optionsOf([2, 501])),
          tcp(`${stranger} > ${inside}`, 'A', optionsOf([2, 501])),
          'reply',
        ),
      ]),
    ],
  },
  {
    name: 'rfc5382-req5 a connection that a stranger opened keeps its mapping until it has ended',
    steps: [
      sends('S', [1000, 0], ...opened),
      into(
        tcp(`${stranger} > ${outside}`, 'S', optionsOf([1, 0])),
        tcp(`${stranger} > ${inside}`, 'S', optionsOf([1, 0])),
        'mapped',
        'sessionsOpened',
      ),
      delivered(tcp(`${stranger} > ${inside}`, 'S', optionsOf([1, 0])), 'mapped'),
      out(
        tcp(`${inside} > ${stranger}`, 'SA', optionsOf([500, 2])),
        tcp(`${outside} > ${stranger}`, 'SA', optionsOf([500, 2])),
      ),
      into(
        tcp(`${stranger} > ${outside}`, 'A', optionsOf([2, 501])),
        tcp(`${stranger} > ${inside}`, 'A', optionsOf([2, 501])),
        'mapped',
      ),
      // Longer than a mapping of connections that did not come about.
      wait(times.tcpOpening + 40),
      into(
        tcp(`${stranger} > ${outside}`, 'R', optionsOf([2, 0])),
        tcp(`${stranger} > ${inside}`, 'R', optionsOf([2, 0])),
        'mapped',
      ),
      wait(times.tcpClosing),
      out(
        tcp(`${inside} > ${stranger}`, 'A', optionsOf([501, 2])),
        tcp(`${outside} > ${stranger}`, 'A', optionsOf([501, 2])),
      ),
    ],
  },
  {
    name: 'what the gateway refuses in a host’s name leaves translated',
    steps: [
      sends('S', [1000, 0], ...opened),
      into(
        tcp(`198.51.100.2:9 > ${outside}`, 'S'),
        tcp(`198.51.100.2:9 > ${inside}`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      fromGateway(
        tcp(`${inside} > 198.51.100.2:9`, 'RA', { acknowledgement: 1 }),
        tcp(`${outside} > 198.51.100.2:9`, 'RA', { acknowledgement: 1 }),
        'translated',
      ),
    ],
  },
  {
    name: 'rfc5382-req8 survive-62 two hosts connect by an external endpoint',
    steps: [
      sends('S', [1000, 0], ...opened),
      hairpinIn(
        tcp(`10.77.0.3:6000 > ${outside}`, 'S'),
        tcp(`10.77.0.3:6000 > ${inside}`, 'S'),
        'mapped',
        'sessionsOpened',
      ),
      hairpinOut(
        tcp(`10.77.0.3:6000 > ${inside}`, 'S'),
        tcp(`203.0.113.1:6000 > ${inside}`, 'S'),
        'mapped',
        'mappingsOpened',
      ),
      hairpinIn(
        tcp(`${inside} > 203.0.113.1:6000`, 'SA'),
        tcp(`${inside} > 10.77.0.3:6000`, 'SA'),
        'reply',
      ),
      hairpinOut(
        tcp(`${inside} > 10.77.0.3:6000`, 'SA'),
        tcp(`${outside} > 10.77.0.3:6000`, 'SA'),
        'reply',
      ),
    ],
  },
  {
    name: 'TCP in the middle of a connection that nobody knows is a stray on every side',
    steps: [
      told('inside-ingress', tcp(`${inside} > ${remote}`, 'A'), 'stray', 'refusedStray'),
      told('inside-ingress', tcp(`${inside} > ${remote}`, 'SA'), 'stray', 'refusedStray'),
      dropped('wan-egress', tcp(`${inside} > ${remote}`, 'A'), 'droppedStray'),
      dropped('inside-egress', tcp('192.0.2.2:9 > 10.77.0.2:9', 'A'), 'droppedStray'),
      sends('S', [1000, 0], ...opened),
      dropped('wan-ingress', tcp(`198.51.100.2:9 > ${outside}`, 'A'), 'droppedStray'),
    ],
  },
  {
    name: 'for some time after a start, connections from inside are picked up in the middle',
    settings: { pickupUntilTick: FIRST_TICK + 1 },
    steps: [
      dropped('wan-egress', tcp(`${inside} > ${remote}`, 'RA'), 'droppedStray'),
      sends('A', [1001, 9001], ...opened),
      gets('A', [9001, 1001]),
      ...stillThere,
      dropped('wan-egress', tcp('10.77.0.3:5000 > 198.51.100.1:80', 'A'), 'droppedStray'),
    ],
  },
];
