/** `gatehouse restore`: config and state from a backup. */
import type { CommandOf } from './arguments.ts';
import { readBackupOptions } from './backup-terms.ts';
import { failed, type Outcome, outcomeOf } from './outcome.ts';
import type { CliWorld } from './world.ts';

export async function restore(command: CommandOf<'restore'>, world: CliWorld): Promise<Outcome> {
  const { options, reason } = readBackupOptions(command, world);
  if (options === undefined) return failed(reason);
  return outcomeOf(await world.restoreBackup(options), { file: command.file });
}
