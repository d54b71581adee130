import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireIpAddress } from '../net/ip-address.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { runNatCase, settingsOf } from '../testing/nat-case.ts';
import { natCases } from '../testing/nat-cases.ts';
import { type Frame, fragments, tcp, udp } from '../testing/nat-packets.ts';
import { natTestSettings } from '../testing/nat-test-settings.ts';
import { twinUnderTest } from '../testing/tested-nat.ts';
import { NatTwin } from './nat.ts';
import type { NatHook } from './nat-hook.ts';

for (const natCase of natCases) {
  test(`twin: ${natCase.name}`, () => {
    const { portForwards = [], sessionCountMax } = natCase;
    const limits = sessionCountMax === undefined ? {} : { sessionCountMax };
    const options = { settings: settingsOf(natCase), portForwards, limits };
    runNatCase(twinUnderTest(options), natCase);
  });
}

function handle(
  twin: NatTwin,
  { hook, bytes, tick = 100 }: { hook: NatHook; bytes: Frame; tick?: number },
) {
  const interfaceIndex = 1;
  return twin.handlePacket({
    hook,
    bytes,
    tick,
    mark: 0,
    interfaceIndex,
    cameInBy: interfaceIndex,
  });
}

test('sessions are listed with both endpoints as either side sees them', () => {
  const twin = new NatTwin({ settings: natTestSettings });
  handle(twin, { hook: 'wan-egress', bytes: udp('10.77.0.2:5000 > 198.51.100.1:53') });
  handle(twin, { hook: 'wan-ingress', bytes: udp('198.51.100.1:53 > 203.0.113.1:5000') });
  assert.deepEqual(
    [...twin.sessions(100)],
    [
      {
        version: 4,
        protocol: 17,
        opener: {
          address: requireIpv4Address('10.77.0.2'),
          port: 5000,
          bytes: 28,
          external: { address: requireIpv4Address('203.0.113.1'), port: 5000 },
        },
        responder: { address: requireIpv4Address('198.51.100.1'), port: 53, bytes: 28 },
        state: 'answered',
        isPortForward: false,
        judged: 0,
        createdTick: 100,
        untilTick: 100 + natTestSettings.times.udp + 1,
      },
    ],
  );
  const end = 100 + natTestSettings.times.udp + 1;
  assert.equal([...twin.sessions(end - 1)].length, 1);
  assert.equal([...twin.sessions(end)].length, 0);
});

test('sessions of IPv6 are listed with addresses, places and what they stand for', () => {
  const { networks } = natTestSettings;
  const inside = networks.map((network, index) => ({ ...network, interfaceIndex: 2 + index }));
  const twin = new NatTwin({ settings: { ...natTestSettings, networks: inside } });
  const send = (host: string) => {
    const bytes = udp(`[${host}]:5000 > [2001:db8:9::1]:53`);
    const wan = { interfaceIndex: 1, cameInBy: 3, mark: 0, tick: 100 };
    twin.handlePacket({ hook: 'wan-egress', bytes, ...wan });
    return [...twin.sessions(100)];
  };
  const opener = { port: 5000, digest: 0x9e96_1567, place: 1, bytes: 48 };
  const responder = { port: 53, place: 'wan', bytes: 0 };
  const [first] = send('2001:db8:77::cb95');
  const address = (text: string) => requireIpAddress(text).bits;
  assert.deepEqual(
    { opener: first?.opener, responder: first?.responder },
    {
      opener: { ...opener, address: address('2001:db8:77::cb95') },
      responder: {
        ...responder,
        digest: first?.responder.digest,
        address: address('2001:db8:9::1'),
      },
    },
  );
  // Of two with the same digest the last one's address is kept.
  twin.killSessions();
  const [second] = send('2001:db8:77::ce29');
  assert.deepEqual(second?.opener, { ...opener, address: address('2001:db8:77::ce29') });
  const other = udp('[2001:db8:77::cb95]:5001 > [2001:db8:9::1]:53');
  twin.handlePacket({
    ...{ hook: 'wan-egress', bytes: other, interfaceIndex: 1, cameInBy: 3, mark: 0, tick: 100 },
  });
  const listed = [...twin.sessions(100)].map(({ opener: one }) => [one.port, one.address]);
  assert.deepEqual(listed, [
    [5000, undefined],
    [5001, address('2001:db8:77::cb95')],
  ]);
});

test('a listed session tells how far it is', () => {
  const twin = new NatTwin({ settings: natTestSettings });
  const remote = '198.51.100.1:80';
  const state = () => [...twin.sessions(100)].map((session) => session.state);
  const send = (flags: string, sequence: number, acknowledgement: number) => {
    const bytes = tcp(`10.77.0.2:5000 > ${remote}`, flags, { sequence, acknowledgement });
    handle(twin, { hook: 'wan-egress', bytes });
  };
  send('S', 1, 0);
  assert.deepEqual(state(), ['opening']);
  const answer = { sequence: 7, acknowledgement: 2 };
  const bytes = tcp(`${remote} > 203.0.113.1:5000`, 'SA', answer);
  handle(twin, { hook: 'wan-ingress', bytes });
  send('A', 2, 8);
  assert.deepEqual(state(), ['established']);
  send('R', 2, 0);
  assert.deepEqual(state(), ['closing']);
  const stranger = tcp('198.51.100.2:9 > 203.0.113.1:5000', 'S');
  handle(twin, { hook: 'wan-ingress', bytes: stranger });
  assert.deepEqual(state(), ['closing', 'unconfirmed']);
});

test("survive-71 a host whose port is the gateway's own gets another one", () => {
  const isOwnPort = ({ protocol, port }: { protocol: string; port: number }) =>
    protocol === 'tcp' && port === 5000;
  const twin = new NatTwin({ settings: natTestSettings, isOwnPort });
  const ssh = tcp('10.77.0.2:5000 > 198.51.100.1:22', 'S');
  const { bytes } = handle(twin, { hook: 'wan-egress', bytes: ssh });
  const port = new DataView(bytes.buffer).getUint16(34);
  assert.notEqual(port, 5000);
  assert.equal(port % 2, 0);
  const dns = udp('10.77.0.2:5000 > 198.51.100.1:53');
  const udpBytes = handle(twin, { hook: 'wan-egress', bytes: dns }).bytes;
  assert.deepEqual(udpBytes, udp('203.0.113.1:5000 > 198.51.100.1:53'));
});

test('without settings everything goes on', () => {
  const settings = { ...natTestSettings, externals: [], networks: [] };
  const twin = new NatTwin({ settings });
  const bytes = udp('127.0.0.1:1 > 10.77.0.2:1');
  const outcome = handle(twin, { hook: 'wan-egress', bytes });
  assert.deepEqual(outcome, { verdict: 'pass', bytes, mark: 0, counts: {} });
});

test('a first fragment for which others wait is told, with where it came in', () => {
  const twin = new NatTwin({ settings: { ...natTestSettings, holdInterface: 3 } });
  const whole = udp('198.51.100.1:53 > 203.0.113.1:5000', { identification: 9, payloadBytes: 64 });
  const [first, later] = fragments(whole, 24);
  assert.equal(handle(twin, { hook: 'wan-ingress', bytes: later }).verdict, 'hold');
  const { event } = handle(twin, { hook: 'wan-ingress', bytes: first });
  assert.deepEqual(event, {
    key: {
      source: requireIpv4Address('198.51.100.1'),
      destination: requireIpv4Address('203.0.113.1'),
      identification: 9,
      protocol: 17,
      hook: 'wan-ingress',
    },
    interfaceIndex: 1,
  });
  assert.equal(handle(twin, { hook: 'wan-ingress', bytes: first }).event, undefined);
});

test('the oldest fragments are forgotten where there are too many', () => {
  const limits = { fragmentCountMax: 2 };
  const twin = new NatTwin({ settings: natTestSettings, limits });
  const [one, two, three] = [1, 2, 3].map((identification) =>
    fragments(udp('10.77.0.2:5000 > 198.51.100.1:53', { identification, payloadBytes: 64 }), 24),
  ) as [FragmentPair, FragmentPair, FragmentPair];
  for (const [first] of [one, two, three]) handle(twin, { hook: 'wan-egress', bytes: first });
  const verdicts = [one, two, three].map(
    ([, later]) => handle(twin, { hook: 'wan-egress', bytes: later }).verdict,
  );
  assert.deepEqual(verdicts, ['drop', 'pass', 'pass']);
});

type FragmentPair = readonly [Frame, Frame];
