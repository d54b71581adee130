import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatAddressRange,
  parseAddressRange,
  rangeHasAddress,
  requireAddressRange,
} from './address-range.ts';
import { requireIpAddress } from './ip-address.ts';

const bits = fc.bigInt({ min: 0n, max: 2n ** 32n - 1n });

test('every range is read back from its text, and one upside down is refused', () => {
  fc.assert(
    fc.property(bits, bits, (one, other) => {
      const [low, high] = one <= other ? [one, other] : [other, one];
      const first = { family: 4, bits: low } as const;
      const last = { family: 4, bits: high } as const;
      assert.deepEqual(parseAddressRange(formatAddressRange({ first, last })), { first, last });
      const reversed = formatAddressRange({ first: last, last: first });
      assert.equal(parseAddressRange(reversed) === undefined, one !== other);
    }),
  );
});

test('both ends belong to a range', () => {
  const range = requireAddressRange('10.0.0.5-10.0.0.7');
  const inside = ['10.0.0.4', '10.0.0.5', '10.0.0.7', '10.0.0.8'].map((text) =>
    rangeHasAddress(range, requireIpAddress(text)),
  );
  assert.deepEqual(inside, [false, true, true, false]);
  assert.equal(rangeHasAddress(range, requireIpAddress('::a00:5')), false);
});

test('what is no range is refused', () => {
  for (const text of [
    '',
    '-',
    '10.0.0.1',
    '10.0.0.1-',
    '-10.0.0.1',
    '10.0.0.1-9',
    '10.0.0.1 - 10.0.0.2',
    '10.0.0.1–10.0.0.2',
    '10.0.0.1-10.0.0.2-10.0.0.3',
    '10.0.0.1-::1',
  ]) {
    assert.equal(parseAddressRange(text), undefined, text);
  }
});
