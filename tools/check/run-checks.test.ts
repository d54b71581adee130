import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Check, Finding } from './check.ts';
import { repositoryOf } from './repository.ts';
import { runChecks } from './run-checks.ts';

function checkThatFinds(name: string, findings: Finding[]): Check {
  return { name, run: async () => findings };
}

async function printedBy(...checks: Check[]): Promise<{ count: number; lines: string[] }> {
  const lines: string[] = [];
  const count = await runChecks(checks, repositoryOf({}), (line) => {
    lines.push(line.replace(/\d+\.\d s$/, 'TIME').replaceAll(/ +/g, ' '));
  });
  return { count, lines };
}

test('clean checks print a line each and count nothing', async () => {
  const { count, lines } = await printedBy(checkThatFinds('a', []), checkThatFinds('b', []));
  assert.equal(count, 0);
  assert.deepEqual(lines, ['a ok TIME', 'b ok TIME', '2 checks, nothing found']);
});

test('findings are printed with file, line and reason, in the order of the checks', async () => {
  const { count, lines } = await printedBy(
    checkThatFinds('a', [{ path: 'x.ts', line: 7, message: 'is bad' }]),
    checkThatFinds('b', [{ path: 'y.ts', message: 'is missing' }]),
  );
  assert.equal(count, 2);
  assert.deepEqual(lines, [
    'a failed (1) TIME',
    'b failed (1) TIME',
    'x.ts:7: is bad',
    'y.ts: is missing',
    '2 checks, 2 found',
  ]);
});

test('a check that breaks is a finding and does not stop the others', async () => {
  const broken: Check = { name: 'broken', run: () => Promise.reject(new Error('no such file')) };
  const { count, lines } = await printedBy(broken, checkThatFinds('b', []));
  assert.equal(count, 1);
  assert.match(lines.join('\n'), /the check broken broke: Error: no such file/);
  assert.match(lines.join('\n'), /^b ok TIME$/m);
});
