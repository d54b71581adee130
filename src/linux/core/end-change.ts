/** Ends a change whose core has died, at its deadline, as the core would have done. */
import { setTimeout as pause } from 'node:timers/promises';
import { ChangeMachine, type PendingChange } from '../../gateway/change/change-machine.ts';
import { describeChangeEvent } from '../../gateway/change/describe-event.ts';
import { compileConfiguration } from '../../gateway/compile-configuration.ts';
import { openNft } from '../nft.ts';
import { openChangeRecords, readChangesAtRest } from '../store/change-records.ts';
import { openStore } from '../store/store.ts';
import { openTableRecords } from '../store/table-records.ts';
import { restoreEntries } from './address-tables.ts';
import { bootId } from './boot-id.ts';
import { changeActs } from './change-acts.ts';
import { bootTimeMs, ChangeDriver } from './change-driver.ts';
import { lockFolder, lockNetwork } from './instance-lock.ts';
import { forwardedTrafficInKernel } from './nat-object.ts';
import type { GuardedInstance } from './rollback-guard.ts';
import { raiseGenerationInKernel } from './rules-generation.ts';
import { RulesetKeeper } from './ruleset-keeper.ts';
import { readSafeMode } from './safe-mode.ts';

/** Whoever starts a dead core again, systemd for example, comes first. */
const RESTART_GRACE_MS = 1_500;
/** After it, a core that is about to roll back by itself has done so. */
const DEADLINE_GRACE_MS = 250;
const LOOK_EVERY_MS = 1_000;
/** What cannot be rolled back within this time is left to the next start. */
const TRY_FOR_MS = 60_000;

/**
 * Resolves when nothing is pending any more, or a new core ends it.
 *
 * @param report one line for the log
 */
export async function endChangeInTime(
  instance: GuardedInstance,
  report: (text: string) => void,
): Promise<void> {
  await pause(RESTART_GRACE_MS);
  for (;;) {
    const { pending, isDamaged } = readChangesAtRest(instance.stateFolder);
    // Of a damaged journal nobody but the store itself knows what was pending.
    if (pending === undefined && !isDamaged) return;
    if (pending !== undefined) await untilRollBack(pending);
    // A core that has the locks looks after the change, if it lives long enough.
    if (await tryToEndChange(instance, report)) return;
    await pause(LOOK_EVERY_MS);
  }
}

/** @returns whether it is over, as far as this guard can bring it */
async function tryToEndChange(
  instance: GuardedInstance,
  report: (text: string) => void,
): Promise<boolean> {
  const state = lockFolder(instance.stateFolder, 'rollback-guard');
  if (state.release === undefined) return false;
  try {
    const network = lockNetwork('rollback-guard');
    if (network.release === undefined) return false;
    try {
      return await endChange(instance, report);
    } finally {
      network.release();
    }
  } finally {
    state.release();
  }
}

/** In short steps: the clock of a deadline goes on while a timer's stands still in suspend. */
async function untilRollBack(pending: PendingChange): Promise<void> {
  if (pending.phase !== 'waiting' || pending.bootId !== bootId()) return;
  const { deadlineAt, change } = pending;
  const giveUpAt = bootTimeMs() + change.windowMs;
  const rollBackAt = Math.min(deadlineAt, giveUpAt) + DEADLINE_GRACE_MS;
  while (bootTimeMs() < rollBackAt) {
    await pause(Math.min(LOOK_EVERY_MS, Math.max(1, rollBackAt - bootTimeMs())));
  }
}

/**
 * Of another change that a core made meanwhile. Who took it up now would keep the locks from the
 * next core until its window ends.
 */
function isNotDue(pending: PendingChange): boolean {
  if (pending.phase !== 'waiting' || pending.bootId !== bootId()) return false;
  const leftMs = pending.deadlineAt - bootTimeMs();
  return leftMs > 0 && leftMs <= pending.change.windowMs;
}

/** @returns false when it is not time yet */
async function endChange(
  { configFile, stateFolder }: GuardedInstance,
  report: (text: string) => void,
): Promise<boolean> {
  const alarm = (text: string) => report(`rollback guard: ${text}`);
  const forwardedTraffic = forwardedTrafficInKernel();
  const store = openStore(stateFolder, { alarm: ({ kind }) => alarm(kind) });
  const { entries } = restoreEntries(openTableRecords(store).list());
  const keeper = new RulesetKeeper({
    nft: openNft(),
    restores: () => false,
    onForeignChange: () => undefined,
    onRulesChange: raiseGenerationInKernel,
    withEntries: (ruleset) => entries.follow(ruleset),
    alarm,
  });
  const records = openChangeRecords(store);
  const driver = new ChangeDriver({
    machine: new ChangeMachine(bootId()),
    acts: changeActs({
      records,
      configFile,
      plan: () => ({ isSafe: readSafeMode(stateFolder) !== undefined, forwardedTraffic }),
      keeper,
      compile: async (text) => {
        return compileConfiguration(text, { fileName: configFile, forwardedTraffic });
      },
      fallback: () => undefined,
      alarm,
      onInForce: () => {},
    }),
    onEvent: (event) => alarm(describeChangeEvent(event)),
  });
  try {
    const pending = records.pending();
    if (pending !== undefined && isNotDue(pending)) return false;
    await driver.start(pending);
    // A core that starts meanwhile waits for us.
    await Promise.race([driver.untilIdle(), pause(TRY_FOR_MS, undefined, { ref: false })]);
    return true;
  } finally {
    await driver.stop();
    await keeper.stop();
    store.close();
  }
}
