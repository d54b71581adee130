/** Cases of ICMPv6 errors (RFC 4443 §3, RFC 4890): whether they are about a live session. */
import { fragmentHeader } from './ipv6-packets.ts';
import { type Counted, judgedBy, type NatCase, newRules, wait } from './nat-case.ts';
import { unjudged } from './nat-crossing.ts';
import { comesFrom, crosses } from './nat-ipv6-crossing.ts';
import { type Frame, icmpError, ping, rawIp, udp, withBytes } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';

const { times } = natTestSettings;
const host = '2001:db8:77::2';
const neighbour = '2001:db8:78::2';
const remote = '2001:db8:9::1';
const router = '2001:db8:ffff::1';
const outward = { from: 0, to: 'wan' } as const;
const inward = { from: 'wan', to: 0 } as const;
const opened: Counted = ['sessionsOpened'];
const question = udp(`[${host}]:5000 > [${remote}]:53`);
const answer = udp(`[${remote}]:53 > [${host}]:5000`);

const quoted = udp(`[${host}]:5000 > [${remote}]:53`, { payloadBytes: 40 });

function error(options: Partial<Parameters<typeof icmpError>[1]>, to: string = host): Frame {
  return icmpError(`${router} > ${to}`, { type: 1, quoted, ...options });
}

/** With the ports of the session where a transport header would be. */
const laterFragment = udp(`[${host}]:5000 > [${remote}]:53`, {
  extensions: [fragmentHeader({ offset: 1, isMore: false, identification: 7 })],
});

/** The quoted packet begins here in the frame of an error without extension headers. */
const QUOTED_AT = 14 + 40 + 8;

export const natIpv6ErrorCases: readonly NatCase[] = [
  {
    name: 'rfc4890-s4.3.1 survive-64 errors about a live session are related, from whomever',
    steps: [
      newRules(1),
      ...crosses(outward, question, unjudged('request', 1), ...opened),
      ...[1, 2, 3, 4].flatMap((type) => [
        ...crosses(inward, error({ type }), unjudged('related', 1)),
        ...comesFrom(1, error({ type }), unjudged('related', 1)),
      ]),
      ...crosses(
        outward,
        icmpError(`${host} > ${remote}`, { type: 1, code: 4, quoted: answer }),
        unjudged('related', 1),
      ),
      ...comesFrom('wan', error({ checksum: 'wrong' }), unjudged('related', 1)),
      ...comesFrom('wan', error({ quotedTransportBytes: 8 }), unjudged('related', 1)),
      judgedBy(1),
    ],
  },
  {
    name: 'survive-64 errors about no live session, or for another host, go on as requests',
    steps: [
      ...comesFrom('wan', error({}), unjudged('request', 0)),
      ...crosses(outward, question, unjudged('request', 0), ...opened),
      ...crosses(inward, error({}, neighbour), unjudged('request', 0)),
      ...crosses(inward, error({ quoted: answer }), unjudged('request', 0)),
      ...crosses(
        inward,
        error({ quoted: udp(`[${host}]:5001 > [${remote}]:53`) }),
        unjudged('request', 0),
      ),
      ...crosses(inward, error({ quotedTransportBytes: 7 }), unjudged('request', 0)),
      ...crosses(inward, withBytes(error({}), QUOTED_AT, [0x40]), unjudged('request', 0)),
      ...crosses(inward, withBytes(error({}), QUOTED_AT + 6, [0]), unjudged('request', 0)),
      ...crosses(inward, error({ quoted: laterFragment }), unjudged('request', 0)),
      wait(times.udp + 1),
      ...comesFrom('wan', error({}), unjudged('request', 0)),
    ],
  },
  {
    name: 'survive-64 errors prolong nothing, and end nothing',
    steps: [
      ...crosses(outward, question, unjudged('request', 0), ...opened),
      wait(times.udp),
      ...crosses(inward, error({}), unjudged('related', 0)),
      judgedBy(0),
      wait(1),
      judgedBy(),
    ],
  },
  {
    name: 'errors about pings and about protocols without ports are related, too',
    steps: [
      ...crosses(outward, echo(128), unjudged('request', 0), ...opened),
      ...comesFrom('wan', error({ quoted: echo(128) }), unjudged('related', 0)),
      ...comesFrom('wan', error({ quoted: echo(128, 8) }), unjudged('request', 0)),
      ...comesFrom('wan', error({ quoted: echo(1) }), unjudged('request', 0)),
      ...crosses(outward, rawIp(`${host} > ${remote}`, 50), unjudged('request', 0), ...opened),
      ...comesFrom(
        'wan',
        error({ quoted: rawIp(`${host} > ${remote}`, 50) }),
        unjudged('related', 0),
      ),
    ],
  },
];

function echo(type: number, identifier = 7): Frame {
  return ping(`${host} > ${remote}`, { identifier, type });
}
