/** Who may come in over IPv6, by the network's filtering, by rules, and by nothing. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { ping, tcp } from '../../src/testing/nat-packets.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { assertWay, describeFastPath, Flow, later } from './nat-flow.ts';
import { hasProtocol, routeOf, sendPackets, tcpFlagsOf } from './nat-ipv6-packets.ts';
import {
  ARRIVAL_MS,
  endpointOf,
  ipv6Addresses,
  LinkCapture,
  type NatLab,
  type SpeakingHost,
} from './nat-lab.ts';

const { alice, server, stranger } = ipv6Addresses;
const TCP = 6;
const ICMPV6 = 58;
const RST = 4;
const WEB = 8_080;
const rules = [
  `{ name: web, action: accept, from: wan, to: lan, destination: ['${alice}'], protocol: tcp, ` +
    `ports: [${WEB}] }`,
];

/** Everything on a host's own link from now on. */
function captureAt(place: NatLab, host: 'stranger' | 'server'): Promise<LinkCapture> {
  const to = host === 'stranger' ? '203.0.113.129' : '203.0.113.1';
  return LinkCapture.start({ interfaceName: 'eth0', from: place.host(host), to });
}

/** A socket at a host that has another port than the one that was spoken to. */
function otherSocket(place: NatLab, host: SpeakingHost): UdpSocket {
  return UdpSocket.open(place.host(host), { address: ipv6Addresses[host] });
}

async function assertArrives(from: UdpSocket, to: UdpSocket): Promise<void> {
  const payload = randomUUID();
  from.send(endpointOf(to), payload);
  const datagram = await to.nextDatagram(ARRIVAL_MS);
  assert.deepEqual([`${datagram.payload}`, datagram.from], [payload, endpointOf(from)]);
}

describeFastPath({ name: 'natsixin', ipv6: true, config: { rules } }, (place, fastPath) => {
  const judged = (from: 'alice' | 'guest' = 'alice') =>
    Flow.judged(place(), { fastPath, family: 6, from });

  /** Sent before what arrives, and lost. */
  async function assertRefused(flow: Flow, from: UdpSocket, to: Endpoint): Promise<void> {
    from.send(to, 'refused');
    await flow.assertPasses();
  }

  test('nobody comes in who was not spoken to, to an endpoint that has not spoken', async () => {
    using flow = await judged();
    using silent = place().udp6('alice');
    using other = place().udp6('stranger');
    using same = otherSocket(place(), 'server');
    for (const from of [other, same]) await assertRefused(flow, from, endpointOf(silent));
    assert.deepEqual(silent.drain(), []);
    assert.deepEqual([other.takeError(), same.takeError()], [undefined, undefined]);
  });

  test('RFC 6092 REC-11, rfc6092-rec17: an endpoint that has sent is reached by all', async () => {
    using flow = await judged();
    using other = place().udp6('stranger');
    using same = otherSocket(place(), 'server');
    for (const from of [other, same]) {
      await assertArrives(from, flow.inside);
      await assertArrives(flow.inside, from);
      await assertWay(place(), { fastPath, packets: 2 }, async () => {
        await assertArrives(from, flow.inside);
        await assertArrives(flow.inside, from);
      });
    }
  });

  test('RFC 6092 REC-33: an endpoint of TCP that has connected can be connected to', async () => {
    const port = 40_300;
    const { inside, outside } = await openConnection(place(), { family: 6, port, shared: true });
    using listener = TcpListener.open(
      place().host('alice'),
      { address: alice, port },
      { shared: true },
    );
    const caller = await TcpSocket.connected(place().host('stranger'), {
      to: listener.local,
      timeoutMs: ARRIVAL_MS,
    });
    const { connection } = await listener.next(ARRIVAL_MS);
    await assertConnected(caller, connection);
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(caller, connection));
    for (const end of [inside, caller]) end.reset();
    for (const end of [outside, connection]) end.close();
  });

  test('RFC 6092 REC-34: a SYN that nobody asked for gets no answer', async () => {
    using listener = TcpListener.open(place().host('alice'), { address: alice, port: 8_081 });
    const atStranger = await captureAt(place(), 'stranger');
    using _caller = TcpSocket.connecting(place().host('stranger'), { to: listener.local });
    using flow = await judged();
    await flow.assertPasses();
    assert.equal(listener.take(), undefined);
    const answers = (await atStranger.packets(['ipv6.src'], `ipv6.src == ${alice}`)).length;
    assert.equal(answers, 0);
  });

  test('a rule lets one service in, which goes fast both ways, and stops it when it goes', async () => {
    using listener = TcpListener.open(place().host('alice'), { address: alice, port: WEB });
    const caller = await TcpSocket.connected(place().host('stranger'), {
      to: listener.local,
      timeoutMs: ARRIVAL_MS,
    });
    const { connection } = await listener.next(ARRIVAL_MS);
    await assertConnected(caller, connection);
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(caller, connection));
    await using _back = later(() => place().install({}));
    await place().install({ rules: [] });
    using flow = await judged();
    caller.write('more');
    await flow.assertPasses();
    assert.ok(!connection.received().includes('more'));
    caller.reset();
    connection.reset();
  });

  test('RFC 6092 REC-49: one rule lets everybody in', async () => {
    using flow = await judged();
    using silent = place().udp6('alice');
    using other = place().udp6('stranger');
    await using _back = later(() => place().install({}));
    await place().install({ rules: ['{ name: transparent, action: accept, from: wan }'] });
    await assertArrives(other, silent);
    await assertArrives(silent, other);
    await flow.assertPasses();
  });

  test('with address-dependent filtering only hosts that were spoken to come in', async () => {
    await using _back = later(() => place().install({}));
    await place().install({ lanFiltering: 'address-dependent' });
    using flow = await judged();
    using same = otherSocket(place(), 'server');
    await assertArrives(same, flow.inside);
    using other = place().udp6('stranger');
    await assertRefused(flow, other, endpointOf(flow.inside));
  });

  test('with address-and-port-dependent filtering only who was spoken to comes in', async () => {
    using flow = await judged('guest');
    using same = otherSocket(place(), 'server');
    using other = place().udp6('stranger');
    for (const from of [same, other]) await assertRefused(flow, from, endpointOf(flow.inside));
  });

  test('a stranger does not reach guests from the LAN either', async () => {
    using flow = await judged('guest');
    using lan = place().udp6('alice');
    await assertRefused(flow, lan, endpointOf(flow.inside));
  });

  test('segments of no connection vanish when the WAN sends them', async () => {
    using listener = TcpListener.open(place().host('alice'), { address: alice, port: 8_082 });
    const [inLan, atStranger] = [
      await place().captureAlice(),
      await captureAt(place(), 'stranger'),
    ];
    const route = routeOf({ address: stranger, port: 9_001 }, listener.local);
    sendPackets(
      place(),
      'stranger',
      ['A', 'SA', 'FA', 'R', 'PA', ''].map((flags) => tcp(route, flags)),
    );
    using flow = await judged();
    await flow.assertPasses();
    const isTcp = (frame: Uint8Array) => hasProtocol(frame, TCP);
    assert.deepEqual((await inLan.end()).filter(isTcp), []);
    const answers = await atStranger.packets(['ipv6.src'], `ipv6.dst == ${stranger} && tcp`);
    assert.deepEqual(answers, []);
  });

  test('segments of no connection are reset when inside sends them', async () => {
    // After that, no connection is picked up in its middle.
    await place().ask({ kind: 'kill-states', filter: 'all', author: 'test' });
    const [inLan, onWan] = [await place().captureAlice(), await place().captureWan()];
    const route = routeOf({ address: alice, port: 9_002 }, { address: server, port: 9_003 });
    sendPackets(place(), 'alice', [tcp(route, 'A', { acknowledgement: 77 })]);
    using flow = await judged();
    await flow.assertPasses();
    const segments = (await inLan.end()).filter((frame) => hasProtocol(frame, TCP));
    assert.deepEqual(
      segments.map((frame) => tcpFlagsOf(frame) & RST),
      [0, RST],
    );
    assert.deepEqual(
      (await onWan.end()).filter((frame) => hasProtocol(frame, TCP)),
      [],
    );
  });

  test('a connection that one end has finished carries what the other sends, until it has', async () => {
    const { inside, outside } = await openConnection(place(), { family: 6 });
    inside.finish();
    assert.equal(await outside.whenOver(ARRIVAL_MS), 'ended');
    for (let count = 1; count <= 20; count += 1) {
      outside.write('more');
      await inside.waitForBytes(4 * count, ARRIVAL_MS);
    }
    outside.finish();
    assert.equal(await inside.whenOver(ARRIVAL_MS), 'ended');
  });

  test('a connection that was reset can be opened again from the same port', async () => {
    for (let round = 0; round < 3; round += 1) {
      const { inside, outside } = await openConnection(place(), { family: 6, port: 40_302 });
      await assertConnected(inside, outside);
      if (round % 2 === 0) inside.reset();
      else outside.reset();
      const other = round % 2 === 0 ? outside : inside;
      assert.equal(await other.whenOver(ARRIVAL_MS), 'ECONNRESET');
      for (const end of [inside, outside]) end.close();
    }
  });

  test('rfc4890-s4.3.1 hosts inside can be pinged, which goes fast, until a rule says no', async () => {
    const words = ['-n', '-c', '5', '-i', '0.01', '-W', '2', alice];
    await assertWay(place(), { fastPath, packets: 6 }, async () => {
      assert.match(await place().output('stranger', 'ping', ...words), /5 received/);
    });
    await using _back = later(() => place().install({}));
    await place().install({ rules: ['{ name: quiet, action: drop, from: wan }'] });
    const inLan = await place().captureAlice();
    sendPackets(place(), 'stranger', [ping(`${stranger} > ${alice}`, { identifier: 99 })]);
    using flow = await judged();
    await flow.assertPasses();
    const pings = (await inLan.end()).filter((frame) => frame[54] === 128);
    assert.deepEqual(
      pings.filter((frame) => hasProtocol(frame, ICMPV6)),
      [],
    );
  });

  /** Of the gateway itself. */
  async function assertNotOffered(port: number) {
    const address = ipv6Addresses.gatewayWan;
    using service = UdpSocket.open(place().host('gateway'), { address, port });
    using outside = place().udp6('stranger');
    outside.send(service.local, 'anybody there?');
    using flow = await judged();
    await flow.assertPasses();
    assert.deepEqual(service.drain(), []);
    assert.equal(outside.takeError(), undefined);
  }

  test('RFC 6092 REC-8: the WAN asks no DNS server of the gateway', () => assertNotOffered(53));

  test('RFC 6092 REC-9: the WAN asks no DHCPv6 server of the gateway', () => assertNotOffered(547));

  test('RFC 6092 REC-50: nobody connects to the gateway from the WAN', async () => {
    const address = ipv6Addresses.gatewayWan;
    for (const port of [22, 443, 8_443]) {
      using listener = TcpListener.open(place().host('gateway'), { address, port });
      using _caller = TcpSocket.connecting(place().host('stranger'), { to: listener.local });
      using flow = await judged();
      await flow.assertPasses();
      assert.equal(listener.take(), undefined);
    }
  });
});

// So slow that whatever both ends send at once meets on the way.
const impaired = { server: { delayMs: 30 } };

describeFastPath({ name: 'natsixslow', ipv6: true, impaired }, (place) => {
  test('RFC 6092 REC-31: both ends may open at once', async () => {
    const [here, there] = [
      { address: alice, port: 40_301 },
      { address: server, port: 7_100 },
    ];
    const first = await openConnection(place(), { family: 6, port: here.port, shared: true });
    const outer = TcpSocket.open(place().host('server'), there);
    const inner = TcpSocket.open(place().host('alice'), here, { shared: true });
    outer.connect(here);
    inner.connect(there);
    await Promise.all([outer.whenConnected(ARRIVAL_MS), inner.whenConnected(ARRIVAL_MS)]);
    await assertConnected(inner, outer);
    for (const end of [first.inside, inner]) end.reset();
    for (const end of [first.outside, outer]) end.close();
  });
});
