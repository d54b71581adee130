import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Check } from './check.ts';
import { withExceptions } from './exceptions.ts';
import { repositoryOf } from './repository.ts';

/** Finds every line that says "bad". */
const badCheck: Check = {
  name: 'bad-lines',
  run: async (repository) =>
    repository.paths.flatMap((path) =>
      repository
        .text(path)
        .split('\n')
        .flatMap((text, index) =>
          /\bbad;/.test(text) ? [{ path, line: index + 1, message: 'is bad' }] : [],
        ),
    ),
};

const ignore = ['check', 'ignore bad-lines'].join('-');

async function findingsIn(lines: string[]): Promise<string[]> {
  const repository = repositoryOf({ 'src/a.ts': lines.join('\n') });
  const findings = await withExceptions(badCheck).run(repository);
  return findings.map(({ line, message }) => `${line} ${message}`);
}

test('an exception with a reason excuses its line and the next, and no other', async () => {
  assert.deepEqual(await findingsIn([`// ${ignore}: it must be bad`, 'bad;', 'bad;']), [
    '3 is bad',
  ]);
  assert.deepEqual(await findingsIn([`bad; // ${ignore}: it must be bad`]), []);
  assert.deepEqual(await findingsIn([`/* ${ignore}: it must be bad */`, 'bad;']), []);
});

test('an exception without a reason is a finding', async () => {
  const [found] = await findingsIn([`// ${ignore}`, 'bad;']);
  assert.match(found ?? '', /^1 makes an exception from bad-lines without saying why/);
});

test('an exception that excuses nothing is a finding', async () => {
  const [found] = await findingsIn([`// ${ignore}: it must be bad`, 'good;']);
  assert.match(found ?? '', /^1 .*excuses nothing/);
});

test('an exception from another check excuses nothing here', async () => {
  const other = ['check', 'ignore other: it must be bad'].join('-');
  assert.deepEqual(await findingsIn([`// ${other}`, 'bad;']), ['2 is bad']);
});
