import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';

/**
 * Observes again and again until the value will do, and returns it.
 *
 * @param description what is waited for, for the error: `the lease of laptop`
 * @param observe may be asynchronous; what it throws ends the waiting
 * @param options `until` judges the value; without it everything will do but false, undefined and
 *   null
 * @throws Error on the time limit, naming the description and the value last seen
 */
export async function waitFor<T>(
  description: string,
  observe: () => T | Promise<T>,
  options: { timeoutMs: number; intervalMs?: number; until?: (value: T) => boolean },
): Promise<Exclude<T, false | undefined | null>> {
  const { timeoutMs, intervalMs = INTERVAL_MS, until = isThere } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await observe();
    if (until(value)) return value as Exclude<T, false | undefined | null>;
    if (performance.now() >= deadline) {
      const last = inspect(value, { depth: 4 });
      throw new Error(`waited ${timeoutMs} ms for ${description}; last seen: ${last}`);
    }
    await delay(Math.min(intervalMs, Math.max(0, deadline - performance.now())));
  }
}

/** Short enough to add nothing that a person notices, long enough to leave the processor free. */
const INTERVAL_MS = 10;

function isThere(value: unknown): boolean {
  return value !== false && value !== undefined && value !== null;
}
