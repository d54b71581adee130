import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import type { NftDocument } from '../../firewall/nft-document.ts';
import type { Change } from '../../gateway/change/change-machine.ts';
import {
  type CompiledConfiguration,
  compileConfiguration,
} from '../../gateway/compile-configuration.ts';
import {
  asControlAnswer,
  type ControlReply,
  type ControlRequest,
} from '../../messages/control-messages.ts';
import { FakeNft } from '../../testing/fake-nft.ts';
import { openChangeRecords } from '../store/change-records.ts';
import { StorageError } from '../store/storage-error.ts';
import { openStore } from '../store/store.ts';
import { bootId } from './boot-id.ts';

import { CoreChanges } from './core-changes.ts';
import { RulesetKeeper } from './ruleset-keeper.ts';
import { readSafeMode, switchSafeModeOn } from './safe-mode.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-core-changes-'));
after(() => rmSync(root, { recursive: true }));

/** A home whose firewall has these rules; each of them drops what goes out. */
function configText(...rules: string[]): string {
  const listed = rules.map((name) => `    - { name: ${name}, action: drop, from: lan, to: wan }\n`);
  return [
    'version: 1\n',
    'wan: { interface: wan0, address: 198.51.100.1/24, gateway: 198.51.100.254 }\n',
    'networks:\n  lan: { interfaces: [lan0], address: 10.77.0.1/24 }\n',
    `firewall:\n  rules:${listed.length === 0 ? ' []\n' : `\n${listed.join('')}`}`,
  ].join('');
}

function compiledOf(text: string): CompiledConfiguration {
  const { compiled, problems } = compileConfiguration(text, { fileName: 'gatehouse.yaml' });
  assert.ok(compiled !== undefined, problems ?? '');
  return compiled;
}

const first = configText();
const second = configText('r1');

class Scene {
  readonly nft = new FakeNft();
  readonly alarms: string[] = [];
  readonly followed: string[] = [];
  readonly state: string;
  readonly configFile: string;
  readonly keeper: RulesetKeeper;
  readonly changes: CoreChanges;
  readonly records: ReturnType<typeof openChangeRecords>;
  compileCount = 0;
  /** So many times nothing can be compiled. */
  compileFailures = 0;
  forwardedTraffic: 'conntrack' | 'sessions' = 'conntrack';

  constructor(t: TestContext) {
    const folder = mkdtempSync(join(root, 'instance-'));
    this.state = join(folder, 'state');
    mkdirSync(this.state);
    this.configFile = join(folder, 'gatehouse.yaml');
    writeFileSync(this.configFile, first);
    const store = openStore(this.state, { alarm: ({ kind }) => assert.fail(kind) });
    this.records = openChangeRecords(store);
    this.keeper = new RulesetKeeper({
      nft: this.nft,
      restores: () => true,
      onForeignChange: () => undefined,
      onRulesChange: () => {},
      alarm: (text) => this.alarms.push(text),
      startWatch: () => ({ expect: () => {}, change: (_, act) => act(), stop: async () => {} }),
    });
    this.changes = new CoreChanges({
      // Stands for the rollback guard's process.
      program: ['/bin/true'],
      configFile: this.configFile,
      stateFolder: this.state,
      keeper: this.keeper,
      records: this.records,
      compile: async (text) => {
        this.compileCount++;
        if (this.compileFailures-- > 0) return { problems: 'no thread is left' };
        const { forwardedTraffic } = this;
        return compileConfiguration(text, { fileName: 'gatehouse.yaml', forwardedTraffic });
      },
      forwardedTraffic: () => this.forwardedTraffic,
      onInForce: ({ configText: text }) => this.followed.push(text),
      alarm: (text) => this.alarms.push(text),
    });
    t.after(async () => {
      await this.changes.stop();
      await this.keeper.stop();
      store.close();
    });
  }

  get fileText(): string {
    return readFileSync(this.configFile, 'utf8');
  }

  /** What lies beside the config file under its name. */
  get keptBytes(): Buffer[] {
    const folder = dirname(this.configFile);
    return readdirSync(folder)
      .filter((name) => name.startsWith(`${basename(this.configFile)}.`))
      .map((name) => readFileSync(join(folder, name)));
  }

  /** The ruleset that nft was given last, as text. */
  get newestDocument(): string {
    return JSON.stringify(this.nft.applied.at(-1));
  }

  apply(text: string, terms: Partial<Extract<ControlRequest, { kind: 'apply' }>> = {}) {
    const usual = { author: 'admin', windowMs: 60_000, forced: false };
    return this.changes.apply({ kind: 'apply', id: 1, configText: text, ...usual, ...terms });
  }

  decide(kind: 'confirm' | 'rollback', changeId?: string) {
    const which = changeId === undefined ? {} : { changeId };
    return this.changes.decide({ kind, id: 1, author: 'admin', ...which });
  }

  get revisionCount(): number {
    return this.records.revisions.list().length;
  }
}

async function begun(t: TestContext): Promise<Scene> {
  const scene = new Scene(t);
  await scene.changes.begin(compiledOf(first));
  return scene;
}

function refusalOf(reply: ControlReply): string {
  assert.ok(asControlAnswer({ ...reply, id: 1 }) !== undefined, JSON.stringify(reply));
  assert.ok(reply.kind === 'refused', JSON.stringify(reply));
  return reply.code;
}

function outcomeOf(reply: ControlReply): string {
  assert.ok(asControlAnswer({ ...reply, id: 1 }) !== undefined, JSON.stringify(reply));
  assert.ok(reply.kind === 'change', JSON.stringify(reply));
  return reply.outcome;
}

test('the first configuration is in force and a revision, once', async (t) => {
  const scene = await begun(t);
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.revision, 1);
  await scene.changes.begin(compiledOf(first));
  assert.equal(scene.revisionCount, 1);
  const [[, revision] = []] = scene.records.revisions.list();
  assert.equal(revision?.author, 'the config file');
  assert.equal(scene.changes.underWay, undefined);
});

test('a change is applied, told of while it waits, confirmed and written to the file', async (t) => {
  const scene = await begun(t);
  const reply = await scene.apply(second);
  assert.equal(outcomeOf(reply), 'applied');
  assert.ok(reply.kind === 'change' && (reply.rollbackInMs ?? 0) > 50_000);
  const { change, phase, rollbackInMs } = scene.changes.underWay ?? {};
  assert.deepEqual([change?.author, phase], ['admin', 'waiting']);
  assert.ok(rollbackInMs !== undefined && rollbackInMs <= 60_000);
  assert.equal(scene.fileText, first);
  assert.equal(scene.changes.revision, undefined);
  const confirmed = await scene.decide('confirm');
  assert.equal(outcomeOf(confirmed), 'confirmed');
  assert.ok(confirmed.kind === 'change' && confirmed.revision === 2);
  await scene.changes.stop();
  assert.equal(scene.fileText, second);
  assert.equal(scene.records.pending(), undefined);
  assert.deepEqual(scene.followed, [first, second]);
  assert.equal(scene.changes.running?.configText, second);
});

test('a change is rolled back on request, and by its number', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  assert.equal(refusalOf(await scene.decide('rollback', 'c-other')), 'no-such-change');
  const id = scene.changes.underWay?.change.id;
  assert.equal(outcomeOf(await scene.decide('rollback', id)), 'rolled-back');
  assert.equal(scene.changes.running?.configText, first);
  assert.equal(scene.changes.revision, 1);
  assert.equal(scene.fileText, first);
  assert.equal(refusalOf(await scene.decide('rollback')), 'no-such-change');
  assert.equal(refusalOf(await scene.decide('confirm')), 'no-such-change');
});

test('an earlier revision is applied as any other change', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  await scene.decide('confirm');
  const terms = { author: 'admin', windowMs: 60_000, forced: false };
  const request = { kind: 'apply-revision', id: 1, ...terms } as const;
  const missing = await scene.changes.applyRevision({ ...request, revision: 9 });
  assert.equal(refusalOf(missing), 'no-such-revision');
  const reply = await scene.changes.applyRevision({ ...request, revision: 1 });
  assert.equal(outcomeOf(reply), 'applied');
  assert.equal(scene.changes.running?.configText, first);
});

test('a config with problems is refused with all of them, and nothing is touched', async (t) => {
  const scene = await begun(t);
  const reply = await scene.apply('version: 1\nnetwork: {}\nwans: {}\n');
  assert.equal(refusalOf(reply), 'config-problems');
  assert.ok(reply.kind === 'refused');
  assert.match(reply.reason, /gatehouse.yaml:2:1: .*\n.*gatehouse.yaml:3:1: /);
  assert.equal(scene.nft.applied.length, 1);
  assert.equal(scene.records.pending(), undefined);
});

test('folders cannot change while the program runs, also when forced', async (t) => {
  const scene = await begun(t);
  const text = `${first}paths: { state: /var/lib/other }\n`;
  assert.equal(refusalOf(await scene.apply(text)), 'needs-restart');
  assert.equal(refusalOf(await scene.apply(text, { forced: true })), 'needs-restart');
});

test('survive-110 an edit of the file that the change does not know is not overwritten', async (t) => {
  const scene = await begun(t);
  writeFileSync(scene.configFile, configText('edited'));
  assert.equal(refusalOf(await scene.apply(second)), 'config-file-edited');
  assert.equal(outcomeOf(await scene.apply(configText('edited'))), 'applied');
  await scene.decide('rollback');
  assert.equal(scene.fileText, first);
  writeFileSync(scene.configFile, configText('edited'));
  assert.equal(outcomeOf(await scene.apply(second, { forced: true })), 'applied');
});

test('survive-109 a change that cuts the asker’s own way in is refused unless forced', async (t) => {
  const scene = await begun(t);
  const access = { clientAddress: '10.77.0.9', gatewayAddress: '10.77.0.1', gatewayPort: 22 };
  const text = first.replace('10.77.0.1/24', '10.78.0.1/24');
  const reply = await scene.apply(text, { access });
  assert.equal(refusalOf(reply), 'cuts-own-access');
  assert.equal(scene.nft.applied.length, 1);
  assert.equal(outcomeOf(await scene.apply(text, { access, forced: true })), 'applied');
});

test('survive-107 a ruleset that nft refuses names its rule, and the old one stays', async (t) => {
  const scene = await begun(t);
  scene.nft.failWith({ kind: 'refused', rule: 'r1' });
  const reply = await scene.apply(second);
  assert.equal(refusalOf(reply), 'ruleset-refused');
  assert.ok(reply.kind === 'refused');
  assert.match(reply.reason, /^rule r1 is refused: /);
  scene.nft.failWith(undefined);
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.running?.configText, first);
  await scene.changes.stop();
  assert.equal(scene.records.pending(), undefined);
});

test('a time to confirm that is too short or too long is refused', async (t) => {
  const scene = await begun(t);
  for (const windowMs of [0, 4_999, 24 * 3_600_000 + 1, Number.MAX_SAFE_INTEGER]) {
    assert.equal(refusalOf(await scene.apply(second, { windowMs })), 'window-out-of-range');
  }
  assert.equal(scene.records.pending(), undefined);
});

test('survive-110 one request at a time: the other is told who is at it', async (t) => {
  const scene = await begun(t);
  const [one, other] = await Promise.all([scene.apply(second), scene.apply(configText('r2'))]);
  assert.equal(outcomeOf(one), 'applied');
  assert.equal(refusalOf(other), 'busy');
  const third = await scene.apply(configText('r3'));
  assert.equal(refusalOf(third), 'busy');
  assert.ok(third.kind === 'refused');
  assert.match(
    third.reason,
    /^change [0-9a-f]{8} of admin is under way: confirm it or roll it back/,
  );
});

test('safe mode is in force at once, under the next config too, until it is switched off', async (t) => {
  const scene = await begun(t);
  const on = await scene.changes.setSafeMode({ on: true, author: 'admin' });
  assert.deepEqual(on, { kind: 'safe-mode', on: true });
  assert.equal(scene.keeper.inForce, 'safe');
  assert.equal(readSafeMode(scene.state)?.author, 'admin');
  await scene.apply(second);
  assert.equal(scene.keeper.inForce, 'safe');
  await scene.decide('confirm');
  const off = await scene.changes.setSafeMode({ on: false, author: 'admin' });
  assert.deepEqual(off, { kind: 'safe-mode', on: false });
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.running?.configText, second);
});

test('safe mode that is switched off while a change is applied leaves what runs', async (t) => {
  const scene = await begun(t);
  await scene.changes.setSafeMode({ on: true, author: 'admin' });
  const [gate, isIn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const apply = scene.nft.apply.bind(scene.nft);
  t.mock.method(scene.nft, 'apply', async (document: NftDocument) => {
    isIn.resolve();
    await gate.promise;
    return apply(document);
  });
  const applying = scene.apply(second);
  await isIn.promise;
  const switching = scene.changes.setSafeMode({ on: false, author: 'admin' });
  gate.resolve();
  await Promise.all([applying, switching]);
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.running?.configText, second);
  assert.match(scene.newestDocument, /r1/);
});

test('survive-119 safe mode is in force also where it cannot be written, and then off', async (t) => {
  const scene = await begun(t);
  rmSync(scene.state, { recursive: true });
  writeFileSync(scene.state, '');
  const on = await scene.changes.setSafeMode({ on: true, author: 'admin' });
  assert.deepEqual(on, { kind: 'safe-mode', on: true });
  assert.equal(scene.keeper.inForce, 'safe');
  assert.equal(scene.changes.safeMode?.author, 'admin');
  assert.equal(scene.changes.wantedNow(), undefined);
  assert.ok(scene.alarms.some((text) => text.includes('until the next start of gatehouse')));
  await scene.changes.setSafeMode({ on: false, author: 'admin' });
  assert.equal(scene.keeper.inForce, 'config');
  assert.deepEqual([scene.changes.safeMode], [undefined]);
  rmSync(scene.state);
  mkdirSync(scene.state);
  await scene.changes.setSafeMode({ on: true, author: 'second' });
  assert.equal(readSafeMode(scene.state)?.author, 'second');
  assert.equal(scene.changes.safeMode?.author, 'second');
});

test('survive-119 a disk that takes no revision keeps no configuration from its start', async (t) => {
  const scene = new Scene(t);
  t.mock.method(scene.records, 'recordRevision', () => {
    throw new StorageError('storage-full', 'the disk is full');
  });
  await scene.changes.begin(compiledOf(first));
  assert.equal(scene.keeper.inForce, 'config');
  assert.deepEqual(scene.alarms, ['cannot record the revision: the disk is full']);
});

test('survive-110 an edit made while a change waits is kept when that is confirmed', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  const edit = configText('edited_meanwhile');
  writeFileSync(scene.configFile, edit);
  const id = scene.changes.underWay?.change.id;
  await scene.decide('confirm');
  await scene.changes.stop();
  assert.equal(scene.fileText, second);
  assert.equal(readFileSync(`${scene.configFile}.replaced-${id}`, 'utf8'), edit);
});

test('survive-110 an edit that cannot be read as text is kept when a change is rolled back', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  const edit = Buffer.from('# gr\xf6\xdfer\n', 'latin1');
  writeFileSync(scene.configFile, edit);
  assert.equal(outcomeOf(await scene.decide('rollback')), 'rolled-back');
  assert.equal(scene.fileText, first);
  assert.deepEqual(scene.keptBytes, [edit]);
});

test('a roll-back to a config that this program does not take ends with what runs', async (t) => {
  const scene = new Scene(t);
  const previous = { configText: 'version: 0\n', rulesetText: '' };
  const rest = { id: 'c1', author: 'admin', windowMs: 60_000 };
  const change: Change = { ...rest, previous, next: compiledOf(second) };
  await scene.changes.resume({ phase: 'rolling-back', change }, compiledOf(first));
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.underWay, undefined);
  assert.equal(scene.changes.running?.configText, first);
  assert.ok(scene.alarms.some((text) => text.startsWith('the config of before has problems')));
});

test('safe mode that somebody else switched is wanted, and only then', async (t) => {
  const scene = await begun(t);
  assert.equal(scene.changes.wantedNow(), undefined);
  writeFileSync(join(scene.state, 'safe-mode.json'), '');
  assert.equal(scene.changes.wantedNow()?.kind, 'safe');
  rmSync(join(scene.state, 'safe-mode.json'));
  assert.equal(scene.changes.wantedNow(), undefined);
});

test('before the first configuration is in force, nothing can be asked for', async (t) => {
  const scene = new Scene(t);
  assert.equal(refusalOf(await scene.apply(second)), 'failed');
  const safe = await scene.changes.setSafeMode({ on: true, author: 'admin' });
  assert.equal(refusalOf(safe), 'failed');
  assert.equal(scene.changes.wantedNow(), undefined);
  assert.equal(scene.changes.revision, undefined);
});

test('survive-109 a change that waited when the program ended goes on, in the same boot', async (t) => {
  const scene = new Scene(t);
  const texts = { previous: first, next: second };
  const [previous, next] = [compiledOf(texts.previous), compiledOf(texts.next)];
  const change: Change = { id: 'c1', author: 'admin', previous, next, windowMs: 60_000 };
  const pending = { phase: 'waiting', change, bootId: bootId() } as const;
  await scene.changes.resume({ ...pending, deadlineAt: Number.MAX_SAFE_INTEGER }, previous);
  // A deadline that this boot cannot have set: back.
  assert.equal(scene.changes.underWay, undefined);
  assert.equal(scene.changes.running?.configText, first);
  assert.equal(scene.keeper.inForce, 'config');
});

test('a config that was compiled a moment ago is not compiled again', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  await scene.decide('rollback');
  await scene.apply(second);
  assert.equal(scene.compileCount, 1);
});

test('what stands in the place of the config file is moved aside, and the change ends', async (t) => {
  const scene = await begun(t);
  rmSync(scene.configFile);
  mkdirSync(scene.configFile);
  await scene.apply(second);
  const reply = await scene.decide('confirm');
  assert.equal(outcomeOf(reply), 'confirmed');
  assert.equal(scene.records.pending(), undefined);
  assert.equal(readFileSync(scene.configFile, 'utf8'), second);
  const folder = dirname(scene.configFile);
  assert.ok(readdirSync(folder).some((name) => name.includes('.replaced-')));
});

test('a roll-back while nothing can be compiled brings the old rules back all the same', async (t) => {
  const scene = await begun(t);
  await scene.apply(second);
  scene.compileFailures = 9;
  assert.equal(outcomeOf(await scene.decide('rollback')), 'rolled-back');
  assert.doesNotMatch(scene.newestDocument, /r1/);
});

test('the panic button counts, although safe mode could once not be switched off on disk', async (t) => {
  const scene = await begun(t);
  rmSync(scene.state, { recursive: true });
  writeFileSync(scene.state, '');
  await scene.changes.setSafeMode({ on: true, author: 'a' });
  await scene.changes.setSafeMode({ on: false, author: 'a' });
  rmSync(scene.state);
  mkdirSync(scene.state);
  switchSafeModeOn(scene.state, { sinceMs: 1, author: 'without the core' });
  assert.equal(scene.changes.wantedNow()?.kind, 'safe');
});

test('rules that were compiled for other programs in front of them are compiled again', async (t) => {
  const scene = await begun(t);
  const before = scene.newestDocument;
  scene.forwardedTraffic = 'sessions';
  await scene.changes.compileAgain();
  assert.notEqual(scene.newestDocument, before);
  assert.equal(scene.keeper.inForce, 'config');
  assert.equal(scene.changes.revision, 1);
  // Safe mode has rules of its own, for the same programs.
  await scene.changes.setSafeMode({ on: true, author: 'admin' });
  assert.match(scene.newestDocument, /notrack/);
});
