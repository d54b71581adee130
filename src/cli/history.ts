/** `gatehouse history`: the revisions, or one of them. */
import type { RevisionSummary } from '../messages/control-messages.ts';
import type { CommandOf } from './arguments.ts';
import { askCore } from './ask-core.ts';
import { done, type Outcome } from './outcome.ts';
import { alignColumns, instantInWords, linesOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function history(command: CommandOf<'history'>, world: CliWorld): Promise<Outcome> {
  const { revision, limit } = command;
  return revision === undefined
    ? list({ command, limit }, world)
    : show({ command, revision }, world);
}

async function list(
  { command, limit }: { readonly command: CommandOf<'history'>; readonly limit: number },
  world: CliWorld,
): Promise<Outcome> {
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'get-revisions', limit },
    expects: 'revisions',
  });
  if (asked.answer === undefined) return asked.failure;
  const { revisions } = asked.answer;
  const rows = revisions.map(rowOf);
  const head = ['revision', 'time', 'author', 'lines'];
  return done(rows.length === 0 ? ['no revision yet'] : alignColumns([head, ...rows]), {
    revisions: revisions.map(withTime),
  });
}

async function show(
  { command, revision }: { readonly command: CommandOf<'history'>; readonly revision: number },
  world: CliWorld,
): Promise<Outcome> {
  const asked = await askCore(world, {
    instance: command,
    question: { kind: 'get-revision', revision },
    expects: 'revision',
  });
  if (asked.answer === undefined) return asked.failure;
  const { summary, configText, configDiff, rulesetText } = asked.answer;
  const { author, recordedAt } = summary;
  return done(
    [
      `revision ${summary.revision} of ${instantInWords(recordedAt)} by ${author}`,
      '',
      ...(configDiff === '' ? [] : [...linesOf(configDiff), '']),
      ...linesOf(configText),
    ],
    { revision: withTime(summary), configText, configDiff, rulesetText },
  );
}

function rowOf({ revision, recordedAt, author, linesAdded, linesRemoved }: RevisionSummary) {
  return [
    `${revision}`,
    instantInWords(recordedAt),
    author,
    `+${linesAdded} -${linesRemoved}`,
  ] as const;
}

function withTime(summary: RevisionSummary): RevisionSummary & { readonly time: string } {
  return { ...summary, time: instantInWords(summary.recordedAt) };
}
