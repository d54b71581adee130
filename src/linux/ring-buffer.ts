/**
 * Reads a BPF ring buffer in place (kernel/bpf/ringbuf.c): its pages are mapped, records are seen
 * where the kernel wrote them, and no call is made per record.
 *
 * Layout of the file: page 0 holds the consumer's position (ours to write), page 1 the producer's
 * position, then the data, mapped twice in a row so that no record is ever split. Each record has
 * an 8-byte header: length with a busy and a discard bit, and the kernel's page offset. Positions
 * are byte counts since the beginning.
 */
import { isMainThread } from 'node:worker_threads';
import { type MemoryMapping, mapMemory, pageBytes } from './libc.ts';
import { pollReadable, type ReadablePoll } from './poll-readable.ts';

/**
 * One record, valid during the call only: `lengthBytes` at `at` in `view`. What the reader wants
 * to keep, it decodes or copies.
 */
export type RecordReader = (view: DataView<ArrayBuffer>, at: number, lengthBytes: number) => void;

/** So many records are read before other work of the event loop has its turn. */
const RECORDS_PER_TURN_MAX = 65_536;
/** So many records are read before the kernel gets their space back. */
const RECORDS_PER_RELEASE = 256;

const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;
const HEADER_BYTES = 8;

export class RingBuffer {
  readonly name: string;
  readonly fd: number;
  readonly sizeBytes: number;
  readonly #consumerPage: MemoryMapping;
  readonly #producerPages: MemoryMapping;
  readonly #consumerPosition: BigUint64Array<ArrayBuffer>;
  readonly #producerPosition: BigUint64Array<ArrayBuffer>;
  readonly #headers: Int32Array<ArrayBuffer>;
  readonly #data: DataView<ArrayBuffer>;
  #poll: ReadablePoll | undefined;
  /** A reader is being called right now; it may call `stop` or `close`. */
  #reading = false;
  #stopRequested = false;
  #closed = false;

  constructor(options: { name: string; fd: number; sizeBytes: number }) {
    const { name, fd, sizeBytes } = options;
    this.name = name;
    this.fd = fd;
    this.sizeBytes = sizeBytes;
    const what = `ring buffer ${name}`;
    this.#consumerPage = mapMemory({ fd, lengthBytes: pageBytes, writable: true, what });
    try {
      const lengthBytes = pageBytes + 2 * sizeBytes;
      const place = { fd, lengthBytes, offsetBytes: pageBytes };
      this.#producerPages = mapMemory({ ...place, writable: false, what });
    } catch (error) {
      this.#consumerPage.unmap();
      throw error;
    }
    this.#consumerPosition = new BigUint64Array(this.#consumerPage.buffer, 0, 1);
    this.#producerPosition = new BigUint64Array(this.#producerPages.buffer, 0, 1);
    this.#headers = new Int32Array(this.#producerPages.buffer, pageBytes);
    this.#data = new DataView(this.#producerPages.buffer, pageBytes);
  }

  /**
   * Reads what is there, at most `recordsMax` records, without waiting. The reader may stop or
   * close the ring, and then gets no further record; it cannot drain it once more.
   *
   * @returns the number of records read. When the reader throws, the record that it threw at counts
   * as read, so that a bad record cannot hold up those behind it.
   */
  drain(read: RecordReader, recordsMax = Number.MAX_SAFE_INTEGER): number {
    if (this.#closed) throw new Error(`ring buffer ${this.name} is closed`);
    if (this.#reading) throw new Error(`ring buffer ${this.name} is being read already`);
    this.#reading = true;
    this.#stopRequested = false;
    let total = 0;
    try {
      while (total < recordsMax && !this.#stopRequested) {
        const some = this.#readSome(read, Math.min(recordsMax - total, RECORDS_PER_RELEASE));
        total += some.recordCount;
        // Until nothing came meanwhile: the kernel wakes us only if we had caught up.
        if (some.consumedBytes === 0) break;
      }
    } finally {
      this.#reading = false;
      if (this.#closed) this.#unmap();
    }
    return total;
  }

  /**
   * Calls the reader from the event loop as records come, until {@link close} or `stop()`. On the
   * main thread only: a worker that is terminated could not take its watcher along.
   */
  start(read: RecordReader): { stop(): void } {
    if (!isMainThread) throw new Error('ring buffers wake the main thread only; use drain()');
    if (this.#poll !== undefined) throw new Error(`ring buffer ${this.name} has a reader already`);
    const poll = pollReadable(this.fd, () => {
      this.drain(read, RECORDS_PER_TURN_MAX);
    });
    this.#poll = poll;
    return {
      stop: () => {
        if (this.#poll !== poll) return;
        this.#poll = undefined;
        this.#stopRequested = true;
        poll.stop();
      },
    };
  }

  /** Ends reading and unmaps the memory. Safe to call again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopRequested = true;
    this.#poll?.stop();
    if (!this.#reading) this.#unmap();
  }

  #unmap(): void {
    this.#consumerPage.unmap();
    this.#producerPages.unmap();
  }

  #readSome(
    read: RecordReader,
    recordsMax: number,
  ): { readonly recordCount: number; readonly consumedBytes: number } {
    const start = this.#consumerPosition[0] ?? 0n;
    const availableBytes = Number(Atomics.load(this.#producerPosition, 0) - start);
    const mask = this.sizeBytes - 1;
    const startOffset = Number(start & BigInt(mask));
    let consumedBytes = 0;
    let recordCount = 0;
    try {
      while (consumedBytes < availableBytes && recordCount < recordsMax && !this.#stopRequested) {
        const at = (startOffset + consumedBytes) & mask;
        const header = Atomics.load(this.#headers, at >>> 2) >>> 0;
        if ((header & BUSY) !== 0) break;
        const lengthBytes = header % DISCARDED;
        consumedBytes += (lengthBytes + HEADER_BYTES + 7) & ~7;
        if ((header & DISCARDED) !== 0) continue;
        recordCount++;
        read(this.#data, at + HEADER_BYTES, lengthBytes);
      }
    } finally {
      Atomics.store(this.#consumerPosition, 0, start + BigInt(consumedBytes));
    }
    return { recordCount, consumedBytes };
  }
}
