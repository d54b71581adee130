/** Whole files, up to a limit, and never a pipe or a device that would keep us waiting. */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { flushFolder, writeFully } from '../atomic-file.ts';
import { BackupError } from './backup-format.ts';

/**
 * @returns undefined when there is no such file
 * @throws BackupError when it is too large or no file, Error of node:fs
 */
export function readBoundedFile(path: string, bytesMax: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
  try {
    const about = fstatSync(fd);
    if (!about.isFile()) throw new BackupError(`${path} is no file`);
    if (about.size > bytesMax) {
      throw new BackupError(`${path} has ${about.size} bytes; at most ${bytesMax} are read`);
    }
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a file that does not exist yet and returns when it is on disk. Whoever makes a file of
 * that name at the same moment wins, and loses nothing.
 *
 * @throws BackupError when the name is taken, Error of node:fs
 */
export function writeNewFile(path: string, content: Uint8Array): void {
  // An empty file of ours keeps the name; a crash leaves that, which no restore takes for a backup.
  reserve(path);
  const temporary = `${path}.new`;
  try {
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeFully(fd, content, 0);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    flushFolder(dirname(path));
  } catch (cause) {
    rmSync(temporary, { force: true });
    rmSync(path, { force: true });
    throw cause;
  }
}

function reserve(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new BackupError(`${path} exists already: a backup never takes the place of a file`);
  }
}
