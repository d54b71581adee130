/**
 * Programs and maps that are in the kernel already, found by their numbers: how a new process takes
 * over what one before it left attached. Pins are not needed for it.
 */
import { closeSync } from 'node:fs';
import { LinuxError } from './ffi.ts';
import { libbpf, NativeStruct } from './libbpf.ts';

/** A map as the kernel describes it. The caller closes `fd`. */
export interface KernelMap {
  readonly fd: number;
  readonly id: number;
  /** The first 15 characters of its name in C. */
  readonly name: string;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
}

/** The kernel keeps a name in 16 bytes with its terminating zero (BPF_OBJ_NAME_LEN). */
export const KERNEL_NAME_LENGTH_MAX = 15;
/** More maps than any program of ours has. */
const MAP_COUNT_MAX = 64;

/**
 * The maps of a program.
 *
 * @param programId its number, as an attachment tells it
 * @returns nothing when the program has gone meanwhile
 */
export function mapsOfProgram(programId: number): KernelMap[] {
  const fd = libbpf.bpf_prog_get_fd_by_id(programId);
  if (fd < 0) return [];
  try {
    return mapIds(fd).flatMap(openMap);
  } finally {
    closeSync(fd);
  }
}

/** The maps of some programs, each once. The caller closes each `fd`. */
export function mapsOfPrograms(programIds: readonly number[]): KernelMap[] {
  const byId = new Map<number, KernelMap>();
  for (const map of programIds.flatMap(mapsOfProgram)) {
    if (byId.has(map.id)) closeSync(map.fd);
    else byId.set(map.id, map);
  }
  return [...byId.values()];
}

/**
 * A program by its number. The caller closes `fd`.
 *
 * @returns undefined when it has gone
 */
export function openProgram(
  id: number,
): { readonly fd: number; readonly name: string } | undefined {
  const fd = libbpf.bpf_prog_get_fd_by_id(id);
  if (fd < 0) return undefined;
  const info = NativeStruct.zeroed(80);
  try {
    readInfo(fd, info, `program ${id}`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return { fd, name: kernelName(info, 64) };
}

function kernelName(info: NativeStruct, offset: number): string {
  const end = offset + KERNEL_NAME_LENGTH_MAX + 1;
  const [name = ''] = new TextDecoder().decode(info.bytes.subarray(offset, end)).split('\0', 1);
  return name;
}

/** `struct bpf_prog_info` of linux/bpf.h up to its name. */
function mapIds(programFd: number): number[] {
  const ids = new Uint32Array(MAP_COUNT_MAX);
  const info = NativeStruct.zeroed(80);
  info.setU32(52, MAP_COUNT_MAX).setPointer(56, new Uint8Array(ids.buffer));
  readInfo(programFd, info, 'a program');
  return [...ids.subarray(0, Math.min(info.getU32(52), MAP_COUNT_MAX))];
}

/** `struct bpf_map_info` of linux/bpf.h up to its name. */
function openMap(id: number): KernelMap[] {
  const fd = libbpf.bpf_map_get_fd_by_id(id);
  if (fd < 0) return [];
  const info = NativeStruct.zeroed(40);
  try {
    readInfo(fd, info, `map ${id}`);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return [
    {
      fd,
      id,
      name: kernelName(info, 24),
      keyBytes: info.getU32(8),
      valueBytes: info.getU32(12),
      maxEntries: info.getU32(16),
    },
  ];
}

function readInfo(fd: number, info: NativeStruct, what: string): void {
  const lengthBytes = new Uint8Array(new Uint32Array([info.bytes.length]).buffer);
  const result = libbpf.bpf_obj_get_info_by_fd(fd, info.bytes, lengthBytes);
  if (result < 0) throw new LinuxError(`ask about ${what}`, result);
}
