import assert from 'node:assert/strict';
import { test } from 'node:test';
import { repositoryOf } from './repository.ts';
import { testsCheck } from './tests.ts';

async function pathsFound(files: Record<string, string>): Promise<string[]> {
  return (await testsCheck.run(repositoryOf(files))).map(({ path }) => path);
}

test('tests where the test run looks pass', async () => {
  const text = "import { test } from 'node:test';";
  const paths = ['src/net/a.test.ts', 'lab/a.test.ts', 'tools/check/a.test.ts', 'test/x/a.test.ts'];
  assert.deepEqual(await pathsFound(Object.fromEntries(paths.map((path) => [path, text]))), []);
});

test('a test that would never run is found', async () => {
  const paths = ['bench/a.test.ts', 'src/net/a.spec.ts', 'src/net/a_test.ts', 'test/a.test.mjs'];
  const files = Object.fromEntries(paths.map((path) => [path, '']));
  assert.deepEqual(await pathsFound(files), paths.toSorted());
});

test('a file that declares tests under another name is found', async () => {
  const text = "import { describe } from 'node:test';";
  assert.deepEqual(await pathsFound({ 'src/nat/scenarios.ts': text }), ['src/nat/scenarios.ts']);
});

test('a contract suite and the test runner itself pass', async () => {
  const files = {
    'src/nat/nat-contract.ts': "import { test } from 'node:test';",
    'tools/test.ts': "import { run } from 'node:test';",
  };
  assert.deepEqual(await pathsFound(files), []);
});
