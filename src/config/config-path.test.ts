import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { formatConfigPath, parseConfigPath } from './config-path.ts';

test('every path is read back from its text', () => {
  const step = fc.oneof(anyText(), fc.constantFrom('lan', 'a.b', '0'), fc.nat(99));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 5 }), (path) => {
      const text = formatConfigPath(path);
      assert.match(text, /^[\x20-\x7e]*$/);
      assert.deepEqual(parseConfigPath(text), path);
    }),
    { numRuns: 1000 },
  );
});

test('paths are written as people write them', () => {
  assert.equal(formatConfigPath(['networks', 'lan', 'dhcp', 'range']), 'networks.lan.dhcp.range');
  assert.equal(formatConfigPath(['portForwards', 0, 'to']), 'portForwards[0].to');
  assert.equal(formatConfigPath(['a b', 'c']), '["a b"].c');
  assert.equal(formatConfigPath(['\u0430']), '["\\u0430"]');
});

test('what is no path is refused', () => {
  for (const text of [
    '.',
    '.a',
    'a.',
    'a..b',
    'a[',
    'a[-1]',
    'a[01]',
    'a["b]',
    'a["\\x"]',
    'a b',
    'a[b]',
  ]) {
    assert.equal(parseConfigPath(text), undefined, text);
  }
});
