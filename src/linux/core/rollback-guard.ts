/**
 * Watches over a change that is not confirmed yet. It does nothing while the core lives. When the
 * core dies and nothing starts it again, the guard rolls the change back at its deadline, so that
 * an administrator who is locked out gets back in.
 *
 * The core holds the other end of its standard input: a line `done` means that the change has
 * ended, the end of the stream without it that the core has died.
 */
// check-ignore layers: the guard is this program itself, and outlives whoever started it
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { ChangeMachine, type PendingChange } from '../../gateway/change/change-machine.ts';
import { describeChangeEvent } from '../../gateway/change/describe-event.ts';
import { compileConfiguration } from '../../gateway/compile-configuration.ts';
import { openNft } from '../nft.ts';
import { openChangeRecords, readChangesAtRest } from '../store/change-records.ts';
import { openStore } from '../store/store.ts';
import { changeActs } from './change-acts.ts';
import { bootTimeMs, ChangeDriver } from './change-driver.ts';
import { lockFolder, lockNetwork } from './instance-lock.ts';
import { RulesetKeeper } from './ruleset-keeper.ts';

export interface GuardedInstance {
  readonly configFile: string;
  readonly stateFolder: string;
}

/** Whoever starts a dead core again, systemd for example, comes first. */
const RESTART_GRACE_MS = 1_500;
/** After it, a core that is about to roll back by itself has done so. */
const DEADLINE_GRACE_MS = 250;
/** What cannot be rolled back within this time is left to the next start. */
const TRY_FOR_MS = 60_000;
const DONE = 'done\n';

/** The core's end of a guard. */
export class RollbackGuard {
  readonly #child: ChildProcess;

  /**
   * @param program how this program is started, without its words
   * @param onFailure when there is none: the change is then safe only while the core lives
   */
  constructor(
    program: readonly [string, ...string[]],
    { configFile, stateFolder }: GuardedInstance,
    onFailure: (reason: string) => void,
  ) {
    const [file, ...first] = program;
    const words = ['role', 'rollback-guard', configFile, stateFolder];
    this.#child = spawn(file, [...first, ...words], {
      stdio: ['pipe', 'ignore', 'inherit'],
      // Ctrl-C is for the core.
      detached: true,
      cwd: '/',
    });
    this.#child.on('error', (error) => onFailure(error.message));
    this.#child.on('exit', (code) => {
      if (code !== 0) onFailure(`ended with code ${code}`);
    });
    this.#child.stdin?.on('error', () => {});
    // It may outlive this process.
    this.#child.unref();
  }

  /** The change has ended. */
  dismiss(): void {
    this.#child.stdin?.end(DONE);
  }
}

/** The guard's own process. Resolves when there is nothing to guard any more. */
export async function guardChange(
  instance: GuardedInstance,
  report: (text: string) => void,
): Promise<void> {
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) process.on(signal, () => {});
  if ((await text(process.stdin)) === DONE) return;
  await pause(RESTART_GRACE_MS);
  const { pending } = readChangesAtRest(instance.stateFolder);
  if (pending === undefined) return;
  await pause(timeUntilRollBack(pending));
  const state = lockFolder(instance.stateFolder, 'rollback-guard');
  // A new core looks after the change.
  if (state.release === undefined) return;
  const network = lockNetwork('rollback-guard');
  try {
    if (network.release !== undefined) await endChange(instance, report);
  } finally {
    network.release?.();
    state.release();
  }
}

function timeUntilRollBack(pending: PendingChange): number {
  if (pending.phase !== 'waiting' || pending.bootId !== bootId()) return 0;
  const inMs = pending.deadlineAt - bootTimeMs();
  return Math.min(Math.max(0, inMs), pending.change.windowMs) + DEADLINE_GRACE_MS;
}

async function endChange(
  { configFile, stateFolder }: GuardedInstance,
  report: (text: string) => void,
): Promise<void> {
  const alarm = (text: string) => report(`rollback guard: ${text}`);
  const store = openStore(stateFolder, { alarm: ({ kind }) => alarm(kind) });
  const keeper = new RulesetKeeper({
    nft: openNft(),
    restores: () => false,
    onForeignChange: () => undefined,
    alarm,
  });
  const records = openChangeRecords(store);
  const driver = new ChangeDriver({
    machine: new ChangeMachine(bootId()),
    acts: changeActs({
      records,
      configFile,
      stateFolder,
      keeper,
      compile: async (configText) => compileConfiguration(configText, { fileName: configFile }),
      onInForce: () => {},
    }),
    onEvent: (event) => alarm(describeChangeEvent(event)),
  });
  try {
    await driver.start(records.pending());
    // A core that starts meanwhile waits for us.
    await Promise.race([driver.untilIdle(), pause(TRY_FOR_MS)]);
  } finally {
    await driver.stop();
    await keeper.stop();
    store.close();
  }
}

/** Of the running kernel. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
