/** IPv4 addresses as values: 32 bits as an unsigned number, the first octet highest. */

declare const ipv4AddressBrand: unique symbol;
export type Ipv4Address = number & { readonly [ipv4AddressBrand]: true };

/** @param bits any number; the lowest 32 bits count, as in `bits >>> 0` */
export function ipv4Address(bits: number): Ipv4Address {
  return (bits >>> 0) as Ipv4Address;
}

/**
 * Dotted decimal as RFC 6943 §3.1.1 calls strict: four numbers from 0 to 255 without leading zeros,
 * which other readers take as octal.
 *
 * @returns undefined for everything else
 */
export function parseIpv4Address(text: string): Ipv4Address | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || text.length > 15) return undefined;
  let bits = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bits = bits * 256 + Number(part);
  }
  return ipv4Address(bits);
}

/** As {@link parseIpv4Address}, for text that our own side wrote. @throws RangeError */
export function requireIpv4Address(text: string): Ipv4Address {
  const address = parseIpv4Address(text);
  if (address === undefined) throw new RangeError(`not an IPv4 address: ${JSON.stringify(text)}`);
  return address;
}

export function formatIpv4Address(address: Ipv4Address): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join('.');
}
