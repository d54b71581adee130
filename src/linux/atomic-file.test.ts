import assert from 'node:assert/strict';
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { writeFileDurably } from './atomic-file.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gatehouse-atomic-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function modeOf(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8);
}

test('a new file has the mode that was asked for, and nothing else is left', () => {
  const path = join(folder, 'gatehouse.yaml');
  writeFileDurably(path, 'version: 1\n', { mode: 0o640 });
  assert.equal(readFileSync(path, 'utf8'), 'version: 1\n');
  assert.equal(modeOf(path), '640');
  assert.deepEqual(readdirSync(folder), ['gatehouse.yaml']);
});

test('a new file is its owner’s alone unless asked otherwise', () => {
  const path = join(folder, 'gatehouse.yaml');
  writeFileDurably(path, Uint8Array.of(1, 2));
  assert.equal(modeOf(path), '600');
  assert.deepEqual([...readFileSync(path)], [1, 2]);
});

test('a replaced file keeps its mode', () => {
  const path = join(folder, 'gatehouse.yaml');
  writeFileSync(path, 'old');
  chmodSync(path, 0o644);
  writeFileDurably(path, 'new', { mode: 0o600 });
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.equal(modeOf(path), '644');
});

test('a symbolic link stays, and what it points to is replaced', () => {
  const target = join(folder, 'target.yaml');
  const link = join(folder, 'link.yaml');
  writeFileSync(target, 'old');
  symlinkSync(target, link);
  writeFileDurably(link, 'new');
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.equal(readFileSync(target, 'utf8'), 'new');
});

test('what a crash left of an earlier attempt does not disturb', () => {
  const path = join(folder, 'gatehouse.yaml');
  writeFileSync(path, 'old');
  writeFileSync(`${path}.new`, 'half of a longer text than the new one');
  writeFileDurably(path, 'new');
  assert.equal(readFileSync(path, 'utf8'), 'new');
  assert.deepEqual(readdirSync(folder), ['gatehouse.yaml']);
});

test('a file that cannot be written is an error that names it', () => {
  const path = join(folder, 'nowhere', 'gatehouse.yaml');
  assert.throws(() => writeFileDurably(path, 'new'), {
    name: 'StorageError',
    code: 'storage-failed',
    message: /^cannot write .*nowhere\/gatehouse\.yaml: ENOENT/,
  });
});
