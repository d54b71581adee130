/**
 * Fragments that came before the first of their datagram wait here until it has come (RFC 4787
 * REQ-14). The kernel program hands them over whole; their Ethernet source address tells where they
 * came in, and where they are to go back to:
 *
 * ```
 *  0             6       8                 12      14
 * | destination | 02 67 | interface index | 08 00 | IPv4 …
 * ```
 *
 * Whoever sends many fragments without a first costs nothing but other such datagrams: what waits
 * is bounded in memory, in datagrams and in time. For want of room the oldest datagram is dropped.
 */
import type { NatFragmentKey, NatHook } from '../abi/layouts.generated.ts';
import { FrameSlots, type StoredFrame } from './frame-slots.ts';
import { viewOf } from './ip-packet.ts';
import { isIpv4Frame, parseIpv4Packet } from './ipv4-packet.ts';

export interface FragmentHoldLimits {
  readonly datagrams: number;
  /** Of {@link SLOT_BYTES} each, for the frames of all datagrams; memory for them is taken once. */
  readonly slots: number;
  /** At most `slots`. */
  readonly slotsPerDatagram: number;
}

/**
 * 1,024 datagrams at once are more than reorder on any line that carries conversations. Slots take
 * 4 MiB. The largest datagram (RFC 791: 65,535 bytes) fits in fragments of 576 bytes, the least
 * that every network carries: it has 119, of which each takes a slot.
 */
export const fragmentHoldLimits: FragmentHoldLimits = {
  datagrams: 1_024,
  slots: 2_048,
  slotsPerDatagram: 128,
};

/** Reordering takes milliseconds; the receiver itself gives up after 30 s. */
export const HOLD_FOR_MS = 5_000;

/** To be done at once: the bytes are valid until the next frame is handled. */
export interface FragmentHoldCommand {
  readonly kind: 'return-frame';
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Frames, since the beginning. */
export interface FragmentHoldCounters {
  /** Had to wait. */
  readonly waited: number;
  /** Went back, at once or after they had waited. */
  readonly returned: number;
  /** Dropped: the first did not come in time. */
  readonly droppedExpired: number;
  /** Dropped: there was no room. */
  readonly droppedNoRoom: number;
  /** Dropped: more than one datagram can hold. */
  readonly droppedOversized: number;
  /** Dropped: no fragment of the kernel program. */
  readonly droppedForeign: number;
}

export interface FragmentHoldOptions {
  /**
   * Whether the kernel program has seen the first fragment. It is asked when a frame comes, since
   * the first may overtake it on the way here, and when the time is over, since the word of the
   * first may be lost.
   */
  readonly isFirstKnown: (key: NatFragmentKey) => boolean;
  readonly limits?: FragmentHoldLimits;
}

interface Datagram {
  readonly key: NatFragmentKey;
  readonly frames: StoredFrame[];
  readonly deadline: number;
  slots: number;
}

type CounterName = keyof FragmentHoldCounters;

/** All times are milliseconds of any steady clock. */
export class FragmentHold {
  readonly #isFirstKnown: (key: NatFragmentKey) => boolean;
  readonly #limits: FragmentHoldLimits;
  readonly #slots: FrameSlots;
  /** The oldest first, so that the next deadline is that of the first. */
  readonly #datagrams = new Map<string, Datagram>();
  #hooks: ReadonlyMap<number, NatHook> = new Map();
  readonly #counters: Record<CounterName, number> = {
    waited: 0,
    returned: 0,
    droppedExpired: 0,
    droppedNoRoom: 0,
    droppedOversized: 0,
    droppedForeign: 0,
  };

  constructor({ isFirstKnown, limits = fragmentHoldLimits }: FragmentHoldOptions) {
    this.#isFirstKnown = isFirstKnown;
    this.#limits = limits;
    this.#slots = new FrameSlots(limits.slots);
  }

  /** @param hooks where the kernel program looks at what comes in, by the interface's index */
  handleInterfaces(hooks: ReadonlyMap<number, NatHook>): void {
    this.#hooks = hooks;
  }

  /** @param frame copied if it has to wait */
  handleFrame(frame: Uint8Array<ArrayBuffer>, now: number): FragmentHoldCommand[] {
    const key = this.#keyOf(frame);
    if (key === undefined) {
      this.#counters.droppedForeign++;
      return [];
    }
    if (this.#isFirstKnown(key)) {
      this.#counters.returned++;
      return [...this.handleFirst(key), { kind: 'return-frame', bytes: frame }];
    }
    this.#keep(key, frame, now);
    return [];
  }

  /** The first fragment of a datagram has come. */
  handleFirst(key: NatFragmentKey): FragmentHoldCommand[] {
    const datagram = this.#take(textOf(key));
    return datagram === undefined ? [] : this.#return(datagram.frames);
  }

  /** To be called at {@link nextDeadline}; earlier does no harm. */
  handleTimeout(now: number): FragmentHoldCommand[] {
    const commands: FragmentHoldCommand[] = [];
    for (const [text, { key, frames, deadline }] of this.#datagrams) {
      if (deadline > now) break;
      this.#take(text);
      if (this.#isFirstKnown(key)) commands.push(...this.#return(frames));
      else this.#counters.droppedExpired += frames.length;
    }
    return commands;
  }

  /** @returns undefined while nothing waits */
  nextDeadline(): number | undefined {
    const [oldest] = this.#datagrams.values();
    return oldest?.deadline;
  }

  counters(): FragmentHoldCounters {
    return { ...this.#counters };
  }

  /** What waits now. */
  waiting(): { readonly datagrams: number; readonly slots: number } {
    return { datagrams: this.#datagrams.size, slots: this.#limits.slots - this.#slots.freeCount };
  }

  /** @returns undefined for what the kernel program would not hand over */
  #keyOf(frame: Uint8Array<ArrayBuffer>): NatFragmentKey | undefined {
    if (!isIpv4Frame(frame)) return undefined;
    const view = viewOf(frame);
    const hook = this.#hooks.get(view.getUint32(8));
    if (view.getUint16(6) !== HELD_MAC_PREFIX || hook === undefined) return undefined;
    const packet = parseIpv4Packet(frame);
    if (packet?.transport.kind !== 'later-fragment') return undefined;
    const { source, destination, identification, protocol } = packet;
    return { source, destination, identification, protocol, hook };
  }

  #keep(key: NatFragmentKey, frame: Uint8Array<ArrayBuffer>, now: number): void {
    const text = textOf(key);
    const slots = FrameSlots.slotsFor(frame);
    const before = this.#datagrams.get(text);
    if ((before?.slots ?? 0) + slots > this.#limits.slotsPerDatagram) {
      this.#counters.droppedOversized++;
      return;
    }
    this.#makeRoom({ slots, datagrams: before === undefined ? 1 : 0, besides: text });
    const datagram = before ?? { key, frames: [], deadline: now + HOLD_FOR_MS, slots: 0 };
    if (before === undefined) this.#datagrams.set(text, datagram);
    datagram.frames.push(this.#slots.store(frame));
    datagram.slots += slots;
    this.#counters.waited++;
  }

  #makeRoom(wanted: {
    readonly slots: number;
    readonly datagrams: number;
    readonly besides: string;
  }): void {
    const datagramsMax = this.#limits.datagrams - wanted.datagrams;
    for (const text of this.#datagrams.keys()) {
      const hasSlots = this.#slots.freeCount >= wanted.slots;
      if (hasSlots && this.#datagrams.size <= datagramsMax) return;
      if (text === wanted.besides) continue;
      this.#counters.droppedNoRoom += this.#take(text)?.frames.length ?? 0;
    }
  }

  /** Its frames can be read until the next one is stored. */
  #take(text: string): Datagram | undefined {
    const datagram = this.#datagrams.get(text);
    if (datagram === undefined) return undefined;
    this.#datagrams.delete(text);
    for (const frame of datagram.frames) this.#slots.free(frame);
    return datagram;
  }

  /** In the order in which they came. */
  #return(frames: readonly StoredFrame[]): FragmentHoldCommand[] {
    this.#counters.returned += frames.length;
    return frames.map((frame) => ({ kind: 'return-frame', bytes: this.#slots.read(frame) }));
  }
}

/** The first bytes of the Ethernet source address of what the kernel program hands over. */
export const HELD_MAC_PREFIX = 0x0267;

function textOf({ source, destination, identification, protocol, hook }: NatFragmentKey): string {
  return `${source} ${destination} ${identification} ${protocol} ${hook}`;
}
