/** Datagrams larger than a frame, whose fragments come in order (RFC 4787 REQ-14). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type LinkCapture,
} from './nat-lab.ts';

const { external } = addresses;
const FORWARDED_PORT = 5_300;
const LARGEST_DATAGRAM = 65_507;

const config = {
  portForwards: [`{ protocol: udp, port: ${FORWARDED_PORT}, to: ${addresses.bob}:53 }`],
};

/** @param options `to` is how the sender knows the receiver */
async function assertCarried(options: {
  readonly from: UdpSocket;
  readonly to: Endpoint;
  readonly receiver: UdpSocket;
  readonly bytes: number;
}): Promise<Endpoint> {
  const { from, to, receiver, bytes } = options;
  const payload = randomBytes(bytes);
  from.send(to, payload);
  const datagram = await receiver.nextDatagram(ARRIVAL_MS);
  assert.ok(datagram.payload.equals(payload));
  return datagram.from;
}

describeNat({ name: 'natfragments', config }, (place) => {
  let onWan: LinkCapture;

  before(async () => {
    onWan = await place().captureWan();
  });

  for (const bytes of [1_473, 10_000, LARGEST_DATAGRAM]) {
    test(`survive-65 a datagram of ${bytes} bytes passes out and in`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const to = endpointOf(server);
      const mapped = await assertCarried({ from: alice, to, receiver: server, bytes });
      assert.equal(mapped.address, external);
      const from = await assertCarried({ from: server, to: mapped, receiver: alice, bytes });
      assert.deepEqual(from, to);
    });
  }

  test('survive-65 the first that comes from a third party may be in fragments', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const to = await place().externalEndpoint(alice, server);
    const from = await assertCarried({ from: stranger, to, receiver: alice, bytes: 10_000 });
    assert.deepEqual(from, endpointOf(stranger));
  });

  test('survive-65 fragments pass a port forward', async () => {
    using bob = place().udp('bob', 53);
    using stranger = place().udp('stranger');
    const to = { address: external, port: FORWARDED_PORT };
    await assertCarried({ from: stranger, to, receiver: bob, bytes: 10_000 });
    const back = { from: bob, to: endpointOf(stranger), receiver: stranger, bytes: 10_000 };
    assert.deepEqual(await assertCarried(back), to);
  });

  test('survive-65 survive-62 fragments pass between hosts inside by their external endpoints', async () => {
    using alice = place().udp('alice');
    using bob = place().udp('bob');
    using server = place().udp('server');
    const aliceOutside = await place().externalEndpoint(alice, server);
    const bobOutside = await place().externalEndpoint(bob, server);
    const bytes = 10_000;
    const out = { from: alice, to: bobOutside, receiver: bob, bytes };
    assert.deepEqual(await assertCarried(out), aliceOutside);
    const back = { from: bob, to: aliceOutside, receiver: alice, bytes };
    assert.deepEqual(await assertCarried(back), bobOutside);
  });

  test("survive-65 fragments for the gateway's own sockets reach them", async () => {
    using own = UdpSocket.open(place().host('gateway'), { address: external });
    using server = place().udp('server');
    const bytes = 10_000;
    await assertCarried({ from: own, to: endpointOf(server), receiver: server, bytes });
    await assertCarried({ from: server, to: endpointOf(own), receiver: own, bytes });
  });

  test('survive-65 fragments of datagrams that a guest has not asked for do not reach the guest', async () => {
    using guest = place().udp('guest');
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const mapped = await place().externalEndpoint(guest, server);
    stranger.send(mapped, randomBytes(10_000));
    const allowed = { from: server, to: mapped, receiver: guest, bytes: 10_000 };
    assert.deepEqual(await assertCarried(allowed), endpointOf(server));
    assert.deepEqual(guest.drain(), []);
  });

  test('survive-65 no fragment has shown an inside address on the WAN', () =>
    assertNoInsideAddress(onWan));
});
