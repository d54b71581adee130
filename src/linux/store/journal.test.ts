import assert from 'node:assert/strict';
import fs, { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { beginJournal, encodeTransaction, type JournalContent, readJournal } from './journal.ts';

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-journal-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'state.journal');

/** The checksums were made by Python's `zlib.crc32`. */
const JOURNAL = [
  'c5330f6e {"format":1,"schema":3,"sequence":41,"records":1}\n',
  'bfd6d357 ["leases","02:00:00:00:00:01",{"address":"10.77.0.9"}]\n',
  '2c208983 [["leases","02:00:00:00:00:01"],["audit","ü",null]]\n',
];

function read(): JournalContent {
  const content = readJournal(path);
  assert.ok(typeof content === 'object' && 'changes' in content);
  return content;
}

test('a journal is text: a head, the records, and a line for each transaction', () => {
  const records = [
    { collection: 'leases', key: '02:00:00:00:00:01', text: '{"address":"10.77.0.9"}' },
  ];
  const fresh = beginJournal(path, { schema: 3, sequence: 41 }, { recordCount: 1, records });
  const journal = fresh.install();
  journal.append(
    encodeTransaction([
      { collection: 'leases', key: '02:00:00:00:00:01' },
      { collection: 'audit', key: 'ü', text: 'null' },
    ]),
  );
  journal.close();
  assert.equal(readFileSync(path, 'utf8'), JOURNAL.join(''));
});

test('a journal that somebody else wrote is read', () => {
  writeFileSync(path, JOURNAL.join(''));
  const { schema, sequence, invalidBytes, lastTransaction, changes } = read();
  assert.deepEqual(
    { schema, sequence, invalidBytes },
    { schema: 3, sequence: 42, invalidBytes: 0 },
  );
  assert.deepEqual(lastTransaction, [
    { collection: 'leases', key: '02:00:00:00:00:01' },
    { collection: 'audit', key: 'ü', text: 'null' },
  ]);
  assert.deepEqual(
    [...changes()],
    [
      { collection: 'leases', key: '02:00:00:00:00:01', text: '{"address":"10.77.0.9"}' },
      ...lastTransaction,
    ],
  );
});

test('a transaction that is taken back leaves no trace', () => {
  const state = { recordCount: 0, records: [] };
  const journal = beginJournal(path, { schema: 0, sequence: 0 }, state).install();
  journal.append('[["a","1",1]]');
  const before = readFileSync(path, 'utf8');
  journal.append('[["a","2",2]]');
  journal.takeBack();
  assert.equal(readFileSync(path, 'utf8'), before);
  journal.append('[["a","3",3]]');
  journal.close();
  assert.equal(read().sequence, 2);
});

test('a disk that takes half of a line leaves no trace of it', (t) => {
  const state = { recordCount: 0, records: [] };
  const journal = beginJournal(path, { schema: 0, sequence: 0 }, state).install();
  const before = readFileSync(path, 'utf8');
  const write = fs.writeSync as (...input: unknown[]) => number;
  let callCount = 0;
  t.mock.method(
    fs,
    'writeSync',
    (fd: number, bytes: Buffer, _from: number, _n: number, at: number) => {
      callCount++;
      if (callCount === 1) return write(fd, bytes, 0, 5, at);
      throw Object.assign(new Error('full'), { code: 'ENOSPC' });
    },
  );
  syncBuiltinESMExports();
  assert.throws(() => journal.append('[["a","1",1]]'), { code: 'ENOSPC' });
  t.mock.restoreAll();
  syncBuiltinESMExports();
  assert.equal(callCount, 2);
  assert.equal(readFileSync(path, 'utf8'), before);
  assert.equal(journal.isSound, true);
  journal.close();
});

test('after a flush that failed nobody knows what is on disk', (t) => {
  const state = { recordCount: 0, records: [] };
  const journal = beginJournal(path, { schema: 0, sequence: 0 }, state).install();
  t.mock.method(fs, 'fdatasyncSync', () => {
    throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  });
  syncBuiltinESMExports();
  assert.throws(() => journal.append('[["a","1",1]]'), { code: 'ENOSPC' });
  t.mock.restoreAll();
  syncBuiltinESMExports();
  assert.equal(journal.isSound, false);
  journal.close();
});

test('a line from elsewhere is not taken for the next one', () => {
  const [head = '', record = '', transaction = ''] = JOURNAL;
  writeFileSync(path, [head, record, transaction, transaction].join(''));
  assert.equal(read().sequence, 42);
  assert.equal(read().invalidBytes, Buffer.byteLength(transaction));
});

test('a newer format is refused by its number', () => {
  writeFileSync(path, '843390fa {"format":2}\n');
  assert.throws(() => readJournal(path), {
    code: 'schema-newer',
    message: /has format 2, and this Gatehouse knows 1/,
  });
});
