/** Files in memory, for readers that want a path: nothing of them reaches a disk. */
import { closeSync } from 'node:fs';
import { writeFully } from './atomic-file.ts';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';

const { functions: libc } = openNativeLibrary(null, {
  memfd_create: { arguments: ['string', 'u32'], return: 'i32' },
});

const MFD_CLOEXEC = 1;

export interface MemoryFile {
  /** For processes that may look at ours, until it is closed. */
  readonly path: string;
  close(): void;
}

/** @param name for whoever looks at the open files of this process @throws LinuxError */
export function makeMemoryFile(name: string, content: Uint8Array): MemoryFile {
  const fd = libc.memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) throw new LinuxError(`make a file in memory for ${name}`, errno());
  try {
    writeFully(fd, content, 0);
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
  return { path: `/proc/${process.pid}/fd/${fd}`, close: () => closeSync(fd) };
}
