import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bannedCallsCheck } from './banned-calls.ts';
import { repositoryOf } from './repository.ts';

async function findingsIn(path: string, text: string): Promise<string[]> {
  const findings = await bannedCallsCheck.run(repositoryOf({ [path]: text }));
  return findings.map(({ line, message }) => `${line} ${message}`);
}

async function assertFound(path: string, text: string, expected: RegExp): Promise<void> {
  const found = await findingsIn(path, text);
  assert.equal(found.length, 1, `${text} gave ${JSON.stringify(found)}`);
  assert.match(found[0] ?? '', expected);
}

test('the pure layers may not read the clock, wait, print or reach the machine', async () => {
  await assertFound('src/nat/a.ts', '\nconst now = Date.now();', /^2 Date \. now: reads the clock/);
  await assertFound('src/nat/a.ts', 'const now = new Date();', /reads the clock/);
  await assertFound('src/dns/a.ts', 'const now = Temporal.Now.instant();', /reads the clock/);
  await assertFound('src/net/a.ts', 'performance.now();', /reads the clock/);
  await assertFound('src/wire/a.ts', 'setTimeout(() => {}, 5);', /waits/);
  await assertFound('src/wire/a.ts', 'queueMicrotask(run);', /waits/);
  await assertFound('src/gateway/a.ts', "console.log('a');", /prints/);
  await assertFound('src/shield/a.ts', 'process.exit(1);', /reaches the machine/);
  await assertFound('src/shield/a.ts', 'globalThis.Date;', /reaches the machine/);
  await assertFound('src/testing/a.ts', 'Date.now();', /reads the clock/);
});

test('the shell may read the clock', async () => {
  assert.deepEqual(await findingsIn('src/linux/clock.ts', 'Date.now(); setTimeout(f, 5);'), []);
});

test('names that only look like the banned ones pass', async () => {
  const text = [
    'interface Packet { process(packet: Packet): void; console: string }',
    'const at = new Date(now); policy.performance.index; timers.setTimeout(5);',
    "const words = ['Date.now()', 'eval(', '.skip(']; // Date.now()",
    'function setInterval(a: number): number { return a; }',
  ].join('\n');
  assert.deepEqual(await findingsIn('src/nat/a.ts', text), []);
});

test('unseeded randomness is found everywhere', async () => {
  await assertFound('lab/a.ts', 'Math.random();', /seeded/);
  await assertFound('src/nat/a.ts', 'Math?.random();', /seeded/);
});

test('text that becomes code is found everywhere', async () => {
  await assertFound('src/linux/a.ts', 'eval(text);', /runs text as code/);
  await assertFound('tools/a.mjs', "new Function('a');", /runs text as code/);
});

test('a shell is found, a list of arguments passes', async () => {
  const text = "\nimport { exec, execFile } from 'node:child_process';";
  await assertFound('tools/a.ts', text, /^2 exec: starts a shell/);
  await assertFound('tools/a.ts', "spawn('ls', { shell: true });", /starts a shell/);
  await assertFound('tools/a.ts', "spawn('ls', { shell: '/bin/sh' });", /starts a shell/);
  assert.deepEqual(await findingsIn('tools/a.ts', "spawn('ls', { shell: false });"), []);
  assert.deepEqual(await findingsIn('tools/a.ts', 'expression.exec(text);'), []);
});

test('tests that are left out are found', async () => {
  await assertFound('test/a.test.ts', "test.skip('a', () => {});", /leaves tests out/);
  await assertFound('src/net/a.test.ts', "test('a', { todo: true }, f);", /leaves tests out/);
  await assertFound('lab/a.test.ts', "describe.only('a', f);", /leaves tests out/);
  await assertFound('lab/a.test.ts', 't.skip();', /leaves tests out/);
  await assertFound('lab/a.test.ts', "it('a', { timeout: f(1), skip: !root }, f);", /leaves tests/);
  assert.deepEqual(await findingsIn('lab/a.ts', 'iterator.skip(3);'), []);
  assert.deepEqual(await findingsIn('lab/a.test.ts', "load(object, { only: ['a'] });"), []);
});

test('sleeps in tests are found', async () => {
  await assertFound('lab/a.test.ts', 'setTimeout(done, 100);', /sleeps/);
  const imported = "import { setTimeout as sleep } from 'node:timers/promises';";
  await assertFound('test/a.test.ts', imported, /with a limit/);
  assert.deepEqual(await findingsIn('lab/wait-for.ts', imported), []);
});

test('silenced checkers are found unless they give a reason', async () => {
  const path = 'src/linux/a.ts';
  await assertFound(path, 'const a = b as any;', /type checker off/);
  await assertFound(path, '\n// @ts-ignore\n', /^2 @ts-ignore: silences/);
  await assertFound(path, '/* @ts-expect-error */', /silences/);
  await assertFound(path, '// biome-ignore lint/style/useConst', /without saying why/);
  await assertFound(path, '// biome-ignore lint/style/useConst: <explanation>', /without saying/);
  const reasoned = '// biome-ignore lint/style/useConst: the C side writes it';
  assert.deepEqual(await findingsIn(path, reasoned), []);
  const generated = '// biome-ignore-all format: written by a program';
  assert.deepEqual(await findingsIn(path, generated), []);
});
