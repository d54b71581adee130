/** Networks as values (`10.77.0.0/24`), and addresses that know theirs (`10.77.0.1/24`). */
import {
  addressWidths,
  formatIpAddress,
  type IpAddress,
  isSameAddress,
  parseIpAddress,
} from './ip-address.ts';

export interface Prefix {
  readonly family: 4 | 6;
  /** The first address; the bits behind the length are zero. */
  readonly bits: bigint;
  readonly length: number;
}

export interface InterfaceAddress {
  readonly address: IpAddress;
  readonly prefix: Prefix;
}

/**
 * Reads `192.0.2.0/24`, or an address alone as a prefix of its whole width. Bits behind the length
 * must be zero: `192.0.2.1/24` may mean the address or the network, so it is refused.
 *
 * @returns undefined for everything else
 */
export function parsePrefix(text: string): Prefix | undefined {
  const parsed = parseInterfaceAddress(text.includes('/') ? text : wholeWidth(text));
  if (parsed === undefined) return undefined;
  return parsed.address.bits === parsed.prefix.bits ? parsed.prefix : undefined;
}

/** As {@link parsePrefix}, for text that was checked before. @throws RangeError */
export function requirePrefix(text: string): Prefix {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new RangeError(`not a prefix: ${JSON.stringify(text)}`);
  return prefix;
}

/** Always with the length: `192.0.2.1/32`. */
export function formatPrefix({ family, bits, length }: Prefix): string {
  return `${formatIpAddress({ family, bits })}/${length}`;
}

/** Reads `10.77.0.1/24`, an address and the network that it lies in, or returns undefined. */
export function parseInterfaceAddress(text: string): InterfaceAddress | undefined {
  const [addressText = '', lengthText = '', ...rest] = text.split('/');
  const address = parseIpAddress(addressText);
  if (address === undefined || rest.length > 0) return undefined;
  if (!/^(0|[1-9][0-9]{0,2})$/.test(lengthText)) return undefined;
  const length = Number(lengthText);
  if (length > addressWidths[address.family]) return undefined;
  return { address, prefix: prefixOf(address, length) };
}

/** As {@link parseInterfaceAddress}, for text that was checked before. @throws RangeError */
export function requireInterfaceAddress(text: string): InterfaceAddress {
  const parsed = parseInterfaceAddress(text);
  if (parsed === undefined) {
    throw new RangeError(`not an address with its prefix length: ${JSON.stringify(text)}`);
  }
  return parsed;
}

export function formatInterfaceAddress({ address, prefix }: InterfaceAddress): string {
  return `${formatIpAddress(address)}/${prefix.length}`;
}

/** The network of `length` bits that the address lies in. */
export function prefixOf({ family, bits }: IpAddress, length: number): Prefix {
  const hostBits = BigInt(addressWidths[family] - length);
  return { family, bits: (bits >> hostBits) << hostBits, length };
}

export function prefixHasAddress(prefix: Prefix, address: IpAddress): boolean {
  return prefix.family === address.family && prefixOf(address, prefix.length).bits === prefix.bits;
}

/** True where one of the two lies in the other. */
export function prefixesOverlap(left: Prefix, right: Prefix): boolean {
  const outer = left.length <= right.length ? left : right;
  return prefixHasAddress(outer, outer === left ? right : left);
}

export function lastAddressOf({ family, bits, length }: Prefix): IpAddress {
  const hostBits = BigInt(addressWidths[family] - length);
  return { family, bits: bits | ((1n << hostBits) - 1n) };
}

/**
 * True where a host may have the address: not the network's own first address, nor IPv4's
 * broadcast address. Prefixes of one or two addresses have neither (RFC 3021, RFC 6164).
 */
export function isHostAddress({ address, prefix }: InterfaceAddress): boolean {
  if (addressWidths[prefix.family] - prefix.length <= 1) return true;
  if (address.bits === prefix.bits) return false;
  return prefix.family === 6 || !isSameAddress(address, lastAddressOf(prefix));
}

function wholeWidth(text: string): string {
  return `${text}/${addressWidths[text.includes(':') ? 6 : 4]}`;
}
