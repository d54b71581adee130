/**
 * Cases of strangers that reach an endpoint of an IPv6 host without a rule, since it has sent out
 * (RFC 6092 REC-11, REC-17, REC-33). The networks of the tests have a filtering each.
 */
import {
  type Counted,
  judgedBy,
  type NatCase,
  type NatStep,
  newRules,
  SLOTS_PER_BUCKET,
  wait,
} from './nat-case.ts';
import { approved, unjudged } from './nat-crossing.ts';
import { comesFrom, crosses, leavesBy, staysBefore } from './nat-ipv6-crossing.ts';
import { type Frame, ping, tcp, udp } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const { times } = natTestSettings;
const remote = '2001:db8:9::1';
const stranger = '2001:db8:9::2';
/** As mappings of IPv4 are prolonged: by so much more than a session. */
const MARGIN_TICKS = 8;
/** Into the networks of the tests. */
const WIDE = 0;
const BY_ADDRESS = 1;
const BY_PORT = 2;
/** One in each network. */
const hosts = ['2001:db8:77::2', '2001:db8:78::2', '2001:db8:79::2'] as const;
const [wideHost] = hosts;
/** Two hosts with the same digest by the key of the tests. */
const alike = ['2001:db8:77::cb95', '2001:db8:77::ce29'] as const;
const opened: Counted = ['sessionsOpened'];
const mapped = unjudged('mapped', 0);
const request = unjudged('request', 0);

function outwardOf(network: number) {
  return { from: network, to: 'wan' } as const;
}

function inwardTo(network: number) {
  return { from: 'wan', to: network } as const;
}

/** The network's host asks the remote, from its port 5000. */
function asks(network: number, ...counted: Counted): readonly NatStep[] {
  const frame = udp(`[${hosts[network]}]:5000 > [${remote}]:53`);
  return crosses(outwardOf(network), frame, request, ...counted);
}

function toPort(network: number, from: string, port = 5000): Frame {
  return udp(`${from} > [${hosts[network]}]:${port}`);
}

const modes: readonly NatCase[] = [
  {
    name: 'rfc6092-rec11 rfc6092-rec17 whoever asks reaches an endpoint that has sent out by UDP',
    steps: [
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
      ...asks(WIDE, ...opened),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`), mapped, ...opened),
      ...comesFrom('wan', toPort(WIDE, `[${remote}]:9`), mapped),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`, 5001), request),
      ...comesFrom('wan', toPort(BY_ADDRESS, `[${stranger}]:9`), request),
      ...comesFrom('wan', tcp(`[${stranger}]:9 > [${wideHost}]:5000`, 'S'), request),
      ...comesFrom(WIDE, udp(`[${wideHost}]:5000 > [${stranger}]:9`), unjudged('reply', 0)),
    ],
  },
  {
    name: 'rfc6092-rec33 whoever asks reaches an endpoint that has sent out by TCP',
    steps: [
      ...crosses(
        outwardOf(WIDE),
        tcp(`[${wideHost}]:5000 > [${remote}]:80`, 'S'),
        request,
        ...opened,
      ),
      ...comesFrom('wan', tcp(`[${stranger}]:9 > [${wideHost}]:5000`, 'A'), unjudged('stray', 0)),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
      ...crosses(
        inwardTo(WIDE),
        tcp(`[${stranger}]:9 > [${wideHost}]:5000`, 'S'),
        mapped,
        ...opened,
      ),
    ],
  },
  {
    name: 'rfc6092-rec11 where filtering is by address, who was asked may ask from any port',
    steps: [
      ...asks(BY_ADDRESS, ...opened),
      ...comesFrom('wan', toPort(BY_ADDRESS, `[${stranger}]:9`), request),
      ...crosses(inwardTo(BY_ADDRESS), toPort(BY_ADDRESS, `[${remote}]:9`), mapped, ...opened),
      ...comesFrom('wan', toPort(BY_ADDRESS, `[${remote}]:9`, 5001), request),
    ],
  },
  {
    name: 'rfc6092-rec11 where filtering is by address and port, nobody else is let in',
    steps: [
      ...asks(BY_PORT, ...opened),
      ...comesFrom('wan', toPort(BY_PORT, `[${stranger}]:9`), request),
      ...comesFrom('wan', toPort(BY_PORT, `[${remote}]:9`), request),
      ...comesFrom('wan', toPort(BY_PORT, `[${remote}]:53`), unjudged('reply', 0)),
    ],
  },
];

const limits: readonly NatCase[] = [
  {
    name: 'nobody is let in by what a host sends to another network, to the gateway, or by a ping',
    steps: [
      ...crosses(
        { from: WIDE, to: BY_ADDRESS },
        udp(`[${wideHost}]:5000 > [${hosts[BY_ADDRESS]}]:53`),
        request,
        ...opened,
      ),
      ...comesFrom(WIDE, udp(`[${wideHost}]:5000 > [2001:db8:77::1]:53`), request),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
      ...crosses(
        outwardOf(WIDE),
        ping(`${wideHost} > ${remote}`, { identifier: 5000 }),
        request,
        ...opened,
      ),
      ...comesFrom('wan', ping(`${stranger} > ${wideHost}`, { identifier: 5000 }), request),
    ],
  },
  {
    name: 'nobody is let in by what came from nobody’s interface, or from the internet',
    steps: [
      ...leavesBy(
        { from: 'elsewhere', to: 'wan' },
        udp(`[${wideHost}]:5000 > [${remote}]:53`),
        request,
        ...opened,
      ),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`, 80), request, ...opened),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:10`), request),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:10`, 80), request),
    ],
  },
  {
    name: 'strangers are let in from the internet alone',
    steps: [
      ...asks(WIDE, ...opened),
      ...comesFrom(BY_ADDRESS, toPort(WIDE, `[${stranger}]:9`), request),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
    ],
  },
  {
    name: 'a session that a stranger opened by permission is told as such until it is approved',
    steps: [
      newRules(1),
      ...crosses(
        outwardOf(WIDE),
        udp(`[${wideHost}]:5000 > [${remote}]:53`),
        unjudged('request', 1),
        ...opened,
      ),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`), unjudged('mapped', 1), ...opened),
      judgedBy(1, 1),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`), approved('request', 1)),
      newRules(2),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`), unjudged('mapped', 2)),
      judgedBy(1, 2),
      ...comesFrom('wan', toPort(WIDE, `[${remote}]:53`), unjudged('reply', 2)),
    ],
  },
  {
    name: 'an endpoint is not reached since another with the same digest has sent out',
    steps: [
      ...crosses(outwardOf(WIDE), udp(`[${alike[0]}]:5000 > [${remote}]:53`), request, ...opened),
      ...comesFrom('wan', udp(`[${stranger}]:9 > [${alike[1]}]:5000`), request),
      ...comesFrom('wan', udp(`[${stranger}]:9 > [${alike[0]}]:5000`), mapped),
      ...crosses(outwardOf(WIDE), udp(`[${alike[1]}]:5000 > [${remote}]:54`), request, ...opened),
      ...comesFrom('wan', udp(`[${stranger}]:9 > [${alike[1]}]:5000`), mapped),
      ...comesFrom('wan', udp(`[${stranger}]:9 > [${alike[0]}]:5000`), request),
    ],
  },
];

const lifetimes: readonly NatCase[] = [
  {
    name: 'an endpoint is reached for a while longer than its session lives',
    steps: [
      ...asks(WIDE, ...opened),
      wait(times.udp + MARGIN_TICKS),
      judgedBy(),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
      wait(1),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
    ],
  },
  {
    name: 'rfc6092-rec16 what the host sends keeps its endpoint open, and so does who answers it',
    steps: [
      ...asks(WIDE, ...opened),
      wait(times.udp),
      ...comesFrom(WIDE, udp(`[${wideHost}]:5000 > [${remote}]:53`), request),
      wait(times.udp),
      ...comesFrom('wan', toPort(WIDE, `[${remote}]:53`), unjudged('reply', 0)),
      wait(times.udp + MARGIN_TICKS),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
      wait(1),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
    ],
  },
  {
    name: 'survive-70 what strangers send keeps no endpoint open, but what the host answers does',
    steps: [
      ...asks(WIDE, ...opened),
      ...crosses(inwardTo(WIDE), toPort(WIDE, `[${stranger}]:9`), mapped, ...opened),
      ...comesFrom(WIDE, udp(`[${wideHost}]:5000 > [${stranger}]:9`), unjudged('reply', 0)),
      wait(times.udp - 1),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
      wait(MARGIN_TICKS + 1),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:10`), mapped),
      wait(1),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:10`), request),
    ],
  },
  {
    name: 'an established connection keeps its endpoint open for others as long as it lives',
    steps: [
      ...connected(),
      wait(times.tcpEstablished + MARGIN_TICKS),
      ...comesFrom('wan', tcp(`[${stranger}]:9 > [${wideHost}]:5000`, 'S'), mapped),
      wait(1),
      ...comesFrom('wan', tcp(`[${stranger}]:9 > [${wideHost}]:5000`, 'S'), request),
    ],
  },
  {
    name: 'where there is no room, an unanswered session goes before a permission that outlives it',
    sessionCountMax: SLOTS_PER_BUCKET,
    steps: [
      ...asks(WIDE, ...opened),
      ...answeredSessions(SLOTS_PER_BUCKET - 2),
      ...crosses(
        outwardOf(BY_PORT),
        udp(`[${hosts[BY_PORT]}]:99 > [${remote}]:53`),
        request,
        'sessionsEvicted',
        'sessionsClosed',
        'sessionsOpened',
      ),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
    ],
  },
  {
    name: 'where there is no room, permissions go, and strangers are not let in any more',
    sessionCountMax: SLOTS_PER_BUCKET,
    steps: [
      ...asks(WIDE, ...opened),
      ...comesFrom('wan', toPort(WIDE, `[${remote}]:53`), unjudged('reply', 0)),
      ...answeredSessions(SLOTS_PER_BUCKET - 2),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), mapped),
      ...crosses(
        outwardOf(BY_PORT),
        udp(`[${hosts[BY_PORT]}]:99 > [${remote}]:53`),
        request,
        'sessionsEvicted',
        'sessionsOpened',
      ),
      ...comesFrom('wan', toPort(WIDE, `[${stranger}]:9`), request),
      ...comesFrom('wan', udp(`[${remote}]:53 > [${hosts[BY_PORT]}]:99`), unjudged('reply', 0)),
      ...staysBefore(
        outwardOf(BY_PORT),
        udp(`[${hosts[BY_PORT]}]:98 > [${remote}]:53`),
        request,
        'droppedTableFull',
      ),
    ],
  },
];

/** Without permissions. */
function answeredSessions(count: number): readonly NatStep[] {
  return Array.from({ length: count }, (_, index) => 100 + index).flatMap((port) => {
    const out = udp(`[${hosts[BY_PORT]}]:${port} > [${remote}]:53`);
    const back = udp(`[${remote}]:53 > [${hosts[BY_PORT]}]:${port}`);
    return [
      ...crosses(outwardOf(BY_PORT), out, request, ...opened),
      ...comesFrom('wan', back, unjudged('reply', 0)),
    ];
  });
}

function connected(): readonly NatStep[] {
  const to = `[${wideHost}]:5000 > [${remote}]:80` as const;
  const back = `[${remote}]:80 > [${wideHost}]:5000` as const;
  const reply = unjudged('reply', 0);
  return [
    ...crosses(outwardOf(WIDE), tcp(to, 'S', { sequence: 1000 }), request, ...opened),
    ...comesFrom('wan', tcp(back, 'SA', { sequence: 9000, acknowledgement: 1001 }), reply),
    ...comesFrom(WIDE, tcp(to, 'A', { sequence: 1001, acknowledgement: 9001 }), request),
  ];
}

export const natIpv6FilteringCases: readonly NatCase[] = [...modes, ...limits, ...lifetimes];
