import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const head = "import { describe, test } from 'node:test';\n";

/** Test files with the given texts in a folder of their own. */
async function testFiles(context: TestContext, texts: readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'gatehouse-tests-'));
  context.after(() => rm(folder, { recursive: true }));
  return texts.map((text, index) => {
    const file = join(folder, `f${index}.test.ts`);
    writeFileSync(file, head + text);
    return file;
  });
}

function start(argv: readonly string[]) {
  // The variable would make the inner run report to this one instead of running.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  return spawn(process.execPath, [join(import.meta.dirname, 'test.ts'), 'unit', ...argv], { env });
}

async function ended(child: ReturnType<typeof start>) {
  let stdout = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  const [code] = await once(child, 'close');
  const lines = stdout.trimEnd().split('\n');
  return { code, stdout, lastLine: lines.at(-1) };
}

async function runTests(context: TestContext, texts: readonly string[], ...options: string[]) {
  return ended(start([...(await testFiles(context, texts)), ...options]));
}

test('passed tests are counted over all files, subtests included, suites not', async (context) => {
  const { code, lastLine } = await runTests(context, [
    "test('a', () => {}); describe('s', () => { test('b', () => {}); });",
    "test('c', async (t) => { await t.test('d', () => {}); });",
  ]);
  assert.equal(lastLine, '4 passed, 0 failed');
  assert.equal(code, 0);
});

test('the ten files that took longest are told before the last line', async (context) => {
  const texts = Array.from({ length: 11 }, (_, index) => `test('${index}', () => {});`);
  const { stdout } = await runTests(context, texts);
  const told = stdout.trimEnd().split('\n').slice(-11, -1);
  const seconds = told.map((line) => {
    const [, number] = /^ *(\d+\.\d) s {2}\S*f\d+\.test\.ts$/.exec(line) ?? assert.fail(line);
    return Number(number);
  });
  assert.deepEqual(
    seconds,
    seconds.toSorted((one, other) => other - one),
  );
  assert.equal(new Set(told.map((line) => line.split(' s ')[1])).size, 10);
});

test('a failing test is named and counted', async (context) => {
  const { code, stdout, lastLine } = await runTests(context, [
    "describe('s', () => { test('bad', () => { throw new Error('reason'); }); });",
  ]);
  assert.match(stdout, /Error: reason/);
  assert.match(stdout, /“bad” failed/);
  assert.equal(lastLine, '0 passed, 1 failed');
  assert.equal(code, 1);
});

test('a file that cannot be loaded fails', async (context) => {
  const { code, lastLine } = await runTests(context, ["throw new Error('broken')"]);
  assert.equal(lastLine, '0 passed, 1 failed');
  assert.equal(code, 1);
});

test('skipped tests and tests to do fail by name', async (context) => {
  const [key, other] = ['skip', 'todo'];
  const { code, stdout, lastLine } = await runTests(context, [
    `test('left out', { ${key}: true }, () => {}); test('later', { ${other}: true }, () => {});
     describe('suite', { ${key}: true }, () => { test('inner', () => {}); });`,
  ]);
  assert.match(stdout, /“left out” was skipped/);
  assert.match(stdout, /“later” is marked as to do/);
  assert.match(stdout, /“suite” was skipped/);
  assert.equal(lastLine, '0 passed, 3 failed');
  assert.equal(code, 1);
});

test('a file without tests fails beside one with tests', async (context) => {
  const { code, stdout, lastLine } = await runTests(context, ['', "test('a', () => {});"]);
  assert.match(stdout, /f0\.test\.ts: the file holds no test/);
  assert.equal(lastLine, '1 passed, 1 failed');
  assert.equal(code, 1);
});

test('a name pattern picks tests, and one that picks none fails', async (context) => {
  const texts = ["test('apple', () => {}); test('pear', () => {});", "test('plum', () => {});"];
  const picked = await runTests(context, texts, '--test-name-pattern=^ap');
  assert.equal(picked.lastLine, '1 passed, 0 failed');
  assert.equal(picked.code, 0);
  const none = await runTests(context, texts, '--test-name-pattern', 'cherry');
  assert.match(none.stdout, /no test was found/);
  assert.equal(none.lastLine, '0 passed, 1 failed');
  assert.equal(none.code, 1);
});

test('Ctrl-C ends the test processes and counts as a failure', async (context) => {
  const [file = ''] = await testFiles(context, [
    `console.log('pid', process.pid);
     test('endless', () => new Promise(() => setInterval(() => {}, 1000)));`,
  ]);
  const child = start([file]);
  let pid: string | undefined;
  for await (const data of child.stdout.iterator({ destroyOnReturn: false })) {
    pid = /pid (\d+)/.exec(String(data))?.[1];
    if (pid !== undefined) break;
  }
  child.kill('SIGINT');
  const { code, stdout, lastLine } = await ended(child);
  assert.match(stdout, /interrupted before all tests had run/);
  assert.match(lastLine ?? '', /^0 passed, [12] failed$/);
  assert.equal(code, 1);
  assert.throws(() => process.kill(Number(pid), 0), { code: 'ESRCH' });
});
