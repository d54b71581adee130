import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { CONFIG_TEXT_LENGTH_MAX } from '../../config/text-limits.ts';
import { runCommand } from '../command-runner.ts';
import { readConfigFile, restoreConfigFile, writeConfigFile } from './config-file.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-config-file-'));
after(() => rmSync(root, { recursive: true }));

function folder(name: string): string {
  const path = join(root, name);
  mkdirSync(path);
  return path;
}

test('a config file is read as UTF-8, in whatever language its comments are', () => {
  const path = join(folder('utf8'), 'gatehouse.yaml');
  writeFileSync(path, 'version: 1 # größer ≠ 大\n');
  assert.deepEqual(readConfigFile(path), { text: 'version: 1 # größer ≠ 大\n' });
});

test('a file that is not there is told from one that cannot be read', () => {
  const path = join(folder('absent'), 'gatehouse.yaml');
  const result = readConfigFile(path);
  assert.ok(result.text === undefined);
  assert.equal(result.absent, true);
  assert.ok(result.reason.startsWith(`cannot read ${path}: `));
});

test('bytes that are no UTF-8 are refused, never replaced', () => {
  const path = join(folder('latin1'), 'gatehouse.yaml');
  writeFileSync(path, Buffer.from('version: 1 # gr\xf6\xdfer\n', 'latin1'));
  const reason = `cannot read ${path}: it is not UTF-8`;
  assert.deepEqual(readConfigFile(path), { reason, absent: false });
});

test('what is no file is refused at once, also a pipe that nobody writes to', async () => {
  const place = folder('no-files');
  const pipe = join(place, 'pipe');
  assert.ok((await runCommand(['mkfifo', pipe], { timeoutMs: 20_000 })).success);
  for (const path of [place, pipe, '/dev/zero']) {
    const result = readConfigFile(path);
    assert.ok(result.text === undefined);
    assert.match(result.reason, /it is no file of at most \d+ bytes$/);
    assert.equal(result.absent, false);
  }
});

test('a file larger than any config is refused by its size alone', () => {
  const path = join(folder('large'), 'gatehouse.yaml');
  writeFileSync(path, '');
  truncateSync(path, 3 * CONFIG_TEXT_LENGTH_MAX + 1);
  assert.equal(readConfigFile(path).text, undefined);
  truncateSync(path, 3 * CONFIG_TEXT_LENGTH_MAX);
  assert.equal(readConfigFile(path).text?.length, 3 * CONFIG_TEXT_LENGTH_MAX);
});

test('a symbolic link that leads nowhere, or in a circle, is a reason and no exception', () => {
  const place = folder('links');
  symlinkSync('gone', join(place, 'dangling'));
  symlinkSync('circle', join(place, 'circle'));
  assert.deepEqual(
    ['dangling', 'circle'].map((name) => {
      const result = readConfigFile(join(place, name));
      return result.text === undefined && result.absent;
    }),
    [true, false],
  );
});

test('a config is written durably for its owner alone, and through a symbolic link', () => {
  const place = folder('write');
  const target = join(place, 'real.yaml');
  const path = join(place, 'gatehouse.yaml');
  symlinkSync('real.yaml', path);
  writeConfigFile(target, 'version: 1\n');
  assert.equal(statSync(target).mode & 0o777, 0o600);
  writeConfigFile(path, 'version: 1\ndns: {}\n');
  assert.ok(lstatSync(path).isSymbolicLink());
  assert.equal(readFileSync(target, 'utf8'), 'version: 1\ndns: {}\n');
  assert.deepEqual(readdirSync(place).sort(), ['gatehouse.yaml', 'real.yaml']);
});

test('nothing is written where the file has the text already', () => {
  const path = join(folder('equal'), 'gatehouse.yaml');
  writeFileSync(path, 'version: 1\n');
  const before = statSync(path, { bigint: true });
  writeConfigFile(path, 'version: 1\n');
  restoreConfigFile({ path, text: 'version: 1\n', label: 'c1' });
  const after = statSync(path, { bigint: true });
  assert.deepEqual([after.ino, after.mtimeNs], [before.ino, before.mtimeNs]);
  assert.deepEqual(readdirSync(join(root, 'equal')), ['gatehouse.yaml']);
});

test('what a person had written is kept beside the file when it is rolled back', () => {
  const place = folder('kept');
  const path = join(place, 'gatehouse.yaml');
  writeFileSync(path, 'edited: true\n');
  restoreConfigFile({ path, text: 'version: 1\n', label: 'c1' });
  assert.equal(readFileSync(path, 'utf8'), 'version: 1\n');
  assert.equal(readFileSync(`${path}.rolled-back-c1`, 'utf8'), 'edited: true\n');
  assert.equal(statSync(`${path}.rolled-back-c1`).mode & 0o077, 0);
});

test('a file that has gone is made anew, and nothing is kept of it', () => {
  const place = folder('gone');
  const path = join(place, 'gatehouse.yaml');
  restoreConfigFile({ path, text: 'version: 1\n', label: 'c1' });
  assert.deepEqual(readdirSync(place), ['gatehouse.yaml']);
});

test('twenty rolled-back texts are kept, and the oldest goes; other files stay', () => {
  const place = folder('bounded');
  const path = join(place, 'gatehouse.yaml');
  const stranger = join(place, 'other.yaml.rolled-back-x');
  writeFileSync(stranger, '');
  const keptAs = (label: string) => `${path}.rolled-back-${label}`;
  for (let number = 1; number <= 20; number++) {
    writeFileSync(keptAs(`c${number}`), '');
    // By their times, not by their names: c9 is older than c10.
    utimesSync(keptAs(`c${number}`), number, number);
  }
  for (const label of ['new-1', 'new-2']) {
    writeFileSync(path, `edited: ${label}\n`);
    restoreConfigFile({ path, text: 'version: 1\n', label });
  }
  const kept = readdirSync(place).filter((name) => name.startsWith('gatehouse.yaml.'));
  assert.equal(kept.length, 20);
  const there = ['c1', 'c2', 'c3', 'c10', 'new-1', 'new-2'].map((one) => existsSync(keptAs(one)));
  assert.deepEqual(there, [false, false, true, true, true, true]);
  assert.ok(existsSync(stranger));
});
