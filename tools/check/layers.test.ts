import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPure, layers, layersCheck } from './layers.ts';
import { repositoryOf } from './repository.ts';

async function messagesFor(files: Record<string, string>): Promise<string[]> {
  const findings = await layersCheck.run(repositoryOf(files));
  return findings.map(({ path, line, message }) => `${path}:${line} ${message}`);
}

async function assertAllowed(path: string, text: string, others: string[] = []): Promise<void> {
  const files = Object.fromEntries(others.map((other) => [other, '']));
  assert.deepEqual(await messagesFor({ ...files, [path]: text }), []);
}

async function assertForbidden(path: string, text: string, why: RegExp): Promise<void> {
  const messages = await messagesFor({ [path]: text });
  assert.equal(messages.length, 1, `${path}: ${text} gave ${JSON.stringify(messages)}`);
  assert.match(messages[0] ?? '', why);
}

test('imports down the arrows are allowed', async () => {
  await assertAllowed('src/main.ts', "import { a } from './linux/a.ts';");
  await assertAllowed('src/linux/a.ts', "import { a } from '../gateway/a.ts';");
  await assertAllowed('src/gateway/a.ts', "import { a } from '../nat/a.ts';");
  await assertAllowed('src/nat/a.ts', "import { a } from '../wire/dns/a.ts';");
  await assertAllowed('src/wire/dns/a.ts', "import { a } from '../../net/a.ts';");
});

test('imports up the arrows are found with their line and the reason', async () => {
  await assertForbidden(
    'src/net/a.ts',
    "\nimport { a } from '../wire/a.ts';",
    /^src\/net\/a\.ts:2 imports src\/wire\/a\.ts: src\/net\/ holds plain values/,
  );
  await assertForbidden('src/wire/a.ts', "import '../dhcp/a.ts';", /meaning is judged/);
  await assertForbidden('src/gateway/a.ts', "import '../linux/a.ts';", /performs its commands/);
  await assertForbidden('src/linux/a.ts', "import '../api/a.ts';", /does not know who asked/);
});

test('features never import each other, not even for a type', async () => {
  for (const text of [
    "import { a } from '../dns/a.ts';",
    "import type { A } from '../dns/a.ts';",
    "export { a } from '../dns/a.ts';",
    "type A = import('../dns/a.ts').A;",
  ]) {
    await assertForbidden('src/dhcp/a.ts', text, /features never import each other/);
  }
});

test('the pure layers import neither Node nor packages', async () => {
  await assertForbidden('src/nat/a.ts', "import { readFileSync } from 'node:fs';", /pure/);
  await assertForbidden('src/net/a.ts', "import fc from 'fast-check';", /imports nothing/);
  await assertAllowed('src/linux/a.ts', "import { readFileSync } from 'node:fs';");
});

test('the config uses two packages that compute, and nothing that acts', async () => {
  await assertAllowed('src/config/a.ts', "import { Type } from 'typebox'; import 'yaml';");
  await assertAllowed('src/config/a.ts', "import { Value } from 'typebox/value';");
  await assertAllowed('src/gateway/a.ts', "import { a } from '../config/a.ts';");
  await assertForbidden('src/config/a.ts', "import 'node:fs';", /only typebox and yaml/);
  await assertForbidden('src/config/a.ts', "import 'yaml-other';", /only typebox and yaml/);
  await assertForbidden('src/config/a.ts', "import '../firewall/a.ts';", /knows no feature/);
  await assertForbidden('src/dhcp/a.ts', "import '../config/a.ts';", /features never import/);
});

test('a test may import Node, packages, the simulated world and vectors', async () => {
  const text = [
    "import test from 'node:test';",
    "import fc from 'fast-check';",
    "import { VirtualClock } from '../testing/virtual-clock.ts';",
    "import { queries } from '../../test/vectors/queries.ts';",
    "import { a } from './a.ts';",
  ].join('\n');
  await assertAllowed('src/nat/a.test.ts', text);
});

test('a test of one feature does not import another', async () => {
  await assertForbidden('src/nat/a.test.ts', "import '../dns/a.ts';", /never import each other/);
});

test('the program does not import lab, tools, tests or the simulated world', async () => {
  for (const target of ['../lab/a.ts', '../tools/a.ts', '../test/a.ts', './testing/a.ts']) {
    await assertForbidden('src/main.ts', `import '${target}';`, /stands without lab/);
  }
});

test('only one file imports node:ffi, and programs are started in one place', async () => {
  await assertForbidden(
    'src/linux/bpf.ts',
    "import { dlopen } from 'node:ffi';",
    /its changes end/,
  );
  await assertForbidden('test/a.test.ts', "import { dlopen } from 'node:ffi';", /its changes end/);
  await assertAllowed('src/linux/ffi.ts', "import { dlopen } from 'node:ffi';");
  await assertForbidden('lab/a.ts', "import 'node:child_process';", /command-runner/);
  await assertAllowed('src/linux/command-runner.ts', "import 'node:child_process';");
});

test('a computed import in the program is found', async () => {
  await assertForbidden('src/linux/a.ts', 'await import(path);', /computed path/);
  await assertAllowed('tools/a.ts', 'await import(path);');
});

test('the set-up imports no TypeScript, since any Node must run it', async () => {
  await assertForbidden('tools/setup.mjs', "import './check/check.ts';", /whatever Node/);
  await assertAllowed('tools/setup.mjs', "import './setup/apt.mjs'; import 'node:fs';");
});

test('a file outside every layer is found', async () => {
  await assertForbidden('src/misplaced/a.ts', '', /belongs to no layer/);
  await assertForbidden('stray.ts', '', /belongs to no layer/);
});

test('nobody imports a test', async () => {
  await assertForbidden('test/a.test.ts', "import '../lab/b.test.ts';", /run, not imported/);
});

test('an import cycle is found once and named all the way around', async () => {
  const messages = await messagesFor({
    'src/net/a.ts': "import './b.ts';",
    'src/net/b.ts': "import type { C } from './c.ts';",
    'src/net/c.ts': "export * from './a.ts';",
    'src/net/d.ts': "import './a.ts'; import './e.ts';",
    'src/net/e.ts': "import './a.ts';",
  });
  assert.equal(messages.length, 1);
  assert.match(
    messages[0] ?? '',
    /src\/net\/a\.ts → src\/net\/b\.ts → src\/net\/c\.ts → src\/net\/a/,
  );
});

test('tsconfig.pure.json lists the pure layers, no more and no less', async () => {
  const pure = layers.filter(({ name }) => isPure(`src/${name}/a.ts`) && name !== 'testing');
  const include = pure.map(({ name }) => `src/${name}`);
  const config = (folders: string[]) => ({
    'tsconfig.pure.json': JSON.stringify({ include: folders }),
  });
  assert.deepEqual(await messagesFor(config(include)), []);
  const messages = await messagesFor(config([...include.slice(1), 'src/linux']));
  assert.equal(messages.length, 2);
  assert.match(messages.join(), /lacks src\/net.*includes src\/linux/);
});
