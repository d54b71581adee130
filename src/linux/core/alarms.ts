/** What happened that a person should know: to the log at once, and kept for `gatehouse status`. */

export interface Alarm {
  /** Milliseconds since 1970. */
  readonly atMs: number;
  readonly text: string;
}

/** Enough to see what a night was like; the log has all of them. */
const ALARMS_MAX = 100;
/** A sentence; what is longer is a program's output. */
const TEXT_LENGTH_MAX = 1_000;

export class Alarms {
  readonly #log: (text: string) => void;
  readonly #kept: Alarm[] = [];

  constructor(log: (text: string) => void) {
    this.#log = log;
  }

  /** The newest last. */
  get list(): readonly Alarm[] {
    return this.#kept;
  }

  raise(text: string): void {
    this.#log(text);
    this.#kept.push({ atMs: Date.now(), text: text.slice(0, TEXT_LENGTH_MAX) });
    if (this.#kept.length > ALARMS_MAX) this.#kept.shift();
  }
}
