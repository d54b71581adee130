import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { anyCharacter } from '../../testing/any-text.ts';
import { TRANSACTION_CHARACTERS_MAX } from './journal.ts';
import { DamageError, RecordsDatabase } from './records-database.ts';
import { type Migration, openStore, plainCodec, type Store, type StoreOptions } from './store.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-store-'));
after(() => rmSync(root, { recursive: true }));

let folderCount = 0;
function newFolder(): string {
  folderCount++;
  return join(root, `store-${folderCount}`);
}

function open(folder: string, options: Partial<StoreOptions> = {}): Store {
  const alarm = (raised: unknown) => assert.fail(JSON.stringify(raised));
  return openStore(folder, { alarm, ...options });
}

function numbersIn(store: Store, recordsMax = 100) {
  return store.collection({ name: 'numbers', codec: plainCodec<unknown>(), recordsMax });
}

test('what was written is there after a restart', () => {
  const folder = newFolder();
  const store = open(folder);
  const numbers = numbersIn(store);
  numbers.put('b', 2);
  numbers.put('a', { nested: [1, null, 'ü'] });
  numbers.put('b', 3);
  assert.equal(numbers.delete('a'), true);
  assert.equal(numbers.delete('a'), false);
  numbers.put('c', null);
  store.close();
  const again = numbersIn(open(folder));
  assert.deepEqual(again.list(), [
    ['b', 3],
    ['c', null],
  ]);
  assert.equal(again.get('a'), undefined);
  assert.equal(again.count(), 2);
});

test('only the owner can read the folder and its files', () => {
  const folder = newFolder();
  const store = open(folder);
  numbersIn(store).put('a', 1);
  const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
  const modes = Object.fromEntries(
    readdirSync(folder).map((file) => [file, mode(join(folder, file))]),
  );
  assert.deepEqual(modes, {
    'state.journal': '600',
    'state.sqlite': '600',
    'state.sqlite-wal': '600',
  });
  assert.equal(mode(folder), '700');
  store.close();
});

test('a transaction is written whole or not at all', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  numbers.put('kept', 1);
  const sequence = store.sequence;
  const fail = () =>
    store.transaction(() => {
      numbers.put('kept', 2);
      numbers.put('new', 3);
      assert.equal(numbers.get('kept'), 2);
      throw new RangeError('on purpose');
    });
  assert.throws(fail, RangeError);
  assert.deepEqual(numbers.list(), [['kept', 1]]);
  assert.equal(numbers.count(), 1);
  assert.equal(store.sequence, sequence);
  const result = store.transaction(() => {
    numbers.put('new', 3);
    return numbers.count();
  });
  assert.equal(result, 2);
  assert.equal(store.sequence, sequence + 1);
  store.close();
});

test('an inner transaction belongs to the outer one, which fails with it', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  const outer = () =>
    store.transaction(() => {
      numbers.put('a', 1);
      try {
        store.transaction(() => {
          throw new RangeError('on purpose');
        });
      } catch {
        // As careless code would.
      }
    });
  assert.throws(outer, /within this one has failed/);
  assert.deepEqual(numbers.list(), []);
  store.close();
});

test('a transaction cannot wait', () => {
  const store = open(newFolder());
  assert.throws(() => store.transaction(async () => 1), /cannot wait/);
  numbersIn(store).put('a', 1);
  store.close();
});

test('lists begin after a key and end at a limit, in the order of the keys', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  for (const key of ['c', 'a', 'b', 'ä', 'B']) numbers.put(key, key);
  const keys = (range: { after?: string; limit?: number }) =>
    numbers.list(range).map(([key]) => key);
  assert.deepEqual(keys({}), ['B', 'a', 'b', 'c', 'ä']);
  assert.deepEqual(keys({ after: 'a', limit: 2 }), ['b', 'c']);
  store.close();
});

test('a full collection refuses one more, and still takes new values for old keys', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store, 2);
  numbers.put('a', 1);
  numbers.put('b', 2);
  assert.throws(() => numbers.put('c', 3), { name: 'StorageError', code: 'storage-limit' });
  numbers.put('b', 4);
  numbers.delete('a');
  numbers.put('c', 3);
  assert.deepEqual(numbers.list(), [
    ['b', 4],
    ['c', 3],
  ]);
  assert.equal(store.failure, undefined);
  store.close();
});

test('a full log drops its oldest and counts on', () => {
  const folder = newFolder();
  const store = open(folder);
  const lines = store.log({ name: 'lines', codec: plainCodec<string>(), recordsMax: 3 });
  for (let number = 1; number <= 12; number++) assert.equal(lines.append(`line ${number}`), number);
  assert.deepEqual(lines.list(), [
    [12, 'line 12'],
    [11, 'line 11'],
    [10, 'line 10'],
  ]);
  assert.deepEqual(lines.list({ before: 12, limit: 1 }), [[11, 'line 11']]);
  assert.equal(lines.get(11), 'line 11');
  assert.equal(lines.get(9), undefined);
  store.close();
});

test('a transaction that is too large is refused', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  const large = 'x'.repeat(TRANSACTION_CHARACTERS_MAX);
  assert.throws(() => numbers.put('a', large), { code: 'storage-limit' });
  assert.equal(numbers.count(), 0);
  numbers.put('a', 1);
  store.close();
});

test('keys that would not come back as they were are refused', () => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  for (const key of ['a\0b', '\ud800']) assert.throws(() => numbers.put(key, 1), TypeError);
  store.close();
});

test('whatever is written, a restart from either copy alone finds the same', () => {
  const key = fc.string({ unit: 'grapheme', maxLength: 8 }).filter((text) => !text.includes('\0'));
  const write = fc.tuple(key, fc.option(fc.jsonValue({ stringUnit: anyCharacter })));
  fc.assert(
    fc.property(fc.array(fc.array(write, { maxLength: 4 }), { maxLength: 8 }), (transactions) => {
      const folder = newFolder();
      const store = open(folder);
      const numbers = numbersIn(store);
      for (const writes of transactions) {
        store.transaction(() => {
          for (const [name, value] of writes) {
            if (value === null) numbers.delete(name);
            else numbers.put(name, value);
          }
        });
      }
      const written = numbers.list();
      store.close();
      for (const lost of ['state.sqlite', 'state.journal', 'none']) {
        rmSync(join(folder, lost), { force: true });
        const again = openStore(folder, { alarm: () => {} });
        assert.deepEqual(numbersIn(again).list(), written, `without ${lost}`);
        again.close();
      }
    }),
    { numRuns: 15 },
  );
});

test('the journal begins anew as it grows, and the one before is kept', () => {
  const folder = newFolder();
  const store = open(folder);
  const numbers = numbersIn(store);
  for (let round = 0; round < 30; round++) numbers.put('a', `${round} ${'x'.repeat(100_000)}`);
  assert.ok(statSync(join(folder, 'state.journal')).size < 1_300_000);
  assert.ok(statSync(join(folder, 'state.journal.previous')).size > 1_000_000);
  store.close();
  const again = open(folder);
  assert.match(String(numbersIn(again).get('a')), /^29 x/);
  again.close();
});

test('whoever opens a store that is in use is told so, and changes nothing', () => {
  const folder = newFolder();
  const store = open(folder);
  numbersIn(store).put('a', 1);
  const before = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'latin1'));
  assert.throws(() => open(folder), { name: 'StorageError', code: 'storage-in-use' });
  const files = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'latin1'));
  assert.deepEqual(files, before);
  numbersIn(store).put('a', 2);
  store.close();
});

test('a record that somebody changed in the database is noticed and comes from the journal', () => {
  const folder = newFolder();
  const first = open(folder);
  numbersIn(first).put('a', 'right');
  first.close();
  const database = new DatabaseSync(join(folder, 'state.sqlite'));
  database.exec('UPDATE records SET value = \'"wrong"\'');
  database.close();
  const alarms: string[] = [];
  const store = openStore(folder, { alarm: ({ kind }) => alarms.push(kind) });
  assert.equal(numbersIn(store).get('a'), 'right');
  assert.deepEqual(alarms, ['file-damaged']);
  store.close();
});

test('damage that shows while the program runs is repaired, and fails at most one write', (t) => {
  const store = open(newFolder());
  const numbers = numbersIn(store);
  numbers.put('a', 1);
  const failOnce = () => {
    const failing = t.mock.method(RecordsDatabase.prototype, 'get', () => {
      failing.mock.restore();
      throw new DamageError('on purpose');
    });
  };
  failOnce();
  assert.equal(numbers.get('a'), 1);
  failOnce();
  assert.throws(() => numbers.put('a', 2), { code: 'storage-failed' });
  assert.equal(numbers.get('a'), 1);
  numbers.put('a', 2);
  assert.equal(numbers.get('a'), 2);
  store.close();
});

const rename: Migration = {
  name: 'names in capitals',
  migrate(records) {
    for (const [key, json] of records.list('numbers')) {
      records.delete('numbers', key);
      records.put('numbers', key.toUpperCase(), json);
    }
  },
};
const double: Migration = {
  name: 'twice as much',
  migrate(records) {
    for (const [key, json] of records.list('numbers')) {
      records.put('numbers', key, Number(json) * 2);
    }
  },
};
const broken: Migration = {
  name: 'broken',
  migrate(records) {
    records.put('numbers', 'half', 'done');
    throw new RangeError('on purpose');
  },
};

test('survive-124: migrations run once, in order, and keep the old state for a downgrade', () => {
  const folder = newFolder();
  const first = open(folder);
  numbersIn(first).put('a', 1);
  first.close();
  const second = open(folder, { migrations: [rename, double] });
  assert.deepEqual(numbersIn(second).list(), [['A', 2]]);
  second.close();
  const third = open(folder, { migrations: [rename, double] });
  assert.deepEqual(numbersIn(third).list(), [['A', 2]]);
  third.close();
  const kept = readFileSync(join(folder, 'state.journal.schema-0'), 'utf8');
  assert.match(kept, /\["numbers","a",1\]/);
});

test('survive-124: a new store has the newest schema', () => {
  const folder = newFolder();
  const store = open(folder, { migrations: [rename, double] });
  numbersIn(store).put('a', 1);
  store.close();
  const again = open(folder, { migrations: [rename, double] });
  assert.deepEqual(numbersIn(again).list(), [['a', 1]]);
  again.close();
});

test('survive-124: a migration that fails changes nothing, and the old program goes on', () => {
  const folder = newFolder();
  const first = open(folder);
  numbersIn(first).put('a', 1);
  first.close();
  const message = 'migration 2, broken, failed, and nothing was changed: on purpose';
  const upgrade = () => open(folder, { migrations: [rename, broken] });
  assert.throws(upgrade, { name: 'StorageError', code: 'migration-failed', message });
  const old = open(folder);
  assert.deepEqual(numbersIn(old).list(), [['a', 1]]);
  old.close();
});

test('survive-124: a newer state is refused with both numbers, and stays as it was', () => {
  const folder = newFolder();
  const newer = open(folder, { migrations: [rename, double] });
  numbersIn(newer).put('A', 1);
  newer.close();
  const read = () => readdirSync(folder).map((file) => readFileSync(join(folder, file), 'latin1'));
  const before = read();
  const message =
    'the state has schema 2, and this Gatehouse knows up to 1: ' +
    'use the newer Gatehouse that wrote it';
  const downgrade = () => open(folder, { migrations: [rename] });
  assert.throws(downgrade, { name: 'StorageError', code: 'schema-newer', message });
  assert.deepEqual(read(), before);
  const again = open(folder, { migrations: [rename, double] });
  assert.deepEqual(numbersIn(again).list(), [['A', 1]]);
  again.close();
});
