/**
 * The archive that Linux unpacks as its first file system: cpio in the "newc" form
 * (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 *     each entry:  header (110 bytes of ASCII)  name NUL  pad to 4  content  pad to 4
 *     header:      "070701" and 13 numbers of eight hexadecimal digits:
 *                  inode mode uid gid links mtime size major minor rmajor rminor nameSize check
 *     last entry:  named TRAILER!!!
 *
 * Regular files and folders only, all owned by root; times and inodes carry no meaning, so equal
 * contents give equal bytes.
 */

/** Collects files by absolute path and writes them, with the folders they need, as one archive. */
export class CpioArchive {
  readonly #entries = new Map<string, Entry>();

  /** @param path absolute; a second file of the same path replaces the first */
  addFile(path: string, content: Uint8Array): void {
    this.addFolder(folderOf(path));
    this.#entries.set(path, { mode: REGULAR_EXECUTABLE, content });
  }

  /** Adds an empty folder and those above it. */
  addFolder(path: string): void {
    if (path === '' || this.#entries.has(path)) return;
    this.addFolder(folderOf(path));
    this.#entries.set(path, { mode: FOLDER, content: new Uint8Array() });
  }

  /** The archive's bytes in pieces, in the order in which they are to be written. */
  *encode(): Generator<Uint8Array> {
    let inode = 1;
    for (const [path, entry] of this.#entries) yield* encodeEntry(path.slice(1), entry, inode++);
    yield* encodeEntry('TRAILER!!!', { mode: 0, content: new Uint8Array() }, 0);
  }
}

interface Entry {
  readonly mode: number;
  readonly content: Uint8Array;
}

const FOLDER = 0o040755;
const REGULAR_EXECUTABLE = 0o100755;

/** `/a/b` → `/a`, `/a` → ''. */
function folderOf(path: string): string {
  if (!path.startsWith('/')) throw new Error(`the path ${path} in an archive must be absolute`);
  return path.slice(0, path.lastIndexOf('/'));
}

function* encodeEntry(name: string, entry: Entry, inode: number): Generator<Uint8Array> {
  const nameBytes = Buffer.from(`${name}\0`);
  const size = entry.content.length;
  const numbers = [inode, entry.mode, 0, 0, 1, 0, size, 0, 0, 0, 0, nameBytes.length, 0];
  const digits = numbers.map((number) => number.toString(16).padStart(8, '0'));
  const head = Buffer.concat([Buffer.from(`070701${digits.join('')}`), nameBytes]);
  yield* [head, padding(head.length), entry.content, padding(size)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array(-length & 3);
}
