import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffLines } from '../../gateway/change/line-diff.ts';
import { asControlAnswer } from '../../messages/control-messages.ts';
import type { Revision } from '../store/change-records.ts';
import { answerRevision, answerRevisions } from './revision-answers.ts';

function recordsOf(...texts: string[]) {
  const all = texts.map((configText, index): readonly [number, Revision] => {
    const configDiff = diffLines({ before: texts[index - 1] ?? '', after: configText });
    const rest = { author: 'admin', recordedAt: index, configDiff };
    return [index + 1, { ...rest, configText, rulesetText: `ruleset ${index + 1}` }];
  });
  const revisions = {
    get: (number: number) => all.find(([one]) => one === number)?.[1],
    list: ({ before = Number.POSITIVE_INFINITY, limit = 200 } = {}) =>
      all
        .filter(([number]) => number < before)
        .reverse()
        .slice(0, limit),
  };
  const unused = (): never => assert.fail('only revisions are read');
  const writes = { pending: unused, storePending: unused, storeConfirmed: unused };
  return { revisions, ...writes, clearPending: unused, recordRevision: unused };
}

test('revisions are summed up with the lines that came and went, the newest first', () => {
  const records = recordsOf('a\nb\n', 'a\nc\nd\n', '');
  const reply = answerRevisions(records, { kind: 'get-revisions', id: 1, limit: 2 });
  assert.ok(asControlAnswer({ ...reply, id: 1 }) !== undefined);
  assert.ok(reply.kind === 'revisions');
  assert.deepEqual(
    reply.revisions.map(({ revision, linesAdded, linesRemoved }) => [
      ...[revision, linesAdded, linesRemoved],
    ]),
    [
      [3, 0, 3],
      [2, 2, 1],
    ],
  );
  const older = answerRevisions(records, { kind: 'get-revisions', id: 1, before: 2, limit: 9 });
  assert.ok(older.kind === 'revisions' && older.revisions[0]?.linesAdded === 2);
});

test('lines that look like the heading of a diff are counted as any other', () => {
  const records = recordsOf('-- a\n', '++ b\n++ c\n');
  const reply = answerRevisions(records, { kind: 'get-revisions', id: 1, limit: 1 });
  assert.ok(reply.kind === 'revisions');
  const [summary] = reply.revisions;
  assert.deepEqual([summary?.linesAdded, summary?.linesRemoved], [2, 1]);
});

test('one revision is told whole, and one that is not there is refused by its number', () => {
  const records = recordsOf('a\n');
  const reply = answerRevision(records, { kind: 'get-revision', id: 1, revision: 1 });
  assert.ok(asControlAnswer({ ...reply, id: 1 }) !== undefined);
  assert.ok(reply.kind === 'revision');
  assert.deepEqual([reply.configText, reply.rulesetText], ['a\n', 'ruleset 1']);
  const missing = answerRevision(records, { kind: 'get-revision', id: 1, revision: 7 });
  assert.ok(missing.kind === 'refused' && missing.code === 'no-such-revision');
  assert.match(missing.reason, /7/);
});
