import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RevisionSummary } from '../messages/control-messages.ts';
import { exitCodes } from './exit-codes.ts';
import { type ControlReply, documentOf, SimulatedWorld, typed } from './simulated-world.ts';

const newest: RevisionSummary = {
  revision: 12,
  author: 'anna',
  recordedAt: Date.UTC(2026, 10, 22, 4, 18, 7, 500),
  linesAdded: 3,
  linesRemoved: 11,
};
const oldest: RevisionSummary = {
  revision: 1,
  author: 'the config file',
  recordedAt: 1e300,
  linesAdded: 0,
  linesRemoved: 0,
};

function worldThatAnswers(reply: ControlReply): SimulatedWorld {
  const world = new SimulatedWorld();
  world.core = () => reply;
  return world;
}

test('the revisions are listed under each other, times in UTC', async () => {
  const world = worldThatAnswers({ kind: 'revisions', revisions: [newest, oldest] });
  assert.equal(await typed(world, 'history', '--limit', '2'), exitCodes.done);
  assert.equal(
    world.stdout,
    `revision  time                  author           lines
12        2026-11-22T04:18:07Z  anna             +3 -11
1         unknown time          the config file  +0 -0
`,
  );
  assert.deepEqual(world.questions, [{ kind: 'get-revisions', limit: 2 }]);
});

test('no revision is told as such', async () => {
  const world = worldThatAnswers({ kind: 'revisions', revisions: [] });
  assert.equal(await typed(world, 'history'), exitCodes.done);
  assert.equal(world.stdout, 'no revision yet\n');
});

test('the JSON of a list has the numbers of the core and the time as text', async () => {
  const world = worldThatAnswers({ kind: 'revisions', revisions: [newest] });
  await typed(world, 'history', '--json');
  assert.deepEqual(documentOf(world), {
    revisions: [{ ...newest, time: '2026-11-22T04:18:07Z' }],
  });
});

const one = {
  kind: 'revision',
  summary: newest,
  configText: 'version: 1\n# end\n',
  configDiff: '@@ -1,0 +1,1 @@\n+# end\n',
  rulesetText: 'table inet gatehouse {\n}\n',
} as const;

test('one revision is shown with its difference and its config', async () => {
  const world = worldThatAnswers(one);
  assert.equal(await typed(world, 'history', '12'), exitCodes.done);
  assert.equal(
    world.stdout,
    `revision 12 of 2026-11-22T04:18:07Z by anna

@@ -1,0 +1,1 @@
+# end

version: 1
# end
`,
  );
  assert.deepEqual(world.questions, [{ kind: 'get-revision', revision: 12 }]);
});

test('the JSON of a revision holds its texts exactly', async () => {
  const world = worldThatAnswers(one);
  await typed(world, 'history', '12', '--json');
  const { configText, configDiff, rulesetText } = one;
  const revision = { ...newest, time: '2026-11-22T04:18:07Z' };
  assert.deepEqual(documentOf(world), { revision, configText, configDiff, rulesetText });
});

test('a revision that is not there is refused', async () => {
  const reason = 'there is no revision 99';
  const world = worldThatAnswers({ kind: 'refused', code: 'no-such-revision', reason });
  assert.equal(await typed(world, 'history', '99'), exitCodes.refused);
  assert.equal(world.stderr, `gatehouse: ${reason}\n`);
});

test('without a running instance there is no history to ask for', async () => {
  assert.equal(await typed(new SimulatedWorld(), 'history'), exitCodes.notRunning);
  assert.equal(await typed(new SimulatedWorld(), 'history', '3'), exitCodes.notRunning);
});
