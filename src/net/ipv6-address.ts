/** IPv6 addresses as values: 128 bits as an unsigned number, the first group highest. */
import { formatIpv4Address, ipv4Address, parseIpv4Address } from './ipv4-address.ts';

declare const ipv6AddressBrand: unique symbol;
export type Ipv6Address = bigint & { readonly [ipv6AddressBrand]: true };

const GROUPS = 8;
/** `ffff:` seven times and a dotted end of fifteen characters, with some room. */
const TEXT_LENGTH_MAX = 45;
/** `::ffff:0:0/96`, RFC 4291 §2.5.5.2. */
const MAPPED_PREFIX = 0xffffn;

/** @param bits any number; the lowest 128 bits count */
export function ipv6Address(bits: bigint): Ipv6Address {
  return BigInt.asUintN(128, bits) as Ipv6Address;
}

/**
 * The three forms of RFC 4291 §2.2: eight groups, one run of zero groups as `::`, and the last 32
 * bits dotted. No zone (`%eth0`), no brackets, no white space; the dotted end is as strict as
 * {@link parseIpv4Address}.
 *
 * @returns undefined for everything else
 */
export function parseIpv6Address(text: string): Ipv6Address | undefined {
  if (text.length > TEXT_LENGTH_MAX) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [head = [], tail] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const front = groupsOf(head, { mayEndDotted: tail === undefined });
  const back = groupsOf(tail ?? [], { mayEndDotted: true });
  if (front === undefined || back === undefined) return undefined;
  const zeroCount = GROUPS - front.length - back.length;
  if (tail === undefined ? zeroCount !== 0 : zeroCount < 1) return undefined;
  const groups = [...front, ...new Array<number>(zeroCount).fill(0), ...back];
  return ipv6Address(groups.reduce((bits, group) => (bits << 16n) | BigInt(group), 0n));
}

/**
 * RFC 5952: lower case, no leading zeros, `::` for the longest run of at least two zero groups (the
 * first of equally long ones), and a dotted end where the address carries an IPv4 address (§5).
 */
export function formatIpv6Address(address: Ipv6Address): string {
  if (address >> 32n === MAPPED_PREFIX) {
    return `::ffff:${formatIpv4Address(ipv4Address(Number(address & 0xffff_ffffn)))}`;
  }
  const groups = Array.from({ length: GROUPS }, (_, index) =>
    Number((address >> BigInt(16 * (GROUPS - 1 - index))) & 0xffffn),
  );
  const words = groups.map((group) => group.toString(16));
  const run = longestZeroRun(groups);
  if (run.length < 2) return words.join(':');
  return `${words.slice(0, run.start).join(':')}::${words.slice(run.start + run.length).join(':')}`;
}

function groupsOf(
  words: readonly string[],
  { mayEndDotted }: { readonly mayEndDotted: boolean },
): number[] | undefined {
  const groups: number[] = [];
  for (const [index, word] of words.entries()) {
    const isLast = index === words.length - 1;
    const dotted = mayEndDotted && isLast ? parseIpv4Address(word) : undefined;
    if (dotted !== undefined) groups.push(dotted >>> 16, dotted & 0xffff);
    else if (/^[0-9a-f]{1,4}$/i.test(word)) groups.push(Number.parseInt(word, 16));
    else return undefined;
  }
  return groups;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
