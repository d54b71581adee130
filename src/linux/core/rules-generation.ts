/**
 * The number of the rules (docs/nat.md, "Approval"): raised after each change, it makes the NAT's
 * programs ask nft about every session once more.
 */
import { closeSync } from 'node:fs';
import { natObject } from '../../abi/nat.generated.ts';
import { BpfMap } from '../bpf-map.ts';
import { mapsOfPrograms } from '../kernel-objects.ts';
import { attachedNatPrograms } from './nat-object.ts';

export type GenerationMap = Pick<BpfMap<number, number>, 'lookup' | 'update'>;

export function raiseGeneration(map: GenerationMap): void {
  map.update(0, nextGeneration(map.lookup(0) ?? 0));
}

/** Around the wrap; its lowest byte, which packets carry, is never 0. */
export function nextGeneration(generation: number): number {
  const next = (generation + 1) >>> 0;
  return (next & 0xff) === 0 ? next + 1 : next;
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
