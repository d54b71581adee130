/** What became of a change, and what a person has to do next. */
import type { ControlAnswer, ControlQuestion } from '../messages/control-messages.ts';
import type { ChangeTerms, Instance } from './arguments.ts';
import { askCore, authorOf } from './ask-core.ts';
import { done, type Outcome } from './outcome.ts';
import { proposedCommand } from './proposed-command.ts';
import { spanInWords } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

type ChangeAnswer = Extract<ControlAnswer, { kind: 'change' }>;
type ChangeQuestion = Extract<ControlQuestion, { kind: 'confirm' | 'rollback' }>;

/** Ends the change under way, or the one that is named. */
export async function decideChange(
  world: CliWorld,
  options: {
    readonly kind: ChangeQuestion['kind'];
    readonly instance: Instance;
    readonly changeId?: string | undefined;
  },
): Promise<Outcome> {
  const { kind, instance, changeId } = options;
  const author = authorOf(world);
  const question = { kind, author, ...(changeId === undefined ? {} : { changeId }) };
  return makeChange(world, { instance, question, notes: [] });
}

/** Asks for a change and tells what became of it. */
export async function makeChange(
  world: CliWorld,
  options: {
    readonly instance: Instance;
    readonly question: ControlQuestion;
    readonly notes: readonly string[];
  },
): Promise<Outcome> {
  const { instance, question, notes } = options;
  const asked = await askCore(world, { instance, question, expects: 'change' });
  if (asked.answer === undefined) return asked.failure;
  const { kind: _kind, id: _id, ...change } = asked.answer;
  const noteLines = notes.map((note) => `note: ${note}`);
  return done([...noteLines, sentenceOn(asked.answer, instance)], { ...change, notes });
}

/** Of `apply` and `rollback --to`. */
export function termsOf({ windowMs, forced, access }: ChangeTerms, world: CliWorld) {
  const author = authorOf(world);
  return { author, windowMs, forced, ...(access === undefined ? {} : { access }) };
}

/** sudo drops what would tell by which connection a person is here. */
export function notesOnAccess({ access }: ChangeTerms, world: CliWorld): string[] {
  if (access !== undefined || (world.environment['SUDO_USER'] ?? '') === '') return [];
  const way = '--access "$SSH_CONNECTION"';
  return [`nobody checks whether this cuts your own connection: over SSH, give ${way}`];
}

function sentenceOn({ changeId, outcome, rollbackInMs, revision }: ChangeAnswer, by: Instance) {
  const which = revision === undefined ? '' : ` as revision ${revision}`;
  if (outcome === 'rolled-back') return `change ${changeId} is rolled back`;
  if (outcome === 'confirmed') return `change ${changeId} is confirmed${which}`;
  if (rollbackInMs === undefined) return `change ${changeId} is applied${which}`;
  const time = spanInWords(rollbackInMs);
  const unless = proposedCommand(by, 'confirm', changeId);
  return `applied; will be rolled back in ${time} unless: ${unless}`;
}
