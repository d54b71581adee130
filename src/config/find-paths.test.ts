import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { findPaths } from './find-paths.ts';
import { parseConfig } from './parse-config.ts';

const usual = { state: '/var/lib/gatehouse', runtime: '/run/gatehouse' };

test('the folders that a config names are found, each for itself', () => {
  const text = 'version: 1\npaths: { state: /srv/state, runtime: /srv/run }\n';
  assert.deepEqual(findPaths(text), { state: '/srv/state', runtime: '/srv/run' });
  const one = 'version: 1\npaths:\n  # here\n  runtime: "/srv/run"\n';
  assert.deepEqual(findPaths(one), { ...usual, runtime: '/srv/run' });
});

test('a config that names none has the usual folders, as the schema fills them in', () => {
  assert.deepEqual(findPaths('version: 1\n'), usual);
  assert.deepEqual(parseConfig('version: 1\n', { fileName: 'c' }).config?.paths, usual);
});

test('mistakes elsewhere do not hide the folders', () => {
  const text = 'version: 99\nnetwroks: [1, 2\n  , 3]\npaths: { state: /srv/state, sate: 1 }\n';
  assert.deepEqual(findPaths(text), { ...usual, state: '/srv/state' });
});

test('what is no folder, or no config at all, gives the usual ones', () => {
  const texts = [
    ...['', '{', '- a\n', '\0', 'paths: /srv\n', 'paths: [/a]\n', 'paths: { state: [/a] }\n'],
    ...['paths: { state: relative, runtime: ../x }\n', 'paths: { state: 7, runtime: null }\n'],
    ...['paths: &a { state: *a }\n', 'paths: { state: "" }\n', 'x'.repeat(2_100_000)],
  ];
  for (const text of texts) assert.deepEqual(findPaths(text), usual, text.slice(0, 80));
});

test('whatever the text is, two absolute paths are found', () => {
  const around = fc.tuple(fc.string(), fc.string()).map(([a, b]) => `${a}\npaths: { state: ${b}`);
  fc.assert(
    fc.property(fc.oneof(anyText(), around), (text) => {
      const { state, runtime } = findPaths(text);
      assert.ok(state.startsWith('/') && runtime.startsWith('/'));
    }),
    { numRuns: 50 },
  );
});
