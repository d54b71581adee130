import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  NatMapping,
  NatMappingBucket,
  NatSessionBucket,
  NatSessionFlags,
} from '../abi/layouts.generated.ts';
import { sipHash13 } from '../nat/siphash.ts';
import { type FilledSession, fillMappings, fillSessions, sipHasher } from './fill-nat-tables.ts';

const hashKey = [0x0706_0504_0302_0100n, 0x0f0e_0d0c_0b0a_0908n] as const;

test('the quick hash is the hash', () => {
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  const message = fc.uint8Array({ minLength: 16, maxLength: 16 });
  fc.assert(
    fc.property(word, word, message, (key0, key1, bytes) => {
      const { low, high } = sipHasher([key0, key1])(
        ...([0, 4, 8, 12].map((at) => new DataView(bytes.buffer).getUint32(at, true)) as [
          ...[number, number],
          ...[number, number],
        ]),
      );
      assert.equal((BigInt(high) << 32n) | BigInt(low), sipHash13([key0, key1], bytes));
    }),
  );
});

function emptySessions(sessionBucketCount: number) {
  const strideBytes = NatSessionBucket.sizeBytes;
  const view = new DataView(new ArrayBuffer(sessionBucketCount * strideBytes));
  return { view, strideBytes, settings: { hashKey, sessionBucketCount } };
}

function sessionNumber(index: number): FilledSession {
  return {
    protocol: 17,
    initiator: { address: 0x0a4d_0002, port: 1_024 + (index % 60_000) },
    responder: { address: 0xcb00_7100 + Math.floor(index / 60_000), port: 53 },
    untilTick: 1,
  };
}

test('a session lies in one of its two buckets, under the tag of its hash', () => {
  const bucketCount = 1_000;
  for (let index = 0; index < 100; index++) {
    const { settings, ...memory } = emptySessions(bucketCount);
    const { initiator, responder, ...rest } = sessionNumber(index);
    const swapped = { ...rest, initiator: responder, responder: initiator };
    const session = index % 2 === 0 ? { ...rest, initiator, responder } : swapped;
    assert.equal(fillSessions(memory, { settings, sessions: [session] }), 1);
    // docs/nat.md: addresses, ports and protocol in network order, the low end first.
    const key = new DataView(new ArrayBuffer(16));
    key.setUint32(0, initiator.address);
    key.setUint32(4, responder.address);
    key.setUint16(8, initiator.port);
    key.setUint16(10, responder.port);
    key.setUint8(12, 17);
    const hash = sipHash13(hashKey, new Uint8Array(key.buffer));
    const first = Number(((hash & 0xffff_ffffn) * BigInt(bucketCount)) >> 32n);
    const { tags, slots } = NatSessionBucket.decode(memory.view, first * memory.strideBytes);
    assert.equal(tags[0], Number(hash & 0xffffn) || 1);
    assert.equal(slots[0]?.lowPort, initiator.port);
    const { lowSeen, highSeen, initiatorHigh, chargedHigh } = NatSessionFlags;
    const ofInitiator = index % 2 === 0 ? 0 : initiatorHigh | chargedHigh;
    assert.equal(slots[0]?.flags, lowSeen | highSeen | ofInitiator);
  }
});

test('buckets are filled evenly, and what finds no room is left out', () => {
  const { settings, ...memory } = emptySessions(64);
  const sessions = Array.from({ length: 2_000 }, (_, index) => sessionNumber(index));
  const early = sessions.slice(0, 600);
  assert.equal(fillSessions(memory, { settings, sessions: early }), early.length);
  const filled = fillSessions(memory, { settings, sessions: sessions.slice(600) });
  let tagCount = 0;
  for (let bucket = 0; bucket < 64; bucket++) {
    const { tags } = NatSessionBucket.decode(memory.view, bucket * memory.strideBytes);
    tagCount += tags.filter((tag) => tag !== 0).length;
  }
  assert.equal(tagCount, early.length + filled);
  assert.equal(tagCount, 64 * 16);
});

test('a mapping lies at its outside port, and its inside endpoint refers to it', () => {
  const mappingBucketCount = 16;
  const mappings = {
    view: new DataView(new ArrayBuffer(3 * 65_536 * NatMapping.sizeBytes)),
    strideBytes: NatMapping.sizeBytes,
  };
  const buckets = {
    view: new DataView(new ArrayBuffer(mappingBucketCount * NatMappingBucket.sizeBytes)),
    strideBytes: NatMappingBucket.sizeBytes,
  };
  const internal = { address: 0x0a4d_0014, port: 40_000 };
  const mapping = { protocol: 17, internal, external: { index: 0, port: 40_002 }, untilTick: 9 };
  const settings = { hashKey, mappingBucketCount };
  assert.equal(fillMappings({ mappings, buckets }, { settings, mappings: [mapping] }), 1);
  const element = 65_536 + 40_002;
  const { internalAddress, internalPort } = NatMapping.decode(
    mappings.view,
    element * NatMapping.sizeBytes,
  );
  assert.deepEqual({ address: internalAddress, port: internalPort }, internal);
  // docs/nat.md: address, port and class, then zeros.
  const key = new DataView(new ArrayBuffer(16));
  key.setUint32(0, internal.address);
  key.setUint16(4, internal.port);
  key.setUint8(6, 1);
  const hash = sipHash13(hashKey, new Uint8Array(key.buffer));
  const bucket = Number(((hash >> 32n) * BigInt(mappingBucketCount)) >> 32n);
  const { references } = NatMappingBucket.decode(buckets.view, bucket * buckets.strideBytes);
  assert.deepEqual(references, [element + 1, ...Array(14).fill(0)]);
});
