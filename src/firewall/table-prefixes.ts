/**
 * Prefixes of an address table as nft's set holds them. A set of ranges takes none that overlaps
 * another, and of two prefixes that do, one lies in the other: so the set has the outermost ones.
 */
import { addressWidths, formatIpAddress } from '../net/ip-address.ts';
import { type Prefix, prefixOf } from '../net/prefix.ts';
import { formatNftAddress } from './nft-addresses.ts';

/** As nft lists it: without its length where it is one address. */
export function formatNftPrefix({ family, bits, length }: Prefix): string {
  const first = formatNftAddress({ family, bits });
  return length === addressWidths[family] ? first : `${first}/${length}`;
}

/** As a person writes it. */
export function formatTablePrefix({ family, bits, length }: Prefix): string {
  const first = formatIpAddress({ family, bits });
  return length === addressWidths[family] ? first : `${first}/${length}`;
}

/** Those that lie in no other, IPv4 first, in order; each once. */
export function outermostPrefixes(prefixes: readonly Prefix[]): Prefix[] {
  const all = new PrefixSet(prefixes);
  return [...all].filter((prefix) => !all.covers(prefix)).sort(compare);
}

/** Prefixes of both families. */
export class PrefixSet implements Iterable<Prefix> {
  readonly #byKey = new Map<string, Prefix>();
  /** How many there are of each length: only those that there are need a look. */
  readonly #lengths = { 4: new Map<number, number>(), 6: new Map<number, number>() } as const;

  constructor(prefixes: readonly Prefix[] = []) {
    for (const prefix of prefixes) this.add(prefix);
  }

  get size(): number {
    return this.#byKey.size;
  }

  [Symbol.iterator](): IterableIterator<Prefix> {
    return this.#byKey.values();
  }

  has(prefix: Prefix): boolean {
    return this.#byKey.has(keyOf(prefix));
  }

  add(prefix: Prefix): void {
    if (this.has(prefix)) return;
    this.#byKey.set(keyOf(prefix), prefix);
    this.#count(prefix, 1);
  }

  delete(prefix: Prefix): void {
    if (this.#byKey.delete(keyOf(prefix))) this.#count(prefix, -1);
  }

  /** Whether the prefix lies in another, shorter one. */
  covers(prefix: Prefix): boolean {
    return this.coverOf(prefix) !== undefined;
  }

  /** The shortest of those. */
  coverOf({ family, bits, length }: Prefix): Prefix | undefined {
    for (const shorter of [...this.#lengths[family].keys()].sort((a, b) => a - b)) {
      const outer = prefixOf({ family, bits }, shorter);
      if (shorter < length && this.has(outer)) return outer;
    }
    return undefined;
  }

  /** Those that lie in this one and are longer, in no order. */
  within(outer: Prefix): Prefix[] {
    const { family, bits, length } = outer;
    if (![...this.#lengths[family].keys()].some((longer) => longer > length)) return [];
    const shift = BigInt(addressWidths[family] - length);
    const isWithin = (one: Prefix) =>
      one.family === family && one.length > length && one.bits >> shift === bits >> shift;
    return [...this].filter(isWithin);
  }

  #count({ family, length }: Prefix, change: number): void {
    const counts = this.#lengths[family];
    const count = (counts.get(length) ?? 0) + change;
    if (count === 0) counts.delete(length);
    else counts.set(length, count);
  }
}

export function keyOf({ family, bits, length }: Prefix): string {
  return `${family} ${bits.toString(36)} ${length}`;
}

function compare(a: Prefix, b: Prefix): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.bits < b.bits ? -1 : a.bits > b.bits ? 1 : a.length - b.length;
}
