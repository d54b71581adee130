/**
 * Memory of a fixed size for frames that wait. Frames that each had memory of their own would leave
 * the collector tens of megabytes to clear away behind a flood, whatever the bound.
 */

/** A frame of the usual MTU, 1,500 bytes, has room in one. */
export const SLOT_BYTES = 2_048;

/** Where a frame lies. */
export interface StoredFrame {
  readonly slots: readonly number[];
  readonly bytes: number;
}

export class FrameSlots {
  readonly #memory: Uint8Array<ArrayBuffer>;
  /** The last one freed is the first one taken, so that only memory that is needed is touched. */
  readonly #free: number[];

  constructor(slotCount: number) {
    this.#memory = new Uint8Array(slotCount * SLOT_BYTES);
    this.#free = Array.from({ length: slotCount }, (_, index) => slotCount - 1 - index);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  static slotsFor(frame: Uint8Array): number {
    return Math.ceil(frame.length / SLOT_BYTES);
  }

  /** Copies a frame. There must be as many free slots as it needs. */
  store(frame: Uint8Array): StoredFrame {
    const slots = this.#free.splice(this.#free.length - FrameSlots.slotsFor(frame)).reverse();
    for (const [index, slot] of slots.entries()) {
      const part = frame.subarray(index * SLOT_BYTES, (index + 1) * SLOT_BYTES);
      this.#memory.set(part, slot * SLOT_BYTES);
    }
    return { slots, bytes: frame.length };
  }

  /** @returns bytes that are valid until another frame is stored in the place of this one */
  read({ slots, bytes }: StoredFrame): Uint8Array<ArrayBuffer> {
    const [first = 0] = slots;
    if (slots.length === 1) return this.#slot(first).subarray(0, bytes);
    const whole = new Uint8Array(slots.length * SLOT_BYTES);
    for (const [index, slot] of slots.entries()) whole.set(this.#slot(slot), index * SLOT_BYTES);
    return whole.subarray(0, bytes);
  }

  /** Once for each frame that was stored. */
  free({ slots }: StoredFrame): void {
    this.#free.push(...slots);
  }

  #slot(slot: number): Uint8Array<ArrayBuffer> {
    return this.#memory.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
  }
}
