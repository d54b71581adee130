import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { runCommand } from '../../src/linux/command-runner.ts';
import { readJournal } from '../../src/linux/store/journal.ts';
import { StorageError, type StorageErrorCode } from '../../src/linux/store/storage-error.ts';
import {
  openStore,
  plainCodec,
  type StorageAlarm,
  type Store,
} from '../../src/linux/store/store.ts';
import { command, withImageDisk, withTmpfs } from './mounted.ts';
import {
  dump,
  expectedState,
  openAndDump,
  unexpected,
  writeTransaction,
} from './recorded-store.ts';

const MEBIBYTE = 1024 * 1024;

/** Writes what no bytes are left for. @param pieceBytes smaller than what the store writes */
function fillDisk(path: string, pieceBytes: number): void {
  const piece = Buffer.alloc(pieceBytes, 1);
  for (;;) {
    try {
      writeFileSync(path, piece, { flag: 'a' });
    } catch (cause) {
      assert.equal((cause as NodeJS.ErrnoException).code, 'ENOSPC');
      return;
    }
  }
}

/** Transactions until one fails. @returns how many were acknowledged, and the failure */
function writeUntilFailure(
  store: Store,
  first: number,
  pad = '',
): { acknowledged: number; error: StorageError } {
  const padding = store.collection({ name: 'padding', codec: plainCodec<string>(), recordsMax: 9 });
  for (let number = first; number < first + 10_000; number++) {
    try {
      store.transaction(() => {
        writeTransaction(store, number);
        if (pad !== '') padding.put(`padding-${number % 9}`, `${number}${pad}`);
      });
    } catch (error) {
      assert.ok(error instanceof StorageError, String(error));
      return { acknowledged: number - 1, error };
    }
  }
  assert.fail('nothing failed');
}

function assertRefuses(store: Store, code: StorageErrorCode, state: string): void {
  const number = store.sequence + 1;
  for (let attempt = 0; attempt < 3; attempt++) {
    assert.throws(() => writeTransaction(store, number), { name: 'StorageError', code });
    assert.equal(dump(store), state);
  }
  assert.equal(store.failure?.code, code);
}

/** The next write succeeds, and a new process finds it. */
function assertRecovers(store: Store, folder: string, alarms: readonly StorageAlarm[]): void {
  const number = store.sequence + 1;
  writeTransaction(store, number);
  assert.equal(store.failure, undefined);
  assert.deepEqual(
    alarms.map(({ kind }) => kind),
    ['writing-failed', 'writing-resumed'],
  );
  store.close();
  const found = openAndDump(folder);
  assert.deepEqual(found, { state: expectedState(number), sequence: number, alarms: [] });
}

test('survive-119: a full disk refuses writes, not reads, and recovers when there is room', async () => {
  await withTmpfs('size=4m,mode=0700', (root) => {
    const folder = join(root, 'state');
    const ballast = join(root, 'ballast');
    const alarms: StorageAlarm[] = [];
    const store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
    fillDisk(ballast, 512);
    const { acknowledged, error } = writeUntilFailure(store, 1);
    assert.equal(error.code, 'storage-full');
    assertRefuses(store, 'storage-full', expectedState(acknowledged));
    // Else a crash in the middle of the next transaction would look like damage.
    const journal = readJournal(join(folder, 'state.journal'));
    assert.ok(typeof journal === 'object' && 'invalidBytes' in journal);
    assert.equal(journal.invalidBytes, 0);
    rmSync(ballast);
    assertRecovers(store, folder, alarms);
  });
});

test('survive-119: a store opens on a full disk and has everything', async () => {
  await withTmpfs('size=4m,mode=0700', (root) => {
    const folder = join(root, 'state');
    const first = openStore(folder, { alarm: unexpected });
    for (let number = 1; number <= 5; number++) writeTransaction(first, number);
    first.close();
    rmSync(join(folder, 'state.sqlite'));
    const ballast = join(root, 'ballast');
    fillDisk(ballast, 512);
    const alarms: StorageAlarm[] = [];
    const store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
    assertRefuses(store, 'storage-full', expectedState(5));
    rmSync(ballast);
    writeTransaction(store, 6);
    assert.deepEqual(
      alarms.map(({ kind }) => kind),
      ['writing-failed', 'file-damaged', 'writing-resumed'],
    );
    store.close();
    assert.equal(openAndDump(folder).state, expectedState(6));
  });
});

test('survive-119: without inodes a store opens in memory and gets to the disk later', async () => {
  await withTmpfs('size=4m,nr_inodes=20,mode=0700', (root) => {
    const folder = join(root, 'state');
    let fileCount = 0;
    assert.throws(
      () => {
        for (; ; fileCount++) writeFileSync(join(root, `file-${fileCount}`), '');
      },
      { code: 'ENOSPC' },
    );
    const alarms: StorageAlarm[] = [];
    const store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
    assertRefuses(store, 'storage-full', expectedState(0));
    for (let index = 0; index < fileCount; index++) rmSync(join(root, `file-${index}`));
    assertRecovers(store, folder, alarms);
  });
});

async function deviceOf(mountPoint: string): Promise<string> {
  const source = await command('findmnt', '--noheadings', '--output', 'SOURCE', mountPoint);
  return basename(source.trim());
}

/** The exit code 1 says that errors were corrected, as they should be. */
async function repairDisk(image: string): Promise<void> {
  const result = await runCommand(['e2fsck', '-f', '-y', image], { timeoutMs: 30_000 });
  assert.ok(result.code === 0 || result.code === 1, result.stdout);
}

test('survive-119: a disk that turns read-only refuses writes until it is mounted again', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gatehouse-read-only-'));
  const options = { backing: root, imageBytes: 16 * MEBIBYTE, mountOptions: 'errors=remount-ro' };
  try {
    await withImageDisk(options, async ({ image, mountPoint }) => {
      const folder = join(mountPoint, 'state');
      const alarms: StorageAlarm[] = [];
      const store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
      for (let number = 1; number <= 5; number++) writeTransaction(store, number);
      const device = await deviceOf(mountPoint);
      writeFileSync(`/sys/fs/ext4/${device}/trigger_fs_error`, 'a test');
      assertRefuses(store, 'storage-read-only', expectedState(5));
      // Nothing holds the disk any more, so it can be repaired under the running program.
      await command('umount', mountPoint);
      await repairDisk(image);
      await command('mount', '-o', 'loop,ro', image, mountPoint);
      assertRefuses(store, 'storage-read-only', expectedState(5));
      const other = openAndDump(folder);
      assert.equal(other.state, expectedState(5));
      assert.deepEqual(
        other.alarms.map(({ kind }) => kind),
        ['writing-failed'],
      );
      await command('umount', mountPoint);
      await command('mount', '-o', 'loop', image, mountPoint);
      assertRecovers(store, folder, alarms);
    });
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('survive-119: a disk that fails underneath refuses writes until it is replaced', async () => {
  await withTmpfs('size=6m,mode=0700', async (root) => {
    const options = { backing: root, imageBytes: 32 * MEBIBYTE, mountOptions: 'errors=continue' };
    await withImageDisk(options, async ({ mountPoint }) => {
      const folder = join(mountPoint, 'state');
      const alarms: StorageAlarm[] = [];
      const store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
      // The image is sparse, so blocks fail when the memory behind them runs out.
      const { acknowledged, error } = writeUntilFailure(store, 1, 'x'.repeat(100_000));
      assert.equal(error.code, 'storage-failed');
      assert.equal(dump(store), expectedState(acknowledged));
      assert.deepEqual(
        alarms.map(({ kind }) => kind),
        ['writing-failed'],
      );
      await command('umount', mountPoint);
      await command('mount', '-t', 'tmpfs', '-o', 'size=16m', 'gatehouse-test', mountPoint);
      assert.deepEqual(readdirSync(mountPoint), []);
      assertRecovers(store, folder, alarms);
    });
  });
});
