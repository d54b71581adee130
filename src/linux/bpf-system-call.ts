/** bpf(2) itself, for what Debian 12's libbpf (1.1) does not know. */
import { arch } from 'node:os';
import { errno, openNativeLibrary } from './ffi.ts';
import type { NativeStruct } from './libbpf.ts';

const { functions: libc } = openNativeLibrary(null, {
  syscall: { arguments: ['i64', 'i64', 'buffer', 'u64'], return: 'i64' },
});

/** The system call's number, from the kernel's tables for each architecture. */
const numbers: Readonly<Record<string, bigint>> = { x64: 321n, arm64: 280n };

/**
 * @param command of `enum bpf_cmd`
 * @param attributes the part of `union bpf_attr` that the command uses, written in place by some
 * @returns zero or a file descriptor; when it is refused, the negative errno, as libbpf's functions
 */
export function bpfSystemCall(command: number, attributes: NativeStruct): number {
  const number = numbers[arch()];
  if (number === undefined) throw new Error(`the number of bpf(2) on ${arch()} is not known`);
  const { bytes } = attributes;
  const result = libc.syscall(number, BigInt(command), bytes, BigInt(bytes.length));
  return result < 0n ? -errno() : Number(result);
}
