/**
 * The numbers that make the NAT's programs ask nft about sessions once more (docs/nat.md,
 * "Approval"), raised after each change: that of the rules about every session, that of an address
 * about its own.
 */
import { closeSync } from 'node:fs';
import { natObject } from '../../abi/nat.generated.ts';
import { generationPlaceOf } from '../../nat/generations.ts';
import { digestOf } from '../../nat/ipv6-digest.ts';
import type { AddressRange } from '../../net/address-range.ts';
import { ipv6Address } from '../../net/ipv6-address.ts';
import { BpfMap } from '../bpf-map.ts';
import { mapsOfPrograms } from '../kernel-objects.ts';
import { attachedNatPrograms } from './nat-object.ts';

/** Of more addresses at once it is cheaper to judge all sessions than to tell them apart. */
export const ADDRESSES_MAX = 4_096;
/** Each address of IPv6 is hashed here, which takes as long as a dozen of IPv4. */
const WEIGHT_OF_IPV6 = 16n;

export type GenerationMap = Pick<BpfMap<number, number>, 'lookup' | 'update'>;

export function raiseGeneration(map: GenerationMap): void {
  map.update(0, nextGeneration(map.lookup(0) ?? 0));
}

/** Around the wrap, without 0, with which nothing is judged. */
export function nextGeneration(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}

/** Of addresses. This process is the only writer. */
export interface AddressGenerations {
  readonly memory: ArrayBuffer;
  /** Of the programs' settings: what addresses of IPv6 are known by. */
  readonly hashKey: readonly bigint[];
}

/**
 * @returns false when nothing was raised: the ranges hold more than {@link ADDRESSES_MAX}
 *   addresses, of which each of IPv6 counts as sixteen
 */
export function raiseAddressGenerations(
  { memory, hashKey }: AddressGenerations,
  ranges: readonly AddressRange[],
): boolean {
  const [word = 0n, otherWord = 0n] = hashKey;
  const count = ranges.reduce((sum, { first, last }) => {
    const weight = first.family === 4 ? 1n : WEIGHT_OF_IPV6;
    return sum + (last.bits - first.bits + 1n) * weight;
  }, 0n);
  if (count > ADDRESSES_MAX) return false;
  const places = new Uint32Array(memory);
  for (const { first, last } of ranges) {
    for (let { bits } = first; bits <= last.bits; bits++) {
      const isIpv4 = first.family === 4;
      const address = isIpv4 ? Number(bits) : digestOf([word, otherWord], ipv6Address(bits)).digest;
      // In one piece, and behind all that was done before.
      Atomics.add(places, generationPlaceOf(address), 1);
    }
  }
  return true;
}

/** Where the programs belong to another process, or to none that lives. */
export function raiseGenerationInKernel(): void {
  const { natGeneration } = natObject.maps;
  const found = mapsOfPrograms(attachedNatPrograms());
  try {
    for (const { fd } of found.filter(({ name }) => name === natGeneration.name)) {
      raiseGeneration(new BpfMap({ ...natGeneration, fd }));
    }
  } finally {
    for (const { fd } of found) closeSync(fd);
  }
}
