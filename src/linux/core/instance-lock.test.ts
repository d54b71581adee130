import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startProcess } from '../command-runner.ts';
import { tryLockFolder } from '../file-lock.ts';
import { INSTANCE_LOCK_NAME, lockFolder } from './instance-lock.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-instance-'));
after(() => rmSync(root, { recursive: true }));

/** Only bounds a hang. */
const TIMEOUT_MS = 20_000;

test('survive-125 a second instance is told who has the folder, and gets it afterwards', () => {
  const folder = join(root, 'made', 'anew');
  const first = lockFolder(folder);
  assert.ok(first.release !== undefined);
  assert.equal(statSync(folder).mode & 0o077, 0);
  assert.equal(readFileSync(join(folder, INSTANCE_LOCK_NAME), 'utf8'), `${process.pid} instance\n`);
  assert.deepEqual(lockFolder(folder), { holderPid: process.pid, isGuard: false });
  first.release();
  assert.ok(!existsSync(join(folder, INSTANCE_LOCK_NAME)));
  const second = lockFolder(folder);
  assert.ok(second.release !== undefined);
  second.release();
});

test('a rollback guard is known as one, so that an instance waits for it', () => {
  const folder = join(root, 'guard');
  const guard = lockFolder(folder, 'rollback-guard');
  assert.ok(guard.release !== undefined);
  assert.deepEqual(lockFolder(folder), { holderPid: process.pid, isGuard: true });
  guard.release();
});

test('two folders are two instances', () => {
  const locks = ['one', 'two'].map((name) => lockFolder(join(root, name)));
  for (const lock of locks) {
    assert.ok(lock.release !== undefined);
    lock.release();
  }
});

test('survive-125 the lock of a killed process is free, whatever its file says', async () => {
  const folder = join(root, 'killed');
  const module = import.meta.resolve('./instance-lock.ts');
  const source = `
    const { lockFolder } = await import(${JSON.stringify(module)});
    if (lockFolder(${JSON.stringify(folder)}).release) console.log('locked');
    setInterval(() => {}, 1000);`;
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module'];
  const other = startProcess([process.execPath, ...flags, '-e', source]);
  try {
    await other.waitForOutput(/locked/, TIMEOUT_MS);
    assert.deepEqual(lockFolder(folder), { holderPid: other.pid, isGuard: false });
  } finally {
    process.kill(other.pid ?? 0, 'SIGKILL');
    await other.exited;
  }
  const lock = lockFolder(folder);
  assert.ok(lock.release !== undefined);
  assert.equal(readFileSync(join(folder, INSTANCE_LOCK_NAME), 'utf8'), `${process.pid} instance\n`);
  lock.release();
});

test('a longer text of an earlier holder leaves nothing behind', () => {
  const folder = join(root, 'longer');
  lockFolder(folder).release?.();
  const path = join(folder, INSTANCE_LOCK_NAME);
  writeFileSync(path, '4194304 rollback-guard\nand more\n');
  const lock = lockFolder(folder);
  assert.equal(readFileSync(path, 'utf8'), `${process.pid} instance\n`);
  lock.release?.();
});

test('garbage in the file of a held lock names nobody', () => {
  const folder = join(root, 'garbage');
  lockFolder(folder).release?.();
  const path = join(folder, INSTANCE_LOCK_NAME);
  const held = tryLockFolder(folder);
  assert.ok(held !== undefined);
  try {
    for (const text of [
      '',
      '\n',
      'x instance',
      '-1 instance',
      '0',
      '1.5',
      '99999999999999999999',
    ]) {
      writeFileSync(path, text);
      assert.deepEqual(lockFolder(folder), { holderPid: undefined, isGuard: false }, text);
    }
  } finally {
    held.release();
  }
});

test('survive-119 a folder that takes no file is held all the same, by nobody with a name', () => {
  // As a disk that is full or read-only: of the kernel's folders, nobody can make files in this.
  const folder = '/proc/self/task';
  const first = lockFolder(folder);
  assert.ok(first.release !== undefined);
  assert.deepEqual(lockFolder(folder), { holderPid: undefined, isGuard: false });
  first.release();
  const second = lockFolder(folder);
  assert.ok(second.release !== undefined);
  second.release();
});

test('a file of the lock that cannot be written or removed troubles nobody', () => {
  const folder = join(root, 'in-the-way');
  const inTheWay = join(folder, INSTANCE_LOCK_NAME, 'more');
  mkdirSync(inTheWay, { recursive: true });
  const first = lockFolder(folder);
  assert.ok(first.release !== undefined);
  assert.deepEqual(lockFolder(folder), { holderPid: undefined, isGuard: false });
  first.release();
  const second = lockFolder(folder);
  assert.ok(second.release !== undefined);
  second.release();
  assert.ok(existsSync(inTheWay));
});

test('a folder that cannot be made is an error that names it', () => {
  const file = join(root, 'a-file');
  writeFileSync(file, '');
  assert.throws(() => lockFolder(join(file, 'below')), /a-file/);
});
