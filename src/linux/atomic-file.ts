/** Files that are replaced whole and stay replaced: after a loss of power, the old or the new. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { storageErrorFrom } from './store/storage-error.ts';

/** Appended to the name while the new file is written; a leftover is overwritten next time. */
const NEW_SUFFIX = '.new';

/**
 * Replaces a file by new content and returns when that is on disk. An existing file's mode, owner
 * and group are kept, and a symbolic link stays one: what it points to is replaced.
 *
 * @param options `mode` is for a file that does not exist yet; default 0600
 * @throws StorageError; the old file is then untouched, or, when only the last flush failed, the
 *   new one is in its place but may not survive a loss of power
 */
export function writeFileDurably(
  path: string,
  content: string | Uint8Array,
  options: { mode?: number } = {},
): void {
  try {
    const target = followLinks(path);
    const { fd, install } = beginReplacement(target, options);
    try {
      writeFully(fd, typeof content === 'string' ? Buffer.from(content) : content, 0);
      install();
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw storageErrorFrom(`write ${path}`, cause);
  }
}

/** A file under a temporary name, open for reading and writing. */
export interface Replacement {
  readonly fd: number;
  /** Flushes the file, gives it its name and flushes the folder. Undoes nothing on failure. */
  install(): void;
}

/** @throws Error of node:fs */
export function beginReplacement(path: string, options: { mode?: number } = {}): Replacement {
  const temporary = `${path}${NEW_SUFFIX}`;
  rmSync(temporary, { force: true });
  const { O_CREAT, O_EXCL, O_RDWR } = constants;
  const fd = openSync(temporary, O_CREAT | O_EXCL | O_RDWR, 0o600);
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    if (old !== undefined) keepOwner(fd, old);
    fchmodSync(fd, old === undefined ? (options.mode ?? 0o600) : old.mode & 0o7777);
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
  return {
    fd,
    install: () => {
      fsyncSync(fd);
      renameSync(temporary, path);
      flushFolder(dirname(path));
    },
  };
}

/** Makes creations, renames and removals in a folder survive a loss of power. */
export function flushFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Writes all of it: the system may take less at once, for example just before the disk is full. */
export function writeFully(fd: number, content: Uint8Array, position: number): void {
  let written = 0;
  while (written < content.length) {
    const rest = content.length - written;
    written += writeSync(fd, content, written, rest, position + written);
  }
}

/** A file of ours needs no chown, which only root may do for others'. */
function keepOwner(fd: number, old: { uid: number; gid: number }): void {
  const own = process.geteuid?.() === old.uid && process.getegid?.() === old.gid;
  if (!own) fchownSync(fd, old.uid, old.gid);
}

function followLinks(path: string): string {
  try {
    return realpathSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return path;
    throw cause;
  }
}
