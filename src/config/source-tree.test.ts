import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { exampleConfig } from './example-config.ts';
import { nodeAt, parseSourceTree, plainValueOf, type SourceTree } from './source-tree.ts';

function treeOf(text: string): SourceTree {
  const { tree, problems } = parseSourceTree(text, 'test.yaml');
  assert.deepEqual(problems, undefined);
  assert.ok(tree);
  return tree;
}

function placeOf(tree: SourceTree, path: (string | number)[]): string {
  const node = nodeAt(tree.root, path);
  assert.ok(node, path.join('.'));
  const { line, column } = tree.positionAt(node.start);
  return `${line}:${column}`;
}

test('every value knows its line and column', () => {
  const text = '# head\na: 1\nb:\n  c: [x, "y"]\n  d:\n    - { e: 5 }\n';
  const tree = treeOf(text);
  assert.equal(placeOf(tree, ['a']), '2:4');
  assert.equal(placeOf(tree, ['b', 'c', 0]), '4:7');
  assert.equal(placeOf(tree, ['b', 'c', 1]), '4:10');
  assert.equal(placeOf(tree, ['b', 'd', 0, 'e']), '6:12');
  assert.equal(nodeAt(tree.root, ['b', 'x']), undefined);
  assert.equal(nodeAt(tree.root, ['a', 'x']), undefined);
  assert.equal(nodeAt(tree.root, ['b', 'c', 2]), undefined);
});

test('places are the same with carriage returns and a byte order mark', () => {
  const tree = treeOf('a: 1\r\n\r\nb:\r\n  - x\r\n');
  assert.equal(placeOf(tree, ['b', 0]), '4:5');
  assert.equal(treeOf('\ufeffa: 1\n').root.kind, 'mapping');
});

test('the values are those that the YAML package reads', () => {
  assert.deepEqual(plainValueOf(treeOf(exampleConfig).root), parse(exampleConfig));
  const piece = fc.constantFrom(
    ...[
      'a',
      'b',
      ': ',
      ':',
      ' ',
      '\n',
      '\n  ',
      '- ',
      '[',
      ']',
      '{',
      '}',
      ', ',
      ',',
      "'",
      '"',
      '# c\n',
    ],
    ...[
      '1',
      '0x1f',
      '010',
      '1e9',
      '.inf',
      'true',
      'yes',
      'null',
      '~',
      '::1',
      '10.0.0.1',
      '-',
      '---\n',
    ],
  );
  let acceptedCount = 0;
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 14 }), (pieces) => {
      const text = pieces.join('');
      const { tree } = parseSourceTree(text, 'test.yaml');
      if (tree === undefined) return;
      acceptedCount++;
      assert.deepEqual(plainValueOf(tree.root), parse(text, { stringKeys: true }), text);
    }),
    { numRuns: 5000 },
  );
  assert.ok(acceptedCount > 500, `only ${acceptedCount} texts were accepted`);
});

test('what would make a text ambiguous, or a place depend on another, is refused by name', () => {
  for (const [text, found] of [
    ['a: &x 1\nb: *x\n', 'an anchor'],
    ['b: *x\n', 'an alias'],
    ['a: !!str 1\n', 'a tag'],
    ['a: !include x\n', 'a tag'],
    ['%YAML 1.1\n---\na: yes\n', 'a directive'],
    ['? a\n: b\n', 'a complex key'],
    ['a: |\n  x\n', 'a block of lines'],
    ['a: >-\n  x\n', 'a block of lines'],
    ['a: x\n  y\n', 'one that goes on in the next line'],
    ['a: "x\n  y"\n', 'one that goes on in the next line'],
    ['a: 1\n---\nb: 1\n', 'another document'],
    ['---\na: 1\n---\nb: 1\n', 'another document'],
    ['a: 1\n...\n', 'the end of a document'],
  ] as const) {
    const { problems } = parseSourceTree(text, 'test.yaml');
    assert.ok(problems?.[0]?.found.startsWith(found), `${text}: ${JSON.stringify(problems)}`);
  }
});

test('a merge key is a key like any other', () => {
  assert.deepEqual(plainValueOf(treeOf('<<: { a: 1 }\n').root), { '<<': { a: 1 } });
});

test('keys that stand twice are refused with the line of the first', () => {
  const { problems } = parseSourceTree('a: 1\nb: { c: 1, c: 2 }\na: 3\n', 'test.yaml');
  const places = problems?.map(({ line, column, path }) => `${line}:${column} ${path}`);
  assert.deepEqual(places, ['2:12 b.c', '3:1 a']);
  assert.match(problems?.[1]?.found ?? '', /it stands in line 1 already/);
});
