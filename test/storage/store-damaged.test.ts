import assert from 'node:assert/strict';
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { RecordsDatabase } from '../../src/linux/store/records-database.ts';
import { openStore } from '../../src/linux/store/store.ts';
import { withTmpfs } from './mounted.ts';
import {
  expectedState,
  type FolderContent,
  type Found,
  openAndDump,
  readFolder,
  unexpected,
  writeFolder,
  writeTransaction,
} from './recorded-store.ts';

const TRANSACTION_COUNT = 7;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_240_607);

/** A tmpfs, since thousands of stores are opened and nothing here depends on the disk. */
const TMPFS = 'size=64m,mode=0700';

interface History {
  readonly folder: string;
  readonly states: readonly string[];
  readonly final: string;
  /** What the database holds after each number of transactions. */
  readonly records: readonly string[];
  /** As a crash leaves them after each number of transactions. */
  readonly moments: readonly FolderContent[];
  /** The last of them: the last transaction is in the write-ahead log only. */
  readonly crashed: FolderContent;
  /** As a proper end leaves them. */
  readonly closed: FolderContent;
  /** The journal's length after each number of transactions. */
  readonly journalBytes: readonly number[];
}

function recordHistory(root: string): History {
  const folder = join(root, 'state');
  const states = Array.from({ length: TRANSACTION_COUNT + 1 }, (_, count) => expectedState(count));
  const records: string[] = [];
  const journalBytes: number[] = [];
  const moments: FolderContent[] = [];
  for (let number = 0; number <= TRANSACTION_COUNT; number++) {
    const store = openStore(folder, { alarm: unexpected });
    if (number > 0) writeTransaction(store, number);
    moments.push(readFolder(folder));
    store.close();
    journalBytes.push(statSync(join(folder, 'state.journal')).size);
    const database = RecordsDatabase.open(join(folder, 'state.sqlite'));
    records.push(JSON.stringify([...(database?.records() ?? [])]));
    database?.close();
  }
  const closed = readFolder(folder);
  const crashed = moments.at(-1) ?? closed;
  const final = states.at(-1) ?? '';
  return { folder, states, final, moments, crashed, closed, records, journalBytes };
}

function withFile(files: FolderContent, name: string, bytes: Buffer | undefined): FolderContent {
  const changed = new Map(files);
  if (bytes === undefined) changed.delete(name);
  else changed.set(name, bytes);
  return changed;
}

function without(files: FolderContent, ...names: readonly string[]): FolderContent {
  return new Map([...files].filter(([name]) => !names.includes(name)));
}

function find(history: History, files: FolderContent): Found {
  writeFolder(history.folder, files);
  const found = openAndDump(history.folder);
  return found;
}

/** What was repaired stays repaired. */
function assertHealthy(history: History, found: Found, what: string): void {
  const again = openAndDump(history.folder);
  assert.deepEqual(again, { ...found, alarms: [] }, `${what}: opened again`);
}

const JOURNAL_FILES = ['state.journal', 'state.journal.previous'];
const DATABASE_FILES = ['state.sqlite', 'state.sqlite-wal'];

/** Opening everything takes milliseconds, so files of many pages are sampled: all residues. */
const SAMPLE_BYTES = 67;

function sizeOf(files: FolderContent, name: string): number {
  return files.get(name)?.length ?? 0;
}

/** Nothing may be missing, whatever happened to one file. */
function assertComplete(history: History, files: FolderContent, what: string): Found {
  const found = find(history, files);
  assert.equal(found.state, history.final, what);
  const kinds = found.alarms.map(({ kind }) => kind);
  assert.ok(!kinds.includes('state-truncated'), `${what}: ${kinds}`);
  return found;
}

test('survive-117: the journal cut off at any byte loses nothing while the database is there', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    for (const files of [history.crashed, history.closed]) {
      const bytes = files.get('state.journal') ?? Buffer.alloc(0);
      for (let length = 0; length < bytes.length; length++) {
        const what = `cut off at ${length}`;
        const cut = withFile(files, 'state.journal', bytes.subarray(0, length));
        const found = assertComplete(history, cut, what);
        assert.deepEqual(
          found.alarms.map(({ kind }) => kind),
          ['file-damaged'],
          what,
        );
        if (length % 31 === 0) assertHealthy(history, found, what);
      }
    }
  });
});

test('survive-117: the database cut off anywhere loses nothing while the journal is there', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    let repairCount = 0;
    for (const files of [history.crashed, history.closed]) {
      for (const name of DATABASE_FILES) {
        for (let length = 0; length < sizeOf(files, name); length += SAMPLE_BYTES) {
          const cut = withFile(files, name, files.get(name)?.subarray(0, length));
          const found = assertComplete(history, cut, `${name} cut off at ${length}`);
          repairCount += found.alarms.length;
        }
      }
    }
    assert.ok(repairCount > 100, `${repairCount} repairs`);
  });
});

test('survive-117: the database cut off at every byte is refused, or whole as of some transaction', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const path = join(history.folder, 'state.sqlite');
    const outcomes = { refused: 0, whole: 0 };
    writeFolder(history.folder, history.crashed);
    for (const name of DATABASE_FILES) {
      for (let length = sizeOf(history.crashed, name) - 1; length >= 0; length--) {
        for (const file of DATABASE_FILES) {
          const bytes = history.crashed.get(file) ?? Buffer.alloc(0);
          const cut = file === name ? bytes.subarray(0, length) : bytes;
          writeFileSync(join(history.folder, file), cut);
        }
        let database: RecordsDatabase | undefined;
        try {
          database = RecordsDatabase.open(path);
        } catch {
          outcomes.refused++;
          continue;
        }
        const { sequence = -1 } = database?.version ?? {};
        const records = JSON.stringify([...(database?.records() ?? [])]);
        database?.close();
        assert.equal(records, history.records[sequence], `${name} cut off at ${length}`);
        outcomes.whole++;
      }
    }
    assert.ok(outcomes.refused > 1000 && outcomes.whole > 1000, JSON.stringify(outcomes));
  });
});

test('survive-118: the journal alone, cut off at any byte, gives the longest prefix and an alarm', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const bytes = history.crashed.get('state.journal') ?? Buffer.alloc(0);
    for (let length = 0; length < bytes.length; length++) {
      const whole = history.journalBytes.findLastIndex((end) => end <= length);
      const cut = withFile(history.crashed, 'state.journal', bytes.subarray(0, length));
      const found = find(history, without(cut, ...DATABASE_FILES));
      assert.equal(found.state, history.states[Math.max(0, whole)], `cut off at ${length}`);
      assert.notEqual(found.alarms.length, 0, `cut off at ${length}`);
      if (length % 31 === 0) assertHealthy(history, found, `cut off at ${length}`);
    }
  });
});

test('survive-118: a journal damaged in its head falls back to the one before', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    writeFolder(history.folder, without(history.crashed, 'state.sqlite', 'state.sqlite-wal'));
    // The database is made anew, and the journal with it, so there is one before it.
    const rebuilt = find(history, without(history.crashed, ...DATABASE_FILES));
    assert.equal(rebuilt.state, history.final);
    const files = without(readFolder(history.folder), ...DATABASE_FILES);
    const bytes = files.get('state.journal') ?? Buffer.alloc(0);
    for (let length = 0; length < bytes.length; length++) {
      const found = find(history, withFile(files, 'state.journal', bytes.subarray(0, length)));
      assert.equal(found.state, history.final, `cut off at ${length}`);
      const kinds = found.alarms.map(({ kind }) => kind);
      assert.deepEqual(kinds, ['state-truncated', 'file-damaged', 'file-damaged']);
    }
  });
});

test('survive-118: any flipped bit of the journal alone gives the prefix before it and an alarm', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const alone = without(history.crashed, ...DATABASE_FILES);
    const bytes = alone.get('state.journal') ?? Buffer.alloc(0);
    for (let index = 0; index < bytes.length; index++) {
      const flipped = Buffer.from(bytes);
      flipped[index] = (bytes[index] ?? 0) ^ (1 << (index % 8));
      const found = find(history, withFile(alone, 'state.journal', flipped));
      const whole = history.journalBytes.findLastIndex((end) => end <= index);
      assert.equal(found.state, history.states[Math.max(0, whole)], `bit in byte ${index}`);
      assert.notEqual(found.alarms.length, 0, `bit in byte ${index}`);
    }
  });
});

test('survive-118: flipped bits and zeros in one file lose nothing', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const random = seededRandom(SEED);
    for (let round = 0; round < 1500; round++) {
      const files = round % 2 === 0 ? history.crashed : history.closed;
      const names = [...files.keys()];
      const name = names[Math.floor(random() * names.length)] ?? '';
      const bytes = Buffer.from(files.get(name) ?? Buffer.alloc(0));
      const index = Math.floor(random() * bytes.length);
      if (round % 3 === 0) bytes.fill(0, index);
      else bytes[index] = (bytes[index] ?? 0) ^ (1 << Math.floor(random() * 8));
      const what = `round ${round} of seed ${SEED}: ${name} at ${index}`;
      assertComplete(history, withFile(files, name, bytes), what);
    }
  });
});

test('survive-118: lines of a journal that an editor ended its own way count as damage', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const text = history.crashed.get('state.journal')?.toString() ?? '';
    const edited = Buffer.from(text.replaceAll('\n', '\r\n'));
    const files = withFile(history.crashed, 'state.journal', edited);
    const found = assertComplete(history, files, 'edited');
    assert.deepEqual(
      found.alarms.map(({ kind }) => kind),
      ['file-damaged'],
    );
    const alone = find(history, without(files, ...DATABASE_FILES));
    assert.equal(alone.state, history.states[0]);
    assert.equal(alone.alarms[0]?.kind, 'state-truncated');
  });
});

test('survive-118: a database that lacks several transactions is damaged, and comes from the journal', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const journal = history.crashed.get('state.journal');
    const old = history.moments[TRANSACTION_COUNT - 3] ?? new Map();
    const found = assertComplete(history, withFile(old, 'state.journal', journal), 'an old one');
    assert.deepEqual(
      found.alarms.map((alarm) => [alarm.kind, 'reason' in alarm ? alarm.reason : '']),
      [['file-damaged', 'lacks 3 transactions that the journal has']],
    );
    assertHealthy(history, found, 'an old database');
  });
});

test('survive-118: the log of a database that has gone is not applied to the new one', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const gone = without(history.crashed, 'state.sqlite');
    for (const [count, moment] of history.moments.entries()) {
      const files = withFile(gone, 'state.sqlite-wal', moment.get('state.sqlite-wal'));
      const found = assertComplete(history, files, `the log after ${count} transactions`);
      assertHealthy(history, found, `the log after ${count} transactions`);
    }
  });
});

test('what is damaged is kept under another name, and a second time under a further one', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const damaged = Buffer.from('not a journal');
    find(history, withFile(history.closed, 'state.journal', damaged));
    writeFileSync(join(history.folder, 'state.journal'), damaged);
    const [alarm] = openAndDump(history.folder).alarms;
    const keptAs = join(history.folder, 'state.journal.damaged-2');
    const file = join(history.folder, 'state.journal');
    const reason = 'its first line is not valid';
    assert.deepEqual(alarm, { kind: 'file-damaged', file, reason, keptAs });
    const files = readFolder(history.folder);
    assert.deepEqual(files.get('state.journal.damaged-1'), damaged);
    assert.deepEqual(files.get('state.journal.damaged-2'), damaged);
  });
});

test('an unfinished line is what a crash leaves behind, and no alarm', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const bytes = history.crashed.get('state.journal') ?? Buffer.alloc(0);
    const torn = Buffer.concat([bytes, Buffer.from('0000abcd [["lea')]);
    const found = find(history, withFile(history.crashed, 'state.journal', torn));
    assert.deepEqual(found, {
      state: history.final,
      sequence: TRANSACTION_COUNT,
      alarms: [],
    });
  });
});

test('without any readable copy the store says that it begins empty', async () => {
  await withTmpfs(TMPFS, (root) => {
    const history = recordHistory(root);
    const rubbish = new Map(
      [...JOURNAL_FILES, ...DATABASE_FILES].map((name) => [name, Buffer.from('rubbish')] as const),
    );
    const found = find(history, rubbish);
    assert.equal(found.state, history.states[0]);
    assert.deepEqual(
      found.alarms.map(({ kind }) => kind),
      ['state-truncated', 'file-damaged', 'file-damaged'],
    );
  });
});
