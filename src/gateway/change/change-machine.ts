/**
 * A change of the config, from the request to its end: confirmed, or rolled back. Pure: the shell
 * performs one command at a time and reports how it went.
 *
 *     idle ─request→ storing → applying → arming → waiting ─confirm→ confirming → completing → idle
 *                       │         │         │        │ rollback, timeout
 *                       ▼         └─────────┴────────┴──→ rolling-back → idle
 *                      idle (refused, nothing was touched)
 *
 * What is on disk decides after a crash. `applying`: what the kernel holds is not known, so it is
 * rolled back. `waiting`: the confirm timer goes on, in the same boot. `confirmed`: it stays.
 * `rolling-back`: it goes. The config file is written when the change is confirmed, and restored
 * when it is rolled back, whoever had edited it meanwhile.
 *
 * Time is milliseconds of the clock since boot (CLOCK_BOOTTIME), which no change of the wall clock
 * moves; it says nothing after a reboot, and the boot's id tells that there was one.
 */

/** Shorter, and nobody can confirm in time. */
export const WINDOW_MS_MIN = 5_000;
/** Longer, and a machine that lost its administrator stays lost. */
export const WINDOW_MS_MAX = 24 * 60 * 60 * 1000;

/** Before a command that must succeed is tried again; doubles up to the maximum. */
const RETRY_AFTER_MS = 1_000;
const RETRY_AFTER_MS_MAX = 30_000;

/** What the machine runs by. */
export interface Configuration {
  readonly configText: string;
  readonly rulesetText: string;
}

export interface Change {
  /** Unique; confirmations name it. */
  readonly id: string;
  readonly author: string;
  readonly previous: Configuration;
  readonly next: Configuration;
  readonly windowMs: number;
}

/** What is kept on disk while a change is under way. */
export type PendingChange =
  | { readonly phase: 'applying' | 'confirmed' | 'rolling-back'; readonly change: Change }
  | {
      readonly phase: 'waiting';
      readonly change: Change;
      readonly bootId: string;
      /** On the clock since boot `bootId`. */
      readonly deadlineAt: number;
    };

export type ChangeInput =
  | {
      readonly kind: 'request';
      readonly change: Change;
      /** The new ruleset or addresses would take away the way on which the request came. */
      readonly cutsOwnAccess: boolean;
      readonly forced: boolean;
    }
  | { readonly kind: 'confirm' | 'rollback'; readonly changeId: string }
  | { readonly kind: 'performed' }
  /**
   * The outstanding command failed. `unchanged`: certainly without effect; for `apply-ruleset`,
   * nft refused it. Otherwise it may have happened all the same.
   */
  | { readonly kind: 'failed'; readonly reason: string; readonly unchanged: boolean };

export type ChangeCommand =
  /** Durably, before `performed`. Replaces what is stored. */
  | { readonly kind: 'store-pending'; readonly pending: PendingChange }
  /** In one transaction: the pending change becomes `confirmed`, and `change` a revision. */
  | { readonly kind: 'store-confirmed'; readonly change: Change }
  | { readonly kind: 'clear-pending' }
  | { readonly kind: 'apply-ruleset'; readonly configuration: Configuration }
  /** Durably; nothing to do when the file has this text already. */
  | { readonly kind: 'write-config'; readonly configText: string }
  /** As `write-config`; keep what the file held, which a person may have written. */
  | { readonly kind: 'restore-config'; readonly configText: string }
  /** To whoever asked, and to the log. Performed without an answer. */
  | { readonly kind: 'report'; readonly event: ChangeEvent };

export type RollbackCause =
  | 'asked-for'
  | 'not-confirmed-in-time'
  | 'apply-failed'
  | 'not-stored'
  | 'interrupted'
  | 'rebooted';

export type Refusal = 'busy' | 'window-out-of-range' | 'cuts-own-access' | 'no-such-change';

export type ChangeEvent =
  | { readonly kind: 'request-refused'; readonly changeId: string; readonly why: Refusal }
  /** Nothing was touched, or what was is as before. */
  | {
      readonly kind: 'change-refused';
      readonly changeId: string;
      /** What did not work. */
      readonly step: 'store-pending' | 'apply-ruleset';
      readonly reason: string;
    }
  | { readonly kind: 'change-applied'; readonly changeId: string; readonly deadlineAt: number }
  /** It stays, whatever happens. */
  | { readonly kind: 'change-confirmed'; readonly changeId: string }
  /** Ask again; until the deadline the change can still be confirmed. */
  | { readonly kind: 'confirmation-failed'; readonly changeId: string; readonly reason: string }
  | {
      readonly kind: 'rollback-begun';
      readonly changeId: string;
      readonly cause: RollbackCause;
      readonly reason?: string;
    }
  | {
      readonly kind: 'change-rolled-back';
      readonly changeId: string;
      readonly cause: RollbackCause;
    }
  /** It is tried again where the change cannot end without it. */
  | {
      readonly kind: 'step-failed';
      readonly changeId: string;
      readonly step: string;
      readonly reason: string;
    };

export type ChangePhase =
  | 'idle'
  | 'storing'
  | 'applying'
  | 'arming'
  | 'waiting'
  | 'resuming'
  | 'confirming'
  | 'completing'
  | 'rolling-back';

type EffectCommand = Exclude<ChangeCommand, { kind: 'report' }>;

type State =
  | { readonly phase: 'idle' }
  | { readonly phase: 'storing' | 'applying'; readonly change: Change }
  | {
      readonly phase: 'arming' | 'waiting' | 'resuming' | 'confirming';
      readonly change: Change;
      readonly deadlineAt: number;
    }
  | Ending;

/** Steps that are repeated until they succeed. */
interface Ending {
  readonly phase: 'completing' | 'rolling-back';
  readonly change: Change;
  /** Reported after the last step. */
  readonly lastly?: ChangeEvent;
  /** The first is outstanding, or waits for `retryAt`. */
  readonly steps: readonly EffectCommand[];
  readonly failureCount: number;
  readonly retryAt?: number;
}

export class ChangeMachine {
  readonly #bootId: string;
  #state: State = { phase: 'idle' };

  /** @param bootId of the running kernel: /proc/sys/kernel/random/boot_id */
  constructor(bootId: string) {
    this.#bootId = bootId;
  }

  get phase(): ChangePhase {
    return this.#state.phase;
  }

  /** The change under way. */
  get change(): Change | undefined {
    return this.#state.phase === 'idle' ? undefined : this.#state.change;
  }

  /** When {@link handleTimeout} has something to do. */
  nextDeadline(): number | undefined {
    if (this.#state.phase === 'waiting') return this.#state.deadlineAt;
    return 'retryAt' in this.#state ? this.#state.retryAt : undefined;
  }

  /** Once, before any input: goes on with what the last process left on disk. */
  start(pending: PendingChange | undefined, now: number): ChangeCommand[] {
    if (pending === undefined) return [];
    const { change } = pending;
    switch (pending.phase) {
      case 'applying':
      case 'rolling-back':
        return this.#rollBack(change, 'interrupted');
      case 'confirmed':
        return this.#complete(change, { isRestart: true });
      case 'waiting': {
        const { bootId, deadlineAt } = pending;
        if (bootId !== this.#bootId) return this.#rollBack(change, 'rebooted');
        // Too far away is nothing that we wrote in this boot: doubt means back.
        const isPlausible = deadlineAt - now <= change.windowMs;
        if (now >= deadlineAt || !isPlausible) {
          return this.#rollBack(change, 'not-confirmed-in-time');
        }
        this.#state = { phase: 'resuming', change, deadlineAt };
        return [{ kind: 'apply-ruleset', configuration: change.next }];
      }
    }
  }

  handle(input: ChangeInput, now: number): ChangeCommand[] {
    switch (input.kind) {
      case 'request':
        return this.#request(input);
      case 'confirm':
      case 'rollback':
        return this.#decide(input, now);
      case 'performed':
        return this.#performed(now);
      case 'failed':
        return this.#failed(input, now);
    }
  }

  handleTimeout(now: number): ChangeCommand[] {
    const deadline = this.nextDeadline();
    if (deadline === undefined || now < deadline) return [];
    const state = this.#state;
    if (state.phase === 'waiting') return this.#rollBack(state.change, 'not-confirmed-in-time');
    if (state.phase !== 'completing' && state.phase !== 'rolling-back') return [];
    const { retryAt: _, ...ending } = state;
    this.#state = ending;
    return state.steps.slice(0, 1);
  }

  #request(input: Extract<ChangeInput, { kind: 'request' }>): ChangeCommand[] {
    const { change, cutsOwnAccess, forced } = input;
    const refuse = (why: Refusal) => [
      report({ kind: 'request-refused', changeId: change.id, why }),
    ];
    if (this.#state.phase !== 'idle') return refuse('busy');
    // Also refuses NaN.
    const isInRange = change.windowMs >= WINDOW_MS_MIN && change.windowMs <= WINDOW_MS_MAX;
    if (!isInRange) return refuse('window-out-of-range');
    if (cutsOwnAccess && !forced) return refuse('cuts-own-access');
    this.#state = { phase: 'storing', change };
    return [{ kind: 'store-pending', pending: { phase: 'applying', change } }];
  }

  #decide(input: { kind: 'confirm' | 'rollback'; changeId: string }, now: number): ChangeCommand[] {
    const { kind, changeId } = input;
    const state = this.#state;
    const refuse = (why: Refusal) => [report({ kind: 'request-refused', changeId, why })];
    if (state.phase === 'idle' || state.change.id !== changeId) return refuse('no-such-change');
    if (state.phase !== 'waiting') return refuse('busy');
    const { change, deadlineAt } = state;
    if (kind === 'rollback') return this.#rollBack(change, 'asked-for');
    if (now >= deadlineAt) return this.#rollBack(change, 'not-confirmed-in-time');
    this.#state = { phase: 'confirming', change, deadlineAt };
    return [{ kind: 'store-confirmed', change }];
  }

  #performed(now: number): ChangeCommand[] {
    const state = this.#state;
    switch (state.phase) {
      case 'storing':
        this.#state = { phase: 'applying', change: state.change };
        return [{ kind: 'apply-ruleset', configuration: state.change.next }];
      case 'applying': {
        const { change } = state;
        const deadlineAt = now + change.windowMs;
        this.#state = { phase: 'arming', change, deadlineAt };
        const pending = { phase: 'waiting', change, bootId: this.#bootId, deadlineAt } as const;
        return [{ kind: 'store-pending', pending }];
      }
      case 'arming':
      case 'resuming':
        return this.#wait(state, now);
      case 'confirming':
        return this.#complete(state.change, { isRestart: false });
      case 'completing':
      case 'rolling-back':
        if (state.retryAt === undefined) return this.#nextStep(state);
        throw new Error('nothing was to be performed while a step waits to be tried again');
      default:
        throw new Error(`nothing was to be performed while ${state.phase}`);
    }
  }

  #failed(input: { reason: string; unchanged: boolean }, now: number): ChangeCommand[] {
    const { reason, unchanged } = input;
    const state = this.#state;
    switch (state.phase) {
      case 'storing':
        return this.#abandon(state.change, { step: 'store-pending', reason });
      case 'applying':
        if (unchanged) return this.#abandon(state.change, { step: 'apply-ruleset', reason });
        return this.#rollBack(state.change, 'apply-failed', reason);
      case 'arming':
        return this.#rollBack(state.change, 'not-stored', reason);
      case 'resuming':
        return this.#rollBack(state.change, 'apply-failed', reason);
      case 'confirming': {
        const event = { kind: 'confirmation-failed', changeId: state.change.id, reason } as const;
        return [report(event), ...this.#wait(state, now, { isAnnounced: true })];
      }
      case 'completing':
      case 'rolling-back':
        return this.#retry(state, reason, now);
      default:
        throw new Error(`nothing could fail while ${state.phase}: ${reason}`);
    }
  }

  #wait(
    state: { change: Change; deadlineAt: number },
    now: number,
    options: { isAnnounced?: boolean } = {},
  ): ChangeCommand[] {
    const { change, deadlineAt } = state;
    if (now >= deadlineAt) return this.#rollBack(change, 'not-confirmed-in-time');
    this.#state = { phase: 'waiting', change, deadlineAt };
    if (options.isAnnounced) return [];
    return [report({ kind: 'change-applied', changeId: change.id, deadlineAt })];
  }

  /** Nothing was touched but the disk, which may hold the pending change even if storing failed. */
  #abandon(
    change: Change,
    why: { step: 'store-pending' | 'apply-ruleset'; reason: string },
  ): ChangeCommand[] {
    const event = { kind: 'change-refused', changeId: change.id, ...why } as const;
    const steps = [{ kind: 'clear-pending' } as const];
    return [report(event), ...this.#end({ phase: 'rolling-back', change, steps })];
  }

  #complete(change: Change, options: { isRestart: boolean }): ChangeCommand[] {
    const apply = { kind: 'apply-ruleset', configuration: change.next } as const;
    const steps: EffectCommand[] = [
      ...(options.isRestart ? [apply] : []),
      { kind: 'write-config', configText: change.next.configText },
      { kind: 'clear-pending' },
    ];
    const confirmed = report({ kind: 'change-confirmed', changeId: change.id });
    return [confirmed, ...this.#end({ phase: 'completing', change, steps })];
  }

  #rollBack(change: Change, cause: RollbackCause, reason?: string): ChangeCommand[] {
    const changeId = change.id;
    const steps: EffectCommand[] = [
      { kind: 'store-pending', pending: { phase: 'rolling-back', change } },
      { kind: 'apply-ruleset', configuration: change.previous },
      { kind: 'restore-config', configText: change.previous.configText },
      { kind: 'clear-pending' },
    ];
    const lastly = { kind: 'change-rolled-back', changeId, cause } as const;
    const because = reason === undefined ? {} : { reason };
    return [
      report({ kind: 'rollback-begun', changeId, cause, ...because }),
      ...this.#end({ phase: 'rolling-back', change, steps, lastly }),
    ];
  }

  #end(ending: Omit<Ending, 'failureCount'>): ChangeCommand[] {
    this.#state = { ...ending, failureCount: 0 };
    return ending.steps.slice(0, 1);
  }

  #nextStep(ending: Ending): ChangeCommand[] {
    const steps = ending.steps.slice(1);
    if (steps.length > 0) {
      this.#state = { ...ending, steps };
      return steps.slice(0, 1);
    }
    this.#state = { phase: 'idle' };
    return ending.lastly === undefined ? [] : [report(ending.lastly)];
  }

  #retry(ending: Ending, reason: string, now: number): ChangeCommand[] {
    const { change, steps } = ending;
    const [failed, ...others] = steps;
    if (failed === undefined) throw new Error('a step failed, and none was outstanding');
    const event = { kind: 'step-failed', changeId: change.id, step: failed.kind, reason } as const;
    // The way back must not wait for the disk: what it would record can be told from `waiting`.
    if (failed.kind === 'store-pending') return [report(event), ...this.#nextStep(ending)];
    const failureCount = ending.failureCount + 1;
    const delayMs = Math.min(RETRY_AFTER_MS * 2 ** (failureCount - 1), RETRY_AFTER_MS_MAX);
    // The others do not wait for this one, only forgetting the change is the last of all.
    const rotated = [...others.slice(0, -1), failed, ...others.slice(-1)];
    this.#state = { ...ending, steps: rotated, failureCount, retryAt: now + delayMs };
    return [report(event)];
  }
}

function report(event: ChangeEvent): ChangeCommand {
  return { kind: 'report', event };
}
