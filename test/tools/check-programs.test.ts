import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  biomeFindings,
  cFormatCheck,
  clangFormatFindings,
  compilerFindings,
  formatAndLintCheck,
  typesCheck,
} from '../../tools/check/programs.ts';
import { type Repository, repositoryOf } from '../../tools/check/repository.ts';

const ownRoot = join(import.meta.dirname, '../..');
const configs = [
  'package.json',
  'biome.json',
  'tsconfig.base.json',
  'tsconfig.json',
  'tsconfig.pure.json',
];

/** A folder with this repository's configuration and the given files. */
function folderWith(context: TestContext, files: Record<string, string>): Repository {
  const root = mkdtempSync(join(tmpdir(), 'gatehouse-check-'));
  context.after(() => rmSync(root, { recursive: true }));
  for (const config of [...configs, '.clang-format', '.gitignore']) {
    copyFileSync(join(ownRoot, config), join(root, config));
  }
  symlinkSync(join(ownRoot, 'node_modules'), join(root, 'node_modules'));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return { ...repositoryOf(files), root };
}

test('lint and format findings name file, line and rule', async (context) => {
  const repository = folderWith(context, {
    'src/net/a.ts': 'export const a: any = 1;\n',
    'src/net/b.ts': 'export const b  = 1;\n',
    'src/net/c.ts': 'export const c = 1;\n',
  });
  const findings = await formatAndLintCheck.run(repository);
  assert.deepEqual(
    findings.map(({ path, line, message }) => `${path}:${line} ${message.split(':')[0]}`).sort(),
    ['src/net/a.ts:1 lint/suspicious/noExplicitAny', 'src/net/b.ts:1 is not formatted'],
  );
});

test('a type error is found', async (context) => {
  const repository = folderWith(context, { 'src/net/a.ts': "export const a: number = 'a';\n" });
  const findings = await typesCheck.run(repository);
  assert.deepEqual(
    findings.map(({ path, line }) => `${path}:${line}`),
    ['src/net/a.ts:1', 'src/net/a.ts:1'],
  );
  assert.match(findings.map(({ message }) => message).join(), /TS2322.*tsconfig\.pure\.json/);
});

test("Node's types are known to the shell and unknown to the pure layers", async (context) => {
  const repository = folderWith(context, {
    'src/linux/a.ts': 'export const a = process.pid;\n',
    'src/net/a.ts': 'export const a = process.pid;\n',
  });
  const [finding, ...others] = await typesCheck.run(repository);
  assert.equal(finding?.path, 'src/net/a.ts');
  assert.match(finding?.message ?? '', /Cannot find name 'process'.*tsconfig\.pure\.json/);
  assert.deepEqual(others, []);
});

test('a repository without pure files has clean types', async (context) => {
  const repository = folderWith(context, { 'tools/a.ts': 'export const a = 1;\n' });
  assert.deepEqual(await typesCheck.run(repository), []);
});

test('C that clang-format would change is found once for each file', async (context) => {
  const repository = folderWith(context, {
    'bpf/a.c': 'int a;\nint  b ;\nint  c ;\n',
    'bpf/b.c': 'int b(void)\n{\n\treturn 0;\n}\n',
  });
  assert.deepEqual(await cFormatCheck.run(repository), [
    { path: 'bpf/a.c', line: 2, message: 'is not formatted: run `clang-format -i bpf/a.c`' },
  ]);
});

test('a program that cannot run is a finding, not a clean result', async (context) => {
  const repository = folderWith(context, { 'src/net/a.ts': 'export const a = 1;\n' });
  rmSync(join(repository.root, 'node_modules'));
  const [lint] = await formatAndLintCheck.run(repository);
  assert.match(lint?.message ?? '', /biome failed: is not installed/);
  const [types] = await typesCheck.run(repository);
  assert.match(types?.message ?? '', /tsc failed: is not installed/);
});

test('findings are read from what the programs print', () => {
  assert.deepEqual(
    biomeFindings('::error title=format,file=/r/a.ts,line=1,endLine=1,col=2,endColumn=2::x', '/r'),
    [{ path: 'a.ts', line: 1, message: 'is not formatted: run `npm run format`' }],
  );
  assert.deepEqual(compilerFindings('a.ts(3,5): error TS1: one\n  two\nerror TS2: x', 'c.json'), [
    { path: 'a.ts', line: 3, message: 'TS1: one two (c.json)' },
    { path: 'c.json', message: 'TS2: x (c.json)' },
  ]);
  assert.deepEqual(clangFormatFindings('bpf/a.c:3:5: error: code should be clang-formatted'), [
    { path: 'bpf/a.c', line: 3, message: 'is not formatted: run `clang-format -i bpf/a.c`' },
  ]);
});
