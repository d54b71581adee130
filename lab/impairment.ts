/**
 * One direction of a link that loses, delays, reorders and congests: a pure model with its clock
 * and its chance given from outside.
 *
 * A frame meets, in this order, a queue of limited bytes before a line of limited rate; the line,
 * where frames are lost; and the way, which takes time. So a lost frame used the line, as on a
 * radio or a bad cable. Times are milliseconds of any steady clock, with fractions.
 */
import { seededRandom } from './seeded-random.ts';

export interface Impairment {
  /** Chance of a frame to be lost, in percent. */
  readonly lossPercent?: number;
  /** Time from the end of a frame's transmission to its arrival. */
  readonly delayMs?: number;
  /** The delay varies evenly by up to this much, to both sides, never below zero. Keeps order. */
  readonly jitterMs?: number;
  /** Chance of a frame to be held back by `reorderByMs`, so that later ones overtake it. */
  readonly reorderPercent?: number;
  readonly reorderByMs?: number;
  /** Rate of the line, counted over whole Ethernet frames without preamble and checksum. */
  readonly rateBitsPerSecond?: number;
  /** Room for frames that wait for the line or are on it; needed with a rate. */
  readonly queueBytes?: number;
}

/** Why a frame was dropped; each has its own counter. */
export type DropReason = 'lost' | 'queue-full' | 'buffer-full';

export type FrameOutcome =
  /** Nothing holds this frame up: it can leave now. The model has not kept it. */
  | { readonly outcome: 'forward' }
  /** The model keeps a copy and gives it out by takeDue at that time. */
  | { readonly outcome: 'hold'; readonly untilMs: number }
  | { readonly outcome: 'drop'; readonly reason: DropReason };

export interface ImpairmentCounters {
  /** Frames that came in; the sum of all others here. */
  readonly receivedCount: number;
  readonly forwardedCount: number;
  /** Frames now on their way. */
  readonly heldCount: number;
  readonly drops: Readonly<Record<DropReason, number>>;
}

/**
 * Memory for frames on their way: 32 MiB is a quarter of a second at 1 Gbit/s, more than a lab
 * needs, and small beside the machine. A frame beyond it is dropped as `buffer-full`.
 */
export const HELD_BYTES_MAX = 32 * 1024 * 1024;

/** Twice the largest Ethernet frame of the lab's links would be the least useful queue. */
const QUEUE_BYTES_MIN = 3_028;

/** Finds what is wrong with an impairment, each as `field: what`. */
export function validateImpairment(impairment: Impairment): string[] {
  const faults: string[] = [];
  for (const field of ['lossPercent', 'reorderPercent'] as const) {
    const value = impairment[field];
    if (value !== undefined && !(value >= 0 && value <= 100)) {
      faults.push(`${field}: ${value} is not between 0 and 100`);
    }
  }
  for (const field of ['delayMs', 'jitterMs', 'reorderByMs'] as const) {
    const value = impairment[field];
    if (value !== undefined && !(value >= 0 && value <= DELAY_MS_MAX)) {
      faults.push(`${field}: ${value} is not between 0 and ${DELAY_MS_MAX}`);
    }
  }
  const { rateBitsPerSecond: rate, queueBytes } = impairment;
  if (rate !== undefined && !(rate >= 1000 && rate <= 1e11)) {
    faults.push(`rateBitsPerSecond: ${rate} is not between 1000 and 100000000000`);
  }
  if (queueBytes !== undefined && !(queueBytes >= QUEUE_BYTES_MIN && queueBytes <= 2 ** 31)) {
    faults.push(`queueBytes: ${queueBytes} is not between ${QUEUE_BYTES_MIN} and 2147483648`);
  }
  if ((rate === undefined) !== (queueBytes === undefined)) {
    faults.push('queueBytes: goes with rateBitsPerSecond, both or none');
  }
  if ((impairment.reorderPercent ?? 0) > 0 && (impairment.reorderByMs ?? 0) === 0) {
    faults.push('reorderByMs: is needed with reorderPercent');
  }
  return faults;
}

/** A minute: longer than any TCP or DNS timer that a test waits for. */
const DELAY_MS_MAX = 60_000;

export class ImpairedDirection {
  readonly #random: () => number;
  readonly #held = new HeldFrames();
  #impairment: Impairment;
  /** When the line has sent everything that was accepted so far. */
  #lineFreeAtMs = Number.NEGATIVE_INFINITY;
  /** Arrival of the latest frame that keeps order. */
  #lastArrivalMs = Number.NEGATIVE_INFINITY;
  #receivedCount = 0;
  #forwardedCount = 0;
  readonly #drops: Record<DropReason, number> = { lost: 0, 'queue-full': 0, 'buffer-full': 0 };

  /** @param impairment must be valid by {@link validateImpairment} */
  constructor(impairment: Impairment, seed: number) {
    this.#impairment = impairment;
    this.#random = seededRandom(seed);
  }

  /** Applies to the frames to come; those on their way keep their time. */
  impair(impairment: Impairment): void {
    this.#impairment = impairment;
    if (impairment.rateBitsPerSecond === undefined) this.#lineFreeAtMs = Number.NEGATIVE_INFINITY;
  }

  /** Decides about a frame that has come in. It is copied if it has to wait. */
  handleFrame(frame: Uint8Array<ArrayBuffer>, nowMs: number): FrameOutcome {
    this.#receivedCount += 1;
    const sentAtMs = this.#transmit(frame.length, nowMs);
    if (sentAtMs === undefined) return this.#drop('queue-full');
    const { lossPercent = 0 } = this.#impairment;
    if (lossPercent > 0 && this.#random() * 100 < lossPercent) return this.#drop('lost');
    const untilMs = this.#arrival(sentAtMs);
    if (untilMs <= nowMs && this.#held.count === 0) {
      this.#forwardedCount += 1;
      return { outcome: 'forward' };
    }
    if (this.#held.bytes + frame.length > HELD_BYTES_MAX) return this.#drop('buffer-full');
    this.#held.add(frame.slice(), untilMs);
    return { outcome: 'hold', untilMs };
  }

  /** When the next held frame is due; undefined when none is held. */
  nextDeadline(): number | undefined {
    return this.#held.nextUntilMs();
  }

  /** The next held frame that is due by now; call it until it returns undefined. */
  takeDue(nowMs: number): Uint8Array<ArrayBuffer> | undefined {
    const untilMs = this.#held.nextUntilMs();
    if (untilMs === undefined || untilMs > nowMs) return undefined;
    this.#forwardedCount += 1;
    return this.#held.takeFirst();
  }

  counters(): ImpairmentCounters {
    return {
      receivedCount: this.#receivedCount,
      forwardedCount: this.#forwardedCount,
      heldCount: this.#held.count,
      drops: { ...this.#drops },
    };
  }

  #drop(reason: DropReason): FrameOutcome {
    this.#drops[reason] += 1;
    return { outcome: 'drop', reason };
  }

  /** When the frame's last bit is on the line; undefined when the queue has no room for it. */
  #transmit(lengthBytes: number, nowMs: number): number | undefined {
    const { rateBitsPerSecond, queueBytes = Number.POSITIVE_INFINITY } = this.#impairment;
    if (rateBitsPerSecond === undefined) return nowMs;
    const bytesPerMs = rateBitsPerSecond / 8000;
    const waitMs = Math.max(0, this.#lineFreeAtMs - nowMs);
    if (waitMs * bytesPerMs + lengthBytes > queueBytes) return undefined;
    this.#lineFreeAtMs = nowMs + waitMs + lengthBytes / bytesPerMs;
    return this.#lineFreeAtMs;
  }

  #arrival(sentAtMs: number): number {
    const { delayMs = 0, jitterMs = 0, reorderPercent = 0, reorderByMs = 0 } = this.#impairment;
    const jitter = jitterMs === 0 ? 0 : (this.#random() * 2 - 1) * jitterMs;
    const arrivalMs = sentAtMs + Math.max(0, delayMs + jitter);
    if (reorderPercent > 0 && this.#random() * 100 < reorderPercent) return arrivalMs + reorderByMs;
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, arrivalMs);
    return this.#lastArrivalMs;
  }
}

interface HeldFrame {
  readonly frame: Uint8Array<ArrayBuffer>;
  readonly untilMs: number;
  /** Frames due at the same time leave in the order in which they came. */
  readonly sequence: number;
}

/** A binary heap of frames by due time. */
class HeldFrames {
  bytes = 0;
  readonly #heap: HeldFrame[] = [];
  #sequence = 0;

  get count(): number {
    return this.#heap.length;
  }

  nextUntilMs(): number | undefined {
    return this.#heap[0]?.untilMs;
  }

  add(frame: Uint8Array<ArrayBuffer>, untilMs: number): void {
    this.bytes += frame.length;
    const added = { frame, untilMs, sequence: this.#sequence };
    this.#sequence += 1;
    let index = this.#heap.length;
    for (; index > 0; ) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex];
      if (parent === undefined || !isBefore(added, parent)) break;
      this.#heap[index] = parent;
      index = parentIndex;
    }
    this.#heap[index] = added;
  }

  takeFirst(): Uint8Array<ArrayBuffer> | undefined {
    const first = this.#heap[0];
    const last = this.#heap.pop();
    if (first === undefined || last === undefined) return undefined;
    this.bytes -= first.frame.length;
    if (this.#heap.length > 0) this.#sink(last);
    return first.frame;
  }

  #sink(frame: HeldFrame): void {
    let index = 0;
    for (;;) {
      const left = this.#heap[index * 2 + 1];
      const right = this.#heap[index * 2 + 2];
      const isRight = right !== undefined && left !== undefined && isBefore(right, left);
      const child = isRight ? right : left;
      if (child === undefined || !isBefore(child, frame)) break;
      this.#heap[index] = child;
      index = index * 2 + (isRight ? 2 : 1);
    }
    this.#heap[index] = frame;
  }
}

function isBefore(a: HeldFrame, b: HeldFrame): boolean {
  return a.untilMs < b.untilMs || (a.untilMs === b.untilMs && a.sequence < b.sequence);
}
