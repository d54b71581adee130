/**
 * Keeps tc programs on interfaces that come and go: one that is named and not there yet gets its
 * programs within a second of its appearance, and one that was made anew gets them again.
 */
import {
  attachTc,
  clearTcPlace,
  type TcAttachment,
  type TcDirection,
  type TcPlace,
  tcDirections,
} from './attach.ts';
import type { BpfProgram } from './bpf-program.ts';
import { LinuxError } from './ffi.ts';
import { interfaceIndex, interfaceName } from './libc.ts';

/** One program for each direction. */
export type TcPrograms = { readonly [Direction in TcDirection]: BpfProgram };

export type AttachmentState = 'attached' | 'absent' | 'failed';

export interface InterfaceAttachmentsOptions {
  readonly place: TcPlace;
  /** What the programs do, as in "cannot count on wan0". */
  readonly action: string;
  /** A sentence that a person should know; not repeated while it stays the same. */
  readonly report: (text: string) => void;
  /** Called when the state of an interface is another than before, or the interface itself. */
  readonly onChange?: () => void;
}

interface Attached {
  readonly index: number;
  readonly programs: TcPrograms;
  readonly attachments: readonly TcAttachment[];
}

/** An interface that appears has its programs within this time. */
const LOOK_EVERY_MS = 1_000;

export class InterfaceAttachments {
  readonly #options: InterfaceAttachmentsOptions;
  readonly #timer: NodeJS.Timeout;
  #wanted: ReadonlyMap<string, TcPrograms> = new Map();
  readonly #attached = new Map<string, Attached>();
  /** Why an interface that is there has not got its programs. */
  readonly #failures = new Map<string, string>();
  #toldStates = '';

  constructor(options: InterfaceAttachmentsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** From now on. Other programs than before take their place without a gap. */
  want(wanted: ReadonlyMap<string, TcPrograms>): void {
    this.#wanted = wanted;
    for (const name of [...this.#attached.keys()].filter((one) => !wanted.has(one))) {
      this.#detach(name);
    }
    this.#look();
  }

  /** Of each interface that is named, in that order. */
  states(): { readonly name: string; readonly state: AttachmentState; readonly why?: string }[] {
    return [...this.#wanted.keys()].map((name) => {
      if (this.#attached.has(name)) return { name, state: 'attached' };
      const why = this.#failures.get(name);
      return why === undefined ? { name, state: 'absent' } : { name, state: 'failed', why };
    });
  }

  /** Names by the kernel's numbers, of interfaces that have their programs. */
  namesByIndex(): Map<number, string> {
    return new Map([...this.#attached].map(([name, { index }]) => [index, name]));
  }

  /** Leaves the programs where they are. */
  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    for (const [name, programs] of this.#wanted) {
      try {
        this.#lookAt(name, programs);
      } catch (cause) {
        this.#fail(name, cause);
      }
    }
    const states = JSON.stringify([this.states(), ...this.namesByIndex()]);
    if (states === this.#toldStates) return;
    this.#toldStates = states;
    this.#options.onChange?.();
  }

  #lookAt(name: string, programs: TcPrograms): void {
    const index = indexOfInterface(name);
    if (index === undefined) this.#failures.delete(name);
    const attached = this.#attached.get(name);
    if (attached !== undefined && attached.index === index) {
      if (attached.programs !== programs) this.#attach(name, index, programs);
      return;
    }
    // It has gone, or has another name now.
    this.#detach(name);
    if (index !== undefined) this.#attach(name, index, programs);
  }

  #fail(name: string, cause: unknown): void {
    const { action, report } = this.#options;
    const text = `cannot ${action} on ${name}: ${cause instanceof Error ? cause.message : cause}`;
    if (this.#failures.get(name) !== text) report(text);
    this.#failures.set(name, text);
  }

  #attach(name: string, index: number, programs: TcPrograms): void {
    const attachments: TcAttachment[] = [];
    try {
      for (const direction of tcDirections) {
        const program = programs[direction];
        attachments.push(attachTc(program, { interface: name }, direction, this.#options.place));
      }
    } catch (cause) {
      // Those of before are replaced already, so nothing is right any more.
      for (const direction of tcDirections) this.#clear(name, direction);
      this.#attached.delete(name);
      // It went away meanwhile.
      if (interfaceName(index) === name) this.#fail(name, cause);
      return;
    }
    this.#failures.delete(name);
    this.#attached.set(name, { index, programs, attachments });
  }

  #detach(name: string): void {
    const attached = this.#attached.get(name);
    this.#attached.delete(name);
    for (const attachment of attached?.attachments.toReversed() ?? []) {
      this.#undo(attachment, attached?.index ?? 0);
    }
  }

  #clear(name: string, direction: TcDirection): void {
    try {
      clearTcPlace({ interface: name }, direction, this.#options.place);
    } catch (cause) {
      this.#reportOf(name, cause);
    }
  }

  /** What was attached to an interface that has gone went with it. */
  #undo(attachment: TcAttachment, index: number): void {
    try {
      attachment.detach();
    } catch (cause) {
      const name = interfaceName(index);
      if (name !== undefined) this.#reportOf(name, cause);
    }
  }

  #reportOf(name: string, cause: unknown): void {
    const text = cause instanceof Error ? cause.message : String(cause);
    if (indexOfInterface(name) !== undefined) this.#options.report(text);
  }
}

/** @returns undefined when there is none of that name */
export function indexOfInterface(name: string): number | undefined {
  try {
    return interfaceIndex(name);
  } catch (error) {
    if (error instanceof LinuxError && error.code === 'ENODEV') return undefined;
    throw error;
  }
}
