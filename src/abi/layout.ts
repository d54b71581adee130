/**
 * The vocabulary of the generated files beside this one: how a C value lies in memory and what a
 * BPF object offers. The generated files fill it in from the objects' BTF; nothing here is written
 * twice.
 *
 * All views are little-endian as on every machine that Gatehouse runs on, except fields declared
 * `__be16`, `__be32` or `__be64` in C: those lie in network order and appear here as plain numbers.
 */

/** A value of fixed size in memory shared with the kernel. */
export interface Codec<T> {
  readonly sizeBytes: number;
  decode(view: DataView, at: number): T;
  /** Writes every byte of the value, padding as zero. Numbers beyond the width are cut off. */
  encode(value: T, view: DataView, at: number): void;
}

export type ScalarType =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 's8'
  | 's16'
  | 's32'
  | 's64'
  | 'be16'
  | 'be32'
  | 'be64';

/** One field of a C struct. `count` is there for arrays; `struct` names a nested struct. */
export interface FieldLayout {
  readonly cName: string;
  readonly offsetBytes: number;
  readonly type: ScalarType | { readonly struct: string };
  readonly count?: number;
}

/** A C struct: its codec and where each field lies, for reading single fields in place. */
export interface StructLayout<T> extends Codec<T> {
  readonly cName: string;
  readonly fields: { readonly [K in keyof T & string]: FieldLayout };
  /** Explicit padding: byte ranges that are written as zero and ignored when read. */
  readonly padding: readonly { readonly offsetBytes: number; readonly sizeBytes: number }[];
}

/** A map with one value a key. */
export interface KeyValueMapSpec<K, V> {
  readonly kind: 'key-value';
  readonly name: string;
  readonly type: string;
  readonly maxEntries: number;
  /** BPF_F_… of linux/bpf.h. */
  readonly flags: number;
  readonly key: Codec<K>;
  readonly value: Codec<V>;
}

/** A map with one value a key and possible CPU. */
export interface PerCpuMapSpec<K, V> extends Omit<KeyValueMapSpec<K, V>, 'kind'> {
  readonly kind: 'per-cpu';
}

/** A ring buffer from the kernel to user space. */
export interface RingBufferSpec {
  readonly kind: 'ring-buffer';
  readonly name: string;
  readonly sizeBytes: number;
}

// biome-ignore lint/suspicious/noExplicitAny: the bound of a generic that holds any key and value
export type MapSpec = KeyValueMapSpec<any, any> | PerCpuMapSpec<any, any> | RingBufferSpec;

/** What one compiled object offers. Properties are camelCase, `name` is what C says. */
export interface BpfObjectSpec {
  /** The object's file is `build/bpf/<name>.o`. */
  readonly name: string;
  readonly maps: { readonly [property: string]: MapSpec };
  readonly programs: { readonly [property: string]: string };
}

function scalar(
  sizeBytes: number,
  decode: (view: DataView, at: number) => number,
  encode: (value: number, view: DataView, at: number) => void,
): Codec<number> {
  return { sizeBytes, decode, encode };
}

function wideScalar(
  decode: (view: DataView, at: number) => bigint,
  encode: (value: bigint, view: DataView, at: number) => void,
): Codec<bigint> {
  return { sizeBytes: 8, decode, encode };
}

export const u8 = scalar(
  1,
  (view, at) => view.getUint8(at),
  (value, view, at) => view.setUint8(at, value),
);
export const u16 = scalar(
  2,
  (view, at) => view.getUint16(at, true),
  (value, view, at) => view.setUint16(at, value, true),
);
export const u32 = scalar(
  4,
  (view, at) => view.getUint32(at, true),
  (value, view, at) => view.setUint32(at, value, true),
);
export const u64 = wideScalar(
  (view, at) => view.getBigUint64(at, true),
  (value, view, at) => view.setBigUint64(at, value, true),
);
export const s8 = scalar(
  1,
  (view, at) => view.getInt8(at),
  (value, view, at) => view.setInt8(at, value),
);
export const s16 = scalar(
  2,
  (view, at) => view.getInt16(at, true),
  (value, view, at) => view.setInt16(at, value, true),
);
export const s32 = scalar(
  4,
  (view, at) => view.getInt32(at, true),
  (value, view, at) => view.setInt32(at, value, true),
);
export const s64 = wideScalar(
  (view, at) => view.getBigInt64(at, true),
  (value, view, at) => view.setBigInt64(at, value, true),
);
export const be16 = scalar(
  2,
  (view, at) => view.getUint16(at),
  (value, view, at) => view.setUint16(at, value),
);
export const be32 = scalar(
  4,
  (view, at) => view.getUint32(at),
  (value, view, at) => view.setUint32(at, value),
);
export const be64 = wideScalar(
  (view, at) => view.getBigUint64(at),
  (value, view, at) => view.setBigUint64(at, value),
);

/** `count` raw bytes; decoding copies them out of the shared memory. */
export function bytes(count: number): Codec<Uint8Array> {
  return {
    sizeBytes: count,
    decode: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at, count).slice(),
    encode: (value, view, at) => {
      requireLength(value.length, count);
      new Uint8Array(view.buffer, view.byteOffset + at, count).set(value);
    },
  };
}

/** `count` values of one type, one behind the other. */
export function array<T>(element: Codec<T>, count: number): Codec<readonly T[]> {
  return {
    sizeBytes: element.sizeBytes * count,
    decode: (view, at) =>
      Array.from({ length: count }, (_, index) =>
        element.decode(view, at + index * element.sizeBytes),
      ),
    encode: (values, view, at) => {
      requireLength(values.length, count);
      values.forEach((value, index) => {
        element.encode(value, view, at + index * element.sizeBytes);
      });
    },
  };
}

function requireLength(actual: number, expected: number): void {
  if (actual !== expected) {
    throw new RangeError(`a value of ${actual} elements for a C array of ${expected}`);
  }
}
