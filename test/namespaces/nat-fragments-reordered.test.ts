/** Fragments that come in any order, and such as nobody sends (RFC 4787 REQ-14). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { before, test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type NatLab,
} from './nat-lab.ts';
import { fragmentsOf, ipv4Packet, udpPacket } from './nat-packets.ts';

const { external } = addresses;
const PAYLOAD_BYTES = 4_000;
const SIZES = [1_480, 1_480];

/** Of fragments 0, 1 and 2, which is sent when. */
const orders = {
  'in order': [0, 1, 2],
  'in reverse': [2, 1, 0],
  'with the first at last': [1, 2, 0],
  'with the last before the second': [0, 2, 1],
  'with the second at first': [1, 0, 2],
} as const;

let identification = 1_000;

/** Of a datagram of its own identification. */
function fragments(options: {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
  readonly sizes?: readonly number[];
}): Uint8Array<ArrayBuffer>[] {
  identification += 1;
  const { sizes = SIZES, ...packet } = options;
  return fragmentsOf(udpPacket(packet), { sizes, identification });
}

interface Flow {
  readonly alice: UdpSocket;
  readonly server: UdpSocket;
  readonly mapped: Endpoint;
  readonly atAlice: RawSocket;
  readonly atServer: RawSocket;
}

async function openFlow(place: NatLab): Promise<Flow> {
  const alice = place.udp('alice');
  const server = place.udp('server');
  const mapped = await place.externalEndpoint(alice, server);
  return {
    alice,
    server,
    mapped,
    atAlice: RawSocket.open(place.host('alice')),
    atServer: RawSocket.open(place.host('server')),
  };
}

describeNat({ name: 'natreordered' }, (place) => {
  let flow: Flow;

  before(async () => {
    flow = await openFlow(place());
  });

  /** A datagram after all others. */
  const assertAlive = async () => {
    const { mapped } = flow;
    assert.deepEqual(await place().externalEndpoint(flow.alice, flow.server), mapped);
    assert.deepEqual(flow.alice.drain(), []);
  };

  for (const [what, order] of Object.entries(orders)) {
    test(`survive-65 a datagram whose fragments come in ${what} is delivered`, async () => {
      const { alice, server, mapped, atServer } = flow;
      const payload = randomBytes(PAYLOAD_BYTES);
      const all = fragments({ from: endpointOf(server), to: mapped, payload });
      for (const index of order) atServer.send(external, all[index] ?? assert.fail());
      const datagram = await alice.nextDatagram(ARRIVAL_MS);
      assert.deepEqual(datagram.from, endpointOf(server));
      assert.ok(datagram.payload.equals(payload));
    });

    test(`survive-65 a datagram whose fragments go out ${what} is delivered`, async () => {
      const { alice, server, mapped, atAlice } = flow;
      const payload = randomBytes(PAYLOAD_BYTES);
      const to = endpointOf(server);
      const all = fragments({ from: endpointOf(alice), to, payload });
      for (const index of order) atAlice.send(to.address, all[index] ?? assert.fail());
      const datagram = await server.nextDatagram(ARRIVAL_MS);
      assert.deepEqual(datagram.from, mapped);
      assert.ok(datagram.payload.equals(payload));
    });
  }

  test('survive-65 what goes out is in order again, and shows no inside address', async () => {
    const { alice, server, atAlice } = flow;
    const capture = await place().captureWan();
    const to = endpointOf(server);
    const payload = randomBytes(PAYLOAD_BYTES);
    const all = fragments({ from: endpointOf(alice), to, payload });
    for (const fragment of all.toReversed()) atAlice.send(to.address, fragment);
    await server.nextDatagram(ARRIVAL_MS);
    const packets = await capture.packets(['ip.frag_offset'], `ip.dst == ${to.address}`);
    const offsets = packets.map((packet) => Number(packet['ip.frag_offset']));
    // In units of eight bytes.
    assert.deepEqual(offsets, [0, 185, 370]);
    await assertNoInsideAddress(capture);
  });

  test('survive-65 the first fragment may hold the UDP header alone', async () => {
    const { alice, server, mapped, atServer } = flow;
    const payload = randomBytes(1_000);
    const all = fragments({ from: endpointOf(server), to: mapped, payload, sizes: [8] });
    for (const fragment of all.toReversed()) atServer.send(external, fragment);
    assert.ok((await alice.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  });

  test('survive-65 fragments without a first are not delivered, and hold nobody up', async () => {
    const { server, mapped, atServer } = flow;
    for (let count = 0; count < 200; count += 1) {
      const payload = randomBytes(PAYLOAD_BYTES);
      const [, middle] = fragments({ from: endpointOf(server), to: mapped, payload });
      atServer.send(external, middle ?? assert.fail());
    }
    await assertAlive();
  });

  test('survive-65 fragments that overlap are not delivered', async () => {
    const { server, mapped, atServer } = flow;
    const payload = randomBytes(PAYLOAD_BYTES);
    const all = fragments({ from: endpointOf(server), to: mapped, payload });
    const [first, second, last] = all;
    assert.ok(first && second && last);
    const shifted = ipv4Packet({
      source: addresses.server,
      destination: external,
      protocol: 17,
      identification,
      fragment: 0x2000 | 100,
      payload: randomBytes(1_480),
    });
    for (const fragment of [first, shifted, second, last]) atServer.send(external, fragment);
    await assertAlive();
  });

  test('survive-65 fragments of more than 64 KiB are not delivered', async () => {
    const { server, mapped, atServer } = flow;
    const payload = randomBytes(1_400);
    const [first] = fragments({ from: endpointOf(server), to: mapped, payload, sizes: [1_400] });
    const last = ipv4Packet({
      source: addresses.server,
      destination: external,
      protocol: 17,
      identification,
      fragment: 0x1fff,
      payload: randomBytes(1_400),
    });
    for (const fragment of [first ?? assert.fail(), last]) atServer.send(external, fragment);
    await assertAlive();
  });
});

describeNat(
  {
    name: 'natshuffled',
    impaired: { server: { reorderPercent: 30, reorderByMs: 5 } },
  },
  (place) => {
    test('survive-65 every datagram passes both ways over a link that reorders', async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const mapped = await place().externalEndpoint(alice, server);
      const sent = Array.from({ length: 50 }, () => randomBytes(10_000));
      for (const payload of sent) {
        alice.send(endpointOf(server), payload);
        const there = await server.nextDatagram(ARRIVAL_MS);
        assert.ok(there.payload.equals(payload));
        server.send(mapped, payload);
        const back = await alice.nextDatagram(ARRIVAL_MS);
        assert.ok(back.payload.equals(payload));
      }
    });
  },
);
