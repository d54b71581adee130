/** An address with a port, as in `10.77.0.20:80` or `[2001:db8::1]:80`. */
import { formatIpAddress, type IpAddress, parseIpAddress } from './ip-address.ts';
import { parsePort } from './port-range.ts';

export interface Endpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** IPv6 addresses stand in brackets (RFC 5952 §6), others never. @returns undefined otherwise */
export function parseEndpoint(text: string): Endpoint | undefined {
  const [, bracketed, bare, portText = ''] = /^(?:\[([^\]]*)\]|([^:]*)):([^:]*)$/.exec(text) ?? [];
  const address = parseIpAddress(bracketed ?? bare ?? '');
  const port = parsePort(portText);
  if (address === undefined || port === undefined) return undefined;
  return (address.family === 6) === (bracketed !== undefined) ? { address, port } : undefined;
}

/** As {@link parseEndpoint}, for text that was checked before. @throws RangeError */
export function requireEndpoint(text: string): Endpoint {
  const endpoint = parseEndpoint(text);
  if (endpoint === undefined) throw new RangeError(`not an endpoint: ${JSON.stringify(text)}`);
  return endpoint;
}

export function formatEndpoint({ address, port }: Endpoint): string {
  const text = formatIpAddress(address);
  return address.family === 6 ? `[${text}]:${port}` : `${text}:${port}`;
}
