/** Rates of a link as values: whole bits a second. */

declare const bandwidthBrand: unique symbol;
/** Bits a second, a whole number and never negative. */
export type Bandwidth = number & { readonly [bandwidthBrand]: true };

/** Largest first; decimal multiples, as links are sold and tc prints them. */
const units = [
  ['Tbit/s', 1_000_000_000_000],
  ['Gbit/s', 1_000_000_000],
  ['Mbit/s', 1_000_000],
  ['kbit/s', 1000],
  ['bit/s', 1],
] as const;

/** @throws RangeError for what is no whole number of bits a second, or negative */
export function bandwidth(bitsPerSecond: number): Bandwidth {
  if (!Number.isSafeInteger(bitsPerSecond) || bitsPerSecond < 0) {
    throw new RangeError(`not a bandwidth in bits a second: ${bitsPerSecond}`);
  }
  return bitsPerSecond as Bandwidth;
}

/**
 * One number with one unit, the unit spelled exactly so: `1Gbit/s`, `2.5Gbit/s`, `100Mbit/s`. At
 * most three digits behind the point, and a whole number of bits a second. `Gb/s` and `GB/s`, which
 * people take for each other, are refused.
 *
 * @returns undefined for everything else
 */
export function parseBandwidth(text: string): Bandwidth | undefined {
  const match = /^(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,3}))?([TGMk]?bit\/s)$/.exec(text);
  const [, whole = '', fraction = '', unit] = match ?? [];
  const size = units.find(([name]) => name === unit)?.[1];
  if (size === undefined) return undefined;
  const thousandths = Number(whole) * 1000 + Number(fraction.padEnd(3, '0'));
  const bits = size === 1 ? thousandths / 1000 : thousandths * (size / 1000);
  return Number.isSafeInteger(bits) ? bandwidth(bits) : undefined;
}

/** As {@link parseBandwidth}, for text that was checked before. @throws RangeError */
export function requireBandwidth(text: string): Bandwidth {
  const parsed = parseBandwidth(text);
  if (parsed === undefined) throw new RangeError(`not a bandwidth: ${JSON.stringify(text)}`);
  return parsed;
}

/** In the largest unit that needs at most three digits behind the point. */
export function formatBandwidth(bitsPerSecond: Bandwidth): string {
  const fitting = units.find(
    ([, size]) => bitsPerSecond >= size && bitsPerSecond % (size / Math.min(size, 1000)) === 0,
  );
  const [name, size] = fitting ?? ['bit/s', 1];
  return `${bitsPerSecond / size}${name}`;
}
