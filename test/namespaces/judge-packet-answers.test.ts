/** What the kernel answers and changes for the rules of sessions, as frames. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import type { PacketKindName } from '../../src/firewall/packet-mark.ts';
import { planRuleset } from '../../src/firewall/plan-ruleset.ts';
import { requireIpAddress } from '../../src/net/ip-address.ts';
import { homeModel } from '../../src/testing/firewall-models.ts';
import { ipFrame } from '../../src/testing/ip-frame.ts';
import { internetChecksum, internetSum } from '../../src/wire/internet-checksum.ts';
import { JudgedGateway, TIMEOUT_MS } from './judged-gateway.ts';
import { aimed, type PlaceName, type Sent, toPort } from './judged-packets.ts';

const ETHERNET_HEADER_BYTES = 14;
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
/** Far above what the limit lets through at once. */
const FLOOD_PACKETS = 300;

let gateway: JudgedGateway;

beforeEach(async () => {
  gateway = await JudgedGateway.start('judgeanswers');
  await gateway.apply(planRuleset(homeModel('sessions')));
});

afterEach(() => gateway.stop());

function outbound(packetKind: PacketKindName): Sent {
  return aimed('br-lan', '10.77.0.9', 'wan0', '192.0.2.7', toPort('tcp', 443), { packetKind });
}

/** The next packet to this host that the gateway sends there, from its IP header on. */
async function nextPacket(place: PlaceName, destination: string): Promise<Buffer> {
  return waitFor(`a packet to ${destination}`, () => findPacket(place, destination), {
    timeoutMs: TIMEOUT_MS,
    intervalMs: 2,
  });
}

/** Steps over what the gateway says by itself, to groups of IPv6. */
function findPacket(place: PlaceName, destination: string): Buffer | undefined {
  const { family, bits } = requireIpAddress(destination);
  const [end, length] = family === 4 ? [20, 4] : [40, 16];
  const wanted = bits.toString(16).padStart(length * 2, '0');
  for (;;) {
    const frame = gateway.readFrame(place);
    if (frame === undefined) return undefined;
    const packet = Buffer.from(frame).subarray(ETHERNET_HEADER_BYTES);
    const isOfFamily = packet.readUInt8(0) >> 4 === family;
    if (isOfFamily && packet.toString('hex', end - length, end) === wanted) return packet;
  }
}

test('who finds no room for a session is told so by ICMP, type 3 and code 13', async () => {
  gateway.writeFrame('br-lan', ipFrame(outbound('full').frame));
  const packet = await nextPacket('br-lan', '10.77.0.9');
  assert.equal(packet[9], 1);
  assert.deepEqual([...packet.subarray(IPV4_HEADER_BYTES, IPV4_HEADER_BYTES + 2)], [3, 13]);
  assert.equal(findPacket('wan0', '192.0.2.7'), undefined);
});

test('TCP without a session is reset', async () => {
  const content = { ...toPort('tcp', 443), flags: 16 };
  const knowledge = { packetKind: 'stray' } as const;
  const sent = aimed('br-lan', '10.77.0.9', 'wan0', '192.0.2.7', content, knowledge);
  gateway.writeFrame('br-lan', ipFrame(sent.frame));
  const packet = await nextPacket('br-lan', '10.77.0.9');
  assert.equal(packet[9], 6);
  assert.deepEqual([...packet.subarray(12, 20)], [192, 0, 2, 7, 10, 77, 0, 9]);
  const RST = 4;
  assert.equal((packet[IPV4_HEADER_BYTES + 13] ?? 0) & RST, RST);
  assert.equal(findPacket('wan0', '192.0.2.7'), undefined);
});

for (const packetKind of ['full', 'stray'] as const) {
  test(`above a limit what is ${packetKind} gets no answer, and nothing of it passes`, async () => {
    const frame = ipFrame(outbound(packetKind).frame);
    for (let sent = 0; sent < FLOOD_PACKETS; sent++) gateway.writeFrame('br-lan', frame);
    const counters = await waitFor('all packets to be judged', () => gateway.readCounters(), {
      timeoutMs: TIMEOUT_MS,
      until: (counts) => counts.get('forward built-in mss') === FLOOD_PACKETS,
    });
    const count = (part: string) => counters.get(`forward built-in ${packetKind}/${part}`) ?? 0;
    assert.equal(count('reject') + count('drop'), FLOOD_PACKETS);
    assert.ok(count('reject') >= 50, `${count('reject')} were answered`);
    assert.ok(count('drop') > 0, `${count('drop')} were dropped`);
    assert.equal(findPacket('wan0', '192.0.2.7'), undefined);
  });
}

for (const packetKind of ['mapped', 'portForward'] as const) {
  test(`survive-72 what is ${packetKind} comes in from the WAN, until a rule blocks it`, async () => {
    const content = toPort('udp', 5_060);
    const sent = aimed('wan0', '192.0.2.7', 'br-lan', '10.77.0.9', content, { packetKind });
    gateway.writeFrame('wan0', ipFrame(sent.frame));
    assert.ok(await nextPacket('br-lan', '10.77.0.9'));
    const block = { name: 'block_inbound', action: 'drop', from: 'wan' } as const;
    await gateway.apply(planRuleset({ ...homeModel('sessions'), rules: [block] }));
    gateway.writeFrame('wan0', ipFrame(sent.frame));
    await waitFor('the rule to drop it', () => gateway.readCounters(), {
      timeoutMs: TIMEOUT_MS,
      until: (counts) => counts.get('forward_requests rule block_inbound') === 1,
    });
    assert.equal(findPacket('br-lan', '10.77.0.9'), undefined);
  });
}

interface Handshake {
  readonly from: PlaceName;
  readonly to: PlaceName;
  readonly source: string;
  readonly destination: string;
  readonly packetKind: PacketKindName;
  readonly flags: number;
  readonly headerBytes: number;
}

const inside = { from: 'br-lan', to: 'wan0', packetKind: 'request', flags: 2 } as const;
const outside = { from: 'wan0', to: 'br-lan', packetKind: 'reply', flags: 18 } as const;
const ipv4 = { headerBytes: IPV4_HEADER_BYTES };
const ipv6 = { headerBytes: IPV6_HEADER_BYTES };
const handshakes: readonly Handshake[] = [
  { ...inside, ...ipv4, source: '10.77.0.9', destination: '192.0.2.7' },
  { ...outside, ...ipv4, source: '192.0.2.7', destination: '10.77.0.9' },
  { ...inside, ...ipv6, source: '2001:db8:1::9', destination: '2001:db8:f::7' },
];

/** Sends a SYN that names an MSS. @returns the MSS that leaves */
async function passMss(handshake: Handshake, maximumSegmentBytes: number): Promise<number> {
  const { from, to, source, destination, packetKind, flags, headerBytes } = handshake;
  const content = { ...toPort('tcp', 443), flags, maximumSegmentBytes };
  gateway.writeFrame(
    from,
    ipFrame(aimed(from, source, to, destination, content, { packetKind }).frame),
  );
  const packet = await nextPacket(to, destination);
  const isIpv4 = headerBytes === IPV4_HEADER_BYTES;
  const addresses = isIpv4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const segment = packet.subarray(headerBytes, headerBytes + 24);
  const TCP = 6;
  assert.equal(internetChecksum(segment, internetSum(addresses) + segment.length + TCP), 0);
  assert.deepEqual([...segment.subarray(20, 22)], [2, 4]);
  return segment.readUInt16BE(22);
}

test('a SYN names no larger segment than fits the path, in both directions', async () => {
  // The narrow side is once behind and once before the packet's way.
  await gateway.run('ip', 'link', 'set', 'dev', 'wan0', 'mtu', '1280');
  for (const handshake of handshakes) {
    const fitting = 1_280 - handshake.headerBytes - 20;
    assert.equal(await passMss(handshake, 1_460), fitting, `${handshake.source} from 1460`);
    assert.equal(await passMss(handshake, fitting), fitting, `${handshake.source} fitting`);
    assert.equal(await passMss(handshake, 536), 536, `${handshake.source} from 536`);
  }
});
