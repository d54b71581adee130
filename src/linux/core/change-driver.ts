/**
 * Performs what {@link ChangeMachine} decides, one command at a time, and keeps its time. The core
 * has one for its whole life; the rollback guard has one for a change whose core died.
 */
import { uptime } from 'node:os';
import type {
  Change,
  ChangeCommand,
  ChangeEvent,
  ChangeInput,
  ChangeMachine,
  Configuration,
  PendingChange,
} from '../../gateway/change/change-machine.ts';

/** What the commands of a change act on. What throws has failed, perhaps half-way. */
export interface ChangeActs {
  storePending(pending: PendingChange): void;
  storeConfirmed(change: Change): void;
  clearPending(): void;
  applyRuleset(configuration: Configuration, change: Change): Promise<Outcome>;
  writeConfig(configText: string, change: Change): void;
  restoreConfig(configText: string, change: Change): void;
}

type EffectCommand = Exclude<ChangeCommand, { kind: 'report' }>;

export type Outcome =
  | { readonly success: true }
  | { readonly success: false; readonly reason: string; readonly unchanged: boolean };

/**
 * The machine's deadlines are on the clock that goes on while the machine is suspended; Node's
 * timers stand still then. So the clock is read again at least this often.
 */
const LOOK_EVERY_MS = 5_000;

export class ChangeDriver {
  readonly #machine: ChangeMachine;
  readonly #acts: ChangeActs;
  readonly #onEvent: (event: ChangeEvent) => void;
  readonly #onIdle: () => void;
  readonly #listeners = new Set<(event: ChangeEvent) => void>();
  readonly #settling = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #isPerforming = false;
  #stopped = false;

  constructor(options: {
    readonly machine: ChangeMachine;
    readonly acts: ChangeActs;
    readonly onEvent: (event: ChangeEvent) => void;
    /** Called when no change is under way any more. */
    readonly onIdle?: () => void;
  }) {
    this.#machine = options.machine;
    this.#acts = options.acts;
    this.#onEvent = options.onEvent;
    this.#onIdle = options.onIdle ?? (() => {});
  }

  /** Goes on with what the last process left; resolves when nothing is outstanding. */
  async start(pending: PendingChange | undefined): Promise<void> {
    void this.#perform(this.#machine.start(pending, bootTimeMs()));
    await this.settled();
  }

  /** @returns the event that answers it */
  async request(
    input: Extract<ChangeInput, { kind: 'request' | 'confirm' | 'rollback' }>,
  ): Promise<ChangeEvent> {
    const changeId = input.kind === 'request' ? input.change.id : input.changeId;
    const commands = this.#machine.handle(input, bootTimeMs());
    const refusal = refusalAmong(commands);
    if (refusal !== undefined) {
      void this.#perform(commands);
      return refusal;
    }
    const { promise, resolve } = Promise.withResolvers<ChangeEvent>();
    const listener = (event: ChangeEvent): void => {
      if (event.changeId !== changeId) return;
      // That the disk takes nothing does not keep a change from being rolled back.
      const isOver = event.kind !== 'step-failed' || event.step !== 'store-pending';
      if (isOver && answers[input.kind].includes(event.kind)) resolve(event);
    };
    this.#listeners.add(listener);
    try {
      void this.#perform(commands);
      const answer = await promise;
      await this.settled();
      return answer;
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** Resolves when the machine waits for an input or for its clock. */
  async settled(): Promise<void> {
    if (this.#isPerforming) await this.#nextSettling();
  }

  /** Resolves when no change is under way any more. */
  async untilIdle(): Promise<void> {
    while (this.#machine.phase !== 'idle') await this.#nextSettling();
  }

  /** Milliseconds until the change is rolled back; undefined when none waits. */
  get rollbackInMs(): number | undefined {
    if (this.#machine.phase !== 'waiting') return undefined;
    return Math.max(0, (this.#machine.nextDeadline() ?? 0) - bootTimeMs());
  }

  /** The outstanding command ends; what is on disk tells the next process the rest. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.settled();
  }

  async #nextSettling(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#settling.add(resolve);
    await promise;
  }

  async #perform(commands: readonly ChangeCommand[]): Promise<void> {
    let effect = this.#tellReports(commands);
    // A refusal, perhaps while a command of the change under way is outstanding.
    if (effect === undefined && this.#isPerforming) return;
    this.#isPerforming = true;
    clearTimeout(this.#timer);
    while (effect !== undefined && !this.#stopped) {
      const outcome = await this.#act(effect);
      const input = outcome.success
        ? ({ kind: 'performed' } as const)
        : ({ kind: 'failed', reason: outcome.reason, unchanged: outcome.unchanged } as const);
      effect = this.#tellReports(this.#machine.handle(input, bootTimeMs()));
    }
    this.#isPerforming = false;
    if (this.#machine.phase === 'idle') this.#onIdle();
    this.#schedule();
    for (const resolve of this.#settling) resolve();
    this.#settling.clear();
  }

  /** @returns the one command that is to be performed */
  #tellReports(commands: readonly ChangeCommand[]): EffectCommand | undefined {
    let effect: EffectCommand | undefined;
    for (const command of commands) {
      if (command.kind === 'report') this.#tell(command.event);
      else effect = command;
    }
    return effect;
  }

  #schedule(): void {
    const deadline = this.#machine.nextDeadline();
    if (deadline === undefined || this.#stopped) return;
    const inMs = Math.min(Math.max(0, deadline - bootTimeMs()), LOOK_EVERY_MS);
    this.#timer = setTimeout(() => {
      void this.#perform(this.#machine.handleTimeout(bootTimeMs()));
    }, Math.ceil(inMs));
  }

  #tell(event: ChangeEvent): void {
    this.#onEvent(event);
    for (const listener of this.#listeners) listener(event);
  }

  async #act(command: EffectCommand): Promise<Outcome> {
    try {
      switch (command.kind) {
        case 'store-pending':
          this.#acts.storePending(command.pending);
          break;
        case 'store-confirmed':
          this.#acts.storeConfirmed(command.change);
          break;
        case 'clear-pending':
          this.#acts.clearPending();
          break;
        case 'apply-ruleset':
          return await this.#acts.applyRuleset(command.configuration, this.#change());
        case 'write-config':
          this.#acts.writeConfig(command.configText, this.#change());
          break;
        case 'restore-config':
          this.#acts.restoreConfig(command.configText, this.#change());
      }
      return { success: true };
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      return { success: false, reason, unchanged: false };
    }
  }

  #change(): Change {
    const { change } = this.#machine;
    if (change === undefined) throw new Error('a command without a change');
    return change;
  }
}

const answers: Readonly<
  Record<'request' | 'confirm' | 'rollback', readonly ChangeEvent['kind'][]>
> = {
  request: ['change-refused', 'change-applied', 'rollback-begun'],
  confirm: ['change-confirmed', 'confirmation-failed', 'rollback-begun'],
  // A step that failed is tried again, for as long as it takes.
  rollback: ['change-rolled-back', 'step-failed'],
};

/** Somebody else's refused request may name the same change. */
function refusalAmong(commands: readonly ChangeCommand[]): ChangeEvent | undefined {
  const found = commands.find(
    (command) => command.kind === 'report' && command.event.kind === 'request-refused',
  );
  return found?.kind === 'report' ? found.event : undefined;
}

/** CLOCK_BOOTTIME in milliseconds, to a hundredth of a second. */
export function bootTimeMs(): number {
  return uptime() * 1_000;
}
