/**
 * The numbers that make the NAT's programs ask nft about sessions once more (docs/nat.md,
 * "Approval"), raised after each change: that of the rules about every session, that of an address
 * about its own.
 */
import { closeSync } from 'node:fs';
import { natObject } from '../../abi/nat.generated.ts';
import { generationPlaceOf } from '../../nat/generations.ts';
import type { AddressRange } from '../../net/address-range.ts';
import { BpfMap } from '../bpf-map.ts';
import { mapsOfPrograms } from '../kernel-objects.ts';
import { attachedNatPrograms } from './nat-object.ts';

/** Of more addresses at once it is cheaper to judge all sessions than to tell them apart. */
export const ADDRESSES_MAX = 4_096;

export type GenerationMap = Pick<BpfMap<number, number>, 'lookup' | 'update'>;

export function raiseGeneration(map: GenerationMap): void {
  map.update(0, nextGeneration(map.lookup(0) ?? 0));
}

/** Around the wrap, without 0, with which nothing is judged. */
export function nextGeneration(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}

/**
 * @param memory of the map of addresses' numbers, of which this process is the only writer
 * @returns false when nothing was raised: the ranges hold more than {@link ADDRESSES_MAX} addresses
 *   or others than those of IPv4
 */
export function raiseAddressGenerations(
  memory: ArrayBuffer,
  ranges: readonly AddressRange[],
): boolean {
  if (ranges.some(({ first }) => first.family !== 4)) return false;
  const count = ranges.reduce((sum, { first, last }) => sum + (last.bits - first.bits) + 1n, 0n);
  if (count > ADDRESSES_MAX) return false;
  const places = new Uint32Array(memory);
  for (const { first, last } of ranges) {
    for (let address = Number(first.bits); address <= Number(last.bits); address++) {
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
