/** `gatehouse confirm`: the change that was applied stays. */
import type { CommandOf } from './arguments.ts';
import type { Outcome } from './outcome.ts';
import { decideChange } from './tell-change.ts';
import type { CliWorld } from './world.ts';

export function confirm(command: CommandOf<'confirm'>, world: CliWorld): Promise<Outcome> {
  return decideChange(world, { kind: 'confirm', instance: command, changeId: command.changeId });
}
