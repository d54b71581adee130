import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { macAddressBytes, macAddressFromBytes, parseMacAddress } from './mac-address.ts';

test('every address is read back from its bytes and its text', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      const address = macAddressFromBytes(bytes);
      assert.equal(parseMacAddress(address), address);
      assert.deepEqual(macAddressBytes(address), bytes);
    }),
  );
});

test('hyphens and upper case mean the same address', () => {
  assert.equal(parseMacAddress('02-00-00-AB-cd-01'), '02:00:00:ab:cd:01');
});

test('what is not six pairs is refused', () => {
  for (const text of [
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:01:02',
    '2:0:0:0:0:1',
    'g2:00:00:00:00:01',
  ]) {
    assert.equal(parseMacAddress(text), undefined, text);
  }
});
