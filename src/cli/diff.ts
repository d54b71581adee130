/** `gatehouse diff`: a config against what is in force. */
import { diffLines } from '../gateway/change/line-diff.ts';
import { compileConfiguration } from '../gateway/compile-configuration.ts';
import type { CommandOf } from './arguments.ts';
import { askCore } from './ask-core.ts';
import { exitCodes } from './exit-codes.ts';
import { done, type Outcome } from './outcome.ts';
import { readConfig } from './read-config.ts';
import { linesOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function diff(command: CommandOf<'diff'>, world: CliWorld): Promise<Outcome> {
  const { compiled, name, failure } = readConfig(command.file, world);
  if (compiled === undefined) return failure;
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'get-running' },
    expects: 'running',
  });
  if (asked.answer === undefined) return asked.failure;
  const { configText, rulesetText, forwardedTraffic } = asked.answer;
  const planned =
    forwardedTraffic === 'sessions'
      ? compiled
      : compileConfiguration(compiled.configText, { fileName: name, forwardedTraffic }).compiled;
  const configDiff = diffLines({ before: configText, after: compiled.configText });
  const after = planned?.rulesetText ?? compiled.rulesetText;
  const rulesetDiff = diffLines({ before: rulesetText, after });
  const isDifferent = configDiff !== '' || rulesetDiff !== '';
  const lines = [
    ...section(configDiff, { before: 'in force', after: name }),
    ...section(rulesetDiff, { before: 'ruleset in force', after: `ruleset of ${name}` }),
  ];
  return done(
    isDifferent ? lines : [`${name} is what is in force`],
    { file: name, different: isDifferent, configDiff, rulesetDiff },
    { exitCode: isDifferent ? exitCodes.toTell : exitCodes.done },
  );
}

function section(hunks: string, heads: { readonly before: string; readonly after: string }) {
  if (hunks === '') return [];
  return [`--- ${heads.before}`, `+++ ${heads.after}`, ...linesOf(hunks)];
}
