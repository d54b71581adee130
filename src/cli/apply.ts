/** `gatehouse apply`: a config or a revision in force, to be confirmed in time. */
import type { ChangeTerms, CommandOf, Instance } from './arguments.ts';
import type { Outcome } from './outcome.ts';
import { readConfig } from './read-config.ts';
import { makeChange, notesOnAccess, termsOf } from './tell-change.ts';
import type { CliWorld } from './world.ts';

export async function apply(command: CommandOf<'apply'>, world: CliWorld): Promise<Outcome> {
  const { source, terms } = command;
  if ('revision' in source) {
    return applyRevision(world, { instance: command, revision: source.revision, terms });
  }
  // The core checks as well; here the messages are at hand before anybody is asked.
  const { compiled, failure } = readConfig(source.file, world);
  if (compiled === undefined) return failure;
  const { configText } = compiled;
  return makeChange(world, {
    instance: command,
    question: { kind: 'apply', configText, ...termsOf(terms, world) },
    notes: notesOnAccess(terms, world),
  });
}

export function applyRevision(
  world: CliWorld,
  options: {
    readonly instance: Instance;
    readonly revision: number;
    readonly terms: ChangeTerms;
  },
): Promise<Outcome> {
  const { instance, revision, terms } = options;
  return makeChange(world, {
    instance,
    question: { kind: 'apply-revision', revision, ...termsOf(terms, world) },
    notes: notesOnAccess(terms, world),
  });
}
