import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyCharacter, anyText } from '../testing/any-text.ts';
import {
  alignColumns,
  bytesInWords,
  escapeJson,
  escapeLine,
  instantInWords,
  spanInWords,
  wrapText,
} from './terminal-text.ts';

const harmless = /^[^\p{C}\p{Zl}\p{Zp}]*$/u;

test('letters of every language stay, what a terminal obeys does not', () => {
  assert.equal(escapeLine('Zoë 家 🦊\tß'), 'Zoë 家 🦊\tß');
  assert.equal(escapeLine('\u001b[2J\u009b\r\n'), '\\u001b[2J\\u009b\\u000d\\u000a');
  assert.equal(escapeLine('\u202eabc\u2066\u200b\u2028'), '\\u202eabc\\u2066\\u200b\\u2028');
  assert.equal(escapeLine('\u{e0041}\ud800'), '\\u{e0041}\\ud800');
});

test('no text gets through a line with anything that is not printable', () => {
  fc.assert(fc.property(anyText(), (text) => harmless.test(escapeLine(text).replaceAll('\t', ''))));
});

test('JSON reads as the same value and holds nothing that a terminal obeys', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: anyCharacter }), fc.boolean(), (value, indented) => {
      const text = escapeJson(value, { indented });
      assert.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      assert.match(text.replaceAll('\n', ''), harmless);
    }),
  );
  assert.equal(escapeJson({ a: '\u{e0041}' }, { indented: false }), '{"a":"\\udb40\\udc41"}');
});

test('columns are as wide as their widest cell, counted in characters', () => {
  assert.deepEqual(
    alignColumns([
      ['a', 'b'],
      ['🦊🦊', 'c'],
      ['a\n', ''],
    ]),
    ['a        b', '🦊🦊       c', 'a\\u000a'],
  );
  assert.deepEqual(alignColumns([]), []);
});

test('text is broken between words only', () => {
  assert.deepEqual(wrapText('one two three', 7), ['one two', 'three']);
  assert.deepEqual(wrapText('extraordinarily so', 5), ['extraordinarily', 'so']);
});

test('spans and instants are said as people do', () => {
  for (const [milliseconds, words] of [
    [0, '0 s'],
    [60_000, '60 s'],
    [120_499, '120 s'],
    [121_000, '2 min 1 s'],
    [3_600_000, '1 h 0 min'],
    [90_000_000, '1 d 1 h'],
  ] as const) {
    assert.equal(spanInWords(milliseconds), words);
  }
  assert.equal(instantInWords(0), '1970-01-01T00:00:00Z');
  assert.equal(instantInWords(Number.NaN), 'unknown time');
});

test('bytes are told in at most four characters, however many', () => {
  for (const [count, words] of [
    [0, '0'],
    [999, '999'],
    [1_000, '1.0K'],
    [9_949, '9.9K'],
    [9_950, '10K'],
    [999_499, '999K'],
    [999_500, '1.0M'],
    [57_400_000, '57M'],
    [1_230_000_000, '1.2G'],
    [Number.MAX_SAFE_INTEGER, '9.0P'],
  ] as const) {
    assert.equal(bytesInWords(count), words);
  }
  fc.assert(fc.property(fc.maxSafeNat(), (count) => bytesInWords(count).length <= 4));
});
