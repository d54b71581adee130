/** Several external addresses, one for a host alone, and a network that keeps its own. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawSocket } from '../../lab/raw-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
} from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';

const [shared, bobsOwn] = addresses.moreExternals;
const forAll: readonly string[] = [addresses.external, shared];
const DEPOT_PORT = 5_000;

const config = {
  nat:
    `externalAddresses: [${shared}], oneToOne: ` +
    `[{ external: ${bobsOwn}, internal: ${addresses.bob}, filtering: endpoint-independent }]`,
  rules: [
    `{ name: to_depot, action: accept, to: depot, protocol: udp, ports: [${DEPOT_PORT}] }`,
    '{ name: lan_to_depot, action: accept, from: lan, to: depot }',
  ],
};

describeNat({ name: 'nataddresses', config }, (place) => {
  test('RFC 4787 REQ-2: a host has one of several external addresses, always the same', async () => {
    const seen = new Set<string>();
    for (let count = 0; count < 8; count += 1) {
      using alice = place().udp('alice');
      using server = place().udp('server');
      seen.add((await place().externalEndpoint(alice, server)).address);
    }
    const [address = '', ...others] = seen;
    assert.deepEqual(others, []);
    assert.ok(forAll.includes(address), address);
  });

  test('a host with an external address of its own keeps every port, and is reached at each', async () => {
    const capture = await place().captureWan();
    using bob = place().udp('bob', 62_000);
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const mapped = { address: bobsOwn, port: 62_000 };
    assert.deepEqual(await place().externalEndpoint(bob, server), mapped);
    stranger.send(mapped, 'hello');
    assert.deepEqual((await bob.nextDatagram(ARRIVAL_MS)).from, endpointOf(stranger));

    using listener = TcpListener.open(place().host('bob'), { address: addresses.bob, port: 22 });
    const client = await TcpSocket.connected(place().host('stranger'), {
      to: { address: bobsOwn, port: 22 },
      timeoutMs: ARRIVAL_MS,
    });
    const { from } = await listener.next(ARRIVAL_MS);
    assert.deepEqual(from, client.local);
    await assertNoInsideAddress(capture);
  });

  test('a host with an external address of its own is pinged there, and told of closed ports', async () => {
    const capture = await place().captureWan();
    const ping = ['ping', '-n', '-c', '3', '-i', '0.05', bobsOwn] as const;
    assert.match(await place().output('stranger', ...ping), / 3 received/);
    using stranger = place().udp('stranger');
    stranger.send({ address: bobsOwn, port: 9 }, 'anybody there?');
    assert.equal((await stranger.nextError(ARRIVAL_MS)).offender, bobsOwn);
    await assertNoInsideAddress(capture);
  });

  test('survive-62 a neighbour reaches it at its external address, and is seen at his own', async () => {
    using alice = place().udp('alice');
    using bob = place().udp('bob', 62_001);
    alice.send({ address: bobsOwn, port: 62_001 }, 'to bob');
    const { from } = await bob.nextDatagram(ARRIVAL_MS);
    assert.ok(forAll.includes(from.address), from.address);
    bob.send(from, 'to alice');
    const answer = await alice.nextDatagram(ARRIVAL_MS);
    assert.deepEqual(answer.from, { address: bobsOwn, port: 62_001 });
  });

  test('what is for an external address and nobody there does not go round in circles', async () => {
    const capture = await place().captureWan();
    using isp = RawSocket.open(place().host('isp'));
    using alice = place().udp('alice');
    using server = place().udp('server');
    const payload = Buffer.from('for nobody');
    for (const address of [shared, '192.0.2.203']) {
      const to = { address, port: 1_500 };
      isp.send(address, udpPacket({ from: { address: addresses.isp, port: 9 }, to, payload }));
    }
    await place().externalEndpoint(alice, server);
    const frames = await capture.end();
    const seen = frames.filter((bytes) => Buffer.from(bytes).includes(payload));
    assert.equal(seen.length, 2);
  });

  test('a network that is routed keeps its addresses, and lets in what the rules let in', async () => {
    using depot = place().udp('depot', DEPOT_PORT);
    using other = place().udp('depot');
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    for (const socket of [depot, other]) {
      const seen = await place().externalEndpoint(socket, server);
      assert.deepEqual(seen, endpointOf(socket));
    }
    stranger.send(endpointOf(other), 'not allowed');
    stranger.send(endpointOf(depot), 'allowed');
    assert.equal(`${(await depot.nextDatagram(ARRIVAL_MS)).payload}`, 'allowed');
    await place().externalEndpoint(other, server);
    assert.deepEqual(other.drain(), []);
  });

  test('hosts of a routed network and others reach each other as they are', async () => {
    using alice = place().udp('alice');
    using depot = place().udp('depot');
    assert.deepEqual(await place().externalEndpoint(alice, depot), endpointOf(alice));
  });
});
