import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from './any-text.ts';

test('texts are well formed, within their length, and of all planes of Unicode', () => {
  const texts = fc.sample(anyText({ maxLength: 20 }), { numRuns: 2_000, seed: 1 });
  const planes = new Set<number>();
  for (const text of texts) {
    assert.ok(text.isWellFormed());
    assert.ok([...text].length <= 20);
    for (const character of text) planes.add((character.codePointAt(0) ?? 0) >> 16);
  }
  assert.equal(planes.size, 17);
});

test('a text that was given shrinks to the characters that matter', () => {
  for (const mark of ['\0', '\ud7ff', '\ue000', '\u{10ffff}']) {
    const { counterexample } = fc.check(
      fc.property(anyText(), (text) => !text.includes(mark)),
      { examples: [[`ab${mark}c\u{1f0a1}`]], seed: 1 },
    );
    assert.deepEqual(counterexample, [mark]);
  }
});
