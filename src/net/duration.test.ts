import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { duration, formatDuration, parseDuration, requireDuration } from './duration.ts';

test('every duration is read back from its text', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (milliseconds) => {
      const length = duration(milliseconds);
      assert.equal(parseDuration(formatDuration(length)), length);
    }),
  );
});

test('each unit means what people mean by it', () => {
  const seconds = ['500ms', '60s', '30m', '12h', '7d', '2w'].map(
    (text) => requireDuration(text) / 1000,
  );
  assert.deepEqual(seconds, [0.5, 60, 1800, 43_200, 604_800, 1_209_600]);
});

test('a duration is written in the largest unit that leaves a whole number', () => {
  const lengths = [0, 1, 1500, 60_000, 90_000, 86_400_000, 604_800_000];
  const texts = lengths.map((length) => formatDuration(duration(length)));
  assert.deepEqual(texts, ['0s', '1ms', '1500ms', '1m', '90s', '1d', '1w']);
});

test('what is no duration, or none that is exact, is refused', () => {
  for (const text of [
    '',
    '60',
    's',
    '1.5h',
    '-1s',
    '+1s',
    '1 s',
    '01s',
    '1h30m',
    '1H',
    '1e3s',
    '１s',
  ]) {
    assert.equal(parseDuration(text), undefined, text);
  }
  assert.equal(parseDuration('999999999999999w'), undefined);
  assert.throws(() => duration(0.5), RangeError);
  assert.throws(() => duration(-1), RangeError);
});
