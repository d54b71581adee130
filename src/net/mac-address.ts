/** Ethernet addresses as values: canonical text, six lower-case pairs with colons. */

declare const macAddressBrand: unique symbol;
export type MacAddress = string & { readonly [macAddressBrand]: true };

export const MAC_ADDRESS_BYTES = 6;

/** Reads `02:00:00:00:00:01`, also with hyphens and upper case. @returns undefined otherwise */
export function parseMacAddress(text: string): MacAddress | undefined {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return text.toLowerCase().replaceAll('-', ':') as MacAddress;
}

export function macAddressBytes(address: MacAddress): Uint8Array {
  return Uint8Array.from(address.split(':'), (pair) => Number.parseInt(pair, 16));
}

/** @param bytes exactly six */
export function macAddressFromBytes(bytes: Uint8Array): MacAddress {
  if (bytes.length !== MAC_ADDRESS_BYTES) throw new RangeError(`a MAC of ${bytes.length} bytes`);
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':') as MacAddress;
}
