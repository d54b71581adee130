/** The headers of what goes fast are those of what is routed, checksums included. */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { internetChecksum } from '../../src/wire/internet-checksum.ts';
import { assertWay, describeFastPath, Flow, frameWith } from './nat-flow.ts';
import { ARRIVAL_MS, addresses, endpointOf } from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';

const { external } = addresses;
const ETHERNET_HEADER_BYTES = 14;

/** By which a packet can be found again, longer than what a frame is padded to. */
function payloadOf(): Buffer<ArrayBuffer> {
  return Buffer.from(`payload ${randomUUID()}`);
}

/** The IP header of a frame. */
function headerOf(frame: Uint8Array) {
  const header = frame.subarray(ETHERNET_HEADER_BYTES, ETHERNET_HEADER_BYTES + 20);
  assert.equal(internetChecksum(header), 0, 'the checksum of the header is right');
  const view = new DataView(header.buffer, header.byteOffset);
  return {
    serviceAndCongestion: view.getUint8(1),
    identification: view.getUint16(4),
    flags: view.getUint16(6),
    timeToLive: view.getUint8(8),
  };
}

/** As it stands in a frame without IP options. */
function udpChecksumOf(frame: Uint8Array): number {
  return Buffer.from(frame).readUInt16BE(ETHERNET_HEADER_BYTES + 26);
}

/** Datagrams with all of the header's fields set, and what they must be one router later. */
const marked = { serviceAndCongestion: 0xb9, identification: 0x1234, flags: 0x4000 };

function markedPacket(from: Endpoint, to: Endpoint, payload: Uint8Array): Uint8Array {
  const packet = udpPacket({ from, to, payload, timeToLive: 40 });
  const view = new DataView(packet.buffer);
  view.setUint8(1, marked.serviceAndCongestion);
  view.setUint16(4, marked.identification);
  view.setUint16(6, marked.flags);
  return packet;
}

describeFastPath({ name: 'natfasthead' }, (place, fastPath) => {
  const judged = () => Flow.judged(place(), { fastPath });

  test('the time to live falls by one, and nothing else of the header changes', async () => {
    using flow = await judged();
    using atAlice = RawSocket.open(place().host('alice'));
    using atServer = RawSocket.open(place().host('server'));
    const onWan = await place().captureWan();
    const inLan = await place().captureAlice();
    const [out, back] = [payloadOf(), payloadOf()];
    const outside = endpointOf(flow.outside);
    await assertWay(place(), { fastPath, packets: 2 }, async () => {
      atAlice.send(outside.address, markedPacket(endpointOf(flow.inside), outside, out));
      assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(out));
      atServer.send(external, markedPacket(outside, flow.mapped, back));
      assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(back));
    });
    const [there, here] = [await onWan.end(), await inLan.end()];
    assert.deepEqual(headerOf(frameWith(there, out)), { ...marked, timeToLive: 39 });
    // The provider's router is on this way, too.
    assert.deepEqual(headerOf(frameWith(here, back)), { ...marked, timeToLive: 38 });
  });

  test('RFC 768: a datagram without a checksum stays without one, both ways', async () => {
    using flow = await judged();
    const onWan = await place().captureWan();
    const inLan = await place().captureAlice();
    const [out, back, outside] = [payloadOf(), payloadOf(), endpointOf(flow.outside)];
    const without = { withoutChecksum: true } as const;
    const there = { from: endpointOf(flow.inside), to: outside, payload: out, ...without };
    const here = { from: outside, to: flow.mapped, payload: back, ...without };
    using atAlice = RawSocket.open(place().host('alice'));
    using atServer = RawSocket.open(place().host('server'));
    await assertWay(place(), { fastPath, packets: 2 }, async () => {
      atAlice.send(outside.address, udpPacket(there));
      assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(out));
      atServer.send(external, udpPacket(here));
      assert.ok((await flow.inside.nextDatagram(ARRIVAL_MS)).payload.equals(back));
    });
    assert.equal(udpChecksumOf(frameWith(await onWan.end(), out)), 0);
    assert.equal(udpChecksumOf(frameWith(await inLan.end(), back)), 0);
  });

  test('RFC 768: a checksum that comes out as zero leaves as ones', async () => {
    using flow = await judged();
    using atAlice = RawSocket.open(place().host('alice'));
    const capture = await place().captureWan();
    const outside = endpointOf(flow.outside);
    // A multiple of two bytes, with a word at its end that makes the sum all ones.
    const payload = Buffer.concat([Buffer.from(randomUUID()), Buffer.alloc(2)]);
    const translated = udpPacket({ from: flow.mapped, to: outside, payload });
    const missing = udpChecksumOf(Buffer.concat([Buffer.alloc(ETHERNET_HEADER_BYTES), translated]));
    payload.writeUInt16BE(missing, payload.length - 2);
    atAlice.send(
      outside.address,
      udpPacket({ from: endpointOf(flow.inside), to: outside, payload }),
    );
    assert.ok((await flow.outside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
    assert.equal(udpChecksumOf(frameWith(await capture.end(), payload)), 0xffff);
  });
});
