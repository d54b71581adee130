import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, mock, test } from 'node:test';
import { setNameOf } from '../../firewall/ruleset.ts';
import type { SetChange } from '../../firewall/table-entries.ts';
import { formatTablePrefix } from '../../firewall/table-prefixes.ts';
import type { ControlReply } from '../../messages/control-messages.ts';
import { requirePrefix } from '../../net/prefix.ts';
import { StorageError } from '../store/storage-error.ts';
import { openStore } from '../store/store.ts';
import { type EntryRecord, openTableRecords } from '../store/table-records.ts';
import { AddressTables } from './address-tables.ts';
import type { ApplyResult } from './ruleset-keeper.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-tables-'));
after(() => rmSync(root, { recursive: true }));

const author = 'anna';

/** Tables over sets in memory and a store on disk, with a clock that is moved by hand. */
class Scene implements Disposable {
  readonly alarms: string[] = [];
  readonly logged: string[] = [];
  /** What happened, in order. */
  readonly events: string[] = [];
  readonly sets = new Map<string, Set<string>>();
  configured: Record<string, { addresses: string[] }> = {
    bad: { addresses: ['192.0.2.0/24', '2001:db8::/32'] },
    good: { addresses: [] },
  };
  failure: ApplyResult | undefined;
  nowMs = 1_000_000;
  readonly #store;
  tables: AddressTables;

  constructor(name: string) {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    this.#store = openStore(join(root, name), { alarm: ({ kind }) => assert.fail(kind) });
    this.tables = this.restarted();
  }

  get records() {
    return openTableRecords(this.#store);
  }

  /** As a new process finds them. */
  restarted(): AddressTables {
    const { records } = this;
    const noted = (word: string) => this.events.push(word);
    this.tables = new AddressTables({
      records: {
        ...records,
        put: (record) => {
          noted(`store ${record.prefix}`);
          records.put(record);
        },
      },
      changeSets: async (makeChanges) => {
        for (const change of makeChanges()) this.#perform(change);
        return this.failure ?? { success: true };
      },
      configured: () => this.configured,
      log: (text) => this.logged.push(text),
      alarm: (text) => this.alarms.push(text),
      now: () => this.nowMs,
    });
    this.follow();
    return this.tables;
  }

  follow(): void {
    this.sets.clear();
    const sets = Object.entries(this.configured).flatMap(([table, { addresses }]) =>
      ([4, 6] as const).map((family) => {
        const prefixes = addresses.map(requirePrefix).filter((one) => one.family === family);
        return { table, family, prefixes };
      }),
    );
    for (const set of this.tables.withEntries({ sets, chains: [] }).sets ?? []) {
      this.sets.set(setNameOf(set), new Set(set.prefixes.map(formatTablePrefix)));
    }
  }

  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    mock.timers.tick(ms);
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
  }

  add(table: string, prefix: string, forMs?: number): Promise<ControlReply> {
    const time = forMs === undefined ? {} : { forMs };
    return this.tables.add({ kind: 'add-table-entry', id: 1, table, prefix, author, ...time });
  }

  remove(table: string, prefix: string): Promise<ControlReply> {
    return this.tables.remove({ kind: 'remove-table-entry', id: 1, table, prefix, author });
  }

  entries(table: string): unknown {
    const shown = this.tables.show({ kind: 'get-table', id: 1, table });
    assert.ok(shown.kind === 'table', JSON.stringify(shown));
    return shown.entries.filter(({ origin }) => origin === 'added');
  }

  #perform(change: SetChange): void {
    const set = this.sets.get(setNameOf(change)) ?? assert.fail();
    for (const one of change.removed) assert.ok(set.delete(formatTablePrefix(one)));
    for (const one of change.added) set.add(formatTablePrefix(one));
    this.events.push(`change ${setNameOf(change)}`);
  }

  [Symbol.dispose](): void {
    this.tables.stop();
    this.#store.close();
    mock.timers.reset();
  }
}

const entry = { kind: 'table-entry', isKept: true } as const;

test('an entry reaches the sets first, then the disk, and then it is answered', async () => {
  using scene = new Scene('order');
  assert.deepEqual(await scene.add('good', '10.0.0.7/32'), {
    ...entry,
    table: 'good',
    prefix: '10.0.0.7',
    outcome: 'added',
  });
  assert.deepEqual(scene.events, ['change good_4', 'store 10.0.0.7']);
  assert.deepEqual([...(scene.sets.get('good_4') ?? [])], ['10.0.0.7']);
  assert.deepEqual(scene.logged, ['anna adds 10.0.0.7 to the table good']);
});

test('what lies in an address of the config says so when it comes and when it goes', async () => {
  using scene = new Scene('covered');
  const inside = { ...entry, table: 'bad', prefix: '192.0.2.7', coveredBy: '192.0.2.0/24' };
  assert.deepEqual(await scene.add('bad', '192.0.2.7'), { ...inside, outcome: 'added' });
  assert.deepEqual(await scene.remove('bad', '192.0.2.7'), { ...inside, outcome: 'removed' });
  assert.ok(!scene.events.some((event) => event.startsWith('change')));
  const same = { ...inside, prefix: '192.0.2.0/24' };
  await scene.add('bad', '192.0.2.0/24');
  assert.deepEqual(await scene.remove('bad', '192.0.2.0/24'), { ...same, outcome: 'removed' });
});

test('an entry ends when its time is over, in the sets and on disk', async () => {
  using scene = new Scene('expiry');
  await scene.add('good', '10.0.0.1', 90_000);
  await scene.add('good', '10.0.0.2', 1_000);
  await scene.add('good', '10.0.0.3');
  await scene.pass(999);
  assert.equal(scene.sets.get('good_4')?.size, 3);
  await scene.pass(1);
  assert.deepEqual([...(scene.sets.get('good_4') ?? [])], ['10.0.0.1', '10.0.0.3']);
  assert.deepEqual(scene.entries('good'), [
    { prefix: '10.0.0.1', origin: 'added', expiresInMs: 89_000 },
    { prefix: '10.0.0.3', origin: 'added' },
  ]);
  await scene.pass(60_000);
  await scene.pass(29_000);
  assert.deepEqual([...(scene.sets.get('good_4') ?? [])], ['10.0.0.3']);
  assert.deepEqual(
    scene.records.list().map(({ prefix }) => prefix),
    ['10.0.0.3'],
  );
});

test('an entry that is there gets the new time, a shorter one and none as well', async () => {
  using scene = new Scene('renewed');
  await scene.add('good', '10.0.0.1', 50_000);
  const renewed = { ...entry, table: 'good', prefix: '10.0.0.1', outcome: 'renewed' };
  const shorter = await scene.add('good', '10.0.0.1', 2_000);
  assert.deepEqual(shorter, { ...renewed, expiresInMs: 2_000 });
  assert.deepEqual(await scene.add('good', '10.0.0.1'), renewed);
  await scene.pass(60_000);
  assert.deepEqual(scene.entries('good'), [{ prefix: '10.0.0.1', origin: 'added' }]);
});

test('entries and what is left of their time stay when the process is another', async () => {
  using scene = new Scene('restart');
  await scene.add('good', '10.0.0.1', 10_000);
  await scene.add('good', '2001:db8::1');
  await scene.add('good', '10.0.0.2', 3_000);
  scene.tables.stop();
  scene.nowMs += 4_000;
  scene.restarted();
  // Not even for a moment.
  assert.deepEqual([...(scene.sets.get('good_4') ?? [])], ['10.0.0.1']);
  await scene.pass(1);
  assert.deepEqual(scene.entries('good'), [
    { prefix: '10.0.0.1', origin: 'added', expiresInMs: 5_999 },
    { prefix: '2001:db8::1', origin: 'added' },
  ]);
  assert.equal(scene.records.list().length, 2);
  assert.deepEqual([...(scene.sets.get('good_4') ?? [])], ['10.0.0.1']);
});

test('after a boot the wall clock says what is left, and a wrong one makes it no longer', async () => {
  using scene = new Scene('boot');
  mock.timers.setTime(500_000);
  const expiry = { bootId: 'another boot', atMs: 99, forMs: 10_000 };
  const records: EntryRecord[] = [
    { table: 'good', prefix: '10.0.0.1', expiry: { ...expiry, wallAtMs: 504_000 } },
    { table: 'good', prefix: '10.0.0.2', expiry: { ...expiry, wallAtMs: 9_000_000 } },
    { table: 'good', prefix: '10.0.0.3', expiry: { ...expiry, wallAtMs: 499_999 } },
  ];
  for (const record of records) scene.records.put(record);
  scene.restarted();
  await scene.pass(1);
  assert.deepEqual(scene.entries('good'), [
    { prefix: '10.0.0.1', origin: 'added', expiresInMs: 3_999 },
    { prefix: '10.0.0.2', origin: 'added', expiresInMs: 9_999 },
  ]);
});

test('a config that has the table no more or another one of it loses no entry', async () => {
  using scene = new Scene('config');
  await scene.add('bad', '10.0.0.1');
  const { configured } = scene;
  scene.configured = { good: { addresses: [] } };
  scene.follow();
  assert.equal(await outcomeOf(scene.add('bad', '10.0.0.2')), 'no-such-table');
  scene.configured = { ...configured, bad: { addresses: ['198.51.100.7'] } };
  scene.follow();
  assert.deepEqual([...(scene.sets.get('bad_4') ?? [])], ['10.0.0.1', '198.51.100.7']);
  scene.tables.forgetAllBut(['good']);
  assert.deepEqual([scene.entries('bad'), scene.records.list()], [[], []]);
});

async function outcomeOf(reply: Promise<ControlReply>): Promise<string> {
  const answer = await reply;
  return answer.kind === 'refused' ? answer.code : answer.kind;
}

test('what is not there, and what only the config can take out, is refused with a word for it', async () => {
  using scene = new Scene('refused');
  assert.equal(await outcomeOf(scene.add('constructor', '10.0.0.1')), 'no-such-table');
  assert.equal(await outcomeOf(scene.remove('none', '10.0.0.1')), 'no-such-table');
  assert.equal(await outcomeOf(scene.remove('good', '10.0.0.1')), 'no-such-entry');
  assert.deepEqual(await scene.remove('bad', '192.0.2.0/24'), {
    kind: 'refused',
    code: 'no-such-entry',
    reason: '192.0.2.0/24 is in the table bad by the config: edit that',
  });
  assert.deepEqual(await scene.remove('bad', '192.0.2.1'), {
    kind: 'refused',
    code: 'no-such-entry',
    reason: 'the table bad has no entry 192.0.2.1; it lies in its 192.0.2.0/24',
  });
  assert.deepEqual(scene.events, []);
});

test('a full table refuses further entries, and still renews and removes', async () => {
  using scene = new Scene('full');
  const addresses = Array.from({ length: 9_999 }, (_, index) => {
    return `10.1.${index >> 8}.${index & 255}`;
  });
  scene.configured = { bad: { addresses } };
  assert.equal(await outcomeOf(scene.add('bad', '10.0.0.1')), 'table-entry');
  assert.deepEqual(await scene.add('bad', '10.0.0.2'), {
    kind: 'refused',
    code: 'table-full',
    reason: 'the table bad has 10000 entries; there is no room',
  });
  assert.equal(await outcomeOf(scene.add('bad', '10.0.0.1', 5_000)), 'table-entry');
  assert.equal(await outcomeOf(scene.remove('bad', '10.0.0.1')), 'table-entry');
  assert.equal(await outcomeOf(scene.add('bad', '10.0.0.2')), 'table-entry');
});

test('a disk that takes nothing keeps nobody from being blocked, and that is told', async () => {
  using scene = new Scene('disk');
  const full = new StorageError('storage-full', 'cannot write the state: no space left');
  mock.method(scene.tables, 'stop');
  scene.tables = new AddressTables({
    records: {
      list: () => [],
      put: () => {
        throw full;
      },
      delete: () => {
        throw full;
      },
    },
    changeSets: async (makeChanges) => {
      scene.events.push(`${makeChanges().length} changes`);
      return { success: true };
    },
    configured: () => scene.configured,
    log: () => {},
    alarm: (text) => scene.alarms.push(text),
  });
  const added = await scene.add('good', '10.0.0.1');
  assert.ok(added.kind === 'table-entry' && !added.isKept);
  const removed = await scene.remove('good', '10.0.0.1');
  assert.ok(removed.kind === 'table-entry' && !removed.isKept);
  assert.deepEqual(scene.events, ['1 changes', '1 changes']);
  assert.match(scene.alarms[0] ?? '', /lasts only until gatehouse restarts: .* no space left/);
});

test('what the kernel does not take is answered as failed, and is kept to be tried again', async () => {
  using scene = new Scene('failed');
  const message = 'nft ran longer than 10 s';
  const failure = { success: false, reason: 'hung', message, rulesInPlace: 'unknown' } as const;
  scene.failure = { success: false, failure, unchanged: false };
  assert.deepEqual(await scene.add('good', '10.0.0.1'), {
    kind: 'refused',
    code: 'failed',
    reason: `${message}; it is tried again`,
  });
  assert.equal(scene.records.list().length, 1);
});
