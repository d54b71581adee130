import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { type RunningProcess, startProcess } from '../../src/linux/command-runner.ts';
import type { StorageAlarm } from '../../src/linux/store/store.ts';
import { command, withImageDisk } from './mounted.ts';
import { expectedState, openAndDump } from './recorded-store.ts';

const COPY_COUNT = 40;
const IMAGE_COUNT = 15;
/** Transactions between two copies, at most. */
const TRANSACTIONS_MAX = 12;
/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_240_607);

const writer = join(import.meta.dirname, 'store-writer.ts');

function startWriter(folder: string): RunningProcess {
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', writer, folder] as const;
  return startProcess(argv, { outputBytesMax: 4 * 1024 * 1024 });
}

/** The last transaction that the writer has acknowledged. */
function acknowledgedBy(running: RunningProcess): number {
  const lines = running.output().stdout.split('\n').slice(0, -1);
  return Number(lines.at(-1)?.replace('open ', '') ?? -1);
}

async function progress(running: RunningProcess, until: number): Promise<void> {
  const name = `transaction ${until} of the writer: ${running.output().stderr}`;
  await waitFor(name, () => acknowledgedBy(running) >= until, {
    timeoutMs: TIMEOUT_MS,
    intervalMs: 1,
  });
}

function assertNothingLost(folder: string, acknowledged: number, what: string): StorageAlarm[] {
  const found = openAndDump(folder);
  assert.ok(found.sequence >= acknowledged, `${what}: ${found.sequence} found`);
  assert.equal(found.state, expectedState(found.sequence), what);
  return [...found.alarms];
}

test('survive-118: copied file by file while it is written, the folder has all that was acknowledged', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gatehouse-copied-'));
  const folder = join(root, 'state');
  const random = seededRandom(SEED);
  const running = startWriter(folder);
  try {
    const acknowledged: number[] = [];
    for (let copy = 0; copy < COPY_COUNT; copy++) {
      await progress(running, acknowledgedBy(running) + Math.ceil(random() * TRANSACTIONS_MAX));
      acknowledged.push(acknowledgedBy(running));
      copyWhileWritten(folder, join(root, `copy-${copy}`));
    }
    await running.stop();
    for (const [copy, number] of acknowledged.entries()) {
      const what = `copy ${copy} of seed ${SEED}, ${number} acknowledged`;
      assertNothingLost(join(root, `copy-${copy}`), number, what);
    }
  } finally {
    await running.stop();
    rmSync(root, { recursive: true });
  }
});

function copyWhileWritten(from: string, to: string): void {
  mkdirSync(to);
  for (const name of [
    'state.journal',
    'state.journal.previous',
    'state.sqlite',
    'state.sqlite-wal',
  ]) {
    if (existsSync(join(from, name))) cpSync(join(from, name), join(to, name));
  }
}

test('survive-118: a disk cut off at random moments has everything that was acknowledged', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gatehouse-power-'));
  const random = seededRandom(SEED);
  try {
    const disk = { backing: root, imageBytes: 32 * 1024 * 1024, mountOptions: 'noatime' };
    await withImageDisk(disk, async ({ image, mountPoint }) => {
      const running = startWriter(join(mountPoint, 'state'));
      try {
        for (let round = 0; round < IMAGE_COUNT; round++) {
          await progress(running, acknowledgedBy(running) + Math.ceil(random() * TRANSACTIONS_MAX));
          const cut = join(root, 'cut.img');
          const acknowledged = await copyStoppedDisk(running, image, cut);
          const what = `image ${round} of seed ${SEED}, ${acknowledged} acknowledged`;
          await openCutDisk(cut, join(root, 'cut'), acknowledged, what);
        }
      } finally {
        await running.stop();
      }
    });
  } finally {
    rmSync(root, { recursive: true });
  }
});

/**
 * Copies what has reached the disk, and not what the kernel still holds back: that is lost with the
 * power. A copy during which something was written back is of no moment at all and is repeated.
 */
async function copyStoppedDisk(
  running: RunningProcess,
  image: string,
  to: string,
): Promise<number> {
  process.kill(running.pid ?? 0, 'SIGSTOP');
  try {
    const acknowledged = acknowledgedBy(running);
    await waitFor(
      'two equal copies of the disk',
      () => {
        copyFileSync(image, to);
        const digest = (path: string) =>
          createHash('sha1').update(readFileSync(path)).digest('hex');
        return digest(to) === digest(image);
      },
      { timeoutMs: TIMEOUT_MS },
    );
    return acknowledged;
  } finally {
    process.kill(running.pid ?? 0, 'SIGCONT');
  }
}

async function openCutDisk(
  image: string,
  mountPoint: string,
  acknowledged: number,
  what: string,
): Promise<void> {
  mkdirSync(mountPoint, { recursive: true });
  await command('mount', '-o', 'loop', image, mountPoint);
  try {
    // The disk keeps its promises, so nothing is damaged either.
    assert.deepEqual(assertNothingLost(join(mountPoint, 'state'), acknowledged, what), []);
  } finally {
    await command('umount', mountPoint);
  }
}
