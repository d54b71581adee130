import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatPortRange,
  parsePort,
  parsePortRange,
  portRangesOverlap,
  requirePortRange,
} from './port-range.ts';

const range = fc
  .tuple(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 65_535 }))
  .map(([one, other]) => ({ first: Math.min(one, other), last: Math.max(one, other) }));

test('every range of ports is read back from its text', () => {
  fc.assert(
    fc.property(range, (ports) => {
      assert.deepEqual(parsePortRange(formatPortRange(ports)), ports);
    }),
  );
});

test('two ranges overlap where they share a port', () => {
  const small = fc
    .tuple(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 4 }))
    .map(([first, more]) => ({ first, last: first + more }));
  fc.assert(
    fc.property(small, small, (left, right) => {
      const shared = Array.from({ length: 20 }, (_, port) => port).some(
        (port) =>
          left.first <= port && port <= left.last && right.first <= port && port <= right.last,
      );
      assert.equal(portRangesOverlap(left, right), shared);
    }),
  );
});

test('a number is a range of one port', () => {
  assert.deepEqual(requirePortRange(8080), { first: 8080, last: 8080 });
  assert.throws(() => requirePortRange(65_536), /not a port range: 65536/);
});

test('what is no port or range is refused', () => {
  for (const text of [
    '',
    '0',
    '65536',
    '080',
    '1e3',
    '-1',
    '+1',
    '0x50',
    '80 ',
    '８０',
    '99999999',
  ]) {
    assert.equal(parsePort(text), undefined, text);
    assert.equal(parsePortRange(text), undefined, text);
  }
  for (const text of ['-', '80-', '-80', '90-80', '1-2-3', '0-80', '80-65536', '80 - 90']) {
    assert.equal(parsePortRange(text), undefined, text);
  }
});
