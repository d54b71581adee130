import assert from 'node:assert/strict';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { compileRuleset, type NftDocument } from '../../firewall/nft-document.ts';
import type { NftTable } from '../../firewall/nft-table.ts';
import { planRuleset, safeRuleset } from '../../firewall/plan-ruleset.ts';
import { tableDiffers } from '../../firewall/table-difference.ts';
import { FakeNft } from '../../testing/fake-nft.ts';
import { modelWithRules } from '../../testing/firewall-models.ts';
import { openNft } from '../nft.ts';
import type { NftWatchOptions } from '../nft-watch.ts';
import { RulesetKeeper, type WantedRuleset } from './ruleset-keeper.ts';

/** The machine's settings that switch forwarding, by their files; the real ones stay untouched. */
const settings = new Map<string, string>();

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout'] });
  settings.clear();
  for (const name of ['ipv4/ip_forward', 'ipv6/conf/all/forwarding']) {
    settings.set(`/proc/sys/net/${name}`, '0');
  }
  const { readFileSync, writeFileSync } = fs;
  mock.method(fs, 'readFileSync', (path: string, ...rest: []) => {
    return settings.get(path) ?? readFileSync(path, ...rest);
  });
  mock.method(fs, 'writeFileSync', (path: string, text: string, ...rest: []) => {
    if (settings.has(path)) settings.set(path, text);
    else writeFileSync(path, text, ...rest);
  });
  syncBuiltinESMExports();
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  syncBuiltinESMExports();
});

function isForwarding(): boolean {
  return [...settings.values()].every((value) => value === '1');
}

function config(...names: string[]): WantedRuleset {
  return { kind: 'config', ruleset: planRuleset(modelWithRules(names)) };
}

const safe: WantedRuleset = { kind: 'safe', ruleset: safeRuleset(modelWithRules([])) };

/** A keeper over a kernel in memory, whose watch looks when it is told to. */
class Scene {
  readonly nft = new FakeNft();
  readonly alarms: string[] = [];
  restores = true;
  /** What is wanted instead when somebody else has changed the table. */
  other: WantedRuleset | undefined;
  expected: NftTable | undefined;
  watchStopped = false;
  /** How often sessions had to be judged anew. */
  rulesChanges = 0;
  judgementsStay = false;
  readonly keeper: RulesetKeeper;
  #watched: NftWatchOptions | undefined;

  constructor() {
    this.keeper = new RulesetKeeper({
      nft: this.nft,
      restores: () => this.restores,
      onForeignChange: () => this.other,
      onRulesChange: () => {
        this.rulesChanges++;
        if (this.judgementsStay) throw new Error('EPERM');
      },
      alarm: (text) => this.alarms.push(text),
      startWatch: (options) => {
        this.#watched = options;
        return {
          expect: (table) => {
            this.expected = table;
          },
          change: (table, act) => {
            act();
            this.expected = table;
          },
          stop: async () => {
            this.watchStopped = true;
          },
        };
      },
    });
  }

  /** As the watch does each second, with what follows. */
  async look(): Promise<void> {
    if (this.expected === undefined) return;
    const listing = await this.nft.list();
    if (!listing.success) this.#watched?.onFailure(listing);
    else {
      const difference = tableDiffers(this.expected, listing.table);
      if (difference === undefined) this.#watched?.onAgreement?.();
      else this.#watched?.onDifference(difference);
    }
    await this.rest();
  }

  /** Until the keeper waits for its timer. */
  async rest(): Promise<void> {
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
  }

  async holds({ ruleset }: WantedRuleset): Promise<boolean> {
    const fault = new FakeNft();
    await fault.apply(compileRuleset(ruleset, { replacing: 'rules' }));
    const [wanted, listing] = [await fault.list(), await this.nft.list()];
    assert.ok(wanted.success && wanted.table !== undefined && listing.success);
    return tableDiffers(wanted.table, listing.table) === undefined;
  }

  taken(): string[] {
    return this.alarms.splice(0);
  }
}

test('survive-113 everything is refused first, and only then is forwarding switched on', async () => {
  const scene = new Scene();
  mock.method(scene.nft, 'apply', async (document: NftDocument) => {
    assert.ok(!isForwarding());
    return FakeNft.prototype.apply.call(scene.nft, document);
  });
  await scene.keeper.protect();
  assert.equal(scene.keeper.inForce, 'posture');
  assert.ok(scene.keeper.forwarding && isForwarding());
  assert.equal(scene.nft.applied.length, 1);
});

test('survive-106 rules that an earlier process left stay until the first are applied', async () => {
  const before = new Scene();
  await before.keeper.apply(() => config('r1'));
  const scene = new Scene();
  mock.method(scene.nft, 'list', () => before.nft.list());
  await scene.keeper.protect();
  assert.equal(scene.nft.applied.length, 0);
  assert.equal(scene.keeper.inForce, 'unknown');
  assert.ok(scene.keeper.forwarding && isForwarding());
});

test('survive-108 without rules nothing is forwarded, and that is tried again', async () => {
  const scene = new Scene();
  for (const path of settings.keys()) settings.set(path, '1');
  scene.nft.failWith({ kind: 'missing' });
  await scene.keeper.protect();
  assert.ok(!scene.keeper.forwarding && !isForwarding());
  assert.equal(scene.keeper.inForce, 'unknown');
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.ok(scene.keeper.forwarding && isForwarding());
  assert.equal(scene.keeper.inForce, 'posture');
});

test('survive-113 forwarding that waited for nft is on with the first rules', async () => {
  const scene = new Scene();
  scene.nft.failWith({ kind: 'hung' });
  await scene.keeper.protect();
  assert.ok(!scene.keeper.forwarding && !isForwarding());
  scene.nft.failWith(undefined);
  const { apply } = scene.nft;
  mock.method(scene.nft, 'apply', (document: NftDocument) => {
    assert.ok(!isForwarding());
    return apply.call(scene.nft, document);
  });
  await scene.keeper.apply(() => config('r1'), { insists: true });
  assert.ok(scene.keeper.forwarding && isForwarding());
});

test('sessions are judged anew after every change of what nft says, whoever made it', async () => {
  const scene = new Scene();
  const { apply } = scene.nft;
  const changesBefore: number[] = [];
  mock.method(scene.nft, 'apply', (document: NftDocument) => {
    changesBefore.push(scene.rulesChanges);
    return apply.call(scene.nft, document);
  });
  await scene.keeper.apply(() => config('r1'));
  assert.deepEqual([changesBefore, scene.rulesChanges], [[0], 1]);
  scene.restores = false;
  scene.nft.flushEverything();
  await scene.look();
  assert.deepEqual([changesBefore, scene.rulesChanges], [[0], 2]);
  scene.nft.failWith({ kind: 'hung' });
  await scene.keeper.apply(() => config('r2'));
  assert.deepEqual([changesBefore, scene.rulesChanges], [[0, 2], 3]);
});

test('rules come into force also where sessions cannot be judged anew, and that is told', async () => {
  const scene = new Scene();
  scene.judgementsStay = true;
  const wanted = config('r1');
  assert.deepEqual(await scene.keeper.apply(() => wanted), { success: true });
  assert.ok(await scene.holds(wanted));
  const told = 'open connections go on as the rules of before judged them: EPERM';
  assert.deepEqual(scene.taken(), [told]);
});

test('a keeper that was never asked to protect leaves forwarding alone', async () => {
  for (const value of ['0', '1']) {
    for (const path of settings.keys()) settings.set(path, value);
    const scene = new Scene();
    await scene.keeper.apply(() => config('r1'));
    scene.nft.failWith({ kind: 'hung' });
    await scene.keeper.apply(() => config('r2'));
    mock.timers.tick(2_000);
    await scene.rest();
    scene.nft.failWith(undefined);
    mock.timers.tick(2_000);
    await scene.rest();
    assert.equal(scene.keeper.inForce, 'config');
    assert.deepEqual([...settings.values()], [value, value]);
  }
});

test('a ruleset is put in force in one transaction and watched from then on', async () => {
  const scene = new Scene();
  assert.equal(scene.keeper.inForce, 'unknown');
  const wanted = config('r1', 'r2');
  assert.deepEqual(await scene.keeper.apply(() => wanted), { success: true });
  assert.equal(scene.nft.applied.length, 1);
  assert.ok(await scene.holds(wanted));
  assert.equal(scene.keeper.inForce, 'config');
  assert.ok(scene.expected !== undefined);
  const ruleCount = wanted.ruleset.chains.reduce((sum, { rules }) => sum + rules.length, 0);
  assert.equal(scene.keeper.ruleCount, ruleCount);
  await scene.look();
  assert.deepEqual(scene.taken(), []);
});

test('survive-107 a refused ruleset leaves the one before in force, wanted and watched', async () => {
  const scene = new Scene();
  const before = config('r1');
  await scene.keeper.apply(() => before);
  scene.nft.failWith({ kind: 'refused', rule: 'bad' });
  const result = await scene.keeper.apply(() => config('bad'));
  assert.ok(!result.success && result.unchanged);
  assert.equal(result.failure.rule, 'bad');
  scene.nft.failWith(undefined);
  assert.ok(await scene.holds(before));
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.keeper.trouble, undefined);
  scene.nft.flushEverything();
  await scene.look();
  assert.ok(await scene.holds(before));
});

test('survive-108 nft that dies after the change is seen to have made it', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  scene.nft.failWith({ kind: 'crashed after the change' });
  assert.deepEqual(await scene.keeper.apply(() => wanted), { success: true });
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.keeper.trouble, undefined);
  assert.deepEqual(scene.taken(), []);
});

test('survive-108 where nft hangs, what is in force is not known', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => config('r1'));
  for (const kind of ['hung', 'crashed', 'too much output'] as const) {
    scene.nft.failWith({ kind });
    const result = await scene.keeper.apply(() => config('r2'));
    assert.ok(!result.success && !result.unchanged);
    assert.equal(scene.keeper.inForce, 'unknown');
    assert.equal(scene.keeper.ruleCount, 0);
    assert.match(scene.keeper.trouble ?? '', /^nft: /);
  }
});

test('survive-108 nft that is missing has certainly changed nothing', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => config('r1'));
  scene.nft.failWith({ kind: 'missing' });
  const result = await scene.keeper.apply(() => config('r2'));
  assert.ok(!result.success && result.unchanged);
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.keeper.trouble, 'nft: cannot run nft: no such program');
});

test('survive-108 what is insisted on is tried again until it is in force', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  scene.nft.failWith({ kind: 'hung' });
  assert.ok(!(await scene.keeper.apply(() => wanted, { insists: true })).success);
  for (let count = 0; count < 3; count++) {
    mock.timers.tick(2_000);
    await scene.rest();
  }
  assert.equal(scene.keeper.inForce, 'unknown');
  assert.equal(scene.taken().length, 1, 'the same trouble is told once');
  scene.nft.failWith(undefined);
  mock.timers.tick(1_999);
  await scene.rest();
  assert.equal(scene.keeper.inForce, 'unknown');
  mock.timers.tick(1);
  await scene.rest();
  assert.equal(scene.keeper.inForce, 'config');
  assert.ok(await scene.holds(wanted));
  assert.equal(scene.keeper.trouble, undefined);
  assert.deepEqual(scene.taken(), ['nft works again']);
});

test('survive-108 a change that is rolled back is not what is tried again', async () => {
  const scene = new Scene();
  const [before, change] = [config('r1'), config('r2')];
  await scene.keeper.apply(() => before);
  scene.nft.failWith({ kind: 'hung' });
  await scene.keeper.apply(() => change);
  scene.nft.failWith({ kind: 'missing' });
  await scene.keeper.apply(() => before);
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.ok(await scene.holds(before));
  assert.equal(scene.keeper.inForce, 'config');
});

test('survive-122 without memory for its document nft is missing, and drift is watched on', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  using scarcity = makeFilesScarce(scene);
  const result = await scene.keeper.apply(() => config('r2'));
  assert.ok(!result.success && result.unchanged);
  assert.equal(result.failure.reason, 'missing');
  assert.match(result.failure.message, /^cannot run nft: .*no file is left$/);
  assert.equal(scene.keeper.inForce, 'config');
  scene.nft.flushEverything();
  await scene.look();
  assert.match(scene.keeper.trouble ?? '', /no file is left$/);
  scarcity.end();
  await scene.look();
  assert.ok(await scene.holds(wanted));
  assert.equal(scene.keeper.trouble, undefined);
});

test('survive-111 somebody else’s change is told and put right', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  scene.nft.flushEverything();
  await scene.look();
  assert.ok(await scene.holds(wanted));
  const [told, done] = scene.taken();
  assert.match(told ?? '', /^somebody else changed table inet gatehouse: /);
  assert.equal(done, 'table inet gatehouse is as it should be again');
  await scene.look();
  assert.deepEqual(scene.taken(), []);
});

test('survive-111 a chain on another hook is put right with the whole table', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  scene.nft.changeFromOutside(movedChains(compileRuleset(wanted.ruleset, { replacing: 'table' })));
  assert.ok(!(await scene.holds(wanted)));
  await scene.look();
  assert.ok(await scene.holds(wanted));
});

test('survive-111 a ruleset replaces the whole table where its chains are not as ours', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  scene.nft.changeFromOutside(movedChains(compileRuleset(wanted.ruleset, { replacing: 'table' })));
  assert.deepEqual(await scene.keeper.apply(() => wanted), { success: true });
  assert.ok(await scene.holds(wanted));
});

test('survive-111 where the config says so, a change is told and stays until the next apply', async () => {
  const scene = new Scene();
  scene.restores = false;
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  scene.nft.flushEverything();
  for (let count = 0; count < 3; count++) await scene.look();
  assert.equal(scene.nft.applied.length, 1);
  assert.equal(scene.keeper.inForce, 'unknown');
  const told = 'somebody else changed table inet gatehouse: the table is gone';
  assert.equal(scene.keeper.trouble, told);
  assert.deepEqual(scene.taken(), [told], 'the same change is told once');
  await scene.keeper.apply(() => wanted);
  assert.equal(scene.keeper.trouble, undefined);
  assert.equal(scene.keeper.inForce, 'config');
  assert.ok(await scene.holds(wanted));
});

test('survive-111 a change that is left as it is may be undone by whoever made it', async () => {
  const scene = new Scene();
  scene.restores = false;
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  scene.nft.flushEverything();
  await scene.look();
  assert.equal(scene.keeper.inForce, 'unknown');
  scene.nft.changeFromOutside(compileRuleset(wanted.ruleset, { replacing: 'table' }).nftables);
  scene.taken();
  for (let count = 0; count < 3; count++) await scene.look();
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.keeper.trouble, undefined);
  assert.deepEqual(scene.taken(), [
    'table inet gatehouse is as it should be again, by somebody else',
  ]);
});

test('survive-111 where changes are only told, nft that works again restores nothing', async () => {
  const scene = new Scene();
  scene.restores = false;
  await scene.keeper.apply(() => config('r1'));
  scene.nft.flushEverything();
  await scene.look();
  scene.nft.failWith({ kind: 'hung' });
  await scene.look();
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.equal(scene.nft.applied.length, 1);
  assert.match(scene.keeper.trouble ?? '', /^somebody else changed/);
});

test('the panic button without us is taken up, also where changes are only told', async () => {
  const scene = new Scene();
  scene.restores = false;
  await scene.keeper.apply(() => config('r1'));
  scene.nft.flushEverything();
  scene.other = safe;
  await scene.look();
  assert.equal(scene.keeper.inForce, 'safe');
  assert.ok(await scene.holds(safe));
});

test('survive-111 nft that fails while a change is put right is tried again', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  await scene.keeper.apply(() => wanted);
  scene.nft.flushEverything();
  const looking = scene.look();
  await Promise.resolve();
  scene.nft.failWith({ kind: 'crashed' });
  await looking;
  assert.equal(scene.keeper.inForce, 'unknown');
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.ok(await scene.holds(wanted));
  assert.equal(scene.keeper.inForce, 'config');
});

test('a listing that fails is told once, and again when it fails differently', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => config('r1'));
  for (const kind of ['hung', 'hung', 'crashed', 'crashed'] as const) {
    scene.nft.failWith({ kind });
    await scene.look();
  }
  assert.deepEqual(scene.taken(), [
    'nft: nft ran longer than 30000 ms',
    'nft: nft was ended by the signal SIGSEGV',
  ]);
  scene.nft.failWith(undefined);
  mock.timers.tick(2_000);
  await scene.rest();
  assert.equal(scene.keeper.trouble, undefined);
  assert.equal(scene.keeper.inForce, 'config');
});

test('requests to nft are made one at a time, in the order in which they were asked', async () => {
  const scene = new Scene();
  const [one, two] = [config('r1'), config('r2')];
  let runningCount = 0;
  const apply = scene.nft.apply.bind(scene.nft);
  mock.method(scene.nft, 'apply', async (document: NftDocument) => {
    assert.equal(runningCount++, 0);
    await new Promise(setImmediate);
    const result = await apply(document);
    runningCount--;
    return result;
  });
  const asked = [
    scene.keeper.apply(() => one),
    scene.keeper.apply(() => two),
    scene.keeper.apply(() => one),
  ];
  await Promise.all(asked);
  assert.equal(scene.nft.applied.length, 3);
  assert.ok(await scene.holds(one));
});

test('what is wanted is decided in turn, and what follows from it comes before the next', async () => {
  const scene = new Scene();
  const log: string[] = [];
  const ask = (name: string) =>
    scene.keeper.apply(
      () => {
        log.push(`decide ${name}`);
        return config(name);
      },
      { onSuccess: () => log.push(`follow ${name}`) },
    );
  const asked = [ask('r1'), ask('r2')];
  await Promise.all(asked);
  scene.nft.failWith({ kind: 'missing' });
  await ask('r3');
  assert.deepEqual(log, ['decide r1', 'follow r1', 'decide r2', 'follow r2', 'decide r3']);
});

test('while a ruleset is applied nothing is compared', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => config('r1'));
  const apply = scene.nft.apply.bind(scene.nft);
  const expectedMeanwhile: unknown[] = [];
  mock.method(scene.nft, 'apply', (document: NftDocument) => {
    expectedMeanwhile.push(scene.expected);
    return apply(document);
  });
  await scene.keeper.apply(() => config('r2'));
  assert.deepEqual(expectedMeanwhile, [undefined]);
  assert.ok(scene.expected !== undefined);
});

test('a keeper that is stopped waits for nft, leaves the kernel alone and sets no timer', async () => {
  const scene = new Scene();
  const wanted = config('r1');
  const gate = Promise.withResolvers<void>();
  const apply = scene.nft.apply.bind(scene.nft);
  mock.method(scene.nft, 'apply', async (document: NftDocument) => {
    await gate.promise;
    scene.nft.failWith({ kind: 'hung' });
    return apply(document);
  });
  const applying = scene.keeper.apply(() => wanted, { insists: true });
  let isStopped = false;
  const stopping = scene.keeper.stop().then(() => {
    isStopped = true;
  });
  await new Promise(setImmediate);
  assert.ok(scene.watchStopped && !isStopped);
  gate.resolve();
  assert.ok(!(await applying).success);
  await stopping;
  scene.nft.failWith(undefined);
  mock.timers.tick(60_000);
  await new Promise(setImmediate);
  assert.equal(scene.nft.applied.length, 1);
});

/** The real nft, on a machine that has no memory and no file left for what it is given. */
function makeFilesScarce({ nft }: Scene): { end(): void; [Symbol.dispose](): void } {
  const program = openNft({ program: '/bin/false' });
  const apply = mock.method(nft, 'apply', (document: NftDocument) => program.apply(document));
  const write = mock.method(fs, 'writeSync', () => {
    throw new Error('no file is left');
  });
  syncBuiltinESMExports();
  const end = () => {
    apply.mock.restore();
    write.mock.restore();
    syncBuiltinESMExports();
  };
  return { end, [Symbol.dispose]: end };
}

/** Ours, with every base chain on another priority, as somebody may have made it. */
function movedChains({ nftables }: NftDocument): NftDocument['nftables'] {
  return nftables.map((command) => {
    if (!('add' in command) || !('chain' in command.add)) return command;
    const { chain } = command.add;
    return chain.prio === undefined
      ? command
      : { add: { chain: { ...chain, prio: chain.prio + 7 } } };
  });
}

test('a repair that nft cannot be given stays told as trouble, and is told once', async () => {
  const scene = new Scene();
  await scene.keeper.apply(() => config('r1'));
  using _ = makeFilesScarce(scene);
  scene.nft.flushEverything();
  for (let round = 0; round < 4; round++) {
    await scene.look();
    mock.timers.tick(2_000);
    await scene.rest();
  }
  assert.ok(scene.taken().length <= 2);
  assert.equal(scene.keeper.inForce, 'unknown');
  assert.ok(scene.keeper.trouble !== undefined);
});
