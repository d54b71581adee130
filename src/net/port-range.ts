/** Ports and ranges of ports as values. */

export interface PortRange {
  readonly first: number;
  /** Included. */
  readonly last: number;
}

export const PORT_MAX = 65_535;

/** A decimal number from 1 to 65535 without leading zeros. @returns undefined otherwise */
export function parsePort(text: string): number | undefined {
  if (!/^[1-9][0-9]{0,4}$/.test(text)) return undefined;
  const port = Number(text);
  return port > PORT_MAX ? undefined : port;
}

/** Reads `8080` or `6000-6063`, the lower port first. @returns undefined otherwise */
export function parsePortRange(text: string): PortRange | undefined {
  const [firstText = '', lastText = firstText, ...rest] = text.split('-');
  const first = parsePort(firstText);
  const last = parsePort(lastText);
  if (first === undefined || last === undefined || rest.length > 0) return undefined;
  return first <= last ? { first, last } : undefined;
}

/** {@link parsePortRange} for what was checked before; a number is one port. @throws RangeError */
export function requirePortRange(ports: string | number): PortRange {
  const range = parsePortRange(String(ports));
  if (range === undefined) throw new RangeError(`not a port range: ${JSON.stringify(ports)}`);
  return range;
}

/** `8080` where the range is one port. */
export function formatPortRange({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

export function portRangesOverlap(left: PortRange, right: PortRange): boolean {
  return left.first <= right.last && right.first <= left.last;
}
