/**
 * Advisory locks on files, flock(2). The kernel ends a lock with its last holder, however that
 * dies, so a lock tells living owners from dead ones without trusting process numbers.
 *
 * A child between fork and exec still shares its parent's locks; afterwards it does not, since
 * Node opens files to be closed on exec. Who gets the lock of a dead process therefore knows that
 * none of its children is about to be born.
 */
import { closeSync, constants as constantsOfFiles, fstatSync, openSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';

const { functions: libc } = openNativeLibrary(null, {
  flock: { arguments: ['i32', 'i32'], return: 'i32' },
});

const LOCK_EX = 2;
const LOCK_NB = 4;

export interface FileLock {
  /** Of a file: open for reading and writing. */
  readonly fd: number;
  release(): void;
}

/**
 * Takes the lock of a file, or returns undefined when another holds it, or the file is gone.
 *
 * @param mode `create`: make the file, which must not exist yet; `existing`: it must exist
 */
export function tryLockFile(path: string, mode: 'create' | 'existing'): FileLock | undefined {
  let fd: number;
  try {
    fd = openSync(path, mode === 'create' ? 'wx+' : 'r+', 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === (mode === 'create' ? 'EEXIST' : 'ENOENT')) return undefined;
    throw cause;
  }
  if (libc.flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const code = errno();
    closeSync(fd);
    if (code === constants.errno.EAGAIN) return undefined;
    throw new LinuxError(`lock ${path}`, code);
  }
  // The holder before us may have removed the file: the lock of a nameless file protects nothing.
  if (!isStill(path, fd)) {
    closeSync(fd);
    return undefined;
  }
  return { fd, release: () => closeSync(fd) };
}

/**
 * Takes the lock of a folder, also of one that nothing can be written to, or returns undefined when
 * another holds it.
 */
export function tryLockFolder(path: string): FileLock | undefined {
  const fd = openSync(path, constantsOfFiles.O_RDONLY | constantsOfFiles.O_DIRECTORY);
  if (libc.flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const code = errno();
    closeSync(fd);
    if (code === constants.errno.EAGAIN) return undefined;
    throw new LinuxError(`lock ${path}`, code);
  }
  return { fd, release: () => closeSync(fd) };
}

function isStill(path: string, fd: number): boolean {
  const named = statSync(path, { bigint: true, throwIfNoEntry: false });
  const opened = fstatSync(fd, { bigint: true });
  return named?.ino === opened.ino && named.dev === opened.dev;
}
