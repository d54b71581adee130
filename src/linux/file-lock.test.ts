import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startProcess } from './command-runner.ts';
import { tryLockFile, tryLockFolder } from './file-lock.ts';

const directory = mkdtempSync(join(tmpdir(), 'gatehouse-lock-'));
after(() => rmSync(directory, { recursive: true }));

test('a lock excludes others until it is released', () => {
  const path = join(directory, 'plain');
  const lock = tryLockFile(path, 'create');
  assert.ok(lock);
  assert.equal(tryLockFile(path, 'existing'), undefined);
  lock.release();
  const next = tryLockFile(path, 'existing');
  assert.ok(next);
  next.release();
});

test('a file that is there cannot be created, and one that is not cannot be found', () => {
  const path = join(directory, 'there');
  writeFileSync(path, '');
  assert.equal(tryLockFile(path, 'create'), undefined);
  assert.equal(tryLockFile(join(directory, 'nowhere'), 'existing'), undefined);
});

test('the lock of a removed file protects nothing, so its name can be taken again', () => {
  const path = join(directory, 'removed');
  const old = tryLockFile(path, 'create');
  unlinkSync(path);
  const lock = tryLockFile(path, 'create');
  assert.ok(old !== undefined && lock !== undefined);
  old.release();
  lock.release();
});

test('the lock of a folder excludes others until it is released, and makes nothing in it', () => {
  const path = join(directory, 'folder');
  mkdirSync(path);
  const lock = tryLockFolder(path);
  assert.ok(lock);
  assert.equal(tryLockFolder(path), undefined);
  assert.equal(tryLockFolder(`${path}/.`), undefined);
  assert.deepEqual(readdirSync(path), []);
  lock.release();
  const next = tryLockFolder(path);
  assert.ok(next);
  next.release();
});

test('a folder that takes no file can be locked', () => {
  const lock = tryLockFolder('/proc/self/task');
  assert.ok(lock);
  assert.equal(tryLockFolder('/proc/self/task'), undefined);
  lock.release();
});

test('what is no folder, or is not there, is an error that names it', () => {
  const path = join(directory, 'no-folder');
  assert.throws(() => tryLockFolder(path), /ENOENT.*no-folder/);
  writeFileSync(path, '');
  assert.throws(() => tryLockFolder(path), /ENOTDIR.*no-folder/);
});

test('a killed holder loses its lock, and its children do not keep it', async () => {
  const path = join(directory, 'killed');
  const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const source = `
    const { tryLockFile } = await import(${module('./file-lock.ts')});
    const { startProcess } = await import(${module('./command-runner.ts')});
    const lock = tryLockFile(${JSON.stringify(path)}, 'create');
    const child = startProcess(['sleep', '1000']);
    console.log('child', child.pid, lock !== undefined);`;
  const holder = startProcess([process.execPath, '--input-type=module', '-e', source]);
  const [, child] = await holder.waitForOutput(/^child (\d+) true$/m, 20_000);
  try {
    assert.equal(tryLockFile(path, 'existing'), undefined);
    process.kill(holder.pid ?? 0, 'SIGKILL');
    await holder.exited;
    const lock = tryLockFile(path, 'existing');
    assert.ok(lock);
    lock.release();
  } finally {
    process.kill(Number(child), 'SIGKILL');
  }
});
