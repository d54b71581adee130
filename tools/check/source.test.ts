import assert from 'node:assert/strict';
import { test } from 'node:test';
import { importsOf, readSource } from './source.ts';

function specifiersIn(text: string): (string | undefined)[] {
  return importsOf(readSource(text)).map(({ specifier }) => specifier);
}

test('every way to name a module is found', () => {
  const text = [
    "import './effect.ts';",
    "import one from './default.ts';",
    "import two, { type Three, four as five } from './mixed.ts';",
    "import type { Six } from './type-only.ts';",
    "import * as seven from './namespace.ts';",
    "export { eight } from './export.ts';",
    "export type { Nine } from './export-type.ts';",
    "export * from './export-all.ts';",
    "const ten = await import('./dynamic.ts');",
    "type Eleven = import('./in-a-type.ts').Eleven;",
    "const twelve = require('./required.cjs');",
    "new Worker(new URL('./worker.ts', import.meta.url));",
  ].join('\n');
  assert.deepEqual(specifiersIn(text), [
    './effect.ts',
    './default.ts',
    './mixed.ts',
    './type-only.ts',
    './namespace.ts',
    './export.ts',
    './export-type.ts',
    './export-all.ts',
    './dynamic.ts',
    './in-a-type.ts',
    './required.cjs',
    './worker.ts',
  ]);
});

test('an import over several lines is reported at its first line with its names', () => {
  const [found] = importsOf(readSource("\n\nimport {\n  a,\n  b as c,\n} from './x.ts';\n"));
  assert.deepEqual(found, { specifier: './x.ts', line: 3, names: ['a', 'b'] });
});

test('what only looks like an import is not one', () => {
  const text = [
    "// import './comment.ts';",
    "/* export * from './comment.ts'; */",
    'const text = "import \'./string.ts\'";',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the template is the source under test
    "const template = `import './template.ts' ${call({ a: `from './nested.ts'` })} from './b.ts'`;",
    "const expression = /import '.\\/expression.ts'/;",
    'const here = import.meta.url;',
    'export const from = { import: 1 };',
    'export { here };',
    "export type Name = 'from' | './c.ts';",
    "loader.import('./method.ts');",
    "export function take(from = './d.ts') {}",
  ].join('\n');
  assert.deepEqual(specifiersIn(text), []);
});

test('code after a quote in a regular expression is still read as code', () => {
  assert.deepEqual(specifiersIn("const quote = /['`]/;\nimport './after.ts';"), ['./after.ts']);
});

test('a division is not taken for a regular expression', () => {
  assert.deepEqual(specifiersIn("const half = (a) / 2; import './x.ts'; const b = c / 2;"), [
    './x.ts',
  ]);
});

test('a dynamic import of a computed path has no specifier', () => {
  assert.deepEqual(specifiersIn("await import(folder + '/x.ts');"), [undefined]);
});

test('lines are counted through comments and templates', () => {
  const { tokens, comments } = readSource(
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the template is the source under test
    '#!/usr/bin/env node\n/*\n*/\n`\n\n${a}\n`;\nend // last',
  );
  assert.deepEqual(
    tokens.filter(({ text }) => text === 'end'),
    [{ kind: 'word', text: 'end', line: 8 }],
  );
  assert.deepEqual(comments.at(-1), { text: '// last', line: 8 });
});
