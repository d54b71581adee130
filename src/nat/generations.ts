/**
 * The numbers by which a session shows whether nft has to judge it once more (docs/nat.md,
 * "Approval"): that of the rules, and one of each end's address. Each of them only grows, so the
 * sum of the three is the same only while none of them has moved.
 */
import { NatGenerationPlaces } from '../abi/layouts.generated.ts';

/** Places for the numbers of addresses. */
export const GENERATION_PLACES = NatGenerationPlaces.lines * NatGenerationPlaces.perLine;

/**
 * Where the number of an address is. Addresses share places.
 *
 * @param address 32 bits: of IPv4, in host order
 */
export function generationPlaceOf(address: number): number {
  return Math.imul(address, NatGenerationPlaces.factor) >>> NatGenerationPlaces.shift;
}

/** The bits of the mark by which a packet tells a number, the stamp. All 0 only for 0. */
export function generationMark(number: number): number {
  if (number === 0) return 0;
  return (1 + (number % STAMPS)) << STAMP_SHIFT;
}

export class Generations {
  #rules = 0;
  readonly #places = new Uint32Array(GENERATION_PLACES);

  /** @param number 0: nothing is judged or approved */
  setRules(number: number): void {
    this.#rules = number;
  }

  /** What the rules ask about an address has changed. */
  raise(address: number): void {
    const place = generationPlaceOf(address);
    this.#places[place] = this.#of(address) + 1;
  }

  /** Of two addresses as nft sees them. 0: nothing is judged or approved. */
  numberOf(source: number, destination: number): number {
    if (this.#rules === 0) return 0;
    return (this.#rules + this.#of(source) + this.#of(destination)) >>> 0;
  }

  #of(address: number): number {
    return this.#places[generationPlaceOf(address)] ?? 0;
  }
}

const STAMPS = 255;
const STAMP_SHIFT = 23;
