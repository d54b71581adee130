/**
 * The C library's calls that Node has no API for. Each either succeeds or throws a
 * {@link LinuxError} that names what was tried.
 */
import { closeSync, openSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary, viewMemory } from './ffi.ts';

const { functions: libc } = openNativeLibrary(null, {
  ioctl: { arguments: ['i32', 'u64', 'buffer'], return: 'i32' },
  mmap: { arguments: ['pointer', 'u64', 'i32', 'i32', 'i32', 'i64'], return: 'pointer' },
  munmap: { arguments: ['pointer', 'u64'], return: 'i32' },
  setns: { arguments: ['i32', 'i32'], return: 'i32' },
  getpagesize: { arguments: [], return: 'i32' },
  if_indextoname: { arguments: ['u32', 'buffer'], return: 'pointer' },
  if_nametoindex: { arguments: ['string'], return: 'u32' },
});

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const CLONE_NEWNET = 0x4000_0000;

/** Bytes of a page of memory: 4,096 on x64, up to 65,536 on arm64. */
export const pageBytes = libc.getpagesize();

/** Shared memory of a file descriptor. */
export interface MemoryMapping {
  readonly buffer: ArrayBuffer;
  /** Gives the memory back and detaches the buffer: its views are empty from then on. */
  unmap(): void;
}

/**
 * Maps `lengthBytes` of a file descriptor at `offsetBytes` (a multiple of the page size), shared
 * with the kernel and other processes. Writing to a mapping without `writable` ends the process.
 */
export function mapMemory(options: {
  fd: number;
  lengthBytes: number;
  offsetBytes?: number;
  writable: boolean;
  what: string;
}): MemoryMapping {
  const { fd, lengthBytes, offsetBytes = 0, writable, what } = options;
  const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const length = BigInt(lengthBytes);
  const address = libc.mmap(0n, length, protection, MAP_SHARED, fd, BigInt(offsetBytes));
  if (address === MAP_FAILED) {
    throw new LinuxError(`map ${lengthBytes} bytes of ${what}`, errno());
  }
  const buffer = viewMemory(address, lengthBytes);
  return {
    buffer,
    unmap: () => {
      // A second time, the addresses may be somebody else's.
      if (buffer.detached) return;
      buffer.transfer(0);
      if (libc.munmap(address, length) !== 0) throw new LinuxError(`unmap ${what}`, errno());
    },
  };
}

/** ioctl with a structure as argument; `argument` is read and written in place. */
export function ioctl(
  fd: number,
  request: number,
  argument: Uint8Array<ArrayBuffer>,
  what: string,
): void {
  if (libc.ioctl(fd, BigInt(request), argument) !== 0) throw new LinuxError(what, errno());
}

/** The index of an interface in the calling thread's network namespace. */
export function interfaceIndex(name: string): number {
  const index = libc.if_nametoindex(name);
  if (index === 0) throw new LinuxError(`find interface ${name}`, errno());
  return index;
}

/** What an interface is called now. @returns undefined when there is none of that index */
export function interfaceName(index: number): string | undefined {
  const name = new Uint8Array(INTERFACE_NAME_BYTES);
  if (libc.if_indextoname(index, name) === 0n) return undefined;
  return new TextDecoder().decode(name).split('\0', 1)[0];
}

/** IFNAMSIZ, the terminating zero included. */
const INTERFACE_NAME_BYTES = 16;

/**
 * Runs `action` with the calling thread inside another network namespace and comes back whatever
 * happens. Sockets, interface indexes and attachments made inside belong to that namespace for
 * good. Synchronous, since an await would let other work run in the wrong namespace; child
 * processes started inside inherit it.
 *
 * @param path a namespace's file, for example `/run/netns/gateway` or `/proc/42/ns/net`
 * @throws Error of node:fs when there is no such file
 */
export function inNetworkNamespace<T>(path: string, action: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r');
  try {
    const target = openSync(path, 'r');
    try {
      if (libc.setns(target, CLONE_NEWNET) !== 0) {
        throw new LinuxError(`enter network namespace ${path}`, errno());
      }
    } finally {
      closeSync(target);
    }
    try {
      return action();
    } finally {
      if (libc.setns(own, CLONE_NEWNET) !== 0) {
        // Going on in a stranger's namespace could configure the wrong machine.
        process.abort();
      }
    }
  } finally {
    closeSync(own);
  }
}
