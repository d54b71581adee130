/** `gatehouse backup`: config and state in one file. */
import type { CommandOf } from './arguments.ts';
import { readBackupOptions } from './backup-terms.ts';
import { failed, type Outcome, outcomeOf } from './outcome.ts';
import type { CliWorld } from './world.ts';

export async function backup(command: CommandOf<'backup'>, world: CliWorld): Promise<Outcome> {
  const { options, reason } = readBackupOptions(command, world);
  if (options === undefined) return failed(reason);
  return outcomeOf(await world.makeBackup(options), { file: command.file });
}
