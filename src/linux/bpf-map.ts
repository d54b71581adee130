/** A key-value map in the kernel, read and written through its generated layouts. */
import type { Codec } from '../abi/layout.ts';
import { LinuxError } from './ffi.ts';
import { libbpf, possibleCpuCount } from './libbpf.ts';
import { type MemoryMapping, mapMemory } from './libc.ts';

const BPF_ANY = 0n;
const BPF_NOEXIST = 1n;
const BPF_EXIST = 2n;
const BPF_F_MMAPABLE = 1 << 10;

const ENOENT = 2;
const EINTR = 4;
const EEXIST = 17;
const ENOSPC = 28;

/** What an update may find in the map. */
export type UpdateMode = 'any' | 'create' | 'replace';

const updateFlags = { any: BPF_ANY, create: BPF_NOEXIST, replace: BPF_EXIST } as const;

/**
 * Keys and values of one batch, one behind the other, in memory that the next batch reuses.
 */
export interface MapBatch {
  readonly keys: DataView<ArrayBuffer>;
  readonly values: DataView<ArrayBuffer>;
  readonly count: number;
}

/** Makes the system call (some µs) cheap for each entry of any map. */
const BATCH_ENTRIES_MAX = 16_384;
/** A per-CPU map's value may be many kilobytes. */
const BATCH_BYTES_MAX = 4 * 1024 * 1024;
/** The kernel gives up a batch when keys vanish under it; soon it finds a quiet moment. */
const BATCH_TRIES_MAX = 100;

export class BpfMap<K, V> {
  readonly name: string;
  readonly maxEntries: number;
  readonly key: Codec<K>;
  readonly value: Codec<V>;
  #fd: number;
  readonly #type: string;
  readonly #flags: number;
  readonly #keyBytes: Uint8Array<ArrayBuffer>;
  readonly #valueBytes: Uint8Array<ArrayBuffer>;
  readonly #keyView: DataView<ArrayBuffer>;
  readonly #valueView: DataView<ArrayBuffer>;

  constructor(options: {
    name: string;
    fd: number;
    maxEntries: number;
    key: Codec<K>;
    value: Codec<V>;
    type: string;
    flags: number;
  }) {
    this.name = options.name;
    this.#fd = options.fd;
    this.maxEntries = options.maxEntries;
    this.key = options.key;
    this.value = options.value;
    this.#type = options.type;
    this.#flags = options.flags;
    this.#keyBytes = new Uint8Array(options.key.sizeBytes);
    this.#valueBytes = new Uint8Array(options.value.sizeBytes);
    this.#keyView = new DataView(this.#keyBytes.buffer);
    this.#valueView = new DataView(this.#valueBytes.buffer);
  }

  /** @throws Error when the object that it belongs to is closed */
  get fd(): number {
    if (this.#fd < 0) throw new Error(`map ${this.name} is closed`);
    return this.#fd;
  }

  /** The descriptor is closed: its number may soon be another's. */
  forget(): void {
    this.#fd = -1;
  }

  /** One system call, 1–2 µs. */
  lookup(key: K): V | undefined {
    this.key.encode(key, this.#keyView, 0);
    const result = libbpf.bpf_map_lookup_elem(this.fd, this.#keyBytes, this.#valueBytes);
    if (result === -ENOENT) return undefined;
    if (result < 0) throw new LinuxError(`look up a key in map ${this.name}`, result);
    return this.value.decode(this.#valueView, 0);
  }

  /**
   * @returns false when the mode forbids it: the key exists (`create`) or is missing (`replace`)
   * @throws LinuxError E2BIG when the map is full
   */
  update(key: K, value: V, mode: UpdateMode = 'any'): boolean {
    this.key.encode(key, this.#keyView, 0);
    this.value.encode(value, this.#valueView, 0);
    const result = libbpf.bpf_map_update_elem(
      this.fd,
      this.#keyBytes,
      this.#valueBytes,
      updateFlags[mode],
    );
    if (result === -EEXIST && mode === 'create') return false;
    if (result === -ENOENT && mode === 'replace') return false;
    if (result < 0) throw new LinuxError(`update map ${this.name}`, result);
    return true;
  }

  /** @returns whether the key was there */
  delete(key: K): boolean {
    this.key.encode(key, this.#keyView, 0);
    const result = libbpf.bpf_map_delete_elem(this.fd, this.#keyBytes);
    if (result === -ENOENT) return false;
    if (result < 0) throw new LinuxError(`delete a key from map ${this.name}`, result);
    return true;
  }

  /** Every entry, decoded. Entries that change meanwhile may be told in either state or twice. */
  *entries(): Generator<[K, V]> {
    for (const { keys, values, count } of this.batches()) {
      for (let index = 0; index < count; index++) {
        yield [
          this.key.decode(keys, index * this.key.sizeBytes),
          this.value.decode(values, index * this.value.sizeBytes),
        ];
      }
    }
  }

  /**
   * Every entry as raw memory, for large maps: read single fields in place by the offsets of the
   * generated layout. A batch is valid until the next one is asked for.
   *
   * @param entriesPerBatch from 1; more where one bucket of the hash holds more
   */
  *batches(entriesPerBatch = this.#entriesPerBatch()): Generator<MapBatch> {
    if (!(entriesPerBatch >= 1)) throw new RangeError(`batches of ${entriesPerBatch} entries`);
    let capacity = Math.min(Math.floor(entriesPerBatch), Math.max(this.maxEntries, 1));
    let triesLeft = BATCH_TRIES_MAX;
    // The kernel's place in the map: a bucket number, or for arrays and tries a key.
    const place = new Uint8Array(Math.max(this.key.sizeBytes, 8));
    const placeBefore = new Uint8Array(place.length);
    const countHolder = new Uint32Array(1);
    const countBytes = new Uint8Array(countHolder.buffer);
    let keys = new Uint8Array(capacity * this.key.sizeBytes);
    let values = new Uint8Array(capacity * this.value.sizeBytes);
    for (let first = true; ; ) {
      countHolder[0] = capacity;
      const result = libbpf.bpf_map_lookup_batch(
        this.fd,
        first ? null : placeBefore,
        place,
        keys,
        values,
        countBytes,
        null,
      );
      const count = countHolder[0] ?? 0;
      if (result === -ENOSPC) {
        // One bucket of the hash holds more entries than the batch has room for.
        capacity *= 2;
        keys = new Uint8Array(capacity * this.key.sizeBytes);
        values = new Uint8Array(capacity * this.value.sizeBytes);
        continue;
      }
      if (result === -EINTR && triesLeft-- > 0) continue;
      if (result < 0 && result !== -ENOENT) {
        throw new LinuxError(`look up a batch of map ${this.name}`, result);
      }
      if (count > 0) {
        yield { keys: new DataView(keys.buffer), values: new DataView(values.buffer), count };
      }
      if (result === -ENOENT) return;
      placeBefore.set(place);
      first = false;
    }
  }

  /**
   * Writes many entries with one system call.
   *
   * @throws LinuxError whose message tells how many were written before the refusal
   */
  updateBatch(entries: readonly (readonly [K, V])[]): void {
    if (entries.length === 0) return;
    const keys = this.#encodeKeys(entries.map(([key]) => key));
    const values = new Uint8Array(entries.length * this.value.sizeBytes);
    const view = new DataView(values.buffer);
    entries.forEach(([, value], index) => {
      this.value.encode(value, view, index * this.value.sizeBytes);
    });
    const done = new Uint32Array([entries.length]);
    const doneBytes = new Uint8Array(done.buffer);
    const result = libbpf.bpf_map_update_batch(this.fd, keys, values, doneBytes, null);
    if (result < 0) {
      const action = `update ${entries.length} entries of map ${this.name}`;
      throw new LinuxError(action, result, `${done[0]} were written`);
    }
  }

  /**
   * Deletes many keys with one system call per missing key and one for the rest.
   *
   * @returns how many were there
   */
  deleteBatch(keys: readonly K[]): number {
    const bytes = this.#encodeKeys(keys);
    const done = new Uint32Array(1);
    const doneBytes = new Uint8Array(done.buffer);
    let deleted = 0;
    for (let next = 0; next < keys.length; ) {
      done[0] = keys.length - next;
      const rest = bytes.subarray(next * this.key.sizeBytes);
      const result = libbpf.bpf_map_delete_batch(this.fd, rest, doneBytes, null);
      const count = done[0] ?? 0;
      deleted += count;
      if (result < 0 && result !== -ENOENT) {
        const action = `delete ${keys.length} keys of map ${this.name}`;
        throw new LinuxError(action, result, `${deleted} were deleted`);
      }
      // The kernel stops at a key that is not there: go on behind it.
      next += count + (result === -ENOENT ? 1 : 0);
    }
    return deleted;
  }

  /**
   * The array's own memory, shared with the kernel: no system call per access. Only for array maps
   * with BPF_F_MMAPABLE. Element `i` starts at byte `i * strideBytes`.
   */
  mapMemory(): MappedArray {
    if (this.#type !== 'array' || (this.#flags & BPF_F_MMAPABLE) === 0) {
      throw new Error(`map ${this.name} is no array with BPF_F_MMAPABLE`);
    }
    const strideBytes = Math.ceil(this.value.sizeBytes / 8) * 8;
    const mapping = mapMemory({
      fd: this.fd,
      lengthBytes: strideBytes * this.maxEntries,
      writable: true,
      what: `map ${this.name}`,
    });
    return { ...mapping, view: new DataView(mapping.buffer), strideBytes };
  }

  #entriesPerBatch(): number {
    const entryBytes = this.key.sizeBytes + this.value.sizeBytes;
    return Math.max(1, Math.min(BATCH_ENTRIES_MAX, Math.floor(BATCH_BYTES_MAX / entryBytes)));
  }

  #encodeKeys(keys: readonly K[]): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(keys.length * this.key.sizeBytes);
    const view = new DataView(bytes.buffer);
    keys.forEach((key, index) => {
      this.key.encode(key, view, index * this.key.sizeBytes);
    });
    return bytes;
  }
}

/** The value of a per-CPU map: one a possible CPU, each padded to eight bytes. */
export function perCpu<V>(value: Codec<V>): Codec<readonly V[]> {
  const strideBytes = Math.ceil(value.sizeBytes / 8) * 8;
  return {
    sizeBytes: strideBytes * possibleCpuCount,
    decode: (view, at) =>
      Array.from({ length: possibleCpuCount }, (_, cpu) =>
        value.decode(view, at + cpu * strideBytes),
      ),
    encode: (values, view, at) => {
      if (values.length !== possibleCpuCount) {
        throw new RangeError(`${values.length} values for ${possibleCpuCount} CPUs`);
      }
      values.forEach((each, cpu) => {
        value.encode(each, view, at + cpu * strideBytes);
      });
    },
  };
}

/** An array map as memory. `new BigUint64Array(array.buffer)` reads counters as they are. */
export interface MappedArray extends MemoryMapping {
  readonly view: DataView<ArrayBuffer>;
  readonly strideBytes: number;
}
