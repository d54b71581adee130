/** The program that counts packets, on the config's interfaces as they come and go. */
import { protocolCountersObject } from '../../abi/protocol-counters.generated.ts';
import { type ProtocolCount, protocolCounts } from '../../traffic/protocol-counts.ts';
import { attachedTcProgramId } from '../attach.ts';
import { type BpfObject, loadBpfObject } from '../bpf-object.ts';
import {
  InterfaceAttachments,
  indexOfInterface,
  type TcPrograms,
} from '../interface-attachments.ts';

export type CountedState = 'counting' | 'absent' | 'failed';

export class PacketCounting {
  /** Absent where the kernel does not take the program: then nothing is counted. */
  readonly #object: BpfObject<typeof protocolCountersObject> | undefined;
  readonly #attachments: InterfaceAttachments;
  /** One object, by which the attachments know that nothing has changed. */
  readonly #programs: TcPrograms | undefined;
  #names: readonly string[] = [];

  /** What a killed instance left attached goes on counting in the same maps. */
  constructor(names: readonly string[], report: (text: string) => void) {
    this.#attachments = new InterfaceAttachments({ place: 'counting', action: 'count', report });
    try {
      this.#object = loadCounters(names);
    } catch (cause) {
      // A network must not stay down for its statistics.
      report(`packets are not counted: ${cause instanceof Error ? cause.message : cause}`);
    }
    this.#programs = this.#object && programsOf(this.#object);
    this.count(names);
  }

  /** From now on. */
  count(names: readonly string[]): void {
    this.#names = names;
    const programs = this.#programs;
    if (programs === undefined) return;
    this.#attachments.want(new Map(names.map((name) => [name, programs])));
  }

  states(): { readonly name: string; readonly state: CountedState }[] {
    if (this.#object === undefined) return this.#names.map((name) => ({ name, state: 'failed' }));
    return this.#attachments.states().map(({ name, state }) => {
      return { name, state: state === 'attached' ? 'counting' : state };
    });
  }

  counts(): { readonly counts: readonly ProtocolCount[]; readonly uncountedPackets: bigint } {
    if (this.#object === undefined) return { counts: [], uncountedPackets: 0n };
    const uncounted = this.#object.maps.uncountedPackets.lookup(0) ?? [];
    const entries = this.#object.maps.protocolCounters.entries();
    return {
      counts: protocolCounts(entries, this.#attachments.namesByIndex()),
      uncountedPackets: uncounted.reduce((sum, count) => sum + count, 0n),
    };
  }

  /** Detaches everything. */
  stop(): void {
    this.#attachments.want(new Map());
    this.#attachments.stop();
    this.#object?.close();
  }
}

/** @throws Error when the kernel does not take the program */
function loadCounters(names: readonly string[]): BpfObject<typeof protocolCountersObject> {
  const ids = names.map((name) => attachedId(name));
  const id = ids.find((candidate) => candidate !== undefined);
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
