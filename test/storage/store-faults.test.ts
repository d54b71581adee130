import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { StorageError } from '../../src/linux/store/storage-error.ts';
import {
  openStore,
  plainCodec,
  type StorageAlarm,
  type Store,
} from '../../src/linux/store/store.ts';
import { systemError, watchFileCalls } from './file-calls.ts';
import { withTmpfs } from './mounted.ts';
import {
  dump,
  expectedState,
  type FolderContent,
  openAndDump,
  readFolder,
  unexpected,
  writeFolder,
  writeTransaction,
} from './recorded-store.ts';

const TMPFS = 'size=128m,mode=0700';
const TRANSACTION_COUNT = 5;

/** Makes the journal begin anew after every third transaction. */
const PADDING_CHARACTERS = 400_000;

function writePadded(store: Store, number: number): void {
  const padding = store.collection({ name: 'padding', codec: plainCodec<string>(), recordsMax: 2 });
  store.transaction(() => {
    writeTransaction(store, number);
    padding.put('padding', String(number % 10).repeat(PADDING_CHARACTERS));
  });
}

function assertHolds(store: Store, transactionCount: number, what: string): void {
  assert.equal(store.sequence, transactionCount, what);
  assert.equal(dump(store), expectedState(transactionCount), what);
}

test('survive-117: before each file call the folder has all that was acknowledged', async () => {
  await withTmpfs(TMPFS, (root) => {
    const folder = join(root, 'state');
    const moments: { files: FolderContent; acknowledged: number; name: string }[] = [];
    let acknowledged = 0;
    const record = (name: string) => {
      if (name !== 'mkdirSync') moments.push({ files: readFolder(folder), acknowledged, name });
    };
    watchFileCalls(record, () => {
      const store = openStore(folder, { alarm: unexpected });
      for (let number = 1; number <= TRANSACTION_COUNT; number++) {
        writePadded(store, number);
        acknowledged = number;
      }
      store.close();
    });
    const names = new Set(moments.map(({ name }) => name));
    for (const name of ['renameSync', 'linkSync', 'fsyncSync', 'fdatasyncSync', 'writeSync']) {
      assert.ok(names.has(name), `${name} was called`);
    }
    for (const [index, moment] of moments.entries()) {
      const what = `call ${index}, ${moment.name}, ${moment.acknowledged} acknowledged`;
      writeFolder(folder, moment.files);
      const found = openAndDump(folder);
      assert.ok([moment.acknowledged, moment.acknowledged + 1].includes(found.sequence), what);
      assert.equal(found.state, expectedState(found.sequence), what);
      if (found.sequence > 0) assert.deepEqual(found.alarms, [], what);
    }
  });
});

interface Fault {
  readonly firstCall: number;
  readonly callCount: number;
  readonly code: string;
}

const expectedCodes: Readonly<Record<string, string>> = {
  EIO: 'storage-failed',
  ENOSPC: 'storage-full',
  EROFS: 'storage-read-only',
};

/** Writes with some calls failing. @returns transactions acknowledged, and calls made */
function writeWithFault(
  folder: string,
  before: number,
  fault: Fault,
): { acknowledged: number; callCount: number } {
  const what = JSON.stringify({ before, ...fault });
  const alarms: StorageAlarm[] = [];
  let acknowledged = before;
  let callCount = 0;
  const fail = (name: string) => {
    const index = callCount++ - fault.firstCall;
    if (index >= 0 && index < fault.callCount) throw systemError(fault.code, name);
  };
  let store: Store | undefined;
  watchFileCalls(fail, () => {
    store = openStore(folder, { alarm: (alarm) => alarms.push(alarm) });
    for (let round = 0; round < TRANSACTION_COUNT; round++) {
      try {
        writePadded(store, acknowledged + 1);
        acknowledged++;
      } catch (cause) {
        assert.ok(cause instanceof StorageError, `${what}: ${cause}`);
        assert.equal(cause.code, expectedCodes[fault.code], what);
        assert.equal(alarms.at(-1)?.kind, 'writing-failed', what);
      }
      assertHolds(store, acknowledged, `${what}, running`);
    }
  });
  assert.ok(store);
  assert.deepEqual(
    alarms.filter(({ kind }) => kind === 'file-damaged' || kind === 'state-truncated'),
    [],
    what,
  );
  // The disk is well again.
  writePadded(store, ++acknowledged);
  assertHolds(store, acknowledged, `${what}, recovered`);
  assert.equal(store.failure, undefined, what);
  if (alarms.length > 0) assert.equal(alarms.at(-1)?.kind, 'writing-resumed', what);
  store.close();
  return { acknowledged, callCount };
}

/** Stores to begin with, by the number of transactions: none at all, and one that a crash left. */
function makeBeginnings(folder: string): readonly [number, FolderContent | undefined][] {
  const store = openStore(folder, { alarm: unexpected });
  writePadded(store, 1);
  const oneBehind = readFolder(folder).get('state.sqlite-wal') ?? Buffer.alloc(0);
  writePadded(store, 2);
  const files = new Map(readFolder(folder));
  store.close();
  // The process ended when the journal had the transaction and the database did not yet.
  return [
    [0, undefined],
    [2, files.set('state.sqlite-wal', oneBehind)],
  ];
}

test('survive-119: whichever file call fails, once or for long, reads go on and writes recover', async () => {
  await withTmpfs(TMPFS, (root) => {
    const folder = join(root, 'state');
    for (const [before, files] of makeBeginnings(join(root, 'beginning'))) {
      const prepare = () => {
        if (files === undefined) rmSync(folder, { recursive: true, force: true });
        else writeFolder(folder, files);
      };
      prepare();
      const none = { firstCall: Number.POSITIVE_INFINITY, callCount: 0, code: 'EIO' };
      const { callCount } = writeWithFault(folder, before, none);
      assert.ok(callCount > 20, `${callCount} calls`);
      for (const code of Object.keys(expectedCodes)) {
        for (let firstCall = 0; firstCall < callCount; firstCall++) {
          for (const failing of [1, 2, 1000]) {
            prepare();
            const fault = { firstCall, callCount: failing, code };
            const { acknowledged } = writeWithFault(folder, before, fault);
            const found = openAndDump(folder);
            const what = JSON.stringify({ before, ...fault });
            assert.equal(found.sequence, acknowledged, what);
            assert.equal(found.state, expectedState(acknowledged), what);
            assert.deepEqual(found.alarms, [], what);
          }
        }
      }
    }
  });
});
