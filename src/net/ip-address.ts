/** Addresses of either family as values. */
import { formatIpv4Address, ipv4Address, parseIpv4Address } from './ipv4-address.ts';
import { formatIpv6Address, ipv6Address, parseIpv6Address } from './ipv6-address.ts';

export interface IpAddress {
  readonly family: 4 | 6;
  /** 32 or 128 bits, unsigned; the first octet is highest. */
  readonly bits: bigint;
}

/** Bits of an address by family. */
export const addressWidths = { 4: 32, 6: 128 } as const;

/** Strict, as {@link parseIpv4Address} and {@link parseIpv6Address} are. */
export function parseIpAddress(text: string): IpAddress | undefined {
  if (text.includes(':')) {
    const bits = parseIpv6Address(text);
    return bits === undefined ? undefined : { family: 6, bits };
  }
  const bits = parseIpv4Address(text);
  return bits === undefined ? undefined : { family: 4, bits: BigInt(bits) };
}

/** As {@link parseIpAddress}, for text that was checked before. @throws RangeError */
export function requireIpAddress(text: string): IpAddress {
  const address = parseIpAddress(text);
  if (address === undefined) throw new RangeError(`not an IP address: ${JSON.stringify(text)}`);
  return address;
}

export function formatIpAddress({ family, bits }: IpAddress): string {
  return family === 4
    ? formatIpv4Address(ipv4Address(Number(bits)))
    : formatIpv6Address(ipv6Address(bits));
}

export function isSameAddress(left: IpAddress, right: IpAddress): boolean {
  return left.family === right.family && left.bits === right.bits;
}

/** 127.0.0.0/8 and ::1: what only this machine reaches. */
export function isLoopback({ family, bits }: IpAddress): boolean {
  return family === 4 ? bits >> 24n === 127n : bits === 1n;
}

/** 0.0.0.0 and ::, which a listening socket takes as "every address of this machine". */
export function isUnspecified({ bits }: IpAddress): boolean {
  return bits === 0n;
}
