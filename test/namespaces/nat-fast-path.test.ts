/** What goes fast arrives as what is routed does, is refused as that, and stops with its rule. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { type Endpoint, socketNumbers } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import type { IcmpError, UdpSocket } from '../../lab/udp-socket.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import {
  assertWay,
  describeFastPath,
  Flow,
  frameWith,
  later,
  narrow,
  sendFrame,
} from './nat-flow.ts';
import {
  ARRIVAL_MS,
  addresses,
  endpointOf,
  type FastPath,
  NARROW_MTU,
  type NatLab,
} from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';
import { DOWNLOAD_PORT, Streams, startDownload } from './nat-streams.ts';

const { external, gatewayLan } = addresses;
const UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
const TIME_EXCEEDED = 11;
const NO_OPERATION = 1;
/** RFC 791 §3.1, with room for two addresses. */
const RECORD_ROUTE = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, NO_OPERATION];
const ETHERNET_HEADER_BYTES = 14;
const IP_TOS = 1;
const IPTOS_LOWDELAY = 0x10;

const FORWARDED_UDP = 5_300;
const FORWARDED_TCP = 8_080;
const config = {
  portForwards: [
    `{ protocol: udp, port: ${FORWARDED_UDP}, to: ${addresses.bob}:53 }`,
    `{ protocol: tcp, port: ${FORWARDED_TCP}, to: ${addresses.alice}:80 }`,
  ],
};

/** By which a packet can be found again, longer than what a frame is padded to. */
function payloadOf(): Buffer<ArrayBuffer> {
  return Buffer.from(`payload ${randomUUID()}`);
}

async function assertError(socket: UdpSocket, expected: Partial<IcmpError>): Promise<void> {
  const error = await socket.nextError(ARRIVAL_MS);
  assert.deepEqual({ ...error, ...expected }, error);
}

function setMtuDiscovery(socket: UdpSocket, how: 'DO' | 'DONT'): void {
  const value = socketNumbers[`IP_PMTUDISC_${how}`];
  socket.setOption(socketNumbers.SOL_IP, socketNumbers.IP_MTU_DISCOVER, value);
}

describeFastPath({ name: 'natfast', config }, (place, fastPath) => {
  const judged = (options: { readonly port?: number } = {}) =>
    Flow.judged(place(), { fastPath, ...options });

  test('survive-75 what has no time to live left is answered by the gateway, to both sides', async () => {
    using flow = await judged();
    flow.inside.setOption(socketNumbers.SOL_IP, socketNumbers.IP_TTL, 1);
    flow.sendOut('not so far');
    const exceeded = { type: TIME_EXCEEDED, code: 0 };
    await assertError(flow.inside, { ...exceeded, offender: gatewayLan });
    flow.outside.setOption(socketNumbers.SOL_IP, socketNumbers.IP_TTL, 2);
    flow.sendIn('not so far');
    await assertError(flow.outside, { ...exceeded, offender: external, to: flow.mapped });
    for (const end of [flow.inside, flow.outside]) {
      end.setOption(socketNumbers.SOL_IP, socketNumbers.IP_TTL, 64);
    }
    await flow.assertPasses();
  });

  test('survive-80 what is too large for the next link, and may not be cut, is answered', async () => {
    using flow = await judged();
    for (const [link, sender, send] of [
      ['wan0', flow.inside, (bytes: Uint8Array) => flow.sendOut(bytes)],
      ['lan0', flow.outside, (bytes: Uint8Array) => flow.sendIn(bytes)],
    ] as const) {
      await using _narrowed = await narrow(place(), link);
      setMtuDiscovery(sender, 'DO');
      send(new Uint8Array(NARROW_MTU));
      const offender = link === 'wan0' ? gatewayLan : external;
      const told = { type: UNREACHABLE, code: FRAGMENTATION_NEEDED, info: NARROW_MTU, offender };
      await assertError(sender, told);
      // What just fits.
      const payload = randomBytes(NARROW_MTU - 28);
      const receiver = link === 'wan0' ? flow.outside : flow.inside;
      await assertWay(place(), { fastPath, packets: 1 }, async () => {
        send(payload);
        assert.ok((await receiver.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
      });
    }
  });

  test('survive-80 what is too large for the next link, and may be cut, arrives whole', async () => {
    using flow = await judged();
    const payload = randomBytes(NARROW_MTU);
    const isFragment = (frame: Uint8Array) =>
      frame[13] === 0 && (Buffer.from(frame).readUInt16BE(ETHERNET_HEADER_BYTES + 6) & 0x3fff) > 0;
    for (const link of ['wan0', 'lan0'] as const) {
      await using _narrowed = await narrow(place(), link);
      const isOut = link === 'wan0';
      setMtuDiscovery(isOut ? flow.inside : flow.outside, 'DONT');
      const capture = await (isOut ? place().captureWan() : place().captureAlice());
      if (isOut) flow.sendOut(payload);
      else flow.sendIn(payload);
      const received = await (isOut ? flow.outside : flow.inside).nextDatagram(ARRIVAL_MS);
      assert.ok(received.payload.equals(payload));
      assert.equal((await capture.end()).filter(isFragment).length, 2);
    }
  });

  defineBulkTests(place, fastPath);

  for (const [what, options] of [
    ['that do nothing', Array<number>(8).fill(NO_OPERATION)],
    ['that record the route', RECORD_ROUTE],
  ] as const) {
    test(`survive-75 packets of a judged session pass with options ${what}`, async () => {
      using flow = await judged();
      using atAlice = RawSocket.open(place().host('alice'));
      using atServer = RawSocket.open(place().host('server'));
      const [payload, outside] = [payloadOf(), endpointOf(flow.outside)];
      const out = { from: endpointOf(flow.inside), to: outside, payload, options };
      atAlice.send(outside.address, udpPacket(out));
      const there = await flow.outside.nextDatagram(ARRIVAL_MS);
      assert.deepEqual(there, { from: flow.mapped, payload });
      atServer.send(external, udpPacket({ from: outside, to: flow.mapped, payload, options }));
      const here = await flow.inside.nextDatagram(ARRIVAL_MS);
      assert.deepEqual(here, { from: outside, payload });
      await assertWay(place(), { fastPath, packets: 2 }, () => flow.assertPasses());
    });
  }

  test('datagrams of a judged session larger than a frame pass both ways', async () => {
    using flow = await judged();
    const payload = randomBytes(4_000);
    flow.sendOut(payload);
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    flow.sendIn(payload);
    assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  });

  test('RFC 1812 5.2.2: a header with a wrong checksum is not forwarded', async () => {
    using flow = await judged();
    const frame = await flow.frameOut(place(), payloadOf());
    frame[ETHERNET_HEADER_BYTES + 10] = (frame[ETHERNET_HEADER_BYTES + 10] ?? 0) ^ 0x55;
    const capture = await place().captureWan();
    const before = await place().fastCount();
    sendFrame(place(), 'alice', frame);
    await flow.assertPassesOut();
    const from = Buffer.from(frame.subarray(-20));
    const shown = (await capture.end()).filter((one) => Buffer.from(one).includes(from));
    assert.deepEqual(shown, []);
    const expected = fastPath === 'off' ? 0 : 1;
    assert.equal((await place().fastCount()) - before, expected);
  });

  test('what a frame holds behind its packet is not forwarded', async () => {
    using flow = await judged();
    const [payload, rest] = [payloadOf(), payloadOf()];
    const frame = await flow.frameOut(place(), payload);
    const capture = await place().captureWan();
    sendFrame(place(), 'alice', Buffer.concat([frame, rest]));
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    const carried = frameWith(await capture.end(), payload);
    assert.ok(!Buffer.from(carried).includes(rest));
  });

  test('the priority of a VLAN tag without VLAN ends at the gateway', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const frame = Buffer.from(await flow.frameOut(place(), payload));
    const tag = Buffer.from([0x81, 0, 0xa0, 0]);
    const capture = await place().captureWan();
    const tagged = Buffer.concat([frame.subarray(0, 12), tag, frame.subarray(12)]);
    sendFrame(place(), 'alice', tagged);
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    const carried = frameWith(await capture.end(), payload);
    assert.deepEqual([carried[12], carried[13]], [8, 0]);
  });

  // What is redirected at XDP passes all queues by: of itself, it is not there where they shape.
  if (fastPath !== 'xdp') defineQueueTest(place, fastPath);

  test('frames to others are not forwarded, though the gateway listens to all', async () => {
    using flow = await judged();
    const listen = (word: string) =>
      place().output('gateway', 'ip', 'link', 'set', 'dev', 'lan0', 'promisc', word);
    await listen('on');
    await using _deaf = later(() => listen('off'));
    const frame = await flow.frameOut(place(), payloadOf());
    frame.set([2, 0x67, 0, 0, 0, 0x77]);
    sendFrame(place(), 'alice', frame);
    await flow.assertPasses();
  });

  test('survive-76 nobody speaks in the name of a judged session from another network', async () => {
    using flow = await judged();
    using atGuest = RawSocket.open(place().host('guest'));
    const payload = payloadOf();
    const outside = endpointOf(flow.outside);
    const ends = { from: endpointOf(flow.inside), to: outside };
    atGuest.send(outside.address, udpPacket({ ...ends, payload }));
    const back = { from: outside, to: flow.mapped };
    atGuest.send(external, udpPacket({ ...back, payload }));
    atGuest.send(addresses.alice, udpPacket({ ...back, to: ends.from, payload }));
    await flow.assertPasses();
  });

  test('the routed network goes fast both ways, by UDP and TCP', async () => {
    using flow = await Flow.judged(place(), { fastPath, from: 'depot' });
    assert.deepEqual(flow.mapped, endpointOf(flow.inside));
    const { inside, outside } = await openConnection(place(), { from: 'depot' });
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(inside, outside));
    inside.reset();
    outside.close();
  });

  test('what comes in by a port forward goes fast both ways, by UDP and TCP', async () => {
    using bob = place().udp('bob', 53);
    using stranger = place().udp('stranger');
    const to = { address: external, port: FORWARDED_UDP };
    const ask = () => assertAnswered(stranger, to, bob);
    await ask();
    await assertWay(place(), { fastPath, packets: 2 }, ask);
    const local = { address: addresses.alice, port: 80 };
    using listener = TcpListener.open(place().host('alice'), local);
    const caller = await TcpSocket.connected(place().host('stranger'), {
      to: { address: external, port: FORWARDED_TCP },
      timeoutMs: ARRIVAL_MS,
    });
    const { connection } = await listener.next(ARRIVAL_MS);
    await assertWay(place(), { fastPath, packets: 2 }, () => assertConnected(caller, connection));
    caller.reset();
    connection.close();
  });

  test('what comes in by a mapping goes fast both ways', async () => {
    using flow = await judged();
    using stranger = place().udp('stranger');
    const ask = () => assertAnswered(stranger, flow.mapped, flow.inside);
    await ask();
    await assertWay(place(), { fastPath, packets: 2 }, ask);
  });

  test('pings go fast both ways', async () => {
    await assertWay(place(), { fastPath, packets: 6 }, async () => {
      const words = ['-n', '-c', '5', '-i', '0.01', '-W', '2', addresses.server];
      const said = await place().output('alice', 'ping', ...words);
      assert.match(said, /5 packets transmitted, 5 received/);
    });
  });

  test('survive-62 what goes back to where it came from is routed', async () => {
    using flow = await judged();
    using bob = place().udp('bob');
    const before = await place().fastCount();
    for (let round = 0; round < 3; round++) await assertAnswered(bob, flow.mapped, flow.inside);
    assert.equal(await place().fastCount(), before);
  });

  test('the config switches it off and on, as a whole and by interface', async () => {
    using flow = await judged();
    using depot = await Flow.judged(place(), { fastPath, from: 'depot' });
    const on = fastPath === 'off' ? 'auto' : fastPath;
    const other = fastPath === 'off' ? 'auto' : 'off';
    await using _back = later(() => place().install({}));
    // A session is judged once more after each change.
    const assertGoes = async (what: Flow, expected: FastPath) => {
      await what.assertPasses();
      await assertWay(place(), { fastPath: expected, packets: 4 }, async () => {
        await what.assertPasses();
        await what.assertPasses();
      });
    };
    await place().install({ fastPath: other });
    await assertGoes(flow, other);
    await place().install({ fastPath: on, slowInterfaces: ['lan0'] });
    await assertGoes(flow, 'off');
    await assertGoes(depot, on);
    await place().install({ fastPath: on, slowInterfaces: ['wan0'] });
    await assertGoes(flow, 'off');
    await place().install({ fastPath });
    await assertGoes(flow, fastPath);
  });

  test('survive-112 at full speed, nothing passes that was sent after a rule forbids it', async (t) => {
    using flow = await judged();
    using other = await Flow.judged(place(), { fastPath, from: 'bob' });
    const { port } = endpointOf(flow.outside);
    await using _download = await startDownload(place());
    const filter = `src host ${addresses.server}`;
    const capture = await place()
      .host('alice')
      .capture('eth0', { filter, packetCountMax: 1_000_000 });
    await using _back = later(() => place().install({}));
    const streams = new Streams(flow, other);
    await streams.sendWhile(async () => {
      const between = 'action: drop, from: lan, to: wan';
      const forbid = (protocol: 'tcp' | 'udp', remote: number) =>
        `{ name: no_${protocol}, ${between}, protocol: ${protocol}, ports: [${remote}] }`;
      await streams.sendMore();
      const rules = [forbid('udp', port), forbid('tcp', DOWNLOAD_PORT)];
      await place().install({ rules });
      const inForceAtMs = Date.now();
      streams.noteForbidden();
      await streams.sendMore();
      const arrived = capture.frames();
      assert.ok(arrived.length > 1_000, `${arrived.length} packets came to alice`);
      const lastAtMs = (arrived.at(-1)?.timestampUs ?? 0) / 1_000;
      t.diagnostic(`the last packet came ${inForceAtMs - lastAtMs} ms before the change's answer`);
      await streams.sendMore();
      assert.equal(capture.frames().length, arrived.length);
    });
    streams.assertForbiddenStopped();
    await streams.assertOtherWhole();
    await capture.stop();
  });
});

function defineQueueTest(place: () => NatLab, fastPath: FastPath): void {
  test('urgent packets overtake others in the queue of the WAN', async () => {
    using flow = await Flow.judged(place(), { fastPath });
    const add = (...words: string[]) =>
      place().output('gateway', 'tc', 'qdisc', 'add', 'dev', 'wan0', ...words);
    await add(...'root handle 1: tbf rate 400kbit burst 2000 limit 100000'.split(' '));
    await using _without = later(() =>
      place().output('gateway', 'tc', 'qdisc', 'del', 'dev', 'wan0', 'root'),
    );
    await add('parent', '1:1', 'pfifo_fast');
    const others = Array.from({ length: 20 }, (_, index) => `${index}`.padEnd(300));
    await assertWay(place(), { fastPath, packets: others.length + 1 }, async () => {
      for (const payload of others) flow.sendOut(payload);
      flow.inside.setOption(socketNumbers.SOL_IP, IP_TOS, IPTOS_LOWDELAY);
      flow.sendOut('urgent');
    });
    const arrived: string[] = [];
    while (arrived.length <= others.length) {
      arrived.push(`${(await flow.outside.nextDatagram(ARRIVAL_MS)).payload}`);
    }
    assert.deepEqual(
      arrived.filter((payload) => payload !== 'urgent'),
      others,
    );
    assert.ok(arrived.indexOf('urgent') < others.length, 'the urgent one came last');
  });
}

/** Super-packets are those of local senders, or what the gateway puts together. */
describeFastPath({ name: 'natfastgro', checksumOffload: 'off' }, defineBulkTests);

function defineBulkTests(place: () => NatLab, fastPath: FastPath): void {
  test('survive-80 TCP goes on, both ways, when a link becomes narrow in mid-connection', async () => {
    const { inside, outside } = await openConnection(place());
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

/** One asks, and is answered from where it asked. */
async function assertAnswered(asking: UdpSocket, to: Endpoint, asked: UdpSocket): Promise<void> {
  asking.send(to, 'question');
  const { from, payload } = await asked.nextDatagram(ARRIVAL_MS);
  assert.equal(`${payload}`, 'question');
  asked.send(from, 'answer');
  const answer = await asking.nextDatagram(ARRIVAL_MS);
  assert.deepEqual([`${answer.payload}`, answer.from], ['answer', to]);
}
