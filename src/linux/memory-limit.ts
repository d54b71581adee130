/** How much memory the control groups around this process allow, in both of their versions. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface CgroupPlaces {
  /** Default: /proc/self/cgroup */
  readonly membership: string;
  /** Default: /sys/fs/cgroup */
  readonly folder: string;
}

/** A limit above this is none: version 1 writes the largest number that it can hold. */
const LIMIT_BYTES_MAX = 2 ** 60;

/**
 * The narrowest of all groups that we are in.
 *
 * @returns bytes, or undefined without any limit
 * @throws Error of node:fs when the membership cannot be read
 */
export async function readMemoryLimit(
  places: CgroupPlaces = { membership: '/proc/self/cgroup', folder: '/sys/fs/cgroup' },
): Promise<number | undefined> {
  const lines = (await readFile(places.membership, 'utf8')).trim().split('\n');
  const limits: number[] = [];
  for (const line of lines) {
    const [, hierarchy = '', controllers = '', path = '/'] =
      /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    if (hierarchy === '0') {
      for (const root of [places.folder, join(places.folder, 'unified')]) {
        limits.push(...(await limitsUpwards(root, path, 'memory.max')));
      }
    } else if (controllers.split(',').includes('memory')) {
      const root = join(places.folder, 'memory');
      limits.push(...(await limitsUpwards(root, path, 'memory.limit_in_bytes')));
    }
  }
  return limits.length === 0 ? undefined : Math.min(...limits);
}

/** A container often shows its own group as the root, whatever the path says: both count. */
async function limitsUpwards(root: string, path: string, file: string): Promise<number[]> {
  const limits: number[] = [];
  for (let group = join('/', path); ; group = dirname(group)) {
    const limit = await readLimit(join(root, group, file));
    if (limit !== undefined) limits.push(limit);
    if (group === '/') return limits;
  }
}

async function readLimit(path: string): Promise<number | undefined> {
  try {
    const text = (await readFile(path, 'utf8')).trim();
    const bytes = Number(text);
    return /^[0-9]+$/.test(text) && bytes < LIMIT_BYTES_MAX ? bytes : undefined;
  } catch {
    // A group that is not shown to us, or the root, which has no limit.
    return undefined;
  }
}
