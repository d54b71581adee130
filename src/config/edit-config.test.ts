import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { formatConfigPath, parseConfigPath } from './config-path.ts';
import { type ConfigEdit, editConfig } from './edit-config.ts';
import { exampleConfig } from './example-config.ts';
import type { PlainValue } from './plain-value.ts';
import { nodeAt, parseSourceTree, plainValueOf, type SourceNode } from './source-tree.ts';

const fileName = 'gatehouse.yaml';

function edited(text: string, ...edits: ConfigEdit[]): string {
  const { text: result, problems } = editConfig(text, edits, { fileName });
  assert.equal(problems, undefined);
  return result ?? '';
}

function at(path: string): (string | number)[] {
  const parsed = parseConfigPath(path);
  assert.ok(parsed, path);
  return [...parsed];
}

function valueAt(text: string, path: readonly (string | number)[]): PlainValue | undefined {
  const { tree } = parseSourceTree(text, fileName);
  const node = tree === undefined ? undefined : nodeAt(tree.root, path);
  return node === undefined ? undefined : plainValueOf(node);
}

/** A text, read once for all the edits that it is the start of. */
function originalOf(text: string) {
  const { tree } = parseSourceTree(text, fileName);
  assert.ok(tree);
  const scalars: (string | number)[][] = [];
  const all: (string | number)[][] = [];
  const visit = (node: SourceNode, path: (string | number)[]): void => {
    if (path.length > 0) all.push(path);
    if (node.kind === 'scalar') scalars.push(path);
    if (node.kind === 'mapping')
      for (const { key, value } of node.entries) visit(value, [...path, key]);
    if (node.kind === 'list')
      for (const [index, item] of node.items.entries()) visit(item, [...path, index]);
  };
  visit(tree.root, []);
  return { text, root: tree.root, scalars, all };
}

/** Everything that a person can write one value in. */
const handwritten = [
  '# head',
  '',
  'plain: value   # behind',
  "single: 'it''s'",
  'double: "a\\tb"',
  'number: 8080',
  'flow: { a: 1, b: [x, "y", \'z\'] ,  c: {}, }   # many',
  'lines: [',
  '  one,   # first',
  '  two',
  ']',
  'empty:',
  '"quoted key": 1',
  'block:',
  '    # inside',
  '    - x',
  '',
  '    -   y: 1',
  '        z: 2     # z',
  '    - - deep',
  '      - deeper',
  'last:',
  '- a',
  '- b',
  '# tail',
].join('\n');

const originals = [
  exampleConfig,
  exampleConfig.replaceAll('\n', '\r\n'),
  `\ufeff${exampleConfig}`,
  handwritten,
  `${handwritten}\n`,
  handwritten.replaceAll('\n', '\r\n'),
].map(originalOf);

const scalar = fc.oneof(
  fc.constantFrom(
    '12h',
    'dhcp',
    '10.77.0.1/24',
    'tls://dns.example.net',
    '192.0.2.1:80',
    'a b',
    'x#y',
  ),
  fc.integer({ min: -9, max: 99_999 }),
  fc.boolean(),
);

test('editing one value changes no other line, and editing it back gives the same text', () => {
  const place = fc
    .constantFrom(...originals)
    .chain((original) => fc.tuple(fc.constant(original), fc.constantFrom(...original.scalars)));
  fc.assert(
    fc.property(place, scalar, ([{ text, root }, path], value) => {
      const node = nodeAt(root, path);
      assert.ok(node?.kind === 'scalar');
      const { value: old, source } = node;
      // A value that is empty, or holds quotes, does not say how it was written once it is gone.
      if (old === null) return;
      const changed = edited(text, { path, value });
      const lines = text.split('\n');
      const changedLines = changed.split('\n');
      assert.equal(changedLines.length, lines.length);
      const differing = lines.filter((line, index) => line !== changedLines[index]);
      assert.ok(differing.length <= 1, formatConfigPath(path));
      assert.deepEqual(valueAt(changed, path), value);
      const isSameKind = typeof old === 'string' && typeof value === 'string';
      const isPlain = !/^["']/.test(source);
      if (isSameKind || isPlain) assert.equal(edited(changed, { path, value: old }), text);
    }),
    { numRuns: 500 },
  );
});

test('any value can be put anywhere, and the comments outside of it survive', () => {
  const word = fc.oneof(
    scalar,
    anyText(),
    fc.constantFrom(
      '',
      ' ',
      '# x',
      'a: b',
      '- a',
      '[',
      'null',
      'true',
      '0x10',
      '1e3',
      "it's",
      '"',
      '...',
      '---',
    ),
    fc.constant(null),
  );
  const { value } = fc.letrec<{ value: PlainValue }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      word,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom('a', 'b', 'x y', 'c:', '__proto__'), tie('value'), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
  }));
  const place = fc
    .constantFrom(...originals)
    .chain((original) => fc.tuple(fc.constant(original), fc.constantFrom(...original.all)));
  fc.assert(
    fc.property(place, value, ([{ text }, path], value) => {
      const changed = edited(text, { path, value });
      assert.deepEqual(valueAt(changed, path), value);
      for (const comment of ['# head', '# tail']) {
        assert.equal(changed.includes(comment), text.includes(comment));
      }
      if (text.includes('\r\n')) assert.doesNotMatch(changed, /(^|[^\r])\n/);
    }),
    { numRuns: 400 },
  );
});

test('anything can be removed, and what stands above and below stays', () => {
  for (const { text, all } of originals) {
    for (const path of all) {
      const changed = edited(text, { path, delete: true });
      const { tree } = parseSourceTree(changed, fileName);
      assert.ok(tree, formatConfigPath(path));
      for (const comment of ['# head', '# tail']) {
        assert.equal(changed.includes(comment), text.includes(comment), formatConfigPath(path));
      }
    }
  }
});

test('a removed key takes its lines and its comment with it, and no others', () => {
  const text =
    'a: 1\n\n# about b\nb:   # behind b\n  c: 1\n  # inside\n  d: 2   # behind d\n' +
    '# about e\ne: 3\n';
  assert.equal(edited(text, { path: ['b'], delete: true }), 'a: 1\n\n# about b\n# about e\ne: 3\n');
  assert.equal(
    edited(text, { path: ['b', 'd'], delete: true }),
    'a: 1\n\n# about b\nb:   # behind b\n  c: 1\n  # inside\n# about e\ne: 3\n',
  );
});

test('a new key goes behind its neighbours, indented as they are', () => {
  assert.equal(
    edited('networks:\n    lan:\n        address: 10.0.0.1/24   # ours\n\n# more\n', {
      path: at('networks.lan.dhcp'),
      value: { range: '10.0.0.2-10.0.0.9', lease: '1h' },
    }),
    'networks:\n    lan:\n        address: 10.0.0.1/24   # ours\n' +
      '        dhcp: { range: 10.0.0.2-10.0.0.9, lease: 1h }\n\n# more\n',
  );
  assert.equal(
    edited('{ a: 1, b: { c: 2 } }\n', { path: at('b.d'), value: [1, 'x, y'] }),
    '{ a: 1, b: { c: 2, d: [1, "x, y"] } }\n',
  );
});

test('keys on the way are made', () => {
  assert.equal(
    edited('version: 1\n', {
      path: at('firewall.tables.nuisances.addresses'),
      value: ['192.0.2.1'],
    }),
    'version: 1\nfirewall:\n  tables:\n    nuisances: { addresses: [192.0.2.1] }\n',
  );
  assert.equal(edited('', { path: ['version'], value: 1 }), 'version: 1\n');
  assert.equal(
    edited('# nothing yet', { path: ['a', 'b'], value: 1 }),
    '# nothing yet\na: { b: 1 }\n',
  );
});

test('a list gets its new item where it belongs, and its other items stay as they are', () => {
  const text = 'rules:\n  # first\n  - { name: a }   # a\n\n  # second\n  - name: b   # b\nz: 1\n';
  const [a, b, c] = [{ name: 'a' }, { name: 'b' }, { name: 'c' }];
  assert.equal(
    edited(text, { path: ['rules'], value: [a, b, c] }),
    'rules:\n  # first\n  - { name: a }   # a\n\n  # second\n  - name: b   # b\n' +
      '  - { name: c }\nz: 1\n',
  );
  assert.equal(
    edited(text, { path: ['rules'], value: [a, c, b] }),
    'rules:\n  # first\n  - { name: a }   # a\n  - { name: c }\n\n' +
      '  # second\n  - name: b   # b\nz: 1\n',
  );
  assert.equal(
    edited(text, { path: ['rules', 0], delete: true }),
    'rules:\n  # first\n\n  # second\n  - name: b   # b\nz: 1\n',
  );
  assert.equal(
    edited(text, { path: ['rules', 2], value: c }),
    edited(text, { path: ['rules'], value: [a, b, c] }),
  );
});

test('an empty list in a block becomes one with an item a line', () => {
  assert.equal(
    edited('firewall:\n  rules: []   # none yet\n', {
      path: at('firewall.rules'),
      value: [{ name: 'a', action: 'drop' }],
    }),
    'firewall:\n  rules:   # none yet\n    - { name: a, action: drop }\n',
  );
});

test('a key gets another name and keeps its value, place and comments', () => {
  assert.equal(
    edited('a: 1\n"b": { x: 1 }   # b\nc: 2\n', { path: ['b'], rename: 'd' }),
    'a: 1\nd: { x: 1 }   # b\nc: 2\n',
  );
});

test('edits are made one after the other', () => {
  const text = edited(
    'a: 1\n',
    { path: ['b', 'c'], value: 1 },
    { path: ['b', 'c'], rename: 'd' },
    { path: ['a'], delete: true },
  );
  assert.equal(text, 'b: { d: 1 }\n');
});

test('what cannot be edited is a problem with its place', () => {
  const text = 'a: 1\nb: { c: [x] }\n';
  for (const edit of [
    { path: ['a', 'x'], value: 1 },
    { path: ['b', 'c', 2], value: 1 },
    { path: ['b', 'c', 'x'], value: 1 },
    { path: ['x'], delete: true },
    { path: ['b', 'c', 1], delete: true },
    { path: ['x'], rename: 'y' },
    { path: ['a'], rename: 'b' },
    { path: ['b', 'c', 0], rename: 'b' },
  ] satisfies ConfigEdit[]) {
    const { problems } = editConfig(text, [edit], { fileName });
    assert.equal(problems?.length, 1, JSON.stringify(edit));
    assert.equal(problems?.[0]?.path, formatConfigPath(edit.path));
  }
  assert.equal(editConfig('a: [', [], { fileName }).problems, undefined);
  assert.ok(editConfig('a: [', [{ path: ['a'], value: 1 }], { fileName }).problems);
});
