/** Addresses of IPv6 in 32 bits, and what tells those with the same 32 bits apart (docs/nat.md). */
import type { Ipv6Address } from '../net/ipv6-address.ts';
import type { Endpoint } from './ip-packet.ts';
import { sipHash13 } from './siphash.ts';

export type HashKey = readonly [bigint, bigint];

/** What a session keeps of an address. */
export interface Ipv6Digest {
  /** Never 0. */
  readonly digest: number;
  /** Of the check of a pair: see {@link pairCheck}. */
  readonly share: number;
}

/** Eight bytes of a keyed hash: the first four, and the last four. */
export function digestOf(key: HashKey, address: Ipv6Address): Ipv6Digest {
  const message = new DataView(new ArrayBuffer(16));
  message.setBigUint64(0, address >> 64n);
  message.setBigUint64(8, address & 0xffff_ffff_ffff_ffffn);
  const hash = new DataView(new ArrayBuffer(8));
  hash.setBigUint64(0, sipHash13(key, new Uint8Array(message.buffer)), true);
  return { digest: hash.getUint32(0) || 0x0100_0000, share: hash.getUint32(4) };
}

/** What sessions and permissions of two addresses are compared by, besides their digests. */
export function pairCheck(one: Ipv6Digest, other: Ipv6Digest): number {
  return (one.share ^ other.share) >>> 0;
}

/** In the place of an endpoint of IPv4. */
export function digestEndpoint({ digest }: Ipv6Digest, port: number): Endpoint {
  return { address: digest, port };
}
