import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type TextFormat, textFormatOf, textFormats } from './text-formats.ts';

const formats = Object.entries<TextFormat>(textFormats);

test('the example of each format is right by pattern, length and judgement', () => {
  for (const [name, { example, pattern, lengthMax, parse }] of formats) {
    assert.match(example, new RegExp(pattern), name);
    assert.ok(example.length <= lengthMax, name);
    assert.notEqual(parse(example), undefined, name);
  }
});

test('whatever a format accepts, its pattern and length accept, too', () => {
  const samples = formats.map(([, { example }]) => example);
  const piece = fc.constantFrom(...samples.flatMap((text) => [...text, text]), 'é', '\u0000', '\\');
  const words = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(''));
  let acceptedCount = 0;
  fc.assert(
    fc.property(fc.oneof(words, fc.constantFrom(...samples)), (text) => {
      for (const [name, { pattern, lengthMax, parse }] of formats) {
        if (text.length > lengthMax || parse(text) === undefined) continue;
        acceptedCount++;
        assert.match(text, new RegExp(pattern), name);
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(acceptedCount > 1000, `only ${acceptedCount} texts were accepted`);
});

test('paths lead nowhere else, and hold nothing that a shell would expand', () => {
  const { folder, file } = textFormats;
  for (const text of [
    '/',
    '//x',
    '/a/',
    '/a/../b',
    '/a/./b',
    '/a\n',
    '/$(id)',
    '/a;b',
    '/`id`',
    'a',
  ]) {
    assert.equal(folder.parse(text), undefined, text);
  }
  for (const text of [
    '',
    '/',
    '../keys',
    'a/..',
    'a//b',
    '.',
    'a\0b',
    '~$x',
    `/${'a'.repeat(300)}`,
  ]) {
    assert.equal(file.parse(text), undefined, text);
  }
  assert.notEqual(file.parse('/etc/gatehouse/my keys.json'), undefined);
  assert.equal(folder.parse(`/${'a/'.repeat(600)}a`), undefined);
});

test('names of interfaces are those that the kernel and nft take as one name', () => {
  const { parse } = textFormats['interface-name'];
  for (const text of ['eth0', 'br-lan', 'eth0.100', 'wlan0@1'])
    assert.notEqual(parse(text), undefined);
  for (const text of ['', '-x', '.', '..', 'a/b', 'a b', 'eth*', 'sixteen-letters-', 'é0', '$x']) {
    assert.equal(parse(text), undefined, text);
  }
});

test('comments are one printable line of at most 64 bytes', () => {
  const { parse } = textFormats.comment;
  for (const text of ['x', 'für Gäste', 'é'.repeat(32)])
    assert.notEqual(parse(text), undefined, text);
  for (const text of ['', 'a"b', 'a\\b', 'a\nb', 'a\u202eb', 'é'.repeat(33), '\ud800']) {
    assert.equal(parse(text), undefined, text);
  }
});

test('formats that are not ours are none', () => {
  for (const name of [undefined, 'email', 'constructor', '__proto__', 1]) {
    assert.equal(textFormatOf(name), undefined);
  }
});
