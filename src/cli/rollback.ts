/** `gatehouse rollback`: the change that was applied is undone, or a revision applied again. */
import { applyRevision } from './apply.ts';
import type { CommandOf } from './arguments.ts';
import type { Outcome } from './outcome.ts';
import { decideChange } from './tell-change.ts';
import type { CliWorld } from './world.ts';

export function rollback(command: CommandOf<'rollback'>, world: CliWorld): Promise<Outcome> {
  const { to, changeId } = command;
  if (to !== undefined) return applyRevision(world, { instance: command, ...to });
  return decideChange(world, { kind: 'rollback', instance: command, changeId });
}
