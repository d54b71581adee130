/**
 * Opens and loads a compiled BPF object and hands out its maps and programs with the types that
 * `src/abi/` generated for it.
 *
 *     using object = loadBpfObject(protocolCountersObject);
 *     const attachment = attachXdp(object.programs.countProtocolsXdp, { interface: 'wan0' });
 *     for (const [key, perCpu] of object.maps.protocolCounters.entries()) …
 */
import { closeSync } from 'node:fs';
import { endianness } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import type {
  BpfObjectSpec,
  Codec,
  KeyValueMapSpec,
  MapSpec,
  PerCpuMapSpec,
} from '../abi/layout.ts';
import { BpfMap, perCpu } from './bpf-map.ts';
import { BpfProgram } from './bpf-program.ts';
import type { NativeMemory } from './ffi.ts';
import {
  KERNEL_NAME_LENGTH_MAX,
  type KernelMap,
  mapsOfProgram,
  mapsOfPrograms,
  openProgram,
} from './kernel-objects.ts';
import { callLibbpf, libbpf } from './libbpf.ts';
import { RingBuffer } from './ring-buffer.ts';

/** The class that serves a map, by its generated description. */
export type LoadedMap<S extends MapSpec> =
  S extends PerCpuMapSpec<infer K, infer V>
    ? BpfMap<K, readonly V[]>
    : S extends KeyValueMapSpec<infer K, infer V>
      ? BpfMap<K, V>
      : RingBuffer;

export interface BpfObject<S extends BpfObjectSpec> extends Disposable {
  readonly maps: { readonly [M in keyof S['maps']]: LoadedMap<S['maps'][M]> };
  readonly programs: { readonly [P in keyof S['programs']]: BpfProgram };
  /**
   * Drops this process's hold; its maps and programs cannot be used any more. What is attached or
   * pinned lives on in the kernel. Safe to call again.
   */
  close(): void;
}

export interface LoadOptions<S extends BpfObjectSpec> {
  /** Where the compiled objects lie. Default: `build/bpf` beside `src/`. */
  readonly folder?: string;
  /** Sizes that the configuration chooses, instead of the object's own. */
  readonly maxEntries?: { readonly [M in keyof S['maps']]?: number };
  /** A folder on a bpffs. Maps pinned there are taken over, others are pinned there. */
  readonly pinFolder?: string;
  /**
   * Numbers of programs that an earlier process left in the kernel: their maps are taken over with
   * their content where name and sizes are the same, and made anew elsewhere.
   */
  readonly adoptMapsOf?: number | readonly number[];
  /** Loads these programs only. Default: all. */
  readonly only?: readonly (keyof S['programs'])[];
}

const defaultFolder = fileURLToPath(new URL('../../build/bpf', import.meta.url));

/** The compiled object's file. */
export function bpfObjectPath({ name }: BpfObjectSpec, folder = defaultFolder): string {
  return join(folder, `${name}.o`);
}

/**
 * @throws LinuxError when the file, the verifier or the kernel refuses; the message ends with the
 * end of the verifier's log
 */
export function loadBpfObject<const S extends BpfObjectSpec>(
  spec: S,
  options: LoadOptions<S> = {},
): BpfObject<S> {
  if (!isMainThread) throw new Error('BPF objects are loaded on the main thread: see libbpf.ts');
  if (endianness() !== 'LE') throw new Error('generated layouts are little-endian');
  const path = bpfObjectPath(spec, options.folder);
  const native = callLibbpf(`open ${path}`, () => libbpf.bpf_object__open_file(path, null));
  try {
    prepare(native, spec, options);
    for (const id of [options.adoptMapsOf ?? []].flat()) adoptMaps(native, spec, id);
    callLibbpf(`load ${path}`, () => libbpf.bpf_object__load(native));
    return loadedObject(native, spec);
  } catch (error) {
    libbpf.bpf_object__close(native);
    throw error;
  }
}

/**
 * The same for programs and maps that an earlier process left in the kernel, without loading: what
 * is attached stays untouched.
 *
 * @param programIds the kernel's numbers; the caller knows that they are of this very object
 * @returns undefined when something of it has gone, or differs from the generated layouts
 */
export function openLoadedBpfObject<const S extends BpfObjectSpec>(
  spec: S,
  programIds: { readonly [P in keyof S['programs']]: number },
): BpfObject<S> | undefined {
  const ids: Readonly<Record<string, number>> = programIds;
  const found = mapsOfPrograms(Object.values(ids));
  const fds = found.map(({ fd }) => fd);
  const close = (): void => {
    for (const fd of fds.splice(0)) closeSync(fd);
  };
  try {
    const programs = mapValues(spec.programs, (name, property) => {
      const program = openProgram(ids[property] ?? 0);
      if (program !== undefined) fds.push(program.fd);
      return program?.name === kernelNameOf(name) ? new BpfProgram(name, program.fd) : undefined;
    });
    const maps = mapValues(spec.maps, (map) => openedMap(map, found));
    if (isWhole(programs) && isWhole(maps)) return heldObject<S>({ maps, programs, close });
    close();
    return undefined;
  } catch (error) {
    close();
    throw error;
  }
}

function isWhole<T>(
  values: Readonly<Record<string, T | undefined>>,
): values is Readonly<Record<string, T>> {
  return Object.values(values).every((value) => value !== undefined);
}

function kernelNameOf(name: string): string {
  return name.slice(0, KERNEL_NAME_LENGTH_MAX);
}

function openedMap(spec: MapSpec, found: readonly KernelMap[]): AnyMap | undefined {
  const map = found.find(({ name }) => name === kernelNameOf(spec.name));
  if (map === undefined) return undefined;
  if (spec.kind === 'ring-buffer') return mapOver(spec, map);
  // Of a per-CPU map the kernel tells the size of one CPU's value.
  const isSame = map.keyBytes === spec.key.sizeBytes && map.valueBytes === spec.value.sizeBytes;
  return isSame ? mapOver(spec, map) : undefined;
}

function prepare<S extends BpfObjectSpec>(
  native: NativeMemory,
  spec: S,
  options: LoadOptions<S>,
): void {
  for (const [property, map] of Object.entries(spec.maps)) {
    const handle = findMap(native, map.name);
    const maxEntries = options.maxEntries?.[property];
    if (maxEntries !== undefined) {
      callLibbpf(`size map ${map.name} for ${maxEntries} entries`, () =>
        libbpf.bpf_map__set_max_entries(handle, maxEntries),
      );
    }
    if (options.pinFolder !== undefined) {
      const path = join(options.pinFolder, map.name);
      callLibbpf(`pin map at ${path}`, () => libbpf.bpf_map__set_pin_path(handle, path));
    }
  }
  for (const [property, name] of Object.entries(spec.programs)) {
    const wanted = options.only === undefined || options.only.includes(property);
    const handle = findProgram(native, name);
    callLibbpf(`select program ${name}`, () =>
      libbpf.bpf_program__set_autoload(handle, wanted ? 1 : 0),
    );
  }
}

function adoptMaps(native: NativeMemory, spec: BpfObjectSpec, programId: number): void {
  for (const found of mapsOfProgram(programId)) {
    try {
      const handle = Object.values(spec.maps)
        .filter(({ name }) => kernelNameOf(name) === found.name)
        .map(({ name }) => findMap(native, name))
        .find((candidate) => isSameShape(candidate, found));
      if (handle === undefined) continue;
      // libbpf keeps a descriptor of its own.
      callLibbpf(`take over map ${found.name}`, () => libbpf.bpf_map__reuse_fd(handle, found.fd));
    } finally {
      closeSync(found.fd);
    }
  }
}

function isSameShape(handle: NativeMemory, found: KernelMap): boolean {
  return (
    libbpf.bpf_map__key_size(handle) === found.keyBytes &&
    libbpf.bpf_map__value_size(handle) === found.valueBytes &&
    libbpf.bpf_map__max_entries(handle) === found.maxEntries
  );
}

function loadedObject<S extends BpfObjectSpec>(native: NativeMemory, spec: S): BpfObject<S> {
  for (const map of Object.values(spec.maps)) requireSizes(native, map);
  const maps = mapValues(spec.maps, (map) => loadedMap(native, map));
  const programs = mapValues(spec.programs, (name) => {
    return new BpfProgram(name, libbpf.bpf_program__fd(findProgram(native, name)));
  });
  return heldObject<S>({ maps, programs, close: () => libbpf.bpf_object__close(native) });
}

type AnyMap = BpfMap<unknown, unknown> | RingBuffer;

/** @param parts.close gives the descriptors back */
function heldObject<S extends BpfObjectSpec>(parts: {
  readonly maps: Readonly<Record<string, AnyMap>>;
  readonly programs: Readonly<Record<string, BpfProgram>>;
  readonly close: () => void;
}): BpfObject<S> {
  const { maps, programs } = parts;
  let closed = false;
  const close = (): void => {
    if (closed) return;
    closed = true;
    for (const map of Object.values(maps)) {
      if (map instanceof RingBuffer) map.close();
      else map.forget();
    }
    for (const program of Object.values(programs)) program.forget();
    parts.close();
  };
  return { maps, programs, close, [Symbol.dispose]: close } as unknown as BpfObject<S>;
}

function mapValues<A, B>(
  values: { readonly [key: string]: A },
  change: (value: A, key: string) => B,
): { [key: string]: B } {
  const entries = Object.entries(values);
  return Object.fromEntries(entries.map(([key, value]) => [key, change(value, key)]));
}

function loadedMap(native: NativeMemory, spec: MapSpec): AnyMap {
  const handle = findMap(native, spec.name);
  const fd = libbpf.bpf_map__fd(handle);
  return mapOver(spec, { fd, maxEntries: libbpf.bpf_map__max_entries(handle) });
}

function mapOver(
  spec: MapSpec,
  { fd, maxEntries }: { readonly fd: number; readonly maxEntries: number },
): AnyMap {
  if (spec.kind === 'ring-buffer') {
    return new RingBuffer({ name: spec.name, fd, sizeBytes: maxEntries });
  }
  const value = spec.kind === 'per-cpu' ? perCpu(spec.value) : spec.value;
  const { name, key, type, flags } = spec;
  return new BpfMap<unknown, unknown>({ name, fd, key, value, type, flags, maxEntries });
}

/** The object on disk may be newer than the generated layouts of this process. */
function requireSizes(native: NativeMemory, spec: MapSpec): void {
  if (spec.kind === 'ring-buffer') return;
  const handle = findMap(native, spec.name);
  requireSize(spec.name, 'key', spec.key, libbpf.bpf_map__key_size(handle));
  requireSize(spec.name, 'value', spec.value, libbpf.bpf_map__value_size(handle));
}

function requireSize(map: string, part: string, codec: Codec<unknown>, actual: number): void {
  if (codec.sizeBytes === actual) return;
  throw new Error(
    `map ${map}: a ${part} has ${actual} bytes in the object and ${codec.sizeBytes} in ` +
      'src/abi; run npm run generate',
  );
}

function findMap(native: NativeMemory, name: string): NativeMemory {
  return callLibbpf(`find map ${name}`, () => libbpf.bpf_object__find_map_by_name(native, name));
}

function findProgram(native: NativeMemory, name: string): NativeMemory {
  return callLibbpf(`find program ${name}`, () =>
    libbpf.bpf_object__find_program_by_name(native, name),
  );
}
