import assert from 'node:assert/strict';
import { test } from 'node:test';
import { machinePathsCheck } from './machine-paths.ts';
import { repositoryOf } from './repository.ts';

async function linesFound(path: string, text: string): Promise<(number | undefined)[]> {
  return (await machinePathsCheck.run(repositoryOf({ [path]: text }))).map(({ line }) => line);
}

/** Put together here, so that this file itself stays clean. */
function path(...segments: string[]): string {
  return `/${segments.join('/')}`;
}

test('paths of one machine are found with their line', async () => {
  const text = [
    `cd ${path('work', 'main')}`,
    'fine',
    `HOME=${path('root', '.cache')}`,
    `see ${path('home', 'somebody')}`,
    `log in ${path('tmp', 'bash_jobs.0')}`,
    `see ${['shared', 'DESIGN.md'].join('/')}`,
  ].join('\n');
  assert.deepEqual(await linesFound('docs/a.md', text), [1, 3, 4, 5, 6]);
});

test('the address of a registry is found', async () => {
  const lock = `{\n${['"resolved"', '"https://registry.example/a.tgz"'].join(': ')}\n}`;
  assert.deepEqual(await linesFound('package-lock.json', lock), [2]);
  assert.deepEqual(await linesFound('.npmrc', ['registry', 'https://a.example'].join('=')), [1]);
});

test('paths that every machine has pass', async () => {
  const text = 'https://example.net/work/a /var/lib/gatehouse src/network/x /proc/self/root\n';
  assert.deepEqual(await linesFound('docs/a.md', text), []);
});
