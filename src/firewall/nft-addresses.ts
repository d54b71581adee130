/**
 * Addresses as nft lists them. People write prefixes; nft joins those of a set that touch, and
 * lists what is no prefix then as a range, so rules hold ranges.
 */
import type { AddressRange } from '../net/address-range.ts';
import {
  addressWidths,
  formatIpAddress,
  type IpAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import { formatIpv4Address, ipv4Address } from '../net/ipv4-address.ts';
import { lastAddressOf, type Prefix, parseInterfaceAddress } from '../net/prefix.ts';

/**
 * Reads `10.77.0.0/24`, `2001:db8::/32`, or an address alone. Bits behind the length are cut off,
 * so that an interface's address may stand for its network.
 *
 * @returns undefined for everything else: names, zones, leading zeros
 */
export function parseAddresses(text: string): AddressRange | undefined {
  if (!text.includes('/')) {
    const address = parseIpAddress(text);
    return address && { first: address, last: address };
  }
  const prefix = parseInterfaceAddress(text)?.prefix;
  return (
    prefix && { first: { family: prefix.family, bits: prefix.bits }, last: lastAddressOf(prefix) }
  );
}

/** All that can be read, in order, as the fewest ranges. */
export function parseAllAddresses(texts: readonly string[]): AddressRange[] {
  return mergeAddressRanges(texts.map(parseAddresses).filter((one) => one !== undefined));
}

export function familyOf({ first }: AddressRange): 4 | 6 {
  return first.family;
}

/** The same addresses in order, IPv4 first, as the fewest ranges. */
export function mergeAddressRanges(ranges: readonly AddressRange[]): AddressRange[] {
  const sorted = [...ranges].sort(
    (a, b) => familyOf(a) - familyOf(b) || compare(a.first.bits, b.first.bits),
  );
  const merged: AddressRange[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    const touches =
      before !== undefined &&
      familyOf(before) === familyOf(range) &&
      range.first.bits <= before.last.bits + 1n;
    if (!touches) merged.push(range);
    else if (range.last.bits > before.last.bits) {
      merged.splice(-1, 1, { first: before.first, last: range.last });
    }
  }
  return merged;
}

/** The prefix that has just these addresses, if there is one. */
export function asPrefix({ first, last }: AddressRange): Prefix | undefined {
  const size = last.bits - first.bits + 1n;
  const isPowerOfTwo = (size & (size - 1n)) === 0n;
  if (!isPowerOfTwo || first.bits % size !== 0n) return undefined;
  const { family, bits } = first;
  return { family, bits, length: addressWidths[family] - (size.toString(2).length - 1) };
}

export function isSingleAddress({ first, last }: AddressRange): boolean {
  return first.bits === last.bits;
}

/** `10.0.0.1`, `10.0.0.0/24` or `10.0.0.1-10.0.0.6`. */
export function formatAddresses(range: AddressRange): string {
  const first = formatNftAddress(range.first);
  if (isSingleAddress(range)) return first;
  const prefix = asPrefix(range);
  return prefix === undefined
    ? `${first}-${formatNftAddress(range.last)}`
    : `${first}/${prefix.length}`;
}

/** As the C library prints it: with a dotted end for ::/96, too, which RFC 5952 no longer asks. */
export function formatNftAddress(address: IpAddress): string {
  const { family, bits } = address;
  const isCompatible = family === 6 && bits >> 16n !== 0n && bits >> 32n === 0n;
  return isCompatible
    ? `::${formatIpv4Address(ipv4Address(Number(bits)))}`
    : formatIpAddress(address);
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
