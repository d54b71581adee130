/** Ranges of addresses as values: `10.77.0.100-10.77.0.199`. */
import { formatIpAddress, type IpAddress, parseIpAddress } from './ip-address.ts';

export interface AddressRange {
  readonly first: IpAddress;
  /** Included; of the same family, and not below `first`. */
  readonly last: IpAddress;
}

/** Two addresses with a hyphen and nothing else between them. @returns undefined otherwise */
export function parseAddressRange(text: string): AddressRange | undefined {
  const [firstText = '', lastText = '', ...rest] = text.split('-');
  const first = parseIpAddress(firstText);
  const last = parseIpAddress(lastText);
  if (first === undefined || last === undefined || rest.length > 0) return undefined;
  if (first.family !== last.family || first.bits > last.bits) return undefined;
  return { first, last };
}

/** As {@link parseAddressRange}, for text that was checked before. @throws RangeError */
export function requireAddressRange(text: string): AddressRange {
  const range = parseAddressRange(text);
  if (range === undefined) throw new RangeError(`not an address range: ${JSON.stringify(text)}`);
  return range;
}

export function formatAddressRange({ first, last }: AddressRange): string {
  return `${formatIpAddress(first)}-${formatIpAddress(last)}`;
}

export function rangeHasAddress({ first, last }: AddressRange, address: IpAddress): boolean {
  const { family, bits } = address;
  return family === first.family && first.bits <= bits && bits <= last.bits;
}
