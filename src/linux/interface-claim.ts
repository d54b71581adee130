/** Which instance owns an interface, so that none takes the place of another's programs. */
import { ftruncateSync, mkdirSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { LinuxError } from './ffi.ts';
import { tryLockFile } from './file-lock.ts';
import { interfaceIndex } from './libc.ts';

/** Whose are the interfaces: a lock for each, held as long as programs of ours are attached. */
const CLAIMS_FOLDER = '/run/gatehouse';

export interface NamedInterface {
  readonly name: string;
  readonly index: number;
}

/**
 * Keeps a second instance in this network namespace off an interface: attaching would take the
 * place of the first one's programs. The claim of a killed process is nobody's, and so its place
 * can be taken over.
 *
 * @returns gives the claim up
 */
export function claimInterface({ name, index }: NamedInterface): () => void {
  mkdirSync(CLAIMS_FOLDER, { recursive: true, mode: 0o700 });
  const namespace = statSync('/proc/self/ns/net').ino;
  const path = `${CLAIMS_FOLDER}/network-${namespace}-interface-${index}.lock`;
  const lock = tryLockFile(path, 'existing') ?? tryLockFile(path, 'create');
  if (lock === undefined) {
    throw new Error(`cannot count on ${name}: process ${claimHolder(path)} does so already`);
  }
  ftruncateSync(lock.fd);
  writeSync(lock.fd, `${process.pid}\n`);
  return () => {
    // While it is locked: afterwards the file may be somebody else's.
    rmSync(path, { force: true });
    lock.release();
  };
}

function claimHolder(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return 'of unknown number';
  }
}

/** By its index, since an interface may have been renamed, or replaced by another of its name. */
export function isInterfacePresent(index: number): boolean {
  const table = readFileSync('/proc/self/net/dev', 'utf8');
  return [...table.matchAll(/^ *([^\s:]+):/gm)].some(([, name = '']) => {
    try {
      return interfaceIndex(name) === index;
    } catch (error) {
      // It went after the table was read.
      if (error instanceof LinuxError && error.code === 'ENODEV') return false;
      throw error;
    }
  });
}
