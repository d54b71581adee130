/**
 * Who owns a lab's namespaces, and how those of a dead owner are removed.
 *
 * Before a lab makes anything, it creates `/run/gatehouse-lab/<instance>.json` and holds that
 * file's lock for its life. All that it makes carries the instance's name: namespaces in their
 * name, processes in a variable of their environment, files in `/run/gatehouse-lab/<instance>/`.
 * So a record whose lock can be taken is a dead lab's, whatever its content, and tells what to
 * remove. The record goes last; whoever dies while cleaning leaves the rest to the next.
 *
 * The lock is enough to know that nothing is added meanwhile: see file-lock.ts about children.
 */
import { randomBytes } from 'node:crypto';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statfsSync,
  statSync,
  writeSync,
} from 'node:fs';
import { describeFailure, runCommand } from '../src/linux/command-runner.ts';
import { type FileLock, tryLockFile } from '../src/linux/file-lock.ts';
import { waitFor } from './wait-for.ts';

export const RECORDS_DIRECTORY = '/run/gatehouse-lab';
export const NAMESPACES_DIRECTORY = '/run/netns';

/** In the environment of every process that a lab starts; the value is the instance. */
export const OWNER_VARIABLE = 'GATEHOUSE_LAB';

/** Name of a lab, then eight random digits: `demo-1f0c22a9`. */
const INSTANCE = /^[a-z][a-z0-9]{0,15}-[0-9a-f]{8}$/;
const RANDOM_BYTES = 4;

/** A lab that this process owns until it removes it. */
export interface OwnedInstance {
  readonly instance: string;
  /** For files of this lab; private to root, removed with it. */
  readonly directory: string;
  readonly lock: FileLock;
}

/**
 * Makes a new instance and its record.
 *
 * @param name begins the instance's name: a letter, then up to 15 letters and digits
 */
export function claimInstance(name: string): OwnedInstance {
  mkdirSync(RECORDS_DIRECTORY, { recursive: true, mode: 0o700 });
  for (;;) {
    const instance = `${name}-${randomBytes(RANDOM_BYTES).toString('hex')}`;
    if (!INSTANCE.test(instance)) throw new Error(`'${name}' is no name for a lab`);
    // Without the lock, the name was taken, or a cleaner saw the new file before it was locked.
    const lock = tryLockFile(recordPath(instance), 'create');
    if (lock === undefined) continue;
    // For people who look; nothing reads it.
    writeSync(lock.fd, `${JSON.stringify({ instance, pid: process.pid, argv: process.argv })}\n`);
    const directory = directoryPath(instance);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return { instance, directory, lock };
  }
}

/** What a round of cleaning did. */
export interface CleaningReport {
  /** Instances of dead owners that are gone now. */
  readonly removed: readonly string[];
  /** Instances that could not be removed, and why. */
  readonly failed: readonly { readonly instance: string; readonly reason: string }[];
}

/** Removes everything of every lab whose owner is dead. Living labs, and all else, stay. */
export async function cleanLeftovers(): Promise<CleaningReport> {
  const removed: string[] = [];
  const failed: { instance: string; reason: string }[] = [];
  for (const file of listDirectory(RECORDS_DIRECTORY)) {
    const instance = file.slice(0, -'.json'.length);
    if (!file.endsWith('.json') || !INSTANCE.test(instance)) continue;
    const lock = tryLockFile(recordPath(instance), 'existing');
    // Its owner lives, or another cleaner is at it.
    if (lock === undefined) continue;
    try {
      await removeInstance({ instance, directory: directoryPath(instance), lock });
      removed.push(instance);
    } catch (error) {
      failed.push({ instance, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return { removed, failed };
}

/**
 * Ends the instance's processes, deletes its namespaces (and with them every interface), its
 * files and its record, and lets go of its lock.
 *
 * @throws Error when something stays; the record stays too then
 */
export async function removeInstance(owned: OwnedInstance): Promise<void> {
  const { instance, directory, lock } = owned;
  try {
    await endProcesses(instance);
    await deleteNamespaces(instance);
    rmSync(directory, { recursive: true, force: true });
    rmSync(recordPath(instance), { force: true });
  } finally {
    lock.release();
  }
}

/** Names of the instance's namespaces, half-made ones included. */
export function listNamespaces(instance: string): string[] {
  const prefix = `gh-${instance}-`;
  return listDirectory(NAMESPACES_DIRECTORY).filter((name) => name.startsWith(prefix));
}

/** Processes, other than this one, that the instance started or that live in its namespaces. */
export function findProcesses(instance: string): number[] {
  const links = new Set(listNamespaces(instance).flatMap(namespaceLink));
  const variable = `\0${OWNER_VARIABLE}=${instance}\0`;
  return listDirectory('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      if (pid === process.pid) return false;
      try {
        if (links.has(readlinkSync(`/proc/${pid}/ns/net`))) return true;
        return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(variable);
      } catch {
        // It has ended, or is a kernel thread or a zombie, which have neither.
        return false;
      }
    });
}

/** More than a process needs to die, even with a core dump under way. */
const END_TIMEOUT_MS = 10_000;

/** Kills until none is left, since a process may have forked between being found and killed. */
async function endProcesses(instance: string): Promise<void> {
  await waitFor(
    `the end of the processes of lab ${instance}`,
    () => {
      const pids = findProcesses(instance);
      for (const pid of pids) kill(pid);
      return pids;
    },
    { timeoutMs: END_TIMEOUT_MS, intervalMs: 2, until: (pids) => pids.length === 0 },
  );
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
}

const DELETE_TIMEOUT_MS = 20_000;

async function deleteNamespaces(instance: string): Promise<void> {
  const names = listNamespaces(instance);
  if (names.length === 0) return;
  // -force goes on after a failure; `netns del` also removes a file that is no namespace yet.
  const argv = ['ip', '-force', '-batch', '-'] as const;
  const result = await runCommand(argv, {
    timeoutMs: DELETE_TIMEOUT_MS,
    input: names.map((name) => `netns del ${name}\n`).join(''),
    killWithParent: true,
    env: { [OWNER_VARIABLE]: instance },
  });
  const left = listNamespaces(instance);
  if (left.length > 0) {
    throw new Error(`cannot delete namespaces ${left}: ${describeFailure(argv, result)}`);
  }
}

/** NSFS_MAGIC of linux/magic.h: the file is a namespace, not just its empty mount point. */
const NSFS_MAGIC = 0x6e736673;

/** What /proc/PID/ns/net shows for a process in that namespace. */
function namespaceLink(name: string): string[] {
  const path = `${NAMESPACES_DIRECTORY}/${name}`;
  try {
    if (statfsSync(path).type !== NSFS_MAGIC) return [];
    return [`net:[${statSync(path).ino}]`];
  } catch {
    return [];
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw cause;
  }
}

function recordPath(instance: string): string {
  return `${RECORDS_DIRECTORY}/${instance}.json`;
}

function directoryPath(instance: string): string {
  return `${RECORDS_DIRECTORY}/${instance}`;
}
