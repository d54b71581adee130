/** Which private addresses (RFC 1918) the network inside gets: the first ones that nobody has. */
import { parseIpAddress } from '../net/ip-address.ts';
import {
  type Prefix,
  parseInterfaceAddress,
  parsePrefix,
  prefixesOverlap,
  prefixOf,
} from '../net/prefix.ts';
import type { NetworkFacts } from './network-facts.ts';
import { printable } from './printable.ts';

export interface PrivateNetwork {
  /** The gateway's own, without a length. */
  readonly address: string;
  readonly length: 24;
  readonly firstLeased: string;
  readonly lastLeased: string;
  readonly why: readonly string[];
}

/** Rarely chosen by others first, so that a VPN into another network seldom clashes. */
const candidates: readonly string[] = [
  '10.77.0',
  ...numbers(0, 255)
    .filter((number) => number !== 77)
    .map((number) => `10.${number}.0`),
  ...numbers(16, 31).map((number) => `172.${number}.0`),
  ...numbers(0, 255).map((number) => `192.168.${number}`),
];

/** Different neighbours that a comment names. */
const CLASHES_TOLD_MAX = 6;

/**
 * A shorter route is a way to the whole internet in halves or quarters, as VPNs make them, and
 * says nothing about private networks.
 */
const ROUTE_LENGTH_MIN = 8;

export function choosePrivateNetwork(
  facts: NetworkFacts,
): PrivateNetwork | { readonly address?: never; readonly reason: string } {
  const neighbours = neighboursOf(facts);
  /** By neighbour: the first candidate that it was in the way of, and how many there were. */
  const clashes = new Map<string, { first: string; count: number }>();
  for (const candidate of candidates) {
    const prefix = parsePrefix(`${candidate}.0/24`);
    if (prefix === undefined) continue;
    const clash = neighbours.find((one) => prefixesOverlap(one.prefix, prefix));
    if (clash === undefined) return chosen(candidate, clashes);
    const { first = `${candidate}.0/24`, count = 0 } = clashes.get(clash.what) ?? {};
    clashes.set(clash.what, { first, count: count + 1 });
  }
  const why = told(clashes).join(' ');
  const remedy = 'Write the section networks by hand, with addresses that nobody here uses.';
  return { reason: `No private network is free. ${why} ${remedy}` };
}

function chosen(
  candidate: string,
  clashes: ReadonlyMap<string, { first: string; count: number }>,
): PrivateNetwork {
  const which = clashes.size === 0 ? '' : ' that is free';
  return {
    address: `${candidate}.1`,
    length: 24,
    firstLeased: `${candidate}.100`,
    lastLeased: `${candidate}.199`,
    why: [
      `${candidate}.0/24 is the first network of the private ones${which}; clients get a hundred ` +
        'of its addresses, and the rest is for fixed ones.',
      ...told(clashes),
    ],
  };
}

function told(clashes: ReadonlyMap<string, { first: string; count: number }>): string[] {
  const sentences = [...clashes].map(([what, { first, count }]) => {
    const others = count === 1 ? '' : ` and ${count - 1} more of the list`;
    return `Not ${first}${others}: it overlaps ${what}.`;
  });
  const more = sentences.length - CLASHES_TOLD_MAX;
  if (more <= 0) return sentences;
  return [...sentences.slice(0, CLASHES_TOLD_MAX), `Nor what overlaps ${more} others.`];
}

interface Neighbour {
  readonly prefix: Prefix;
  /** Completes "it overlaps …". */
  readonly what: string;
}

/** In an order that does not depend on that of the facts. */
function neighboursOf({ interfaces, routes, resolvers }: NetworkFacts): Neighbour[] {
  const neighbours: Neighbour[] = [];
  const add = (prefix: Prefix | undefined, what: string) => {
    if (prefix?.family === 4) neighbours.push({ prefix, what });
  };
  for (const { name, addresses } of interfaces) {
    for (const { address } of addresses) {
      const prefix = parseInterfaceAddress(address)?.prefix;
      add(prefix, `the address ${address} of ${printable(name)}`);
    }
  }
  for (const { destination, gateway, interface: name } of routes) {
    const prefix = parsePrefix(destination);
    if (prefix !== undefined && prefix.length >= ROUTE_LENGTH_MIN) {
      add(prefix, `the route ${destination} by ${printable(name)}`);
    }
    add(single(gateway), `the router ${gateway}`);
  }
  for (const resolver of resolvers) add(single(resolver), `the resolver ${resolver}`);
  return neighbours.toSorted((one, other) => (one.what < other.what ? -1 : 1));
}

function single(text: string | undefined): Prefix | undefined {
  const address = parseIpAddress(text ?? '');
  return address?.family === 4 ? prefixOf(address, 32) : undefined;
}

function numbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
