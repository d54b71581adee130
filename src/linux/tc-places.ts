/** Where programs of ours stand among those of an interface, and how they are told from others'. */
import { fragmentReturnObject } from '../abi/fragment-return.generated.ts';
import { natObject } from '../abi/nat.generated.ts';
import { protocolCountersObject } from '../abi/protocol-counters.generated.ts';
import { KERNEL_NAME_LENGTH_MAX } from './kernel-objects.ts';

export const tcDirections = ['ingress', 'egress'] as const;
export type TcDirection = (typeof tcDirections)[number];

export type TcPlace = 'counting' | 'nat' | 'fragments';

interface PlaceIdentity {
  /** Of its filter at clsact. A low number runs early. */
  readonly priority: number;
  /** Of its filter at clsact: fixed, so that the next process finds what this one attached. */
  readonly handle: number;
  /**
   * Names in C of the programs that stand there, by which they are found at tcx. A program that
   * gets another name leaves its old one here: an older Gatehouse may have left it attached.
   */
  readonly programs: readonly string[];
}

/** In the order in which packets meet them. */
export const tcPlaces: { readonly [Place in TcPlace]: PlaceIdentity } = {
  counting: {
    priority: 1,
    handle: 0x6761,
    programs: Object.values(protocolCountersObject.programs),
  },
  nat: { priority: 2, handle: 0x6762, programs: Object.values(natObject.programs) },
  /** On the interface of held fragments alone. */
  fragments: {
    priority: 3,
    handle: 0x6763,
    programs: Object.values(fragmentReturnObject.programs),
  },
};

const placeByName = new Map<string, TcPlace>(
  (Object.keys(tcPlaces) as TcPlace[]).flatMap((place) =>
    tcPlaces[place].programs.map((name) => [kernelName(name), place] as const),
  ),
);

/** @param name of a program, in C or as the kernel cuts it. @returns undefined for a stranger's */
export function tcPlaceOf(name: string): TcPlace | undefined {
  return placeByName.get(kernelName(name));
}

/** Those that packets meet before a place, the first one first. */
export function tcPlacesBefore(place: TcPlace): TcPlace[] {
  return (Object.keys(tcPlaces) as TcPlace[]).filter((one) => isBefore(one, place));
}

export function isBefore(one: TcPlace, other: TcPlace): boolean {
  return tcPlaces[one].priority < tcPlaces[other].priority;
}

function kernelName(name: string): string {
  return name.slice(0, KERNEL_NAME_LENGTH_MAX);
}

/** An interface's ingress or egress, in this thread's network namespace. */
export interface TcHookPoint {
  /** The kernel's number of the interface. */
  readonly index: number;
  readonly direction: TcDirection;
  /** What the interface is called in messages. */
  readonly interface: string;
}
