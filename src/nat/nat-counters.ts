/** What the NAT counts, by the names of `enum nat_counter`. */
import type { NatCounter } from '../abi/layouts.generated.ts';

export type NatCounterName = Exclude<keyof typeof NatCounter, 'count'>;
export type NatDropReason = Extract<NatCounterName, `dropped${string}`>;

/** How far counters moved; those that stand still are absent. */
export type NatCounts = { readonly [N in NatCounterName]?: number };

export class NatCounters {
  readonly #counts = new Map<NatCounterName, number>();

  add(name: NatCounterName): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** What was counted since the last call. */
  take(): NatCounts {
    const counts = Object.fromEntries(this.#counts);
    this.#counts.clear();
    return counts;
  }
}
