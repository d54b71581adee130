/** ICMPv6 errors, protocols without ports, and addresses that nobody may have. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { socketNumbers } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { routing } from '../../src/testing/ipv6-packets.ts';
import { icmpError, ip, ping, rawIp, tcp } from '../../src/testing/nat-packets.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { describeFastPath, Flow, frameWith, later } from './nat-flow.ts';
import {
  hasProtocol,
  ipv6Checksum,
  ipv6Datagram,
  routeOf,
  sendPackets,
} from './nat-ipv6-packets.ts';
import {
  ARRIVAL_MS,
  endpointOf,
  ipv6Addresses,
  type LinkCapture,
  NARROW_MTU,
  type NatLab,
  type SpeakingHost,
} from './nat-lab.ts';

const { alice, far, server, stranger } = ipv6Addresses;
const UNREACHABLE = 1;
const ADDRESS_UNREACHABLE = 3;
const PORT_UNREACHABLE = 4;
const PACKET_TOO_BIG = 2;
const UDP = 17;
const ESP = 50;
const MOBILITY = 135;
const NO_NEXT_HEADER = 59;

/** By which a packet can be found again. */
function payloadOf(): Buffer<ArrayBuffer> {
  return Buffer.from(`payload ${randomUUID()}`);
}

async function assertNotCaptured(capture: LinkCapture, payload: Uint8Array): Promise<void> {
  const shown = (await capture.end()).filter((bytes) => Buffer.from(bytes).includes(payload));
  assert.deepEqual(shown, []);
}

const protocols = {
  ipip: 4,
  dccp: 33,
  ipv6: 41,
  gre: 47,
  ah: 51,
  sctp: 132,
  udpLite: 136,
} as const;
const HIP = 139;
const SHIM6 = 140;
/** RFC 3692. */
const FOR_EXPERIMENTS = 253;

/** Addresses that no packet may cross a router with. */
const nobodys = { 'an IPv4-compatible one': '::192.0.2.1', ORCHID: '2001:10::1' };
const siteLocal = 'fec0::1';

describeFastPath({ name: 'natsixerr', ipv6: true }, (place, fastPath) => {
  const judged = () => Flow.judged(place(), { fastPath, family: 6 });

  /** Sends from one host to the other, which receives it. */
  async function assertRawPasses(from: SpeakingHost, to: SpeakingHost, protocol: number) {
    using receiver = RawSocket.open(place().host(to), protocol, 6);
    sendPackets(place(), from, [packetOf(from, to, protocol)]);
    await waitFor('a packet', () => receiver.receive(), { timeoutMs: ARRIVAL_MS });
  }

  /** Sends from one host to the other, which does not receive it. */
  async function assertRawRefused(from: SpeakingHost, to: SpeakingHost, protocol: number) {
    using receiver = RawSocket.open(place().host(to), protocol, 6);
    sendPackets(place(), from, [packetOf(from, to, protocol)]);
    using flow = await judged();
    await flow.assertPasses();
    assert.equal(receiver.receive(), undefined);
  }

  async function assertOpenInward(protocol: number) {
    await assertRawPasses('stranger', 'alice', protocol);
    await assertRawPasses('alice', 'stranger', protocol);
    await assertRawPasses('alice', 'server', protocol);
    await assertRawPasses('server', 'alice', protocol);
  }

  test('RFC 6092 REC-21: AH comes in from anybody, and its answers go out', () =>
    assertOpenInward(protocols.ah));

  test('RFC 6092 REC-22: ESP comes in from anybody, and its answers go out', () =>
    assertOpenInward(ESP));

  test('RFC 6092 REC-26: HIP comes in from anybody, and its answers go out', () =>
    assertOpenInward(HIP));

  test('RFC 6092 REC-24: IKE comes in from anybody, and its answers go out', async () => {
    using here = UdpSocket.open(place().host('alice'), { address: alice, port: 500 });
    using there = UdpSocket.open(place().host('stranger'), { address: stranger, port: 500 });
    there.send(endpointOf(here), 'hello');
    assert.equal(`${(await here.nextDatagram(ARRIVAL_MS)).payload}`, 'hello');
    here.send(endpointOf(there), 'answer');
    assert.equal(`${(await there.nextDatagram(ARRIVAL_MS)).payload}`, 'answer');
  });

  /** It passes out, its answers come in, and others do not. */
  async function assertOpenOutward(protocol: number) {
    await assertRawRefused('server', 'alice', protocol);
    await assertRawPasses('alice', 'server', protocol);
    await assertRawPasses('server', 'alice', protocol);
    await assertRawRefused('stranger', 'alice', protocol);
  }

  test('RFC 6092 REC-20: UDP-Lite passes for whom inside has spoken to', () =>
    assertOpenOutward(protocols.udpLite));

  test('RFC 6092 REC-28: mobility headers pass for whom inside has spoken to', () =>
    assertOpenOutward(MOBILITY));

  test('RFC 6092 REC-29: IPv6 in IPv6 passes for whom inside has spoken to', () =>
    assertOpenOutward(protocols.ipv6));

  test('RFC 6092 REC-38, rfc6092-rec39: SCTP passes for whom inside has spoken to', () =>
    assertOpenOutward(protocols.sctp));

  test('RFC 6092 REC-43: DCCP passes for whom inside has spoken to', () =>
    assertOpenOutward(protocols.dccp));

  test('RFC 6092 REC-47: Shim6 passes for whom inside has spoken to', () =>
    assertOpenOutward(SHIM6));

  for (const protocol of [protocols.ipip, protocols.gre, FOR_EXPERIMENTS]) {
    test(`protocol ${protocol} passes for whom inside has spoken to`, () =>
      assertOpenOutward(protocol));
  }

  async function assertErrorsArrive(protocol: number) {
    await assertRawPasses('alice', 'server', protocol);
    const inLan = await place().captureAlice();
    const quoted = packetOf('alice', 'server', protocol);
    const { type, code } = { type: UNREACHABLE, code: ADDRESS_UNREACHABLE };
    const rest = NARROW_MTU;
    sendPackets(place(), 'stranger', [
      icmpError(`${stranger} > ${alice}`, { type, code, quoted }),
      icmpError(`${stranger} > ${alice}`, { type: PACKET_TOO_BIG, rest, quoted }),
    ]);
    await assertRawPasses('server', 'alice', protocol);
    const filter = `icmpv6 && ipv6.src == ${stranger} && ipv6.dst == ${alice}`;
    const types = (await inLan.packets(['icmpv6.type'], filter)).map((one) => one['icmpv6.type']);
    assert.deepEqual(types, [`${UNREACHABLE}`, `${PACKET_TOO_BIG}`]);
  }

  test('RFC 6092 REC-23: errors about ESP arrive, and end nothing', () => assertErrorsArrive(ESP));

  test('RFC 6092 REC-30: errors about mobility headers arrive, and end nothing', () =>
    assertErrorsArrive(MOBILITY));

  test('RFC 6092 REC-41, rfc6092-rec42: errors about SCTP arrive, and end nothing', () =>
    assertErrorsArrive(protocols.sctp));

  test('RFC 6092 REC-45, rfc6092-rec46: errors about DCCP arrive, and end nothing', () =>
    assertErrorsArrive(protocols.dccp));

  test('RFC 6092 REC-25: ESP is answered with any index, but not by others, where a rule says so', async () => {
    await using _back = later(() => place().install({}));
    await place().install({ rules: ['{ name: quiet, action: drop, from: wan }'] });
    using receiver = RawSocket.open(place().host('alice'), ESP, 6);
    const esp = (index: number) =>
      Uint8Array.of(0, 0, 0, index, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8);
    sendPackets(place(), 'alice', [ip(`${alice} > ${server}`, ESP, esp(1))]);
    using flow = await judged();
    sendPackets(place(), 'server', [ip(`${server} > ${alice}`, ESP, esp(2))]);
    const got = await waitFor('a packet', () => receiver.receive(), { timeoutMs: ARRIVAL_MS });
    assert.equal(got[3], 2);
    sendPackets(place(), 'stranger', [ip(`${stranger} > ${alice}`, ESP, esp(3))]);
    await flow.assertPasses();
    assert.equal(receiver.receive(), undefined);
  });

  test('RFC 6092 REC-27: a routing header of type 2 passes in a flow that lives', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const inLan = await place().captureAlice();
    const ends = { from: endpointOf(flow.outside), to: endpointOf(flow.inside) };
    const extensions = [routing({ type: 2, segmentsLeft: 1 })];
    sendPackets(place(), 'server', [ipv6Datagram({ ...ends, payload, extensions })]);
    await flow.assertPassesOut();
    // Alice is no mobile node, and says so.
    const datagrams = (await inLan.end()).filter((frame) => hasProtocol(frame, UDP));
    frameWith(datagrams, payload);
  });

  test('RFC 6092 REC-32: what lies far beyond a window that nobody has scaled passes', async () => {
    const { inside, outside } = await openConnection(place(), { family: 6 });
    const [here, there] = [inside.local, outside.local];
    const inLan = await place().captureAlice();
    await assertConnected(inside, outside);
    const filter = `tcp && ipv6.src == ${server} && tcp.len > 0`;
    const [last] = (await inLan.packets(['tcp.seq_raw', 'tcp.ack_raw'], filter)).toReversed();
    const capture = await place().captureAlice();
    const sequence = (Number(last?.['tcp.seq_raw']) + 10_000_000) % 2 ** 32;
    const acknowledgement = Number(last?.['tcp.ack_raw']);
    const numbers = { sequence, acknowledgement, payloadBytes: 100 };
    sendPackets(place(), 'server', [tcp(routeOf(there, here), 'PA', numbers)]);
    await assertConnected(inside, outside);
    const arrived = await capture.packets(['tcp.len'], `${filter} && tcp.seq_raw == ${sequence}`);
    assert.deepEqual(arrived, [{ 'tcp.len': '100' }]);
    inside.reset();
    outside.close();
  });

  test('an error from whom inside talks to arrives, RFC 6092 REC-19: and ends nothing', async () => {
    using flow = await judged();
    using closed = place().udp6('server');
    const to = endpointOf(closed);
    closed.close();
    flow.inside.send(to, 'anybody there?');
    const error = await flow.inside.nextError(ARRIVAL_MS);
    const { type, code, offender } = error;
    assert.deepEqual([type, code, offender], [UNREACHABLE, PORT_UNREACHABLE, server]);
    assert.deepEqual(error.to, to);
    await flow.assertPasses();
  });

  test('RFC 6092 REC-18: errors of routers about a flow arrive both ways, and end nothing', async () => {
    using flow = await judged();
    const [inside, outside] = [endpointOf(flow.inside), endpointOf(flow.outside)];
    for (const { from, to, at, sender } of [
      { from: inside, to: outside, at: 'stranger', sender: flow.inside },
      { from: outside, to: inside, at: 'bob', sender: flow.outside },
    ] as const) {
      const quoted = ipv6Datagram({ from, to, payload: payloadOf() });
      const route = `${ipv6Addresses[at]} > ${from.address}` as const;
      const codes = { type: UNREACHABLE, code: ADDRESS_UNREACHABLE };
      sendPackets(place(), at, [icmpError(route, { ...codes, quoted })]);
      const error = await sender.nextError(ARRIVAL_MS);
      const { type, code, offender } = error;
      assert.deepEqual({ type, code, offender }, { ...codes, offender: ipv6Addresses[at] });
      assert.deepEqual(error.to, to);
    }
    await flow.assertPasses();
  });

  test('RFC 6092 REC-37: an error about a connection ends nothing, rfc6092-rec36 and arrives', async () => {
    const { inside, outside } = await openConnection(place(), { family: 6 });
    const inLan = await place().captureAlice();
    const route = routeOf(inside.local, outside.local);
    const quoted = ip(route, 6, segmentHead(inside.local.port, outside.local.port));
    const codes = { type: UNREACHABLE, code: ADDRESS_UNREACHABLE };
    const error = icmpError(`${stranger} > ${alice}`, { ...codes, quoted });
    sendPackets(place(), 'stranger', [error]);
    await assertConnected(inside, outside);
    const arrived = (await inLan.end()).filter((frame) =>
      Buffer.from(frame).includes(quoted.subarray(14, 74)),
    );
    assert.equal(arrived.length, 1);
    inside.reset();
    outside.close();
  });

  test('RFC 6092 REC-10: errors about what nobody has sent cross in neither direction', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const [onWan, inLan] = [await place().captureWan(), await place().captureAlice()];
    for (const [from, to] of [
      ['stranger', 'alice'],
      ['alice', 'stranger'],
    ] as const) {
      const ends = {
        from: { address: ipv6Addresses[to], port: 4_001 },
        to: { address: server, port: 4_002 },
      };
      const quoted = ipv6Datagram({ ...ends, payload });
      const route = `${ipv6Addresses[from]} > ${ipv6Addresses[to]}` as const;
      for (const type of [1, 2, 3, 4]) {
        sendPackets(place(), from, [icmpError(route, { type, rest: NARROW_MTU, quoted })]);
      }
    }
    await flow.assertPasses();
    assert.equal(flow.inside.takeError(), undefined);
    const [wan, lan] = [await onWan.end(), await inLan.end()];
    const has = (frame: Uint8Array) => Buffer.from(frame).includes(payload);
    // As they were sent, on the sender's own side.
    assert.deepEqual([wan.filter(has).length, lan.filter(has).length], [4, 4]);
  });

  test('an error about a flow that quotes too little of it does not cross', async () => {
    using flow = await judged();
    const [from, to] = [endpointOf(flow.inside), endpointOf(flow.outside)];
    const quoted = ipv6Datagram({ from, to, payload: payloadOf() });
    const options = { type: UNREACHABLE, code: ADDRESS_UNREACHABLE, quoted };
    const short = icmpError(`${stranger} > ${alice}`, { ...options, quotedTransportBytes: 7 });
    sendPackets(place(), 'stranger', [short]);
    await flow.assertPasses();
    assert.equal(flow.inside.takeError(), undefined);
  });

  test('survive-80 a narrow link on the way tells its MTU, to both ends of a flow', async () => {
    using inside = place().udp6('alice');
    using outside = place().udp6('far');
    inside.send(endpointOf(outside), 'hello');
    await outside.nextDatagram(ARRIVAL_MS);
    const { SOL_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO } = socketNumbers;
    inside.setOption(SOL_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO);
    inside.send(endpointOf(outside), new Uint8Array(NARROW_MTU));
    const { type, info } = await inside.nextError(ARRIVAL_MS);
    assert.deepEqual([type, info], [PACKET_TOO_BIG, NARROW_MTU]);
    const payload = randomBytes(NARROW_MTU - 48);
    inside.send(endpointOf(outside), payload);
    assert.ok((await outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  });

  test('survive-80 TCP crosses a narrow link on the way', async () => {
    const local = { address: far, port: 7_300 };
    using listener = TcpListener.open(place().host('far'), local);
    const inside = await TcpSocket.connected(place().host('alice'), {
      to: local,
      timeoutMs: ARRIVAL_MS,
    });
    const { connection: outside } = await listener.next(ARRIVAL_MS);
    const data = randomBytes(1024 * 1024);
    await Promise.all([inside.writeAll(data, ARRIVAL_MS), outside.writeAll(data, ARRIVAL_MS)]);
    for (const end of [inside, outside]) {
      assert.ok((await end.waitForBytes(data.length, ARRIVAL_MS)).equals(data));
    }
    inside.reset();
    outside.close();
  });

  test('rfc4890-s4.3.3 rfc4890-s4.3.5 what is of one link, or of no use, does not cross', async () => {
    using flow = await judged();
    const [onWan, inLan] = [await place().captureWan(), await place().captureAlice()];
    const types = [130, 133, 134, 135, 136, 137, 138, 139, 141, 148, 151, 100, 200, 255];
    for (const [index, type] of types.entries()) {
      const options = { type, identifier: 0x6700 + index, timeToLive: 255 };
      sendPackets(place(), 'alice', [ping(`${alice} > ${stranger}`, options)]);
      sendPackets(place(), 'stranger', [ping(`${stranger} > ${alice}`, options)]);
    }
    await flow.assertPasses();
    const typesIn = async (capture: LinkCapture, source: string) => {
      const filter = `icmpv6 && ipv6.src == ${source}`;
      return (await capture.packets(['icmpv6.type'], filter)).map((one) => one['icmpv6.type']);
    };
    assert.deepEqual(await typesIn(onWan, alice), []);
    assert.deepEqual(await typesIn(inLan, stranger), []);
  });

  defineAddressTests(place, judged);
});

function defineAddressTests(place: () => NatLab, judged: () => Promise<Flow>): void {
  test('RFC 6092 REC-1, rfc6092-rec2: groups neither send nor receive through the gateway', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const onWan = await place().captureWan();
    const to = { address: server, port: 4_003 };
    for (const [from, group] of [
      [{ address: 'ff0e::67', port: 4_003 }, to],
      [
        { address: alice, port: 4_003 },
        { address: 'ff05::67', port: 4_003 },
      ],
      [
        { address: alice, port: 4_003 },
        { address: 'ff08::67', port: 4_003 },
      ],
    ] as const) {
      sendPackets(place(), 'alice', [ipv6Datagram({ from, to: group, payload })]);
    }
    await flow.assertPasses();
    await assertNotCaptured(onWan, payload);
  });

  for (const [what, address] of Object.entries(nobodys)) {
    test(`RFC 6092 REC-3: no packet crosses that is from or to ${what}`, async () => {
      using flow = await judged();
      const payload = payloadOf();
      const [onWan, inLan] = [await place().captureWan(), await place().captureAlice()];
      const nobody = { address, port: 4_004 };
      const inside = endpointOf(flow.inside);
      sendPackets(place(), 'alice', [
        ipv6Datagram({ from: nobody, to: endpointOf(flow.outside), payload }),
        ipv6Datagram({ from: inside, to: nobody, payload }),
      ]);
      sendPackets(place(), 'isp', [ipv6Datagram({ from: nobody, to: inside, payload })]);
      await flow.assertPasses();
      const [wan, lan] = [await onWan.end(), await inLan.end()];
      const has = (frame: Uint8Array) => Buffer.from(frame).includes(payload);
      // What each side has sent itself.
      assert.deepEqual([wan.filter(has).length, lan.filter(has).length], [1, 2]);
    });
  }

  test('RFC 6092 REC-3: site-local addresses do not cross, rfc6092-rec7 nor unique local ones', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const onWan = await place().captureWan();
    const inside = endpointOf(flow.inside);
    for (const address of [siteLocal, 'fd00::67']) {
      const to = { address, port: 4_005 };
      sendPackets(place(), 'alice', [ipv6Datagram({ from: inside, to, payload })]);
    }
    await flow.assertPasses();
    await assertNotCaptured(onWan, payload);
  });

  test('RFC 6092 REC-5, survive-76: no host of the LAN sends with an address of others', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const onWan = await place().captureWan();
    const to = endpointOf(flow.outside);
    for (const address of [
      ipv6Addresses.guest,
      ipv6Addresses.gatewayWan,
      stranger,
      '2001:db8:99::1',
      'fd00::67',
    ]) {
      const from = { address, port: 4_006 };
      sendPackets(place(), 'alice', [ipv6Datagram({ from, to, payload })]);
    }
    await flow.assertPasses();
    await assertNotCaptured(onWan, payload);
  });

  test('RFC 6092 REC-6, survive-76: nobody outside sends with an address of the inside', async () => {
    using flow = await judged();
    const payload = payloadOf();
    const inLan = await place().captureAlice();
    const to = endpointOf(flow.inside);
    for (const address of [ipv6Addresses.bob, ipv6Addresses.guest, ipv6Addresses.gatewayLan]) {
      const from = { address, port: 4_007 };
      sendPackets(place(), 'isp', [ipv6Datagram({ from, to, payload })]);
    }
    await flow.assertPasses();
    await assertNotCaptured(inLan, payload);
  });
}

/** Of a protocol without ports, as a raw socket takes it: whole, where it knows (RFC 6275 §6.1). */
function packetOf(from: SpeakingHost, to: SpeakingHost, protocol: number): Uint8Array {
  const route = `${ipv6Addresses[from]} > ${ipv6Addresses[to]}` as const;
  if (protocol !== MOBILITY) return rawIp(route, protocol);
  const header = new Uint8Array(16);
  header.set([NO_NEXT_HEADER, header.length / 8 - 1]);
  const ends = { source: ipv6Addresses[from], destination: ipv6Addresses[to], protocol };
  new DataView(header.buffer).setUint16(4, ipv6Checksum(header, ends));
  return ip(route, protocol, header);
}

/** The head of a TCP segment, as errors quote it. */
function segmentHead(sourcePort: number, destinationPort: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint8(12, 5 << 4);
  view.setUint8(13, 16);
  return bytes;
}
