/** Who inside is seen as which endpoint, and whom that endpoint lets in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type NatLab,
} from './nat-lab.ts';

const { external } = addresses;

/** The gateway's daemons; that of the second port may be reached from the WAN, too. */
const LAN_SERVICE = 40_022;
const PUBLIC_SERVICE = 40_023;
const FORWARDED_TCP = 8_080;
const FORWARDED_UDP = 5_300;
/** Ports from here on are the gateway's own. */
const OWN_PORTS_FIRST = 61_440;

const config = {
  portForwards: [
    `{ protocol: tcp, port: ${FORWARDED_TCP}, to: ${addresses.bob}:80 }`,
    `{ protocol: udp, port: ${FORWARDED_UDP}, to: ${addresses.bob}:53 }`,
  ],
  rules: [
    allow('lan_service', `from: lan, ports: [${LAN_SERVICE}]`),
    allow('public_service', `ports: [${PUBLIC_SERVICE}]`),
  ],
};

function allow(name: string, what: string): string {
  return `{ name: ${name}, action: accept, to: gateway, protocol: tcp, ${what} }`;
}

function text(payload: Uint8Array): string {
  return Buffer.from(payload).toString('latin1');
}

/** One arrives; nothing else has. */
async function assertOnly(socket: UdpSocket, expected: string, from: Endpoint): Promise<void> {
  const datagram = await socket.nextDatagram(ARRIVAL_MS);
  assert.equal(text(datagram.payload), expected);
  assert.deepEqual(datagram.from, from);
  assert.deepEqual(socket.drain(), []);
}

/** What the port forward leads to. */
function listenAtBob(place: NatLab): TcpListener {
  return TcpListener.open(place.host('bob'), { address: addresses.bob, port: 80 });
}

describeNat({ name: 'natmapping', config }, (place) => {
  for (const port of [500, 1_023, 1_024, 40_001, 61_439]) {
    test(`RFC 4787 REQ-3: the port ${port} is kept where it is free`, async () => {
      using alice = place().udp('alice', port);
      using server = place().udp('server');
      assert.deepEqual(await place().externalEndpoint(alice, server), { address: external, port });
    });
  }

  test('survive-73 two hosts with the same source port reach the same server by UDP', async () => {
    using alice = place().udp('alice', 40_100);
    using bob = place().udp('bob', 40_100);
    using server = place().udp('server');
    const first = await place().externalEndpoint(alice, server);
    const second = await place().externalEndpoint(bob, server);
    assert.notEqual(first.port, second.port);
    assert.equal(second.port % 2, 0);
    assert.deepEqual(await place().externalEndpoint(alice, server), first);
    assert.deepEqual(await place().externalEndpoint(bob, server), second);
  });

  test('survive-73 two hosts with the same source port reach the same server by TCP', async () => {
    const first = await openConnection(place(), { from: 'alice', port: 40_101 });
    const second = await openConnection(place(), { from: 'bob', port: 40_101 });
    assert.equal(first.mapped.port, 40_101);
    assert.notEqual(second.mapped.port, 40_101);
    assert.equal(second.mapped.port % 2, 1);
    for (const { inside, outside } of [first, second]) await assertConnected(inside, outside);
  });

  test('RFC 4787 REQ-1: every remote sees a socket at the same endpoint', async () => {
    using alice = place().udp('alice');
    const seen: Endpoint[] = [];
    for (const name of ['server', 'stranger', 'far'] as const) {
      using remote = place().udp(name);
      seen.push(await place().externalEndpoint(alice, remote));
    }
    assert.deepEqual(seen, Array(3).fill(seen[0]));
  });

  test('survive-71 a third party reaches a mapped UDP port, and is answered from it', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const mapped = await place().externalEndpoint(alice, server);
    stranger.send(mapped, 'hello');
    await assertOnly(alice, 'hello', endpointOf(stranger));
    alice.send(endpointOf(stranger), 'welcome');
    await assertOnly(stranger, 'welcome', mapped);
  });

  test('survive-71 RFC 5382 REQ-3: a third party connects to a mapped TCP port', async () => {
    const local = { address: addresses.alice, port: 40_102 };
    const shared = true;
    const opened = await openConnection(place(), { port: local.port, shared });
    using listener = TcpListener.open(place().host('alice'), local, { shared });
    const stranger = await TcpSocket.connected(place().host('stranger'), {
      to: opened.mapped,
      timeoutMs: ARRIVAL_MS,
    });
    const { connection, from } = await listener.next(ARRIVAL_MS);
    assert.deepEqual(from, stranger.local);
    await assertConnected(stranger, connection);
    await assertConnected(opened.inside, opened.outside);
  });

  test("survive-71 no mapping takes the port of the gateway's daemon, and no stranger reaches that", async () => {
    const gateway = place().host('gateway');
    using daemon = UdpSocket.open(gateway, { port: 40_500 });
    using alice = place().udp('alice', 40_500);
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const mapped = await place().externalEndpoint(alice, server);
    assert.notEqual(mapped.port, 40_500);
    stranger.send({ address: external, port: 40_500 }, 'for the gateway');
    stranger.send(mapped, 'for alice');
    await assertOnly(alice, 'for alice', endpointOf(stranger));
    assert.deepEqual(daemon.drain(), []);
  });

  test('survive-71 whoever may reach a daemon of the gateway still does, when a host uses its port', async () => {
    const gateway = place().host('gateway');
    for (const [port, allowed] of [
      [LAN_SERVICE, [['alice', addresses.gatewayLan] as const]],
      [PUBLIC_SERVICE, [['bob', external] as const, ['stranger', external] as const]],
    ] as const) {
      using daemon = TcpListener.open(gateway, { address: '0.0.0.0', port });
      const { inside, outside, mapped } = await openConnection(place(), { port });
      assert.notEqual(mapped.port, port);
      for (const [name, address] of allowed) {
        const to = { address, port };
        const client = await TcpSocket.connected(place().host(name), { to, timeoutMs: ARRIVAL_MS });
        const { connection } = await daemon.next(ARRIVAL_MS);
        await assertConnected(client, connection);
      }
      await assertConnected(inside, outside);
    }
  });

  test('survive-71 ports that the gateway may use itself are never mapped', async () => {
    const range = await place().output('gateway', 'sysctl', '-n', 'net.ipv4.ip_local_port_range');
    assert.deepEqual(range.trim().split(/\s+/).map(Number), [OWN_PORTS_FIRST, 65_535]);
    using alice = place().udp('alice', OWN_PORTS_FIRST + 1_000);
    using server = place().udp('server');
    const mapped = await place().externalEndpoint(alice, server);
    assert.ok(mapped.port >= 1_024 && mapped.port < OWN_PORTS_FIRST, `${mapped.port}`);
    assert.equal(mapped.port % 2, 0);
  });

  test('what the gateway says itself keeps its port, and is answered', async () => {
    using own = UdpSocket.open(place().host('gateway'), { address: external });
    using server = place().udp('server');
    assert.deepEqual(await place().externalEndpoint(own, server), own.local);
    assert.ok(own.local.port >= OWN_PORTS_FIRST);
  });

  test('survive-62 RFC 4787 REQ-9: hosts inside talk by their external endpoints, and see only those', async () => {
    using alice = place().udp('alice');
    using bob = place().udp('bob');
    using server = place().udp('server');
    const outside = {
      alice: await place().externalEndpoint(alice, server),
      bob: await place().externalEndpoint(bob, server),
    };
    alice.send(outside.bob, 'to bob');
    await assertOnly(bob, 'to bob', outside.alice);
    bob.send(outside.alice, 'to alice');
    await assertOnly(alice, 'to alice', outside.bob);
  });

  test('survive-62 a host whom nobody outside knows yet is seen at a new external endpoint', async () => {
    using alice = place().udp('alice');
    using bob = place().udp('bob');
    using server = place().udp('server');
    const bobOutside = await place().externalEndpoint(bob, server);
    alice.send(bobOutside, 'to bob');
    const { from } = await bob.nextDatagram(ARRIVAL_MS);
    assert.equal(from.address, external);
    bob.send(from, 'to alice');
    await assertOnly(alice, 'to alice', bobOutside);
    assert.deepEqual(await place().externalEndpoint(alice, server), from);
  });

  test('survive-62 a host talks to itself by its external endpoints', async () => {
    using one = place().udp('alice');
    using other = place().udp('alice');
    using server = place().udp('server');
    const outside = await place().externalEndpoint(one, server);
    one.send(outside, 'to myself');
    await assertOnly(one, 'to myself', outside);
    other.send(outside, 'to my neighbour');
    const { from } = await one.nextDatagram(ARRIVAL_MS);
    assert.equal(from.address, external);
    one.send(from, 'and back');
    await assertOnly(other, 'and back', outside);
  });

  test('survive-62 RFC 5382 REQ-8: TCP from inside to a port forward comes from an external endpoint', async () => {
    using listener = listenAtBob(place());
    for (const name of ['alice', 'bob'] as const) {
      const client = await TcpSocket.connected(place().host(name), {
        to: { address: external, port: FORWARDED_TCP },
        timeoutMs: ARRIVAL_MS,
      });
      const { connection, from } = await listener.next(ARRIVAL_MS);
      assert.equal(from.address, external);
      await assertConnected(client, connection);
      client.finish();
      assert.equal(await connection.whenOver(ARRIVAL_MS), 'ended');
    }
  });

  test('port forwards lead TCP and UDP from outside to their host', async () => {
    const capture = await place().captureWan();
    using listener = listenAtBob(place());
    const client = await TcpSocket.connected(place().host('stranger'), {
      to: { address: external, port: FORWARDED_TCP },
      timeoutMs: ARRIVAL_MS,
    });
    const { connection, from } = await listener.next(ARRIVAL_MS);
    assert.deepEqual(from, client.local);
    await assertConnected(client, connection);

    using names = place().udp('bob', 53);
    using stranger = place().udp('stranger');
    const forward = { address: external, port: FORWARDED_UDP };
    stranger.send(forward, 'question');
    await assertOnly(names, 'question', endpointOf(stranger));
    names.send(endpointOf(stranger), 'answer');
    await assertOnly(stranger, 'answer', forward);
    await assertNoInsideAddress(capture);
  });

  test('RFC 4787 REQ-3: no mapping takes a port that is forwarded', async () => {
    using alice = place().udp('alice', FORWARDED_UDP);
    using server = place().udp('server');
    const mapped = await place().externalEndpoint(alice, server);
    assert.notEqual(mapped.port, FORWARDED_UDP);
  });

  test('RFC 4787 REQ-8: only whom a guest talks to may answer, from that port', async () => {
    using guest = place().udp('guest');
    using server = place().udp('server');
    using samePort = UdpSocket.open(place().host('server'), {
      ...server.local,
      address: addresses.serverToo,
    });
    using sameAddress = place().udp('server');
    using stranger = place().udp('stranger');
    using alice = place().udp('alice');
    const mapped = await place().externalEndpoint(guest, server);
    for (const socket of [samePort, sameAddress, stranger, alice]) socket.send(mapped, 'let me in');
    // Each has been heard by then, since its own exchange came later.
    for (const socket of [samePort, sameAddress, stranger]) {
      await place().externalEndpoint(alice, socket);
    }
    server.send(mapped, 'it is me');
    await assertOnly(guest, 'it is me', endpointOf(server));
  });

  test('RFC 4787 REQ-8: with address-dependent filtering, other ports of whom a guest talks to may, too', async () => {
    await place().install({ guestsFiltering: 'address-dependent' });
    using guest = place().udp('guest');
    using server = place().udp('server');
    using sameAddress = place().udp('server');
    using stranger = place().udp('stranger');
    using alice = place().udp('alice');
    const mapped = await place().externalEndpoint(guest, server);
    stranger.send(mapped, 'let me in');
    await place().externalEndpoint(alice, stranger);
    sameAddress.send(mapped, 'from next door');
    await assertOnly(guest, 'from next door', endpointOf(sameAddress));
    await place().install({});
  });
});
