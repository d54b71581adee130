import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { foldSum, internetChecksum, internetSum } from './internet-checksum.ts';

test('the example of RFC 1071 §3 sums to ddf2', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  assert.equal(foldSum(internetSum(bytes)), 0xddf2);
  assert.equal(internetChecksum(bytes), 0xddf2 ^ 0xffff);
});

test('a real IPv4 header with its checksum in place verifies to zero', () => {
  const header = Uint8Array.from(Buffer.from('45000073000040004011b861c0a80001c0a800c7', 'hex'));
  assert.equal(internetChecksum(header), 0);
});

test('a packet summed in even parts has the sum of the whole', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(1500), (bytes, half) => {
      const cut = Math.min(half * 2, bytes.length - (bytes.length % 2));
      const parts = internetSum(bytes.subarray(cut), internetSum(bytes.subarray(0, cut)));
      assert.equal(foldSum(parts), foldSum(internetSum(bytes)));
    }),
  );
});
