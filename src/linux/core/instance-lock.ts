/** One instance a folder and a network namespace: who is there already is named. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FileLock, tryLockFile, tryLockFolder } from '../file-lock.ts';

/** In every folder of an instance, whose own lock it explains: the holder's process number. */
export const INSTANCE_LOCK_NAME = 'instance.lock';

/** Seen by every instance on the machine, whatever folders its config names. */
const CLAIMS_FOLDER = '/run/gatehouse';

export type InstanceLock =
  | { readonly release: () => void; readonly holderPid?: never }
  /** Undefined: it holds the lock and has not told its number yet. */
  | { readonly release?: never; readonly holderPid: number | undefined; readonly isGuard: boolean };

/** What takes a lock: an instance for its whole life, a rollback guard for a second. */
export type LockHolder = 'instance' | 'rollback-guard';

/**
 * Takes a state or runtime folder, which is made when it is missing. The lock of a process that has
 * died, however that was, is free.
 *
 * @throws Error of node:fs when the folder or the lock's file cannot be made
 */
export function lockFolder(folder: string, holder: LockHolder = 'instance'): InstanceLock {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, INSTANCE_LOCK_NAME);
  const lock = tryLockFolder(folder);
  return lock === undefined ? holderOf(path) : held(lock, { path, holder });
}

/**
 * Takes this process's network namespace: it has one table `inet gatehouse`, and two owners would
 * undo each other's changes.
 *
 * @throws Error of node:fs
 */
export function lockNetwork(holder: LockHolder = 'instance'): InstanceLock {
  mkdirSync(CLAIMS_FOLDER, { recursive: true, mode: 0o700 });
  const path = `${CLAIMS_FOLDER}/network-${statSync('/proc/self/ns/net').ino}.lock`;
  const lock = tryLockFile(path, 'existing') ?? tryLockFile(path, 'create');
  return lock === undefined ? holderOf(path) : held(lock, { path, holder });
}

/** A folder that takes no file is held all the same, by somebody without a name. */
function held(lock: FileLock, { path, holder }: { path: string; holder: LockHolder }) {
  try {
    writeFileSync(path, `${process.pid} ${holder}\n`, { mode: 0o600 });
  } catch {
    // The second one is then told less.
  }
  return {
    release: () => {
      try {
        // While it is locked: afterwards the file may be somebody else's.
        rmSync(path, { force: true });
      } catch {
        // Nobody holds it all the same.
      } finally {
        lock.release();
      }
    },
  };
}

function holderOf(path: string): Extract<InstanceLock, { isGuard: boolean }> {
  try {
    const [number, holder] = readFileSync(path, 'utf8').trim().split(' ');
    const pid = Number(number);
    const holderPid = Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
    return { holderPid, isGuard: holder === 'rollback-guard' };
  } catch {
    return { holderPid: undefined, isGuard: false };
  }
}
