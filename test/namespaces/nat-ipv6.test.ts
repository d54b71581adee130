/** What goes fast over IPv6 arrives, is refused, and stops with its rule as what is routed does. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { socketNumbers } from '../../lab/lab-socket.ts';
import type { IcmpError, UdpSocket } from '../../lab/udp-socket.ts';
import {
  destinationOptions,
  hopByHop,
  ipv6Fragments,
  routing,
} from '../../src/testing/ipv6-packets.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import {
  assertWay,
  describeFastPath,
  Flow,
  frameWith,
  later,
  macAddressOf,
  narrow,
  sendFrame,
} from './nat-flow.ts';
import { headerOf, ipv6Datagram, sendPackets } from './nat-ipv6-packets.ts';
import {
  ARRIVAL_MS,
  endpointOf,
  type FastPath,
  ipv6Addresses,
  NARROW_MTU,
  type NatLab,
} from './nat-lab.ts';

const { gatewayLan, gatewayWan } = ipv6Addresses;
const PACKET_TOO_BIG = 2;
const TIME_EXCEEDED = 3;
const HEADERS_BYTES = 40 + 8;
const ETHERNET_HEADER_BYTES = 14;

/** By which a packet can be found again. */
function payloadOf(): Buffer<ArrayBuffer> {
  return Buffer.from(`payload ${randomUUID()}`);
}

async function assertError(socket: UdpSocket, expected: Partial<IcmpError>): Promise<void> {
  const error = await socket.nextError(ARRIVAL_MS);
  assert.deepEqual({ ...error, ...expected }, error);
}

function setHops(socket: UdpSocket, hops: number): void {
  socket.setOption(socketNumbers.SOL_IPV6, socketNumbers.IPV6_UNICAST_HOPS, hops);
}

/** Chains of extension headers that pass a router. */
const harmlessChains = {
  'options for the destination': [destinationOptions()],
  'options for each hop': [hopByHop()],
  'options for each hop and for the destination, twice': [
    ...[hopByHop(), destinationOptions(), destinationOptions()],
  ],
  'a routing header that has been followed': [routing({ type: 2, segmentsLeft: 0 })],
};

/** Chains that end at the gateway. */
const refusedChains = {
  'a routing header of type 0 (RFC 5095)': [routing({ type: 0, segmentsLeft: 1 })],
  'more than eight headers': Array.from({ length: 9 }, () => destinationOptions()),
  'more than 256 bytes of headers': [destinationOptions(264)],
};

describeFastPath({ name: 'natsix', ipv6: true }, (place, fastPath) => {
  const judged = (options: { readonly from?: 'alice' | 'bob' | 'depot' } = {}) =>
    Flow.judged(place(), { fastPath, family: 6, ...options });
  /** As alice puts it on her link, to the gateway. */
  const frameOut = async (flow: Flow, payload: Uint8Array) => {
    const ends = { from: endpointOf(flow.inside), to: endpointOf(flow.outside) };
    const [to, from] = [
      await macAddressOf(place(), 'gateway', 'lan0'),
      await macAddressOf(place(), 'alice', 'eth0'),
    ];
    const macs = Buffer.from(`${to}${from}`.replaceAll(':', ''), 'hex');
    const frame = ipv6Datagram({ ...ends, payload });
    return Buffer.concat([macs, frame.subarray(macs.length)]);
  };

  test('what has no hop left is answered by the gateway, to both sides', async () => {
    using flow = await judged();
    setHops(flow.inside, 1);
    flow.sendOut('not so far');
    const exceeded = { type: TIME_EXCEEDED, code: 0 };
    await assertError(flow.inside, { ...exceeded, offender: gatewayLan });
    setHops(flow.outside, 2);
    flow.sendIn('not so far');
    await assertError(flow.outside, { ...exceeded, offender: gatewayWan, to: flow.mapped });
    for (const end of [flow.inside, flow.outside]) setHops(end, 64);
    await flow.assertPasses();
  });

  test('the hop limit falls by one, and nothing else of the header changes', async () => {
    using flow = await judged();
    const onWan = await place().captureWan();
    const inLan = await place().captureAlice();
    const [out, back] = [payloadOf(), payloadOf()];
    const [inside, outside] = [endpointOf(flow.inside), endpointOf(flow.outside)];
    const fields = { trafficClass: 0xb9, flowLabel: 0x5_4321 };
    await assertWay(place(), { fastPath, packets: 2 }, async () => {
      const there = { from: inside, to: outside, payload: out, hopLimit: 40, ...fields };
      sendPackets(place(), 'alice', [ipv6Datagram(there)]);
      assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(out));
      const here = { from: outside, to: inside, payload: back, hopLimit: 40, ...fields };
      sendPackets(place(), 'server', [ipv6Datagram(here)]);
      assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(back));
    });
    const [there, here] = [await onWan.end(), await inLan.end()];
    assert.deepEqual(headerOf(frameWith(there, out)), { ...fields, hopLimit: 39 });
    // The provider's router is on this way, too.
    assert.deepEqual(headerOf(frameWith(here, back)), { ...fields, hopLimit: 38 });
  });

  test('survive-80 what is too large for the next link is answered, with the right MTU', async () => {
    using flow = await judged();
    for (const [link, sender, send] of [
      ['wan0', flow.inside, (bytes: Uint8Array) => flow.sendOut(bytes)],
      ['lan0', flow.outside, (bytes: Uint8Array) => flow.sendIn(bytes)],
    ] as const) {
      await using _narrowed = await narrow(place(), link);
      const { SOL_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO } = socketNumbers;
      sender.setOption(SOL_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
      send(new Uint8Array(NARROW_MTU));
      const offender = link === 'wan0' ? gatewayLan : gatewayWan;
      await assertError(sender, { type: PACKET_TOO_BIG, code: 0, info: NARROW_MTU, offender });
      // What just fits.
      const payload = randomBytes(NARROW_MTU - HEADERS_BYTES);
      const receiver = link === 'wan0' ? flow.outside : flow.inside;
      await assertWay(place(), { fastPath, packets: 1 }, async () => {
        send(payload);
        assert.ok((await receiver.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
      });
    }
  });

  test('survive-80 a SYN names a segment that fits the narrow link behind the gateway', async () => {
    await using _narrowed = await narrow(place(), 'wan0');
    const capture = await place().captureWan();
    const { inside, outside } = await openConnection(place(), { family: 6 });
    const syns = await capture.packets(['tcp.options.mss_val'], 'ipv6 && tcp.flags.syn == 1');
    const fitting = `${NARROW_MTU - 60}`;
    assert.deepEqual(syns[0], { 'tcp.options.mss_val': fitting });
    inside.reset();
    outside.close();
  });

  defineBulkTests(place, fastPath);

  test('survive-65 datagrams larger than a frame pass both ways', async () => {
    using flow = await judged();
    const payload = randomBytes(4_000);
    flow.sendOut(payload);
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    flow.sendIn(payload);
    assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  });

  test('survive-65 fragments pass both ways, whichever comes first', async () => {
    using flow = await judged();
    const payload = randomBytes(1_000);
    const [inside, outside] = [endpointOf(flow.inside), endpointOf(flow.outside)];
    for (const [index, order] of [false, true].entries()) {
      const cut = (from: typeof inside, to: typeof inside, identification: number) => {
        const whole = ipv6Datagram({ from, to, payload });
        const parts = [...ipv6Fragments(whole, { firstBytes: 512, identification })];
        return order ? parts.reverse() : parts;
      };
      sendPackets(place(), 'alice', cut(inside, outside, 1_000 + index));
      assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
      sendPackets(place(), 'server', cut(outside, inside, 2_000 + index));
      assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    }
    await flow.assertPasses();
  });

  test('a flow can begin with fragments, in any order', async () => {
    using inside = place().udp6('alice');
    using outside = place().udp6('server');
    const payload = randomBytes(1_000);
    const whole = ipv6Datagram({ from: endpointOf(inside), to: endpointOf(outside), payload });
    const [first, second] = ipv6Fragments(whole, { firstBytes: 512, identification: 3_000 });
    sendPackets(place(), 'alice', [second, first]);
    assert.ok((await outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    outside.send(endpointOf(inside), 'answer');
    assert.equal(`${(await inside.nextDatagram(ARRIVAL_MS)).payload}`, 'answer');
  });

  for (const [what, extensions] of Object.entries(harmlessChains)) {
    test(`packets with ${what} pass both ways, on the slow way`, async () => {
      using flow = await judged();
      const [inside, outside] = [endpointOf(flow.inside), endpointOf(flow.outside)];
      const payload = payloadOf();
      await assertWay(place(), { fastPath: 'off', packets: 0 }, async () => {
        const out = ipv6Datagram({ from: inside, to: outside, payload, extensions });
        sendPackets(place(), 'alice', [out]);
        assert.deepEqual(await flow.outside.nextDatagram(ARRIVAL_MS), { from: inside, payload });
        const back = ipv6Datagram({ from: outside, to: inside, payload, extensions });
        sendPackets(place(), 'server', [back]);
        assert.deepEqual(await flow.inside.nextDatagram(ARRIVAL_MS), { from: outside, payload });
      });
      await assertWay(place(), { fastPath, packets: 2 }, () => flow.assertPasses());
    });
  }

  for (const [what, extensions] of Object.entries(refusedChains)) {
    test(`RFC 6092 REC-4: packets with ${what} end at the gateway`, async () => {
      using flow = await judged();
      const capture = await place().captureWan();
      const payload = payloadOf();
      const ends = { from: endpointOf(flow.inside), to: endpointOf(flow.outside) };
      sendPackets(place(), 'alice', [ipv6Datagram({ ...ends, payload, extensions })]);
      await flow.assertPasses();
      const shown = (await capture.end()).filter((frame) => Buffer.from(frame).includes(payload));
      assert.deepEqual(shown, []);
    });
  }

  test('what a frame holds behind its packet is not forwarded', async () => {
    using flow = await judged();
    const [payload, rest] = [payloadOf(), payloadOf()];
    const frame = await frameOut(flow, payload);
    const capture = await place().captureWan();
    sendFrame(place(), 'alice', Buffer.concat([frame, rest]));
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    const carried = frameWith(await capture.end(), payload);
    assert.ok(!Buffer.from(carried).includes(rest));
  });

  test('packets that are longer than their frame, or of another version, end at the gateway', async () => {
    using flow = await judged();
    const capture = await place().captureWan();
    const payload = payloadOf();
    const frame = await frameOut(flow, payload);
    sendFrame(place(), 'alice', frame.subarray(0, -1));
    frame.writeUInt8(0x40, ETHERNET_HEADER_BYTES);
    sendFrame(place(), 'alice', frame);
    await flow.assertPasses();
    const start = payload.subarray(0, -1);
    const shown = (await capture.end()).filter((one) => Buffer.from(one).includes(start));
    assert.deepEqual(shown, []);
  });

  test('frames to others are not forwarded, though the gateway listens to all', async () => {
    using flow = await judged();
    const listen = (word: string) =>
      place().output('gateway', 'ip', 'link', 'set', 'dev', 'lan0', 'promisc', word);
    await listen('on');
    await using _deaf = later(() => listen('off'));
    const frame = await frameOut(flow, payloadOf());
    frame.set([2, 0x67, 0, 0, 0, 0x77]);
    sendFrame(place(), 'alice', frame);
    await flow.assertPasses();
  });

  test('rfc6092-rec6 nobody speaks in the name of a judged session from another network', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const [inside, outside] = [endpointOf(flow.inside), endpointOf(flow.outside)];
    sendPackets(place(), 'guest', [
      ipv6Datagram({ from: inside, to: outside, payload }),
      ipv6Datagram({ from: outside, to: inside, payload }),
    ]);
    await flow.assertPasses();
  });

  test('a network without translation goes fast both ways, by UDP and TCP', async () => {
    using flow = await judged({ from: 'depot' });
    await flow.assertPasses();
    const { inside, outside } = await openConnection(place(), { from: 'depot', family: 6 });
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(inside, outside));
    inside.reset();
    outside.close();
  });

  test('pings go fast both ways', async () => {
    await assertWay(place(), { fastPath, packets: 6 }, async () => {
      const words = ['-n', '-c', '5', '-i', '0.01', '-W', '2', ipv6Addresses.server];
      const said = await place().output('alice', 'ping', ...words);
      assert.match(said, /5 packets transmitted, 5 received/);
    });
  });

  test('the gateway speaks with both sides by itself', async () => {
    for (const address of [ipv6Addresses.alice, ipv6Addresses.server]) {
      const words = ['-n', '-c', '2', '-i', '0.01', '-W', '2', address];
      assert.match(await place().output('gateway', 'ping', ...words), /2 received/);
    }
    const toGateway = ['-n', '-c', '2', '-i', '0.01', '-W', '2', gatewayLan];
    assert.match(await place().output('alice', 'ping', ...toGateway), /2 received/);
  });

  test('survive-112 a rule stops a flow that it forbids, both ways, and no other', async () => {
    using flow = await judged();
    using other = await judged({ from: 'bob' });
    const { port } = endpointOf(flow.outside);
    await using _back = later(() => place().install({}));
    const between = 'action: drop, from: lan, to: wan';
    await place().install({ rules: [`{ name: no, ${between}, protocol: udp, ports: [${port}] }`] });
    flow.sendOut('forbidden');
    flow.sendIn('forbidden');
    await other.assertPasses();
    await assertWay(place(), { fastPath, packets: 2 }, () => other.assertPasses());
    assert.deepEqual([flow.inside.drain(), flow.outside.drain()], [[], []]);
    await place().install({});
    await flow.assertPasses();
    await assertWay(place(), { fastPath, packets: 2 }, () => flow.assertPasses());
  });

  test('the config switches it off and on, as a whole and by interface', async () => {
    using flow = await judged();
    await using _back = later(() => place().install({}));
    const assertGoes = async (expected: FastPath) => {
      await flow.assertPasses();
      await assertWay(place(), { fastPath: expected, packets: 4 }, async () => {
        await flow.assertPasses();
        await flow.assertPasses();
      });
    };
    await place().install({ fastPath: 'auto', slowInterfaces: ['lan0'] });
    await assertGoes('off');
    await place().install({ fastPath: 'auto' });
    await assertGoes('auto');
    await place().install({ fastPath: 'auto', slowInterfaces: ['wan0'] });
    await assertGoes('off');
    await place().install({ fastPath });
    await assertGoes(fastPath);
  });
});

/** Super-packets are those of local senders, or what the gateway puts together. */
describeFastPath({ name: 'natsixgro', checksumOffload: 'off', ipv6: true }, defineBulkTests);

function defineBulkTests(place: () => NatLab, fastPath: FastPath): void {
  test('survive-80 TCP goes on, both ways, when a link becomes narrow in mid-connection', async () => {
    const { inside, outside } = await openConnection(place(), { family: 6 });
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(inside, outside));
    const data = randomBytes(1024 * 1024);
    for (const link of ['lan0', 'wan0'] as const) {
      const before = [inside.received().length, outside.received().length] as const;
      await using _narrowed = await narrow(place(), link);
      await Promise.all([inside.writeAll(data, ARRIVAL_MS), outside.writeAll(data, ARRIVAL_MS)]);
      for (const [end, had] of [
        [inside, before[0]],
        [outside, before[1]],
      ] as const) {
        const all = await end.waitForBytes(had + data.length, ARRIVAL_MS);
        assert.ok(all.subarray(had).equals(data));
      }
    }
    inside.reset();
    outside.close();
  });
}
