/** `gatehouse rules`: the ruleset as text, in force or planned. */
import type { CommandOf } from './arguments.ts';
import { askCore } from './ask-core.ts';
import { done, type Outcome } from './outcome.ts';
import { readConfig } from './read-config.ts';
import { linesOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function rules(command: CommandOf<'rules'>, world: CliWorld): Promise<Outcome> {
  if (command.planned !== undefined) {
    const { compiled, failure } = readConfig(command.planned, world);
    return compiled === undefined ? failure : tell(compiled.rulesetText);
  }
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'get-running' },
    expects: 'running',
  });
  return asked.answer === undefined ? asked.failure : tell(asked.answer.rulesetText);
}

function tell(rulesetText: string): Outcome {
  return done(linesOf(rulesetText), { rulesetText });
}
