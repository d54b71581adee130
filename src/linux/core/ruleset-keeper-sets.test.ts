/** How the sets of address tables change while their ruleset is in force. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import type { NftTable } from '../../firewall/nft-table.ts';
import { planRuleset, safeRuleset } from '../../firewall/plan-ruleset.ts';
import { tableDiffers } from '../../firewall/table-difference.ts';
import { type SetChange, TableEntries } from '../../firewall/table-entries.ts';
import { requirePrefix } from '../../net/prefix.ts';
import { FakeNft } from '../../testing/fake-nft.ts';
import { modelWithRules } from '../../testing/firewall-models.ts';
import type { NftWatchOptions } from '../nft-watch.ts';
import { RulesetKeeper, type WantedRuleset } from './ruleset-keeper.ts';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => mock.timers.reset());

const safe: WantedRuleset = { kind: 'safe', ruleset: safeRuleset(modelWithRules([])) };

/** A keeper over a kernel in memory, whose watch looks when it is told to. */
class Scene {
  readonly nft = new FakeNft();
  readonly alarms: string[] = [];
  readonly entries = new TableEntries();
  /** How often every session had to be judged anew, and what others had to be about. */
  rulesChanges = 0;
  readonly setsChanges: (readonly SetChange[])[] = [];
  readonly keeper: RulesetKeeper;
  #expected: NftTable | undefined;
  #watched: NftWatchOptions | undefined;

  constructor() {
    this.keeper = new RulesetKeeper({
      nft: this.nft,
      restores: () => true,
      onForeignChange: () => undefined,
      onRulesChange: () => {
        this.rulesChanges++;
      },
      withEntries: (ruleset) => this.entries.follow(ruleset),
      changeSets: (changes) => this.nft.changeSets(changes),
      onSetsChange: (changes) => this.setsChanges.push(changes),
      alarm: (text) => this.alarms.push(text),
      startWatch: (options) => {
        this.#watched = options;
        return {
          expect: (table) => {
            this.#expected = table;
          },
          change: (table, act) => {
            act();
            this.#expected = table;
          },
          stop: async () => {},
        };
      },
    });
  }

  /** As the watch does each second, with what follows. */
  async look(): Promise<void> {
    const listing = await this.nft.list();
    assert.ok(listing.success && this.#expected !== undefined);
    const difference = tableDiffers(this.#expected, listing.table);
    if (difference !== undefined) this.#watched?.onDifference(difference);
    await this.rest();
  }

  /** Until the keeper waits for its timer. */
  async rest(): Promise<void> {
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  }

  taken(): string[] {
    return this.alarms.splice(0);
  }
}

/** A rule that names a table, with what the config has in that. */
function withTable(...addresses: string[]): WantedRuleset {
  const rules = [{ name: 'no_bad', action: 'drop', source: ['@bad'] } as const];
  const tables = [{ name: 'bad', addresses }];
  return { kind: 'config', ruleset: planRuleset({ ...modelWithRules([]), tables, rules }) };
}

async function elementsIn(scene: Scene, name = 'bad_4'): Promise<string[] | undefined> {
  const listing = await scene.nft.list();
  assert.ok(listing.success);
  const set = listing.table?.sets.find((one) => one.name === name);
  return set === undefined ? undefined : [...set.elements].sort();
}

const entry = (text: string) => ({ prefix: requirePrefix(text) });

function add(scene: Scene, ...texts: string[]) {
  return scene.keeper.changeSets(() =>
    texts.flatMap((text) => scene.entries.add('bad', entry(text))),
  );
}

test('a set changes at once and alone, and only what it is about is judged anew', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable('192.0.2.0/24'));
  const { rulesChanges } = scene;
  assert.deepEqual(await add(scene, '10.0.0.1'), { success: true });
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1', '192.0.2.0/24']);
  assert.equal(scene.nft.applied.length, 1);
  assert.equal(scene.rulesChanges, rulesChanges);
  assert.deepEqual(scene.setsChanges, [
    [{ table: 'bad', family: 4, removed: [], added: [requirePrefix('10.0.0.1')] }],
  ]);
  await scene.look();
  assert.deepEqual(scene.taken(), []);
  await add(scene, '192.0.2.7');
  assert.equal(scene.setsChanges.length, 1, 'it was in the set already');
});

test('entries stay through another config, through the panic button, and when a config is refused', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable('192.0.2.0/24'));
  await add(scene, '10.0.0.1');
  await scene.keeper.apply(() => withTable());
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1']);
  await scene.keeper.apply(() => safe);
  assert.equal(await elementsIn(scene), undefined);
  assert.deepEqual(await add(scene, '10.0.0.2'), { success: true });
  await scene.look();
  await scene.keeper.apply(() => withTable('198.51.100.1'));
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1', '10.0.0.2', '198.51.100.1']);
  scene.nft.failWith({ kind: 'refused', rule: 'no_bad' });
  await scene.keeper.apply(() => withTable('10.0.0.0/8'));
  scene.nft.failWith(undefined);
  await add(scene, '10.0.0.3');
  const all = ['10.0.0.1', '10.0.0.2', '10.0.0.3', '198.51.100.1'];
  assert.deepEqual(await elementsIn(scene), all);
  await scene.look();
  assert.deepEqual(scene.taken(), []);
});

test('a set that stays as it is loses no element when the rules are replaced', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable('192.0.2.0/24'));
  await add(scene, '10.0.0.1');
  await scene.keeper.apply(() => withTable('192.0.2.0/24'));
  const last = JSON.stringify(scene.nft.applied.at(-1));
  assert.doesNotMatch(last, /"element"|"flush":{"set"/);
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1', '192.0.2.0/24']);
});

test("survive-111 somebody else's change of a set is told and put right, with what was added", async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable('192.0.2.0/24'));
  await add(scene, '10.0.0.1');
  const set = { family: 'inet', table: 'gatehouse', name: 'bad_4' };
  scene.nft.changeFromOutside([
    { flush: { set } },
    { add: { element: { ...set, elem: ['10.9.9.9'] } } },
  ]);
  await scene.look();
  assert.deepEqual(scene.taken(), [
    'somebody else changed table inet gatehouse: 192.0.2.0/24 was removed from the set bad_4, ' +
      '10.0.0.1 was removed from the set bad_4, 10.9.9.9 was added to the set bad_4',
    'table inet gatehouse is as it should be again',
  ]);
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1', '192.0.2.0/24']);
});

test('a set that cannot be changed comes with the whole ruleset', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable());
  await add(scene, '10.0.0.1');
  const set = { family: 'inet', table: 'gatehouse', name: 'bad_4' };
  scene.nft.changeFromOutside([{ flush: { set } }]);
  const removed = await scene.keeper.changeSets(
    () => scene.entries.remove('bad', requirePrefix('10.0.0.1')) ?? [],
  );
  assert.deepEqual(removed, { success: true });
  assert.match(scene.taken()[0] ?? '', /whole ruleset is applied, .* cannot be changed: ENOENT$/);
  assert.deepEqual(await elementsIn(scene), []);
  const many = Array.from({ length: 1_001 }, (_, index) => `10.2.${index >> 8}.${index & 255}`);
  assert.deepEqual(await add(scene, ...many), { success: true });
  assert.equal((await elementsIn(scene))?.length, many.length);
  assert.equal(scene.nft.applied.length, 3);
});

test('what nft does not take is tried again with the entries of then', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => withTable());
  scene.nft.failWith({ kind: 'hung' });
  const { success } = await add(scene, '10.0.0.1');
  assert.ok(!success);
  assert.equal(scene.keeper.inForce, 'unknown');
  const again = await add(scene, '10.0.0.2');
  assert.ok(!again.success);
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1', '10.0.0.2']);
  assert.equal(scene.keeper.inForce, 'config');
});

test('before anything is wanted, an entry waits for the first ruleset', async () => {
  const scene = new Scene();
  assert.deepEqual(await add(scene, '10.0.0.1'), { success: true });
  assert.equal(scene.nft.applied.length, 0);
  await scene.keeper.apply(() => withTable());
  assert.deepEqual(await elementsIn(scene), ['10.0.0.1']);
});
