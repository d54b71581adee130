/**
 * A machine, its disk, its kernel and its clock, with crashes, reboots and failures at every point.
 * Whatever happens, a restart converges; what was acknowledged as confirmed stays; what nobody
 * confirmed goes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ChangeCommand,
  ChangeMachine,
  type Configuration,
  type PendingChange,
} from './change-machine.ts';

const WINDOW_MS = 10_000;

type Action =
  | { readonly kind: 'request' | 'confirm' | 'rollback' }
  /** The outstanding command. `lost`: it happened, and yet failed. */
  | { readonly kind: 'perform'; readonly outcome: 'done' | 'unchanged' | 'failed' | 'lost' }
  | { readonly kind: 'pass'; readonly forMs: number }
  | {
      readonly kind: 'crash';
      readonly outstandingHappened: boolean;
      readonly reboot: boolean;
      readonly downForMs: number;
    };

const done = { kind: 'perform', outcome: 'done' } as const;

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('request', 'confirm').map((kind) => ({ kind })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'rollback' } as const) },
  { weight: 12, arbitrary: fc.constant(done) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('perform' as const),
      outcome: fc.constantFrom('unchanged' as const, 'failed' as const, 'lost' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      forMs: fc.integer({ min: 0, max: 6_000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      outstandingHappened: fc.boolean(),
      reboot: fc.boolean(),
      downForMs: fc.integer({ min: 0, max: 12_000 }),
    }),
  },
);

const configurationNumber = (number: number): Configuration => ({
  configText: `config ${number}`,
  rulesetText: `rules ${number}`,
});

type Effect = Exclude<ChangeCommand, { kind: 'report' }>;

class World {
  /** What survives a crash. */
  #pending: PendingChange | undefined;
  #configText = 'config 0';
  /** What survives a crash but no reboot. */
  #rulesetText = 'rules 0';
  #bootCount = 1;
  #now = 0;

  #machine = new ChangeMachine('boot 1');
  #outstanding: Effect | undefined;

  /** Acknowledged: the last that was confirmed. */
  #confirmed = 0;
  /** Somebody confirmed it and has no answer, so either outcome is right. */
  #asked: number | undefined;
  #requestCount = 0;

  act(action: Action): void {
    switch (action.kind) {
      case 'request':
        this.#request();
        break;
      case 'confirm':
      case 'rollback': {
        const changeId = this.#machine.change?.id ?? 'none';
        const before = this.#machine.phase;
        const commands = this.#machine.handle({ kind: action.kind, changeId }, this.#now);
        if (before === 'waiting' && this.#machine.phase === 'confirming') {
          this.#asked = Number(changeId);
        }
        this.#take(commands);
        break;
      }
      case 'perform':
        this.#perform(action.outcome);
        break;
      case 'pass':
        this.#pass(action.forMs);
        break;
      case 'crash':
        this.#crash(action);
        break;
    }
    this.#check();
  }

  /** From here on everything works, and nobody confirms any more. */
  settle(): void {
    for (let step = 0; this.#machine.phase !== 'idle'; step++) {
      assert.ok(step < 100, `does not end: ${this.#machine.phase}`);
      if (this.#outstanding !== undefined) this.act(done);
      else this.act({ kind: 'pass', forMs: (this.#machine.nextDeadline() ?? 0) - this.#now });
    }
    this.#check();
    assert.equal(this.#pending, undefined);
  }

  #request(): void {
    const id = this.#requestCount + 1;
    const change = {
      id: String(id),
      author: 'admin',
      previous: configurationNumber(this.#confirmed),
      next: configurationNumber(id),
      windowMs: WINDOW_MS,
    };
    const isIdle = this.#machine.phase === 'idle';
    const input = { kind: 'request', change, cutsOwnAccess: false, forced: false } as const;
    this.#take(this.#machine.handle(input, this.#now));
    if (isIdle) this.#requestCount = id;
  }

  #perform(outcome: 'done' | 'unchanged' | 'failed' | 'lost'): void {
    const command = this.#outstanding;
    if (command === undefined) return;
    this.#outstanding = undefined;
    if (outcome === 'done' || outcome === 'lost') this.#happen(command);
    const input =
      outcome === 'done'
        ? ({ kind: 'performed' } as const)
        : ({ kind: 'failed', reason: outcome, unchanged: outcome === 'unchanged' } as const);
    this.#take(this.#machine.handle(input, this.#now));
  }

  #pass(forMs: number): void {
    this.#now += forMs;
    this.#take(this.#machine.handleTimeout(this.#now));
  }

  #crash(crash: Extract<Action, { kind: 'crash' }>): void {
    if (crash.outstandingHappened && this.#outstanding !== undefined) {
      this.#happen(this.#outstanding);
    }
    this.#outstanding = undefined;
    this.#now += crash.downForMs;
    if (crash.reboot) {
      this.#bootCount++;
      this.#now = crash.downForMs;
      // The program compiles the ruleset of the config file before it does anything else.
      this.#rulesetText = this.#configText.replace('config', 'rules');
    }
    this.#machine = new ChangeMachine(`boot ${this.#bootCount}`);
    this.#take(this.#machine.start(this.#pending, this.#now));
    if (crash.reboot) assert.notEqual(this.#machine.phase, 'resuming');
  }

  #happen(command: Effect): void {
    switch (command.kind) {
      case 'store-pending':
        this.#pending = command.pending;
        break;
      case 'store-confirmed':
        this.#pending = { phase: 'confirmed', change: command.change };
        break;
      case 'clear-pending':
        this.#pending = undefined;
        break;
      case 'apply-ruleset':
        this.#rulesetText = command.configuration.rulesetText;
        break;
      case 'write-config':
      case 'restore-config':
        this.#configText = command.configText;
        break;
    }
  }

  #take(commands: readonly ChangeCommand[]): void {
    for (const command of commands) {
      if (command.kind !== 'report') {
        assert.equal(this.#outstanding, undefined, 'one command at a time');
        this.#outstanding = command;
        continue;
      }
      const { event } = command;
      if (event.kind === 'change-rolled-back') {
        assert.notEqual(event.changeId, String(this.#confirmed), 'a confirmed change went back');
        this.#asked = undefined;
      }
      if (event.kind === 'change-confirmed') {
        const isKnown = [this.#asked, this.#confirmed].includes(Number(event.changeId));
        assert.ok(isKnown, `${event.changeId} was never confirmed`);
        this.#confirmed = Number(event.changeId);
        this.#asked = undefined;
      }
    }
  }

  #check(): void {
    const { phase } = this.#machine;
    const deadline = this.#machine.nextDeadline();
    if (phase === 'waiting') {
      assert.ok(deadline !== undefined && deadline - this.#now <= WINDOW_MS);
      assert.ok(this.#now < deadline, 'kept beyond its window');
      assert.equal(this.#rulesetText, `rules ${this.#machine.change?.id}`);
    }
    if (phase === 'idle') {
      const expected = configurationNumber(this.#confirmed);
      const actual = { configText: this.#configText, rulesetText: this.#rulesetText };
      assert.deepEqual(actual, expected);
    }
    const isMoving = this.#outstanding !== undefined || deadline !== undefined;
    assert.ok(phase === 'idle' || isMoving, `${phase} waits for nothing`);
  }
}

test('survive-106, survive-109: whatever fails and whenever it crashes, a change ends as acknowledged', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const world = new World();
      for (const one of actions) world.act(one);
      world.settle();
    }),
    { numRuns: 5000 },
  );
});

test('survive-106: a crash or reboot before or after each step of a change converges', () => {
  const ends: readonly (readonly Action[])[] = [
    [{ kind: 'confirm' }],
    [{ kind: 'rollback' }],
    [{ kind: 'pass', forMs: WINDOW_MS }],
  ];
  for (const end of ends) {
    const steps: Action[] = [{ kind: 'request' }, done, done, done, ...end, done, done, done, done];
    for (let at = 0; at <= steps.length; at++) {
      for (const reboot of [false, true]) {
        for (const outstandingHappened of [false, true]) {
          for (const downForMs of [0, WINDOW_MS]) {
            const world = new World();
            for (const step of steps.slice(0, at)) world.act(step);
            world.act({ kind: 'crash', reboot, outstandingHappened, downForMs });
            world.settle();
          }
        }
      }
    }
  }
});
