/**
 * Keeps the role processes alive: starts them, asks whether they live, starts those again that end,
 * more and more slowly. Pure: the caller performs the commands and tells what happened.
 *
 * A role is waiting (for its next start) → starting → running. It counts as running when it said
 * that it is ready, and as hung when it does not answer a ping in time; a hung role is killed, and
 * its end starts it again as any other end does. Times are milliseconds of a monotonic clock.
 */

export type RolePhase = 'waiting' | 'starting' | 'running' | 'stopped';

export interface RoleStatus {
  readonly role: string;
  readonly phase: RolePhase;
  /** Starts after the first. */
  readonly restartCount: number;
  /** How the role ended last. */
  readonly lastExit?: string;
  /** Since when it is in this phase. */
  readonly sinceAt: number;
}

export type SupervisionCommand =
  | { readonly kind: 'start-role'; readonly role: string }
  | { readonly kind: 'ping-role'; readonly role: string }
  | { readonly kind: 'kill-role'; readonly role: string; readonly reason: string }
  | { readonly kind: 'report-status'; readonly statuses: readonly RoleStatus[] };

export interface SupervisionLimits {
  /** From its start until a role says that it is ready. */
  readonly readyWithinMs: number;
  readonly pingEveryMs: number;
  /** A role that runs but does not answer for so long is hung. */
  readonly pongWithinMs: number;
  /** Before the first restart; each further one waits {@link backOffFactor} times as long. */
  readonly restartAfterMs: number;
  readonly backOffFactor: number;
  readonly restartAfterMsMax: number;
  /** A role that ran for so long starts its back-off anew. */
  readonly stableAfterMs: number;
}

/**
 * A role is back within a second of its first end, and one that always ends at once is started at
 * most five times in its first minute and twice a minute from then on.
 */
export const supervisionLimits: SupervisionLimits = {
  readyWithinMs: 15_000,
  pingEveryMs: 2_000,
  pongWithinMs: 5_000,
  restartAfterMs: 250,
  backOffFactor: 4,
  restartAfterMsMax: 30_000,
  stableAfterMs: 60_000,
};

interface Role {
  readonly name: string;
  phase: RolePhase;
  sinceAt: number;
  /** When something is due: a start, the end of patience, the next ping. */
  deadline: number | undefined;
  /** An unanswered ping's time. */
  pingedAt: number | undefined;
  restartCount: number;
  nextDelayMs: number;
  lastExit: string | undefined;
  /** A kill was asked for; its end is awaited. */
  isEnding: boolean;
}

export class Supervision {
  readonly #roles: ReadonlyMap<string, Role>;
  readonly #limits: SupervisionLimits;
  #isStopping = false;

  constructor(roles: readonly string[], limits: SupervisionLimits = supervisionLimits) {
    this.#limits = limits;
    this.#roles = new Map(
      roles.map((name) => [
        name,
        {
          name,
          phase: 'waiting',
          sinceAt: 0,
          deadline: undefined,
          pingedAt: undefined,
          restartCount: 0,
          nextDelayMs: limits.restartAfterMs,
          lastExit: undefined,
          isEnding: false,
        },
      ]),
    );
  }

  /** Starts every role. */
  start(now: number): SupervisionCommand[] {
    return this.#reporting([...this.#roles.values()].flatMap((role) => this.#startRole(role, now)));
  }

  handleReady(name: string, now: number): SupervisionCommand[] {
    const role = this.#role(name);
    if (role.phase !== 'starting' || role.isEnding) return [];
    this.#enter(role, 'running', now);
    role.deadline = now + this.#limits.pingEveryMs;
    return this.#reporting([]);
  }

  handlePong(name: string, now: number): SupervisionCommand[] {
    const role = this.#role(name);
    // An answer that nobody asked for says nothing about the next question.
    if (role.phase !== 'running' || role.pingedAt === undefined) return [];
    role.pingedAt = undefined;
    role.deadline = now + this.#limits.pingEveryMs;
    return [];
  }

  /** @param how for people: `code 1`, `SIGKILL`, `cannot be started: …` */
  handleExit(name: string, how: string, now: number): SupervisionCommand[] {
    const role = this.#role(name);
    const ranFor = role.phase === 'running' ? now - role.sinceAt : 0;
    if (ranFor >= this.#limits.stableAfterMs) role.nextDelayMs = this.#limits.restartAfterMs;
    role.lastExit = how;
    role.isEnding = false;
    role.pingedAt = undefined;
    if (this.#isStopping) {
      this.#enter(role, 'stopped', now);
      role.deadline = undefined;
      return this.#reporting([]);
    }
    this.#enter(role, 'waiting', now);
    role.deadline = now + role.nextDelayMs;
    role.nextDelayMs = Math.min(
      role.nextDelayMs * this.#limits.backOffFactor,
      this.#limits.restartAfterMsMax,
    );
    return this.#reporting([]);
  }

  /** Ends every role for good. */
  stop(now: number): SupervisionCommand[] {
    this.#isStopping = true;
    const commands = [...this.#roles.values()].flatMap((role): SupervisionCommand[] => {
      if (role.phase === 'waiting') {
        this.#enter(role, 'stopped', now);
        role.deadline = undefined;
        return [];
      }
      return this.#kill(role, 'gatehouse stops');
    });
    return this.#reporting(commands);
  }

  handleTimeout(now: number): SupervisionCommand[] {
    const due = [...this.#roles.values()].filter(
      (role) => role.deadline !== undefined && role.deadline <= now,
    );
    const commands = due.flatMap((role) => this.#handleDeadline(role, now));
    return commands.some(({ kind }) => kind === 'start-role')
      ? this.#reporting(commands)
      : commands;
  }

  nextDeadline(): number | undefined {
    const deadlines = [...this.#roles.values()].flatMap(({ deadline }) => deadline ?? []);
    return deadlines.length === 0 ? undefined : Math.min(...deadlines);
  }

  statuses(): readonly RoleStatus[] {
    return [...this.#roles.values()].map(({ name, phase, restartCount, lastExit, sinceAt }) => ({
      role: name,
      phase,
      restartCount,
      sinceAt,
      ...(lastExit === undefined ? {} : { lastExit }),
    }));
  }

  #handleDeadline(role: Role, now: number): SupervisionCommand[] {
    switch (role.phase) {
      case 'waiting':
        role.restartCount++;
        return this.#startRole(role, now);
      case 'starting':
        return this.#kill(role, `was not ready within ${this.#limits.readyWithinMs} ms`);
      case 'running': {
        if (role.pingedAt !== undefined) {
          return this.#kill(role, `did not answer for ${this.#limits.pongWithinMs} ms`);
        }
        role.pingedAt = now;
        role.deadline = now + this.#limits.pongWithinMs;
        return [{ kind: 'ping-role', role: role.name }];
      }
      case 'stopped':
        return [];
    }
  }

  #startRole(role: Role, now: number): SupervisionCommand[] {
    this.#enter(role, 'starting', now);
    role.deadline = now + this.#limits.readyWithinMs;
    return [{ kind: 'start-role', role: role.name }];
  }

  #kill(role: Role, reason: string): SupervisionCommand[] {
    if (role.isEnding || role.phase === 'stopped') return [];
    role.isEnding = true;
    role.deadline = undefined;
    return [{ kind: 'kill-role', role: role.name, reason }];
  }

  #enter(role: Role, phase: RolePhase, now: number): void {
    role.phase = phase;
    role.sinceAt = now;
  }

  #reporting(commands: readonly SupervisionCommand[]): SupervisionCommand[] {
    return [...commands, { kind: 'report-status', statuses: this.statuses() }];
  }

  #role(name: string): Role {
    const role = this.#roles.get(name);
    if (role === undefined) throw new Error(`there is no role '${name}'`);
    return role;
  }
}
