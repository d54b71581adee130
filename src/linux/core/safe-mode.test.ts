import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { readSafeMode, switchSafeModeOff, switchSafeModeOn } from './safe-mode.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-safe-mode-'));
after(() => rmSync(root, { recursive: true }));

function folder(name: string): string {
  const path = join(root, name);
  mkdirSync(path);
  return path;
}

const file = 'safe-mode.json';
const unknown = { sinceMs: 0, author: 'unknown' };

test('safe mode is off until somebody switches it on, and off again', () => {
  const state = folder('switch');
  assert.equal(readSafeMode(state), undefined);
  switchSafeModeOn(state, { sinceMs: 1_000, author: 'admin' });
  assert.deepEqual(readSafeMode(state), { sinceMs: 1_000, author: 'admin' });
  switchSafeModeOn(state, { sinceMs: 2_000, author: 'second' });
  assert.deepEqual(readSafeMode(state), { sinceMs: 2_000, author: 'second' });
  switchSafeModeOff(state);
  assert.equal(readSafeMode(state), undefined);
  assert.deepEqual(readdirSync(state), []);
});

test('switching it off twice is no error', () => {
  const state = folder('off-twice');
  switchSafeModeOff(state);
  switchSafeModeOff(state);
  assert.equal(readSafeMode(state), undefined);
});

test('a folder that does not exist yet means off', () => {
  assert.equal(readSafeMode(join(root, 'nowhere')), undefined);
});

test('a file that cannot be understood means on', () => {
  const state = folder('doubt');
  const texts = ['', '{', 'null', '[]', '{"sinceMs":"x","author":"a"}', '{"sinceMs":1}'];
  const more = [`{"sinceMs":1,"author":"${'a'.repeat(65)}"}`, '{"sinceMs":1e999,"author":"a"}'];
  for (const text of [...texts, ...more]) {
    writeFileSync(join(state, file), text);
    assert.deepEqual(readSafeMode(state), unknown, text);
  }
  writeFileSync(join(state, file), Buffer.from([0xff, 0xfe]));
  assert.deepEqual(readSafeMode(state), unknown);
});

test('a field of another program version does not reach whoever asks', () => {
  const state = folder('more-fields');
  writeFileSync(join(state, file), '{"sinceMs":1,"author":"admin","by":"newer"}');
  assert.deepEqual(readSafeMode(state), { sinceMs: 1, author: 'admin' });
});

test('something else in the place of the file means on', () => {
  const withFolder = folder('a-folder');
  mkdirSync(join(withFolder, file));
  const withCircle = folder('a-circle');
  symlinkSync(file, join(withCircle, file));
  for (const state of [withFolder, withCircle]) assert.deepEqual(readSafeMode(state), unknown);
});

test('whatever bytes the file holds, it is read without an exception, and never as off', () => {
  const state = folder('any-bytes');
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 60 }), fc.json().map(Buffer.from));
  fc.assert(
    fc.property(bytes, (content) => {
      writeFileSync(join(state, file), content);
      assert.notEqual(readSafeMode(state), undefined);
    }),
    { numRuns: 40 },
  );
});

test('a state folder that cannot be written is an error that names the file', () => {
  const state = join(root, 'missing-folder');
  const on = () => switchSafeModeOn(state, { sinceMs: 1, author: 'admin' });
  assert.throws(on, new RegExp(`write ${join(state, file)}`));
});
