/** Packets with wrong addresses, options, no time to live, or a protocol without ports. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { type Endpoint, socketNumbers } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import {
  ARRIVAL_MS,
  addresses,
  assertNoInsideAddress,
  describeNat,
  endpointOf,
  type HostName,
  type LinkCapture,
  type NatLab,
} from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';

const { external } = addresses;
const TIME_EXCEEDED = 11;
const NO_OPERATION = 1;
const LOOSE_SOURCE_ROUTE = 131;

/** Sources that no packet from the internet can have. */
const martians = {
  'this machine': '127.0.0.1',
  'this network': '0.1.2.3',
  'a host inside': addresses.bob,
  'a guest': addresses.guest,
  'the gateway itself': external,
  'a multicast group': '224.0.0.1',
  'a reserved address': '240.0.0.1',
  'all hosts': '255.255.255.255',
};

/** Sources that no host of the LAN can have. */
const forgeries = {
  'a machine in the internet': '203.0.113.99',
  'a network that nobody knows': '10.99.0.1',
  "the gateway's external address": external,
  'this machine': '127.0.0.1',
  'a guest': addresses.guest,
};

/** Protocols without ports that may pass. */
const portless = { GRE: 47, ESP: 50, SCTP: 132, 'IPv6 in IPv4': 41 };
/** RFC 3692: for experiments. */
const UNKNOWN_PROTOCOL = 253;

/** By which a packet can be found again. */
function payloadOf(): Buffer<ArrayBuffer> {
  return Buffer.from(`payload ${randomUUID()}`);
}

async function assertNotCaptured(capture: LinkCapture, payload: Buffer): Promise<void> {
  const frames = await capture.end();
  assert.ok(!frames.some((bytes) => Buffer.from(bytes).includes(payload)));
}

/** Later than everything that was sent before; alice has received nothing else since. */
async function assertNothingCame(place: NatLab, alice: UdpSocket, server: UdpSocket) {
  await place.externalEndpoint(alice, server);
  assert.deepEqual(alice.drain(), []);
  assert.deepEqual(server.drain(), []);
}

describeNat({ name: 'natodd' }, (place) => {
  for (const [what, address] of Object.entries(martians)) {
    test(`survive-76 nothing comes in that claims to be from ${what}`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const to = await place().externalEndpoint(alice, server);
      using isp = RawSocket.open(place().host('isp'));
      const capture = await place().captureAlice();
      const payload = payloadOf();
      isp.send(external, udpPacket({ from: { address, port: 7_777 }, to, payload }));
      await assertNothingCame(place(), alice, server);
      await assertNotCaptured(capture, payload);
    });
  }

  for (const [what, address] of Object.entries(forgeries)) {
    test(`survive-76 BCP 38: nothing goes out of the LAN that claims to be from ${what}`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const to = endpointOf(server);
      using raw = RawSocket.open(place().host('alice'));
      const capture = await place().captureWan();
      const payload = payloadOf();
      raw.send(to.address, udpPacket({ from: { address, port: 7_777 }, to, payload }));
      await assertNothingCame(place(), alice, server);
      await assertNotCaptured(capture, payload);
    });
  }

  test('survive-76 the internet does not reach inside addresses, though it knows the way', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    using isp = RawSocket.open(place().host('isp'));
    const way = ['10.77.0.0/24', 'via', external] as const;
    await place().output('isp', 'ip', 'route', 'add', ...way);
    const capture = await place().captureAlice();
    const payload = payloadOf();
    const to = endpointOf(alice);
    isp.send(to.address, udpPacket({ from: endpointOf(server), to, payload }));
    await place().output('isp', 'ip', 'route', 'del', ...way);
    await assertNothingCame(place(), alice, server);
    await assertNotCaptured(capture, payload);
  });

  for (const bytes of [0, 1, 3, 1_471]) {
    test(`survive-74 a datagram of ${bytes} bytes arrives as it was sent`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const payload = randomBytes(bytes);
      alice.send(endpointOf(server), payload);
      const there = await server.nextDatagram(ARRIVAL_MS);
      assert.ok(there.payload.equals(payload));
      server.send(there.from, payload);
      assert.ok((await alice.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    });
  }

  for (const [what, make, checksum] of [
    ['a datagram without checksum still has none', withoutChecksum, 0],
    ['a checksum that comes out as zero is written as all ones', withZeroChecksum, 0xffff],
  ] as const) {
    test(`survive-74 behind the NAT ${what}`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      using atAlice = RawSocket.open(place().host('alice'));
      using atServer = RawSocket.open(place().host('server'));
      const mapped = await place().externalEndpoint(alice, server);
      const captures = [await place().captureWan(), await place().captureAlice()] as const;
      const [inside, outside] = [endpointOf(alice), endpointOf(server)];
      const out = make({ from: inside, to: outside, seenAs: { from: mapped, to: outside } });
      atAlice.send(outside.address, out);
      await server.nextDatagram(ARRIVAL_MS);
      const back = make({ from: outside, to: mapped, seenAs: { from: outside, to: inside } });
      atServer.send(mapped.address, back);
      await alice.nextDatagram(ARRIVAL_MS);
      for (const [capture, { address }] of [
        [captures[0], outside],
        [captures[1], inside],
      ] as const) {
        const packets = await capture.packets(['udp.checksum'], `udp && ip.dst == ${address}`);
        const seen = packets.map((packet) => Number(packet['udp.checksum']));
        assert.deepEqual(seen, [checksum]);
      }
    });
  }

  test('survive-75 packets with harmless options are translated', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const mapped = await place().externalEndpoint(alice, server);
    using atAlice = RawSocket.open(place().host('alice'));
    using atServer = RawSocket.open(place().host('server'));
    const payload = payloadOf();
    const options = Array(8).fill(NO_OPERATION);
    const out = { from: endpointOf(alice), to: endpointOf(server), payload, options };
    atAlice.send(out.to.address, udpPacket(out));
    assert.deepEqual(await server.nextDatagram(ARRIVAL_MS), { from: mapped, payload });
    const back = { from: endpointOf(server), to: mapped, payload, options };
    atServer.send(back.to.address, udpPacket(back));
    assert.deepEqual(await alice.nextDatagram(ARRIVAL_MS), { from: back.from, payload });
  });

  test('survive-75 source routes are followed in neither direction', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const mapped = await place().externalEndpoint(alice, server);
    using atAlice = RawSocket.open(place().host('alice'));
    using isp = RawSocket.open(place().host('isp'));
    const captures = [await place().captureWan(), await place().captureAlice()];
    const [out, back] = [payloadOf(), payloadOf()];
    const via = [LOOSE_SOURCE_ROUTE, 7, 4, 203, 0, 113, 130, NO_OPERATION];
    const [from, to] = [endpointOf(alice), endpointOf(server)];
    atAlice.send(external, udpPacket({ from, to, payload: out, options: via }));
    atAlice.send(to.address, udpPacket({ from, to, payload: out, options: via }));
    isp.send(external, udpPacket({ from: to, to: mapped, payload: back, options: via }));
    await assertNothingCame(place(), alice, server);
    const [onWan, inLan] = captures;
    assert.ok(onWan && inLan);
    await assertNotCaptured(onWan, out);
    await assertNotCaptured(inLan, back);
  });

  test('survive-75 what has no time to live is answered by the gateway, and does not leave', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const capture = await place().captureWan();
    const payload = payloadOf();
    const to = endpointOf(server);
    using raw = RawSocket.open(place().host('alice'));
    for (const timeToLive of [0, 1]) {
      raw.send(to.address, udpPacket({ from: endpointOf(alice), to, payload, timeToLive }));
      const { type, code, offender } = await alice.nextError(ARRIVAL_MS);
      const told = { type, code, offender };
      assert.deepEqual(told, { type: TIME_EXCEEDED, code: 0, offender: addresses.gatewayLan });
    }
    await assertNothingCame(place(), alice, server);
    await assertNotCaptured(capture, payload);
  });

  test('survive-75 what has one hop to live left dies behind the gateway, which is told', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    alice.setOption(socketNumbers.SOL_IP, socketNumbers.IP_TTL, 2);
    alice.send(endpointOf(server), 'not so far');
    const { type, offender } = await alice.nextError(ARRIVAL_MS);
    assert.deepEqual({ type, offender }, { type: TIME_EXCEEDED, offender: addresses.isp });
  });

  test('survive-79 protocols without ports are carried for one host to a remote at a time, as they are', async () => {
    const capture = await place().captureWan();
    for (const protocol of Object.values(portless)) {
      const open = (host: HostName) => RawSocket.open(place().host(host), protocol);
      using alice = open('alice');
      using bob = open('bob');
      using server = open('server');
      using stranger = open('stranger');
      const [out, back, other] = [payloadOf(), payloadOf(), payloadOf()];
      alice.send(addresses.server, out);
      await assertPacket(server, { protocol, source: external, payload: out });
      server.send(external, back);
      await assertPacket(alice, { protocol, source: addresses.server, payload: back });
      // The same remote would not know them apart.
      bob.send(addresses.server, other);
      bob.send(addresses.stranger, other);
      await assertPacket(stranger, { protocol, source: external, payload: other });
      stranger.send(external, back);
      await assertPacket(bob, { protocol, source: addresses.stranger, payload: back });
      alice.send(addresses.server, out);
      await assertPacket(server, { protocol, source: external, payload: out });
    }
    await assertNoInsideAddress(capture);
  });

  test('survive-79 protocols that nobody knows do not leave', async () => {
    using raw = RawSocket.open(place().host('alice'), UNKNOWN_PROTOCOL);
    using alice = place().udp('alice');
    using server = place().udp('server');
    const capture = await place().captureWan();
    const payload = payloadOf();
    raw.send(addresses.server, payload);
    await assertNothingCame(place(), alice, server);
    await assertNotCaptured(capture, payload);
  });
});

interface Translated extends Ends {
  /** Behind the NAT. */
  readonly seenAs: Ends;
}

interface Ends {
  readonly from: Endpoint;
  readonly to: Endpoint;
}

function withoutChecksum({ from, to }: Translated): Uint8Array {
  return udpPacket({ from, to, payload: payloadOf(), withoutChecksum: true });
}

/** One behind the NAT, where it is the only one. */
function withZeroChecksum({ from, to, seenAs }: Translated): Uint8Array {
  const payload = new Uint8Array(2);
  const seen = udpPacket({ ...seenAs, payload });
  // The ones' complement sum of all else, to which this word adds up.
  payload.set(seen.subarray(UDP_CHECKSUM_AT, UDP_CHECKSUM_AT + 2));
  return udpPacket({ from, to, payload });
}

const UDP_CHECKSUM_AT = 26;

/** The next that arrives has this source and, behind the header, this payload. */
async function assertPacket(
  socket: RawSocket,
  expected: { readonly protocol: number; readonly source: string; readonly payload: Buffer },
): Promise<void> {
  const { protocol, source, payload } = expected;
  const options = { timeoutMs: ARRIVAL_MS, intervalMs: 2 };
  const description = `a packet of protocol ${protocol}`;
  const packet = await waitFor(description, () => socket.receive(), options);
  assert.deepEqual(
    { protocol, source: [...packet.subarray(12, 16)].join('.'), payload: `${packet.subarray(20)}` },
    { protocol, source, payload: `${payload}` },
  );
}
