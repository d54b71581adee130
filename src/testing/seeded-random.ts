/** Random choices that the same seed repeats (xorshift32, Marsaglia 2003). For tests alone. */
export class SeededRandom {
  #state: number;

  /** @param seed any whole number but a multiple of 2^32 */
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
    for (let round = 0; round < 8; round++) this.#draw();
  }

  /** From 0 to `bound` - 1. */
  below(bound: number): number {
    return Math.floor((this.#draw() / 2 ** 32) * bound);
  }

  /** @param probability from 0 to 1 */
  chance(probability: number): boolean {
    return this.#draw() < probability * 2 ** 32;
  }

  /** @throws RangeError for an empty list */
  pick<T>(values: readonly T[]): T {
    const index = this.below(values.length);
    if (index >= values.length) throw new RangeError('nothing to pick from');
    return values[index] as T;
  }

  /** @param choices with their weights, which need not sum to anything */
  weighted<T>(choices: readonly (readonly [weight: number, value: T])[]): T {
    const total = choices.reduce((sum, [weight]) => sum + weight, 0);
    let at = (this.#draw() / 2 ** 32) * total;
    for (const [weight, value] of choices) {
      if (at < weight) return value;
      at -= weight;
    }
    throw new RangeError('nothing to pick from');
  }

  #draw(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state;
  }
}
