import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import zlib from 'node:zlib';
import type { Change } from '../../gateway/change/change-machine.ts';
import { openChangeRecords, REVISIONS_MAX, readChangesAtRest } from './change-records.ts';
import { openStore, type Store } from './store.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-changes-'));
after(() => rmSync(root, { recursive: true }));

function open(name: string): Store {
  return openStore(join(root, name), { alarm: (alarm) => assert.fail(JSON.stringify(alarm)) });
}

const change: Change = {
  id: 'c1',
  author: 'admin',
  previous: { configText: 'version: 1\n', rulesetText: 'table inet gatehouse {}\n' },
  next: { configText: 'version: 1\ndns: {}\n', rulesetText: 'table inet gatehouse { # dns }\n' },
  windowMs: 60_000,
};

test('a confirmed change is stored as such and as a revision, across a restart', () => {
  const store = open('confirmed');
  const records = openChangeRecords(store);
  assert.equal(records.pending(), undefined);
  records.recordRevision({ author: 'init', recordedAt: 1000, ...change.previous });
  records.storePending({ phase: 'applying', change });
  assert.equal(records.storeConfirmed(change, 2000), 2);
  store.close();

  const again = open('confirmed');
  const found = openChangeRecords(again);
  assert.deepEqual(found.pending(), { phase: 'confirmed', change });
  const second = { author: 'admin', recordedAt: 2000, ...change.next };
  assert.deepEqual(found.revisions.get(2), {
    ...second,
    configDiff: '@@ -1,1 +1,2 @@\n version: 1\n+dns: {}\n',
  });
  found.clearPending();
  assert.equal(found.pending(), undefined);
  again.close();
});

test('the newest revisions are kept, and their numbers go on', () => {
  const store = open('many');
  const records = openChangeRecords(store);
  store.transaction(() => {
    for (let number = 1; number <= REVISIONS_MAX + 5; number++) {
      const configText = `number: ${number}\n`;
      records.recordRevision({ author: 'a', recordedAt: number, configText, rulesetText: '' });
    }
  });
  const kept = records.revisions.list();
  assert.equal(kept.length, REVISIONS_MAX);
  assert.deepEqual([kept[0]?.[0], kept.at(-1)?.[0]], [REVISIONS_MAX + 5, 6]);
  assert.equal(kept.at(-1)?.[1].configDiff, '@@ -1,1 +1,1 @@\n-number: 5\n+number: 6\n');
  store.close();
});

const sound = { isDamaged: false } as const;

test('what is pending and what was confirmed last can be read while the store is in use', () => {
  const folder = join(root, 'at-rest');
  assert.deepEqual(readChangesAtRest(folder), sound);
  const store = open('at-rest');
  const records = openChangeRecords(store);
  assert.deepEqual(readChangesAtRest(folder), sound);
  records.recordRevision({ author: 'init', recordedAt: 1, ...change.previous });
  const { configText } = change.previous;
  assert.deepEqual(readChangesAtRest(folder), { ...sound, configText });
  const waiting = { phase: 'waiting', change, bootId: 'b', deadlineAt: 7 } as const;
  records.storePending({ phase: 'applying', change });
  records.storePending(waiting);
  assert.deepEqual(readChangesAtRest(folder), { ...sound, pending: waiting, configText });
  records.storeConfirmed(change, 2);
  const confirmed = { phase: 'confirmed', change } as const;
  const next = { configText: change.next.configText };
  assert.deepEqual(readChangesAtRest(folder), { ...sound, pending: confirmed, ...next });
  records.clearPending();
  const before = readdirSync(folder).sort();
  assert.deepEqual(readChangesAtRest(folder), { ...sound, ...next });
  assert.deepEqual(readdirSync(folder).sort(), before);
  store.close();
  assert.deepEqual(readChangesAtRest(folder), { ...sound, ...next });
});

test('a ruleset is unpacked for whoever reads it, and not for a list of revisions', (t) => {
  const store = open('lazy');
  const records = openChangeRecords(store);
  records.recordRevision({ author: 'a', recordedAt: 1, ...change.previous });
  records.recordRevision({ author: 'a', recordedAt: 2, ...change.next });
  const unpack = t.mock.method(zlib, 'zstdDecompressSync');
  syncBuiltinESMExports();
  t.after(() => {
    unpack.mock.restore();
    syncBuiltinESMExports();
  });
  const [[, newest] = []] = records.revisions.list();
  assert.equal(newest?.configText, change.next.configText);
  assert.equal(unpack.mock.callCount(), 0);
  assert.equal(newest?.rulesetText, change.next.rulesetText);
  assert.equal(unpack.mock.callCount(), 1);
  store.close();
});

test('the newest revision is found among hundreds, by its number', () => {
  const store = open('at-rest-many');
  const records = openChangeRecords(store);
  store.transaction(() => {
    for (let number = 1; number <= REVISIONS_MAX + 12; number++) {
      const configText = `number: ${number}\n`;
      records.recordRevision({ author: 'a', recordedAt: number, configText, rulesetText: '' });
    }
  });
  store.close();
  const { configText } = readChangesAtRest(join(root, 'at-rest-many'));
  assert.equal(configText, `number: ${REVISIONS_MAX + 12}\n`);
});

test('survive-117 an unfinished line at the end hides nothing that is before it', () => {
  const store = open('at-rest-torn');
  openChangeRecords(store).storePending({ phase: 'applying', change });
  store.close();
  const folder = join(root, 'at-rest-torn');
  appendFileSync(join(folder, 'state.journal'), '01234567 [["pending-change","cur');
  assert.deepEqual(readChangesAtRest(folder), {
    ...sound,
    pending: { phase: 'applying', change },
  });
});

test('a journal that is none tells nothing but that it is damaged', () => {
  const store = open('at-rest-damaged');
  openChangeRecords(store).storePending({ phase: 'applying', change });
  store.close();
  const folder = join(root, 'at-rest-damaged');
  for (const content of ['', '\n', 'version: 1\n', Buffer.alloc(100_000)]) {
    writeFileSync(join(folder, 'state.journal'), content);
    assert.deepEqual(readChangesAtRest(folder), { isDamaged: true });
  }
});
