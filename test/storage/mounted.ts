/** File systems of a test's own, which may be filled, broken and cut off. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Argv, runCommand } from '../../src/linux/command-runner.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;

export async function command(...argv: Argv): Promise<string> {
  const result = await runCommand(argv, { timeoutMs: TIMEOUT_MS });
  assert.equal(result.success, true, `${argv.join(' ')}: ${result.stderr}${result.error ?? ''}`);
  return result.stdout;
}

/** Makes a folder with a tmpfs and removes both afterwards. @param options of mount */
export async function withTmpfs<T>(
  options: string,
  use: (folder: string) => T | Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-storage-'));
  try {
    await command('mount', '-t', 'tmpfs', '-o', options, 'gatehouse-test', folder);
    try {
      return await use(folder);
    } finally {
      // Lazily: a failed test may leave files open.
      await command('umount', '--lazy', folder);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface ImageDisk {
  /** The file that holds the file system. */
  readonly image: string;
  /** Where it is mounted. */
  readonly mountPoint: string;
}

/** An ext4 in a file, mounted through a loop device. @param options `backing`: where the file is */
export async function withImageDisk<T>(
  options: { backing: string; imageBytes: number; mountOptions: string },
  use: (disk: ImageDisk) => Promise<T>,
): Promise<T> {
  const { backing, imageBytes, mountOptions } = options;
  const disk = { image: join(backing, 'disk.img'), mountPoint: join(backing, 'disk') };
  mkdirSync(disk.mountPoint);
  await command('truncate', '--size', String(imageBytes), disk.image);
  await command('mkfs.ext4', '-q', '-F', disk.image);
  await command('mount', '-o', `loop,${mountOptions}`, disk.image, disk.mountPoint);
  try {
    return await use(disk);
  } finally {
    // A failed test may have left it unmounted.
    await runCommand(['umount', '--lazy', disk.mountPoint], { timeoutMs: TIMEOUT_MS });
  }
}
