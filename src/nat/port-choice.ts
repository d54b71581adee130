/**
 * Which external port an inside endpoint gets: its own where it is free, else one of the same
 * parity and range (RFC 4787 REQ-3a and REQ-4). Two endpoints never share one (REQ-3b).
 */
import type { NatClass } from './mapping-table.ts';

export interface PortRequest {
  readonly class: NatClass;
  readonly port: number;
  /** Of the inside endpoint: where the search starts. */
  readonly hash: bigint;
  /** Ports from 1,024 on that hosts get, both included. */
  readonly pool: { readonly first: number; readonly last: number };
  readonly isMapped: (port: number) => boolean;
  /** Whether a socket of the gateway is bound there. */
  readonly isOwn: (port: number) => boolean;
}

/** Ports of one parity of one range, or all identifiers: what one search looks through. */
export interface PortRange {
  /** The same for searches that fail together, within a class and an external address. */
  readonly name: string;
  readonly first: number;
  readonly last: number;
  readonly step: 1 | 2;
}

const OWN_PORT_TRIES_MAX = 8;
const WELL_KNOWN_PORTS = { first: 1, last: 1023 } as const;
const POOL_BEGIN = 1024;
/** Of one search: what a packet may cost. */
export const CANDIDATES_MAX = 4096;
/** A DHCP client has no socket bound most of the time. */
const DHCP_PORTS: readonly number[] = [67, 68];

/** Its own port, where that is in the range and free. */
export function keepPort(request: PortRequest): number | undefined {
  const { port } = request;
  if (request.class === 'icmp') return request.isMapped(port) ? undefined : port;
  const { first, last } = port < POOL_BEGIN ? WELL_KNOWN_PORTS : request.pool;
  if (port < first || port > last) return undefined;
  return request.isMapped(port) || isOwn(request, port) ? undefined : port;
}

/** Where to look for a port, the best range first. Ranges without a port are left out. */
export function rangesFor({ class: natClass, port, pool }: RangeRequest): readonly PortRange[] {
  if (natClass === 'icmp') return [{ name: 'all', first: 0, last: 65_535, step: 1 }];
  const parities = [port % 2, 1 - (port % 2)] as const;
  const inPool = parities.map((parity) => rangeOf('pool', pool, parity));
  const wellKnown = parities.map((parity) => rangeOf('well-known', WELL_KNOWN_PORTS, parity));
  const ranges = port < POOL_BEGIN ? [...wellKnown, ...inPool] : inPool;
  return ranges.filter(({ first, last }) => first <= last);
}

type RangeRequest = Pick<PortRequest, 'class' | 'port' | 'pool'>;

/**
 * Looks at part of a range, behind what earlier searches have looked at. A power of two of numbers,
 * of which the last have no port, so that any odd stride comes to each once.
 *
 * @param skipped how many candidates they have
 * @returns undefined when none was found
 */
export function searchPort(
  request: PortRequest,
  range: PortRange,
  skipped: number,
): number | undefined {
  const count = Math.floor((range.last - range.first) / range.step) + 1;
  const ring = 2 ** Math.ceil(Math.log2(count));
  const start = Number((request.hash >> 10n) & 0xffff_ffffn);
  const stride = Number((request.hash >> 40n) & 0xffffn) | 1;
  let ownPorts = 0;
  for (let index = 0; index < Math.min(ring, CANDIDATES_MAX); index++) {
    const number = (start + ((skipped + index) % ring) * stride) % ring;
    if (number >= count) continue;
    const port = range.first + number * range.step;
    if (request.isMapped(port)) continue;
    if (!isOwn(request, port)) return port;
    ownPorts++;
    if (ownPorts > OWN_PORT_TRIES_MAX) return undefined;
  }
  return undefined;
}

function isOwn({ class: natClass, isOwn }: PortRequest, port: number): boolean {
  if (natClass === 'icmp') return false;
  return isOwn(port) || (natClass === 'udp' && DHCP_PORTS.includes(port));
}

function rangeOf(name: string, { first, last }: PortRequest['pool'], parity: number): PortRange {
  const lowest = first % 2 === parity ? first : first + 1;
  return { name: `${name} ${parity}`, first: lowest, last, step: 2 };
}
