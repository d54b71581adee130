/** The program that counts packets, on the config's interfaces as they come and go. */
import { protocolCountersObject } from '../../abi/protocol-counters.generated.ts';
import { type ProtocolCount, protocolCounts } from '../../traffic/protocol-counts.ts';
import { attachedTcProgramId, attachTc, type TcAttachment } from '../attach.ts';
import { type BpfObject, loadBpfObject } from '../bpf-object.ts';
import { LinuxError } from '../ffi.ts';
import { interfaceIndex, interfaceName } from '../libc.ts';

export type CountedState = 'counting' | 'absent' | 'failed';

interface Counted {
  readonly index: number;
  readonly attachments: readonly TcAttachment[];
}

/** An interface that appears is counted within this time. */
const LOOK_EVERY_MS = 1_000;

export class PacketCounting {
  readonly #object: BpfObject<typeof protocolCountersObject>;
  readonly #report: (text: string) => void;
  readonly #timer: NodeJS.Timeout;
  #names: readonly string[];
  readonly #counted = new Map<string, Counted>();
  /** Why an interface that is there is not counted. */
  readonly #failures = new Map<string, string>();

  /**
   * What a killed instance left attached goes on counting in the same maps.
   *
   * @throws Error when the kernel does not take the program
   */
  constructor(names: readonly string[], report: (text: string) => void) {
    this.#names = names;
    this.#report = report;
    const ids = names.map((name) => attachedId(name));
    const id = ids.find((candidate) => candidate !== undefined);
    this.#object = loadBpfObject(
      protocolCountersObject,
      id === undefined ? {} : { adoptMapsOf: id },
    );
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** From now on. */
  count(names: readonly string[]): void {
    this.#names = names;
    for (const name of [...this.#counted.keys()].filter((one) => !names.includes(one))) {
      this.#detach(name);
    }
    this.#look();
  }

  states(): { readonly name: string; readonly state: CountedState }[] {
    return this.#names.map((name) => {
      if (this.#counted.has(name)) return { name, state: 'counting' };
      return { name, state: this.#failures.has(name) ? 'failed' : 'absent' };
    });
  }

  counts(): { readonly counts: readonly ProtocolCount[]; readonly uncountedPackets: bigint } {
    const names = new Map([...this.#counted].map(([name, { index }]) => [index, name]));
    const uncounted = this.#object.maps.uncountedPackets.lookup(0) ?? [];
    return {
      counts: protocolCounts(this.#object.maps.protocolCounters.entries(), names),
      uncountedPackets: uncounted.reduce((sum, count) => sum + count, 0n),
    };
  }

  /** Detaches everything. */
  stop(): void {
    clearInterval(this.#timer);
    for (const name of [...this.#counted.keys()]) this.#detach(name);
    this.#object.close();
  }

  #look(): void {
    for (const name of this.#names) {
      try {
        this.#lookAt(name);
      } catch (cause) {
        this.#fail(name, cause);
      }
    }
  }

  #lookAt(name: string): void {
    const index = indexOf(name);
    if (index === undefined) this.#failures.delete(name);
    if (this.#counted.get(name)?.index === index) return;
    // It has gone, or has another name now.
    this.#detach(name);
    if (index !== undefined) this.#attach(name, index);
  }

  #fail(name: string, cause: unknown): void {
    const text = `cannot count on ${name}: ${cause instanceof Error ? cause.message : cause}`;
    if (this.#failures.get(name) !== text) this.#report(text);
    this.#failures.set(name, text);
  }

  #attach(name: string, index: number): void {
    const { countProtocolsTcIngress, countProtocolsTcEgress } = this.#object.programs;
    const attachments: TcAttachment[] = [];
    try {
      attachments.push(attachTc(countProtocolsTcIngress, { interface: name }, 'ingress'));
      attachments.push(attachTc(countProtocolsTcEgress, { interface: name }, 'egress'));
    } catch (cause) {
      this.#fail(name, cause);
      for (const attachment of attachments) this.#undo(attachment, index);
      return;
    }
    this.#failures.delete(name);
    this.#counted.set(name, { index, attachments });
  }

  #detach(name: string): void {
    const counted = this.#counted.get(name);
    this.#counted.delete(name);
    for (const attachment of counted?.attachments.toReversed() ?? []) {
      this.#undo(attachment, counted?.index ?? 0);
    }
  }

  /** What was attached to an interface that has gone went with it. */
  #undo(attachment: TcAttachment, index: number): void {
    try {
      attachment.detach();
    } catch (cause) {
      const name = interfaceName(index);
      if (name !== undefined) this.#report(cause instanceof Error ? cause.message : String(cause));
    }
  }
}

function attachedId(name: string): number | undefined {
  return indexOf(name) === undefined
    ? undefined
    : attachedTcProgramId({ interface: name }, 'ingress');
}

function indexOf(name: string): number | undefined {
  try {
    return interfaceIndex(name);
  } catch (error) {
    if (error instanceof LinuxError && error.code === 'ENODEV') return undefined;
    throw error;
  }
}
