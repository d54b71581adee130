/** What the folders of the config can hold. What is made for the trial is removed again. */
import { mkdtemp, rm, stat, statfs } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import type { Attempt, FolderFacts, RuntimeFolderFacts } from '../gateway/machine-facts.ts';
import { tryLockFile } from './file-lock.ts';

/** linux/magic.h */
const memoryFileSystems = [0x01021994, 0x858458f6];

/** @throws Error of node:fs */
export async function examineStateFolder(folder: string): Promise<FolderFacts> {
  const place = await nearestExisting(folder);
  const fileSystem = await statfs(place);
  return {
    place,
    write: await attempt(() => inScratchFolder(place, async () => {})),
    freeBytes: fileSystem.bavail * fileSystem.bsize,
    // Btrfs and others make them as they are needed.
    freeInodes: fileSystem.files === 0 ? undefined : fileSystem.ffree,
    isInMemory: memoryFileSystems.includes(fileSystem.type),
  };
}

/** @throws Error of node:fs */
export async function examineRuntimeFolder(folder: string): Promise<RuntimeFolderFacts> {
  const place = await nearestExisting(folder);
  return {
    folder,
    place,
    socket: await attempt(() =>
      inScratchFolder(place, (scratch) => listenOnce(join(scratch, 's'))),
    ),
    lock: await attempt(() =>
      inScratchFolder(place, async (scratch) => {
        const lock = tryLockFile(join(scratch, 'lock'), 'create');
        if (lock === undefined) throw new Error('a lock that nobody holds is not given');
        lock.release();
      }),
    ),
  };
}

/** The folder itself need not be there: the program makes it. */
async function nearestExisting(folder: string): Promise<string> {
  for (let place = folder; ; place = dirname(place)) {
    try {
      await stat(place);
      return place;
    } catch (cause) {
      const isAbsent = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isAbsent || place === dirname(place)) throw cause;
    }
  }
}

async function inScratchFolder(
  place: string,
  use: (scratch: string) => Promise<void>,
): Promise<void> {
  const scratch = await mkdtemp(join(place, '.gatehouse-'));
  try {
    await use(scratch);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

function listenOnce(path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const server = createServer();
  server.on('error', reject);
  server.listen(path, () => server.close(() => resolve()));
  return promise;
}

async function attempt(action: () => Promise<void>): Promise<Attempt> {
  try {
    await action();
    return { success: true };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const { code } = cause as NodeJS.ErrnoException;
    return { success: false, reason, ...(code === undefined ? {} : { code }) };
  }
}
