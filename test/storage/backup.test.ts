import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import { makeBackup } from '../../src/linux/backup/make-backup.ts';
import { restoreBackup } from '../../src/linux/backup/restore-backup.ts';
import { runCommand, startProcess } from '../../src/linux/command-runner.ts';
import { openStore } from '../../src/linux/store/store.ts';
import { withTmpfs } from './mounted.ts';
import { expectedState, openAndDump, unexpected, writeTransaction } from './recorded-store.ts';

const BACKUP_COUNT = 30;
/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;
const program = { version: '0.1.0', schema: 0, now: () => new Date(0) };
const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-backup-'));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('survive-118: backups of a store that is being written hold all that was acknowledged', async () => {
  await withFolder(async (root) => {
    const configFile = join(root, 'gatehouse.yaml');
    writeFileSync(configFile, 'version: 1\n');
    const stateFolder = join(root, 'state');
    const argv = [...node, join(import.meta.dirname, 'store-writer.ts'), stateFolder] as const;
    const writer = startProcess(argv, { outputBytesMax: 4 * 1024 * 1024 });
    const acknowledged = () => {
      const lines = writer.output().stdout.split('\n').slice(0, -1);
      return Number(lines.at(-1)?.replace('open ', '') ?? -1);
    };
    const known: number[] = [];
    try {
      for (let count = 0; count < BACKUP_COUNT; count++) {
        const next = acknowledged() + 1;
        const reached = () => acknowledged() >= next;
        await waitFor(`transaction ${next}`, reached, { timeoutMs: TIMEOUT_MS, intervalMs: 1 });
        known.push(acknowledged());
        const file = join(root, `${count}.backup`);
        const made = await makeBackup({ file, configFile, stateFolder }, program);
        assert.ok(made.success, JSON.stringify(made));
      }
    } finally {
      await writer.stop();
    }
    for (const [count, atLeast] of known.entries()) {
      const to = join(root, `restored-${count}`);
      const result = await restoreBackup(
        {
          file: join(root, `${count}.backup`),
          configFile: join(to, 'gatehouse.yaml'),
          stateFolder: join(to, 'state'),
        },
        program,
      );
      assert.ok(result.success, JSON.stringify(result));
      const found = openAndDump(join(to, 'state'));
      assert.deepEqual(found.alarms, []);
      assert.ok(found.sequence >= atLeast, `backup ${count} has ${found.sequence} of ${atLeast}`);
      assert.equal(found.state, expectedState(found.sequence), `backup ${count}`);
    }
  });
});

const OLD_CONFIG = 'version: 1\n# old\n';
const NEW_CONFIG = 'version: 1\n# new\n';
/** Transactions of the recorded history: which of the two states it is. */
const OLD_COUNT = 7;
const NEW_COUNT = 3;

function makeMachine(folder: string, configText: string, transactionCount: number): void {
  mkdirSync(folder);
  writeFileSync(join(folder, 'gatehouse.yaml'), configText, { mode: 0o600 });
  const store = openStore(join(folder, 'state'), { alarm: unexpected });
  for (let number = 1; number <= transactionCount; number++) writeTransaction(store, number);
  store.close();
}

function assertOldOrNew(folder: string, what: string): void {
  const config = readFileSync(join(folder, 'gatehouse.yaml'), 'utf8');
  assert.ok([OLD_CONFIG, NEW_CONFIG].includes(config), `${what}: ${config}`);
  const { sequence, state, alarms } = openAndDump(join(folder, 'state'));
  assert.ok([OLD_COUNT, NEW_COUNT].includes(sequence), `${what}: ${sequence} transactions`);
  assert.equal(state, expectedState(sequence), what);
  // The database may be missing for a moment, since the journal alone holds everything.
  const kinds = alarms.map(({ kind }) => kind);
  assert.ok(
    kinds.every((kind) => kind === 'file-damaged'),
    `${what}: ${JSON.stringify(alarms)}`,
  );
}

test('survive-117: killed at any step, a restore leaves old or new, and the next one completes', async () => {
  // A kill loses nothing that the kernel has, so the disk does not matter.
  await withTmpfs('size=256m,mode=0700', async (root) => {
    const file = join(root, 'gate.backup');
    const from = join(root, 'from');
    makeMachine(from, NEW_CONFIG, NEW_COUNT);
    const source = { file, configFile: join(from, 'gatehouse.yaml') };
    const made = await makeBackup({ ...source, stateFolder: join(from, 'state') }, program);
    assert.ok(made.success, JSON.stringify(made));
    const template = join(root, 'template');
    makeMachine(template, OLD_CONFIG, OLD_COUNT);
    const victim = join(import.meta.dirname, 'restore-victim.ts');
    // Compiling takes most of a victim's life.
    const env = { NODE_COMPILE_CACHE: join(root, 'compiled') };
    for (let number = 0; ; number++) {
      const folder = join(root, `to-${number}`);
      cpSync(template, folder, { recursive: true });
      const argv = [...node, victim, folder, file, `${number}`] as const;
      const run = await runCommand(argv, { timeoutMs: TIMEOUT_MS, env });
      const isComplete = run.signal === null;
      assert.ok(isComplete || run.signal === 'SIGKILL', JSON.stringify(run));
      if (!isComplete) assertOldOrNew(folder, `killed ahead of call ${number}`);
      const again = await restoreBackup(
        { file, configFile: join(folder, 'gatehouse.yaml'), stateFolder: join(folder, 'state') },
        program,
      );
      assert.ok(again.success, JSON.stringify(again));
      assert.equal(readFileSync(join(folder, 'gatehouse.yaml'), 'utf8'), NEW_CONFIG);
      const found = openAndDump(join(folder, 'state'));
      assert.deepEqual(found, { state: expectedState(NEW_COUNT), sequence: NEW_COUNT, alarms: [] });
      if (!isComplete) continue;
      assert.equal(run.success, true, run.stdout + run.stderr);
      assert.ok(number > 30, `${number} steps`);
      return;
    }
  });
});
