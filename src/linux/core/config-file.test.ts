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
  writeConfigFile({ path: target, text: 'version: 1\n', known: '', label: 'c1' });
  assert.equal(statSync(target).mode & 0o777, 0o600);
  writeConfigFile({
    path,
    text: 'version: 1\ndns: {}\n',
    known: 'version: 1\n',
    label: 'c2',
  });
  assert.ok(lstatSync(path).isSymbolicLink());
  assert.equal(readFileSync(target, 'utf8'), 'version: 1\ndns: {}\n');
  assert.deepEqual(readdirSync(place).sort(), ['gatehouse.yaml', 'real.yaml']);
});

test('nothing is written where the file has the text already', () => {
  const path = join(folder('equal'), 'gatehouse.yaml');
  writeFileSync(path, 'version: 1\n');
  const before = statSync(path, { bigint: true });
  writeConfigFile({ path, text: 'version: 1\n', known: '', label: 'c1' });
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

test('an edit that nobody knows is kept beside the file when it is overwritten', () => {
  const path = join(folder('replaced'), 'gatehouse.yaml');
  writeFileSync(path, 'edited: true\n');
  writeConfigFile({ path, text: 'version: 1\n', known: 'version: 1 # before\n', label: 'c1' });
  assert.equal(readFileSync(path, 'utf8'), 'version: 1\n');
  assert.equal(readFileSync(`${path}.replaced-c1`, 'utf8'), 'edited: true\n');
});

test('what cannot be read as text is kept byte by byte', () => {
  const path = join(folder('kept-bytes'), 'gatehouse.yaml');
  const edit = Buffer.from('# gr\xf6\xdfer\n', 'latin1');
  writeFileSync(path, edit);
  restoreConfigFile({ path, text: 'version: 1\n', label: 'c1' });
  writeFileSync(path, edit);
  writeConfigFile({ path, text: 'version: 1\n', known: '', label: 'c2' });
  for (const kept of ['rolled-back-c1', 'replaced-c2']) {
    assert.deepEqual(readFileSync(`${path}.${kept}`), edit);
  }
});

test('a kept file that leads nowhere keeps no roll-back from ending', () => {
  const place = folder('dangling-kept');
  const path = join(place, 'gatehouse.yaml');
  for (let number = 1; number <= 21; number++) writeFileSync(`${path}.rolled-back-${number}`, '');
  symlinkSync('gone', `${path}.rolled-back-x`);
  writeFileSync(path, 'edited: true\n');
  restoreConfigFile({ path, text: 'version: 1\n', label: 'c1' });
  assert.equal(readFileSync(path, 'utf8'), 'version: 1\n');
  assert.equal(readFileSync(`${path}.rolled-back-c1`, 'utf8'), 'edited: true\n');
  assert.equal(readdirSync(place).length, 21);
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

test('edits that were replaced are kept, the newest of them', () => {
  const place = folder('replaced-often');
  const path = join(place, 'gatehouse.yaml');
  for (let edit = 0; edit < 30; edit++) {
    writeFileSync(path, `edit: ${edit}`);
    writeConfigFile({ path, text: `version: ${edit}`, known: '', label: `c${edit}` });
  }
  const kept = readdirSync(place).filter((name) => name.includes('.replaced-'));
  assert.equal(kept.length, 20);
  assert.ok(kept.includes('gatehouse.yaml.replaced-c29'));
});

test('a copy that is kept is for root alone, whatever the file was', () => {
  const place = folder('kept-mode');
  const path = join(place, 'gatehouse.yaml');
  writeFileSync(path, 'edit: 1', { mode: 0o644 });
  restoreConfigFile({ path, text: 'version: 1', label: 'c1' });
  assert.equal(statSync(`${path}.rolled-back-c1`).mode & 0o777, 0o600);
});
