/** The history of configurations, as the command line asks for it. */
import type {
  ControlReply,
  ControlRequest,
  RevisionSummary,
} from '../../messages/control-messages.ts';
import type { ChangeRecords, Revision } from '../store/change-records.ts';

export function answerRevisions(
  { revisions }: ChangeRecords,
  { before, limit }: Extract<ControlRequest, { kind: 'get-revisions' }>,
): ControlReply {
  const range = before === undefined ? { limit } : { before, limit };
  return { kind: 'revisions', revisions: revisions.list(range).map(summaryOf) };
}

export function answerRevision(
  { revisions }: ChangeRecords,
  { revision: number }: Extract<ControlRequest, { kind: 'get-revision' }>,
): ControlReply {
  const revision = revisions.get(number);
  if (revision === undefined) {
    const reason = `there is no revision ${number}`;
    return { kind: 'refused', code: 'no-such-revision', reason };
  }
  const { configText, configDiff, rulesetText } = revision;
  const summary = summaryOf([number, revision]);
  return { kind: 'revision', summary, configText, configDiff, rulesetText };
}

function summaryOf([revision, record]: readonly [number, Revision]): RevisionSummary {
  const { author, recordedAt, configDiff } = record;
  const lines = configDiff.split('\n');
  const begins = (sign: string) => lines.filter((line) => line.startsWith(sign)).length;
  return { revision, author, recordedAt, linesAdded: begins('+'), linesRemoved: begins('-') };
}
