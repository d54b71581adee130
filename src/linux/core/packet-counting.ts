/**
 * Packets counted by protocol, on the config's interfaces as they come and go: by the NAT's
 * programs where those are attached, by a program of its own elsewhere. All count in the same maps.
 */
import { protocolCountersObject } from '../../abi/protocol-counters.generated.ts';
import { type ProtocolCount, protocolCounts } from '../../traffic/protocol-counts.ts';
import { attachedTcProgramId, clearTcPlace, tcDirections } from '../attach.ts';
import { type BpfObject, loadBpfObject } from '../bpf-object.ts';
import {
  InterfaceAttachments,
  indexOfInterface,
  type TcPrograms,
} from '../interface-attachments.ts';
import { attachedNatPrograms } from './nat-object.ts';

export type CountedState = 'counting' | 'absent' | 'failed';

export interface PacketCountingOptions {
  /** Those of the config. What a killed instance left attached there goes on in the same maps. */
  readonly interfaces: readonly string[];
  /** Those where the NAT's programs count: names by the kernel's numbers. */
  readonly countedByNat: () => ReadonlyMap<number, string>;
  /** A sentence that a person should know. */
  readonly report: (text: string) => void;
}

export class PacketCounting {
  /** Absent where the kernel does not take the program: then nothing is counted. */
  readonly #object: BpfObject<typeof protocolCountersObject> | undefined;
  readonly #attachments: InterfaceAttachments;
  /** One object, by which the attachments know that nothing has changed. */
  readonly #programs: TcPrograms | undefined;
  readonly #countedByNat: () => ReadonlyMap<number, string>;
  #names: readonly string[];

  /** Counts nowhere yet, so that the NAT's programs can be loaded with the same maps before. */
  constructor({ interfaces, countedByNat, report }: PacketCountingOptions) {
    this.#names = interfaces;
    this.#countedByNat = countedByNat;
    this.#attachments = new InterfaceAttachments({ place: 'counting', action: 'count', report });
    try {
      this.#object = loadCounters(interfaces);
    } catch (cause) {
      // A network must not stay down for its statistics.
      report(`packets are not counted: ${cause instanceof Error ? cause.message : cause}`);
    }
    this.#programs = this.#object && programsOf(this.#object);
  }

  /** The kernel's number of a program that has the maps. */
  get programId(): number | undefined {
    return this.#object?.programs.countProtocolsTcIngress.id;
  }

  /** From now on. */
  count(names: readonly string[]): void {
    this.#names = names;
    this.#attach();
  }

  /** The NAT's interfaces are others. While programs are exchanged, both may count a packet. */
  lookAtNat(): void {
    this.#attach();
  }

  states(): { readonly name: string; readonly state: CountedState }[] {
    if (this.#object === undefined) return this.#names.map((name) => ({ name, state: 'failed' }));
    const left = this.#leftToNat();
    const others = new Map(this.#attachments.states().map(({ name, state }) => [name, state]));
    return this.#names.map((name) => {
      const state = left.has(name) ? 'attached' : (others.get(name) ?? 'absent');
      return { name, state: state === 'attached' ? 'counting' : state };
    });
  }

  counts(): { readonly counts: readonly ProtocolCount[]; readonly uncountedPackets: bigint } {
    if (this.#object === undefined) return { counts: [], uncountedPackets: 0n };
    const uncounted = this.#object.maps.uncountedPackets.lookup(0) ?? [];
    const entries = this.#object.maps.protocolCounters.entries();
    const names = new Map([...this.#attachments.namesByIndex(), ...this.#countedByNat()]);
    return {
      counts: protocolCounts(entries, names),
      uncountedPackets: uncounted.reduce((sum, count) => sum + count, 0n),
    };
  }

  /** Detaches its own programs. The NAT's go on. */
  stop(): void {
    this.#attachments.want(new Map());
    this.#attachments.stop();
    this.#object?.close();
  }

  #attach(): void {
    const programs = this.#programs;
    if (programs === undefined) return;
    const left = this.#leftToNat();
    const names = this.#names.filter((name) => !left.has(name));
    this.#attachments.want(new Map(names.map((name) => [name, programs])));
    for (const name of left) clearCounting(name);
  }

  #leftToNat(): Set<string> {
    return new Set(this.#countedByNat().values());
  }
}

/** @throws Error when the kernel does not take the program */
function loadCounters(names: readonly string[]): BpfObject<typeof protocolCountersObject> {
  const id = names.map(attachedId).find((one) => one !== undefined) ?? attachedNatPrograms()[0];
  return loadBpfObject(protocolCountersObject, id === undefined ? {} : { adoptMapsOf: id });
}

function programsOf({ programs }: BpfObject<typeof protocolCountersObject>): TcPrograms {
  return { ingress: programs.countProtocolsTcIngress, egress: programs.countProtocolsTcEgress };
}

function attachedId(name: string): number | undefined {
  return indexOfInterface(name) === undefined
    ? undefined
    : attachedTcProgramId({ interface: name }, 'ingress');
}

/** What a killed instance has left where the NAT counts now. */
function clearCounting(name: string): void {
  if (indexOfInterface(name) === undefined) return;
  for (const direction of tcDirections) clearTcPlace({ interface: name }, direction, 'counting');
}
