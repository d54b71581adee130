/** `gatehouse safe`: the panic button. With the running instance, or without it. */
import type { CommandOf } from './arguments.ts';
import { askCore, authorOf } from './ask-core.ts';
import { locateInstance } from './locate-instance.ts';
import { done, failed, type Outcome } from './outcome.ts';
import { proposedCommand } from './proposed-command.ts';
import { linesOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

/** Who presses the button does not wait for a core that hangs. */
const CORE_ANSWERS_WITHIN_MS = 5_000;

export async function safe(command: CommandOf<'safe'>, world: CliWorld): Promise<Outcome> {
  const { on } = command;
  const author = authorOf(world);
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'set-safe-mode', on, author },
    expects: 'safe-mode',
    ...(on ? { withinMs: CORE_ANSWERS_WITHIN_MS } : {}),
  });
  if (asked.answer !== undefined) {
    const end = `back to the config's by: ${proposedCommand(command, 'safe', '--off')}`;
    const line = on
      ? `safe mode is on: only the minimal ruleset is in force; ${end}`
      : 'safe mode is off: the ruleset of the config is in force';
    return done([line], { on: asked.answer.on, byCore: true, notes: [] });
  }
  if (!on || asked.why === 'denied') return asked.failure;
  const { state: stateFolder } = locateInstance(command, world);
  const configFile = command.config;
  const result = await world.loadSafeRuleset({ configFile, stateFolder, author });
  if (!result.success) return failed(`${result.reason}; before that: ${asked.reason}`);
  const notes = [...result.lines.flatMap(linesOf), `without the running instance: ${asked.reason}`];
  const line = 'safe mode is on: only the minimal ruleset is in force';
  return done([line, ...notes.map((note) => `note: ${note}`)], { on, byCore: false, notes });
}
