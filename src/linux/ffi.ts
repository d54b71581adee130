/**
 * The one file that knows `node:ffi`: native libraries, raw memory and errno.
 *
 * Everything above it works with {@link NativeMemory} addresses (bigint), typed function tables
 * and ordinary ArrayBuffers, so a change of Node's experimental interface ends here.
 *
 * Cost: an empty call takes 0.2–0.4 µs (docs/performance.md), so records are never fetched one
 * call each; map the memory instead ({@link viewMemory}).
 */
import {
  type DynamicLibrary,
  dlopen,
  getCurrentEventLoop,
  getInt32,
  getRawPointer,
  toString as readNativeString,
  toArrayBuffer,
} from 'node:ffi';
import { constants } from 'node:os';

/** An address in this process. `0n` is NULL. */
export type NativeMemory = bigint;

/** C types of arguments and results; `u64` and `i64` are bigint, `buffer` is a view's address. */
type NativeType = 'void' | 'i32' | 'u32' | 'i64' | 'u64' | 'pointer' | 'string' | 'buffer';

export interface NativeSignature {
  readonly arguments: readonly Exclude<NativeType, 'void'>[];
  readonly return: NativeType;
}

type Functions<T extends Record<string, NativeSignature>> = ReturnType<
  typeof dlopen<T>
>['functions'];

export interface NativeLibrary<T extends Record<string, NativeSignature>> {
  readonly functions: Functions<T>;
  readonly library: DynamicLibrary;
}

/** A shared library is missing or lacks a symbol. The message names the library and the remedy. */
export class NativeLibraryError extends Error {
  override readonly name = 'NativeLibraryError';
}

/**
 * Loads a shared library by its soname and resolves its functions.
 *
 * @param soname for example `libbpf.so.1`; `null` means this process (libc, libuv)
 * @param debianPackage the package that brings the library, for the error message
 * @throws NativeLibraryError
 */
export function openNativeLibrary<const T extends Record<string, NativeSignature>>(
  soname: string | null,
  functions: T,
  debianPackage?: string,
): NativeLibrary<T> {
  try {
    const opened = dlopen(soname, functions);
    return { functions: opened.functions, library: opened.lib };
  } catch (cause) {
    const remedy = debianPackage === undefined ? '' : `; install the package ${debianPackage}`;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new NativeLibraryError(`cannot load ${soname ?? 'libc'}: ${reason}${remedy}`, { cause });
  }
}

const { functions: libc } = openNativeLibrary(null, {
  __errno_location: { arguments: [], return: 'pointer' },
});

/**
 * The calling thread's errno (positive). Read it directly after the call that failed: any other
 * native call, the garbage collector's included, may overwrite it.
 */
export function errno(): number {
  return getInt32(libc.__errno_location());
}

/** Second names of EAGAIN and EOPNOTSUPP on Linux. */
const errorAliases = new Set(['EWOULDBLOCK', 'ENOTSUP']);

const errorNames = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => !errorAliases.has(name))
    .map(([name, code]) => [code, name]),
);

/** `2` → `ENOENT`; a code that the C library does not know becomes `errno 524`. */
export function errnoName(code: number): string {
  return errorNames.get(code) ?? kernelErrorNames.get(code) ?? `errno ${code}`;
}

/** Codes that the kernel returns to user space although errno.h does not list them. */
const kernelErrorNames = new Map([[524, 'ENOTSUPP']]);

/** A system call or library call was refused. `code` is the errno's name, as in Node's errors. */
export class LinuxError extends Error {
  override readonly name = 'LinuxError';
  readonly code: string;
  readonly errno: number;

  /**
   * @param action what was tried, with its input: `attach traffic to wan0`
   * @param errorNumber errno, of either sign (libbpf returns it negative)
   * @param detail what is known beyond the code, for example the verifier's last words
   */
  constructor(action: string, errorNumber: number, detail?: string) {
    const positive = Math.abs(errorNumber);
    const code = errnoName(positive);
    super(`cannot ${action}: ${code}${detail === undefined ? '' : `: ${detail}`}`);
    this.code = code;
    this.errno = positive;
  }
}

/**
 * Memory outside of JavaScript's heap as an ArrayBuffer, without copying.
 *
 * The caller keeps the memory mapped for as long as the buffer is reachable, and never writes to
 * a read-only mapping: both would end the process by a signal.
 */
export function viewMemory(address: NativeMemory, sizeBytes: number): ArrayBuffer {
  return toArrayBuffer(address, sizeBytes, false);
}

/** A NUL-terminated UTF-8 string at the address, or '' at NULL. */
export function readString(address: NativeMemory): string {
  return readNativeString(address) ?? '';
}

/** The address of a view's first byte, valid while the caller keeps the view alive. */
export function addressOf(view: Uint8Array<ArrayBuffer> | DataView<ArrayBuffer>): NativeMemory {
  return getRawPointer(view);
}

/** libuv's loop of the calling thread, for `uv_poll_init`. */
export function eventLoop(): NativeMemory {
  return getCurrentEventLoop();
}
