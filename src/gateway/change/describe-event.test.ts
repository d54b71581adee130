import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChangeEvent } from './change-machine.ts';
import { describeCause, describeChangeEvent, describeRefusal } from './describe-event.ts';

const changeId = 'c1';

test('each event of a change is a sentence that names the change', () => {
  const sentences: readonly (readonly [event: ChangeEvent, sentence: string])[] = [
    [
      { kind: 'request-refused', changeId, why: 'busy' },
      'change c1 was refused: a change is under way',
    ],
    [
      { kind: 'change-applied', changeId, deadlineAt: 1 },
      'change c1 is in force and waits to be confirmed',
    ],
    [{ kind: 'change-confirmed', changeId }, 'change c1 is confirmed and stays'],
    [
      { kind: 'confirmation-failed', changeId, reason: 'disk full' },
      'change c1 could not be confirmed: disk full',
    ],
    [
      { kind: 'rollback-begun', changeId, cause: 'apply-failed', reason: 'nft hangs' },
      'change c1 is rolled back, since the ruleset could not be put in force: nft hangs',
    ],
    [
      { kind: 'rollback-begun', changeId, cause: 'asked-for' },
      'change c1 is rolled back, since somebody asked for it',
    ],
    [
      { kind: 'change-rolled-back', changeId, cause: 'rebooted' },
      'change c1 was rolled back, since the machine was started anew before it was confirmed',
    ],
    [
      { kind: 'step-failed', changeId, step: 'write-config', reason: 'read-only' },
      'change c1 failed at write-config: read-only',
    ],
  ];
  for (const [event, sentence] of sentences) assert.equal(describeChangeEvent(event), sentence);
});

test('every cause and every refusal has words of its own', () => {
  const causes = [
    ...(['asked-for', 'not-confirmed-in-time', 'apply-failed'] as const),
    ...(['not-stored', 'interrupted', 'rebooted'] as const),
  ].map(describeCause);
  const refusals = (
    ['busy', 'window-out-of-range', 'cuts-own-access', 'no-such-change'] as const
  ).map(describeRefusal);
  for (const words of [...causes, ...refusals]) assert.match(words, /^[a-z][^.\n]+$/);
  assert.equal(new Set([...causes, ...refusals]).size, 10);
});
