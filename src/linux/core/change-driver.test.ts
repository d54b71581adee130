import assert from 'node:assert/strict';
import { syncBuiltinESMExports } from 'node:module';
import os from 'node:os';
import { afterEach, beforeEach, mock, test } from 'node:test';
import {
  type Change,
  type ChangeEvent,
  ChangeMachine,
  type PendingChange,
} from '../../gateway/change/change-machine.ts';
import { bootTimeMs, type ChangeActs, ChangeDriver, type Outcome } from './change-driver.ts';

/** Milliseconds since boot. */
let now = 0;

beforeEach(() => {
  now = 1_000_000;
  mock.method(os, 'uptime', () => now / 1_000);
  syncBuiltinESMExports();
  mock.timers.enable({ apis: ['setTimeout'] });
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  syncBuiltinESMExports();
});

const change: Change = {
  id: 'c1',
  author: 'admin',
  previous: { configText: 'old', rulesetText: '' },
  next: { configText: 'new', rulesetText: '' },
  windowMs: 60_000,
};
const request = { kind: 'request', change, cutsOwnAccess: false, forced: false } as const;
const confirm = { kind: 'confirm', changeId: 'c1' } as const;
const rollback = { kind: 'rollback', changeId: 'c1' } as const;
const waiting: PendingChange = { phase: 'waiting', change, bootId: 'b1', deadlineAt: 1_030_000 };

/** A driver over the real machine, and everything that it does, in order. */
class Scene {
  readonly log: string[] = [];
  readonly machine = new ChangeMachine('b1');
  readonly driver: ChangeDriver;
  /** What fails, by the name of the act, so many times. */
  readonly failures = new Map<keyof ChangeActs, number>();
  /** Holds the next applications of a ruleset until they are let go. */
  held: PromiseWithResolvers<Outcome>[] = [];
  #runningCount = 0;

  constructor() {
    this.driver = new ChangeDriver({
      machine: this.machine,
      acts: {
        storePending: ({ phase }) => this.#act('storePending', `store ${phase}`),
        storeConfirmed: () => this.#act('storeConfirmed', 'store confirmed'),
        clearPending: () => this.#act('clearPending', 'clear'),
        applyRuleset: (configuration) => this.#applyRuleset(configuration.configText),
        writeConfig: (text) => this.#act('writeConfig', `write ${text}`),
        restoreConfig: (text, { id }) => this.#act('restoreConfig', `restore ${text} of ${id}`),
      },
      onEvent: (event) => this.log.push(describe(event)),
      onIdle: () => this.log.push('idle'),
    });
  }

  /** What has happened since the last call. */
  taken(): string[] {
    return this.log.splice(0);
  }

  /** Time passes in one leap, as when the machine was suspended: timers see only the first part. */
  async pass(ms: number, options: { timersMs?: number } = {}): Promise<void> {
    now += ms;
    mock.timers.tick(options.timersMs ?? ms);
    await this.driver.settled();
  }

  /** One act at a time, whoever asks for what. */
  #act(name: keyof ChangeActs, words: string): void {
    assert.equal(this.#runningCount, 0, `${words} while another act runs`);
    this.log.push(words);
    const left = this.failures.get(name) ?? 0;
    if (left === 0) return;
    this.failures.set(name, left - 1);
    throw new Error(`${name} fails`);
  }

  async #applyRuleset(text: string): Promise<Outcome> {
    const hold = this.held.shift();
    this.#act('applyRuleset', `apply ${text}`);
    this.#runningCount++;
    try {
      return (await hold?.promise) ?? { success: true };
    } finally {
      this.#runningCount--;
    }
  }
}

function describe(event: ChangeEvent): string {
  if (event.kind === 'request-refused') return `event ${event.kind} ${event.why}`;
  if (event.kind === 'step-failed') return `event ${event.kind} ${event.step}`;
  return 'cause' in event ? `event ${event.kind} ${event.cause}` : `event ${event.kind}`;
}

const made = ['store applying', 'apply new', 'store waiting', 'event change-applied'];
const undone = ['store rolling-back', 'apply old', 'restore old of c1', 'clear'];

test('a change is made, confirmed and forgotten, one act after the other', async () => {
  const scene = new Scene();
  await scene.driver.start(undefined);
  assert.deepEqual(scene.taken(), ['idle']);
  assert.equal((await scene.driver.request(request)).kind, 'change-applied');
  assert.deepEqual(scene.taken(), made);
  assert.equal(scene.driver.rollbackInMs, 60_000);
  now += 10_000;
  assert.equal(scene.driver.rollbackInMs, 50_000);
  assert.equal((await scene.driver.request(confirm)).kind, 'change-confirmed');
  assert.deepEqual(scene.taken(), [
    ...['store confirmed', 'event change-confirmed', 'write new', 'clear', 'idle'],
  ]);
  assert.equal(scene.driver.rollbackInMs, undefined);
  await scene.driver.untilIdle();
});

test('a change that nobody confirms is rolled back at its deadline, and not before', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.taken();
  await scene.pass(59_999);
  assert.deepEqual(scene.taken(), []);
  assert.equal(scene.driver.rollbackInMs, 1);
  await scene.pass(1);
  assert.deepEqual(scene.taken(), [
    'event rollback-begun not-confirmed-in-time',
    ...undone,
    ...['event change-rolled-back not-confirmed-in-time', 'idle'],
  ]);
});

test('a machine that slept through the deadline rolls back within five seconds', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.taken();
  await scene.pass(3_600_000, { timersMs: 5_000 });
  assert.equal(scene.taken().at(-1), 'idle');
  assert.equal(scene.driver.rollbackInMs, undefined);
});

test('a clock that is late by a hundredth makes the driver look again', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.taken();
  await scene.pass(59_990, { timersMs: 60_000 });
  assert.deepEqual(scene.taken(), []);
  await scene.pass(10);
  assert.equal(scene.taken().at(-1), 'idle');
});

test('the answer to a roll-back comes when all is as before', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.taken();
  const event = await scene.driver.request(rollback);
  assert.deepEqual(event, { kind: 'change-rolled-back', changeId: 'c1', cause: 'asked-for' });
  assert.equal(scene.machine.phase, 'idle');
  assert.equal(scene.taken().at(-1), 'idle');
});

test('a second change is refused while the first is applied, and the first goes on', async () => {
  const scene = new Scene();
  const nft = Promise.withResolvers<Outcome>();
  scene.held = [nft];
  const first = scene.driver.request(request);
  const second = scene.driver.request({ ...request, change: { ...change, id: 'c2' } });
  const stranger = scene.driver.request({ kind: 'confirm', changeId: 'c2' });
  nft.resolve({ success: true });
  assert.deepEqual(
    (await Promise.all([first, second, stranger])).map((event) =>
      event.kind === 'request-refused' ? event.why : event.kind,
    ),
    ['change-applied', 'busy', 'no-such-change'],
  );
  assert.deepEqual(
    scene.taken().filter((line) => !line.includes('refused')),
    made,
  );
});

for (const other of [confirm, rollback]) {
  test(`a ${other.kind} that comes too early is refused, and the change is answered`, async () => {
    const scene = new Scene();
    const nft = Promise.withResolvers<Outcome>();
    scene.held = [nft];
    const asked = scene.driver.request(request);
    await new Promise(setImmediate);
    const early = scene.driver.request(other);
    nft.resolve({ success: true });
    assert.equal((await asked).kind, 'change-applied');
    const refusal = await early;
    assert.ok(refusal.kind === 'request-refused' && refusal.why === 'busy');
  });
}

test('of two confirmations at once, the first is answered and the other is refused', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  const both = [scene.driver.request(confirm), scene.driver.request(confirm)];
  const kinds = (await Promise.all(both)).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['change-confirmed', 'request-refused']);
});

test('a refused ruleset changes nothing, and the change is forgotten', async () => {
  const scene = new Scene();
  const nft = Promise.withResolvers<Outcome>();
  nft.resolve({ success: false, reason: 'no such rule', unchanged: true });
  scene.held = [nft];
  const event = await scene.driver.request(request);
  assert.ok(event.kind === 'change-refused' && event.changeId === 'c1');
  assert.equal(event.reason, 'no such rule');
  assert.deepEqual(scene.taken(), [
    ...['store applying', 'apply new', 'event change-refused', 'clear', 'idle'],
  ]);
});

test('an act that throws may have happened: the change is rolled back', async () => {
  const scene = new Scene();
  scene.failures.set('applyRuleset', 1);
  const event = await scene.driver.request(request);
  assert.ok(event.kind === 'rollback-begun' && event.cause === 'apply-failed');
  assert.deepEqual(scene.taken().slice(2), [
    'event rollback-begun apply-failed',
    ...undone,
    ...['event change-rolled-back apply-failed', 'idle'],
  ]);
});

test('survive-119 a change that cannot be stored is refused before the kernel is touched', async () => {
  const scene = new Scene();
  scene.failures.set('storePending', 1);
  assert.equal((await scene.driver.request(request)).kind, 'change-refused');
  assert.deepEqual(scene.taken(), ['store applying', 'event change-refused', 'clear', 'idle']);
});

test('a confirmation that cannot be stored can be asked for again', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.failures.set('storeConfirmed', 1);
  assert.equal((await scene.driver.request(confirm)).kind, 'confirmation-failed');
  assert.equal(scene.driver.rollbackInMs, 60_000);
  assert.equal((await scene.driver.request(confirm)).kind, 'change-confirmed');
  assert.equal(scene.taken().at(-1), 'idle');
});

test('a step back that fails is tried again, later each time, until it succeeds', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  scene.failures.set('applyRuleset', 3);
  const answer = scene.driver.request(rollback);
  await scene.driver.settled();
  assert.deepEqual(scene.taken().slice(made.length), [
    ...['event rollback-begun asked-for', 'store rolling-back', 'apply old'],
    'event step-failed apply-ruleset',
  ]);
  await scene.pass(999);
  assert.deepEqual(scene.taken(), []);
  await scene.pass(1);
  assert.deepEqual(scene.taken(), [
    ...['restore old of c1', 'apply old', 'event step-failed apply-ruleset'],
  ]);
  await scene.pass(2_000);
  assert.deepEqual(scene.taken(), ['apply old', 'event step-failed apply-ruleset']);
  await scene.pass(4_000);
  assert.deepEqual(scene.taken(), [
    ...['apply old', 'clear', 'event change-rolled-back asked-for', 'idle'],
  ]);
  // Whoever asked is not kept waiting for it.
  assert.equal((await answer).kind, 'step-failed');
});

test('what the last process left goes on: a waiting change waits for the rest of its time', async () => {
  const scene = new Scene();
  await scene.driver.start(waiting);
  assert.deepEqual(scene.taken(), ['apply new', 'event change-applied']);
  assert.equal(scene.driver.rollbackInMs, 30_000);
  await scene.pass(30_000);
  assert.equal(scene.taken().at(-1), 'idle');
});

test('survive-109 what was cut short by a reboot or in the middle is rolled back at the start', async () => {
  const left: PendingChange[] = [
    { ...waiting, bootId: 'another' },
    { ...waiting, deadlineAt: now },
    { ...waiting, deadlineAt: now + 60_001 },
    { phase: 'applying', change },
    { phase: 'rolling-back', change },
  ];
  for (const pending of left) {
    const scene = new Scene();
    await scene.driver.start(pending);
    const acts = scene.taken().filter((line) => !line.startsWith('event'));
    assert.deepEqual(acts, [...undone, 'idle'], JSON.stringify(pending));
  }
});

test('a confirmed change that was cut short is completed at the start', async () => {
  const scene = new Scene();
  await scene.driver.start({ phase: 'confirmed', change });
  const acts = scene.taken().filter((line) => !line.startsWith('event'));
  assert.deepEqual(acts, ['apply new', 'write new', 'clear', 'idle']);
});

test('stopping waits for the command that is outstanding and begins no other', async () => {
  const scene = new Scene();
  const nft = Promise.withResolvers<Outcome>();
  scene.held = [nft];
  void scene.driver.request(request);
  await new Promise(setImmediate);
  assert.deepEqual(scene.taken(), ['store applying', 'apply new']);
  let isStopped = false;
  const stopping = scene.driver.stop().then(() => {
    isStopped = true;
  });
  await new Promise(setImmediate);
  assert.equal(isStopped, false);
  nft.resolve({ success: true });
  await stopping;
  assert.deepEqual(scene.taken(), []);
  await scene.pass(120_000);
  assert.deepEqual(scene.taken(), []);
});

test('a driver that is stopped while a change waits leaves it on disk as it is', async () => {
  const scene = new Scene();
  await scene.driver.request(request);
  await scene.driver.stop();
  scene.taken();
  await scene.pass(120_000);
  assert.deepEqual(scene.taken(), []);
  assert.equal(scene.machine.phase, 'waiting');
});

test('it is told that nothing is under way exactly when that is so', async () => {
  const scene = new Scene();
  await scene.driver.request({ ...request, change: { ...change, windowMs: 1 } });
  assert.deepEqual(scene.taken(), ['event request-refused window-out-of-range', 'idle']);
  await scene.driver.request(request);
  await scene.driver.request({ kind: 'confirm', changeId: 'c9' });
  assert.ok(!scene.taken().includes('idle'));
  await scene.driver.request(rollback);
  assert.deepEqual(
    scene.taken().filter((line) => line === 'idle'),
    ['idle'],
  );
});

test('the clock is that since boot, in milliseconds', () => {
  mock.restoreAll();
  syncBuiltinESMExports();
  const before = os.uptime() * 1_000;
  const read = bootTimeMs();
  assert.ok(read >= before && read <= os.uptime() * 1_000);
});
