import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Change } from '../../gateway/change/change-machine.ts';
import { openChangeRecords, REVISIONS_MAX } from './change-records.ts';
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
