import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { internetChecksum, internetSum } from '../wire/internet-checksum.ts';
import {
  addressWords,
  isChecksumRight,
  updatedChecksum,
  updatedUdpChecksum,
} from './incremental-checksum.ts';

test('a checksum that is brought up to date is the one of the new bytes', () => {
  const bytes = fc.uint8Array({ minLength: 4, maxLength: 64 });
  const change = fc.record({ bytes, at: fc.nat(30), address: fc.nat(0xffff_ffff) });
  fc.assert(
    fc.property(change, ({ bytes: old, at, address }) => {
      const next = Uint8Array.from(old);
      const offset = Math.min(at * 2, Math.floor((old.length - 4) / 2) * 2);
      const before = internetSum(old.subarray(offset, offset + 4));
      new DataView(next.buffer).setUint32(offset, address);
      const after = addressWords(address);
      // Bytes that are all zero have no checksum but 0xffff, which an update never gives.
      const expected = internetChecksum(next) % 0xffff;
      assert.equal(updatedChecksum(internetChecksum(old), { before, after }), expected);
    }),
  );
});

/** RFC 1624 section 4: the header's checksum was 0xdd2f, a field went from 0x5555 to 0x3285. */
test('the example of RFC 1624 comes out as there', () => {
  assert.equal(updatedChecksum(0xdd2f, { before: 0x5555, after: 0x3285 }), 0);
});

test('zero is written with all bits clear, and for UDP with all bits set', () => {
  const change = { before: 0x1234, after: 0x1234 };
  assert.equal(updatedChecksum(0xffff, change), 0);
  assert.equal(updatedUdpChecksum(0xffff, change), 0xffff);
  assert.equal(updatedUdpChecksum(0xdd2f, { before: 0x5555, after: 0x3285 }), 0xffff);
});

test('UDP without a checksum stays without one', () => {
  assert.equal(updatedUdpChecksum(0, { before: 1, after: 2 }), 0);
});

test('bytes with their checksum are right, and with another bit they are not', () => {
  const bytes = Uint8Array.of(0x45, 0, 0, 20, 0, 0);
  new DataView(bytes.buffer).setUint16(4, internetChecksum(bytes));
  assert.equal(isChecksumRight(bytes), true);
  bytes[0] = 0x46;
  assert.equal(isChecksumRight(bytes), false);
});
