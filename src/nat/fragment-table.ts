/** What was done with first fragments, so that the same is done with those behind them. */
import type { NatHook } from './nat-hook.ts';

export interface FragmentKey {
  readonly source: number;
  readonly destination: number;
  readonly identification: number;
  readonly protocol: number;
  readonly hook: NatHook;
}

export type FragmentAction =
  /** As it is: for the gateway itself. */
  | { readonly action: 'pass'; readonly mark: number }
  | { readonly action: 'destination'; readonly address: number; readonly mark: number }
  | { readonly action: 'source'; readonly address: number; readonly mark: number }
  /** The first has not come yet, others are held. */
  | { readonly action: 'awaited'; readonly mark: number }
  | { readonly action: 'drop'; readonly mark: number };

interface Entry {
  readonly fragment: FragmentAction;
  readonly untilTick: number;
}

export class FragmentTable {
  readonly #entryCountMax: number;
  readonly #entries = new Map<string, Entry>();

  /** @param entryCountMax beyond this the oldest entry goes */
  constructor(entryCountMax: number) {
    this.#entryCountMax = entryCountMax;
  }

  find(key: FragmentKey, now: number): FragmentAction | undefined {
    const entry = this.#entries.get(textOf(key));
    return entry !== undefined && entry.untilTick > now ? entry.fragment : undefined;
  }

  put(key: FragmentKey, entry: Entry): void {
    const text = textOf(key);
    this.#entries.delete(text);
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined && this.#entries.size >= this.#entryCountMax) {
      this.#entries.delete(oldest);
    }
    this.#entries.set(text, entry);
  }

  removeDead(now: number): void {
    for (const [key, { untilTick }] of this.#entries) {
      if (untilTick <= now) this.#entries.delete(key);
    }
  }
}

function textOf({ source, destination, identification, protocol, hook }: FragmentKey): string {
  return `${source} ${destination} ${identification} ${protocol} ${hook}`;
}
