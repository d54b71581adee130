import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { startProcess } from '../../src/linux/command-runner.ts';
import { expectedState, openAndDump } from './recorded-store.ts';

const KILL_COUNT = 100;
/** Up to this many transactions are acknowledged before a kill: the journal begins anew in some. */
const TRANSACTIONS_MAX = 15;
/** A transaction takes about one, so a kill hits every part of it. */
const REST_MS_MAX = 2;
/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_240_607);

const writer = join(import.meta.dirname, 'store-writer.ts');
const argv = [process.execPath, '--disable-warning=ExperimentalWarning', writer] as const;

/** Lets the writer go on for a moment: the moment of the kill is what is varied. */
function spin(forMs: number): void {
  const end = performance.now() + forMs;
  while (performance.now() < end);
}

/** @returns the number of the last transaction that was acknowledged */
async function writeAndKill(folder: string, random: () => number, before: number): Promise<number> {
  const victim = startProcess([...argv, folder], { outputBytesMax: 1024 * 1024 });
  const count = Math.floor(random() * TRANSACTIONS_MAX);
  const awaited = count === 0 ? `^open ${before}$` : `^${before + count}$`;
  await victim.waitForOutput(new RegExp(awaited, 'm'), TIMEOUT_MS);
  spin(random() * REST_MS_MAX);
  process.kill(victim.pid ?? 0, 'SIGKILL');
  assert.equal((await victim.exited).signal, 'SIGKILL', victim.output().stderr);
  const lines = victim.output().stdout.split('\n').slice(0, -1);
  return Number(lines.at(-1)?.replace('open ', ''));
}

test('survive-117: killed at random moments, a writer loses nothing acknowledged and starts again', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-killed-'));
  const random = seededRandom(SEED);
  let unacknowledgedCount = 0;
  try {
    let sequence = 0;
    for (let round = 0; round < KILL_COUNT; round++) {
      const acknowledged = await writeAndKill(folder, random, sequence);
      const found = openAndDump(folder);
      const what = `round ${round} of seed ${SEED}, ${acknowledged} acknowledged`;
      assert.deepEqual(found.alarms, [], what);
      assert.ok([acknowledged, acknowledged + 1].includes(found.sequence), what);
      assert.equal(found.state, expectedState(found.sequence), what);
      sequence = found.sequence;
      unacknowledgedCount += sequence - acknowledged;
    }
    assert.ok(sequence > KILL_COUNT);
    // Else no kill would have met a transaction that was on disk and not yet acknowledged.
    assert.notEqual(unacknowledgedCount, 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
