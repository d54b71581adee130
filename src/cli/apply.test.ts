import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodes } from './exit-codes.ts';
import {
  type ControlReply,
  documentOf,
  homeConfig,
  SimulatedWorld,
  typed,
} from './simulated-world.ts';

const configFile = '/etc/gatehouse/gatehouse.yaml';
const applied: ControlReply = {
  kind: 'change',
  changeId: 'c3f9',
  outcome: 'applied',
  rollbackInMs: 60_000,
};

function worldThatAnswers(reply: ControlReply | Error): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set(configFile, homeConfig);
  world.core = () => reply;
  return world;
}

function refusal(code: Extract<ControlReply, { kind: 'refused' }>['code'], reason = 'because') {
  return worldThatAnswers({ kind: 'refused', code, reason });
}

test('apply says what happens next, as a command to type', async () => {
  const world = worldThatAnswers(applied);
  assert.equal(await typed(world, 'apply'), exitCodes.done);
  const last = world.stdout.trimEnd().split('\n').at(-1);
  assert.equal(last, 'applied; will be rolled back in 60 s unless: gatehouse confirm c3f9');
  assert.deepEqual(world.questions, [
    { kind: 'apply', configText: homeConfig, author: 'anna', windowMs: 60_000, forced: false },
  ]);
});

test('the command to type names the same instance', async () => {
  const world = worldThatAnswers(applied);
  world.files.set("it's.yaml", homeConfig);
  await typed(world, '--config', "it's.yaml", 'apply', '--runtime', '/run/x');
  const way = `gatehouse --config 'it'\\''s.yaml' --runtime /run/x confirm c3f9`;
  assert.ok(world.stdout.endsWith(` unless: ${way}\n`), world.stdout);
  assert.deepEqual(world.connectedTo, ['/run/x']);
});

test('window, force and the connection of whoever asks reach the core', async () => {
  const world = worldThatAnswers(applied);
  world.environment = { SSH_CONNECTION: '10.77.0.9 51234 10.77.0.1 22' };
  await typed(world, 'apply', '--confirm', '10m', '--force');
  assert.deepEqual(world.questions, [
    {
      kind: 'apply',
      configText: homeConfig,
      author: 'anna',
      windowMs: 600_000,
      forced: true,
      access: { clientAddress: '10.77.0.9', gatewayAddress: '10.77.0.1', gatewayPort: 22 },
    },
  ]);
});

test('under sudo without a known connection, that nobody checks it is said', async () => {
  const world = worldThatAnswers(applied);
  world.environment = { SUDO_USER: 'anna' };
  await typed(world, 'apply');
  assert.match(world.stdout, /^note: nobody checks whether this cuts your own connection/m);
  const other = worldThatAnswers(applied);
  await typed(other, 'apply');
  assert.doesNotMatch(other.stdout, /nobody checks/);
});

test('the JSON of a change is what the core said, with notes', async () => {
  const world = worldThatAnswers(applied);
  world.environment = { SUDO_USER: 'anna' };
  await typed(world, 'apply', '--json');
  const { notes, ...change } = documentOf(world);
  assert.deepEqual(change, { changeId: 'c3f9', outcome: 'applied', rollbackInMs: 60_000 });
  assert.ok(Array.isArray(notes) && notes.length === 1);
});

test('a config with problems is told before anybody is asked', async () => {
  const world = worldThatAnswers(applied);
  world.files.set('wrong.yaml', 'version: 1\nwam: {}\n');
  assert.equal(await typed(world, 'apply', 'wrong.yaml'), exitCodes.configProblems);
  assert.match(world.stderr, /^wrong\.yaml:2:1: wam: /);
  assert.deepEqual(world.connectedTo, []);
});

test('a revision is applied by its number, without a file', async () => {
  for (const words of [
    ['apply', '--revision', '7'],
    ['rollback', '--to', '7'],
  ]) {
    const world = worldThatAnswers(applied);
    assert.equal(await typed(world, ...words), exitCodes.done);
    assert.deepEqual(world.questions, [
      { kind: 'apply-revision', revision: 7, author: 'anna', windowMs: 60_000, forced: false },
    ]);
    assert.match(world.stdout, /unless: gatehouse confirm c3f9$/m);
  }
});

test('confirm and rollback mean the change under way, or the one that is named', async () => {
  for (const kind of ['confirm', 'rollback'] as const) {
    const outcome = kind === 'confirm' ? 'confirmed' : 'rolled-back';
    const world = worldThatAnswers({ kind: 'change', changeId: 'c3f9', outcome });
    assert.equal(await typed(world, kind), exitCodes.done);
    assert.equal(await typed(world, kind, 'c3f9'), exitCodes.done);
    const author = 'anna';
    assert.deepEqual(world.questions, [
      { kind, author },
      { kind, author, changeId: 'c3f9' },
    ]);
  }
});

test('confirm tells the revision, rollback that it is undone', async () => {
  const change = { kind: 'change', changeId: 'c3f9' } as const;
  const confirmed = worldThatAnswers({ ...change, outcome: 'confirmed', revision: 13 });
  await typed(confirmed, 'confirm');
  assert.equal(confirmed.stdout, 'change c3f9 is confirmed as revision 13\n');
  const undone = worldThatAnswers({ ...change, outcome: 'rolled-back' });
  await typed(undone, 'rollback');
  assert.equal(undone.stdout, 'change c3f9 is rolled back\n');
});

for (const [code, exitCode] of [
  ['config-problems', exitCodes.configProblems],
  ['ruleset-refused', exitCodes.configProblems],
  ['busy', exitCodes.refused],
  ['no-such-change', exitCodes.refused],
  ['no-such-revision', exitCodes.refused],
  ['window-out-of-range', exitCodes.refused],
  ['cuts-own-access', exitCodes.refused],
  ['config-file-edited', exitCodes.refused],
  ['needs-restart', exitCodes.refused],
  ['storage', exitCodes.refused],
  ['failed', exitCodes.refused],
] as const) {
  test(`refused by the core: ${code} ends with ${exitCode} and the reason`, async () => {
    const world = refusal(code);
    assert.equal(await typed(world, 'apply'), exitCode);
    assert.match(world.stderr, /because/);
    assert.equal(world.stdout, '');
    const inJson = refusal(code);
    assert.equal(await typed(inJson, 'apply', '--json'), exitCode);
    const { error } = documentOf(inJson) as { error: { code: string; exitCode: number } };
    assert.deepEqual([error.code, error.exitCode], [code, exitCode]);
  });
}

test('who would cut the own access is told how to insist', async () => {
  const world = refusal('cuts-own-access', 'rule no_ssh drops it');
  await typed(world, 'apply');
  assert.match(world.stderr, /^gatehouse: rule no_ssh drops it: --force applies it all the same/);
});

test('without a running instance, or the right to speak to it, nothing is applied', async () => {
  for (const core of [undefined, 'denied', 'failed'] as const) {
    const world = worldThatAnswers(applied);
    world.core = core;
    for (const words of [['apply'], ['confirm'], ['rollback'], ['rollback', '--to', '1']]) {
      assert.equal(await typed(world, ...words), exitCodes.notRunning, `${core} ${words}`);
    }
    assert.match(world.stderr, /^gatehouse: \/srv\/gate\/runtime\/control\.sock: /);
  }
});

test('a core that falls silent leaves a doubt, and where to look', async () => {
  const world = worldThatAnswers(new Error('no answer within 120000 ms'));
  assert.equal(await typed(world, 'apply'), exitCodes.failed);
  assert.match(world.stderr, /did not answer apply: no answer within .*; gatehouse status tells/);
  assert.equal(world.openConnections, 0);
});

test('an answer to another question is a failure', async () => {
  const world = worldThatAnswers({ kind: 'safe-mode', on: true });
  assert.equal(await typed(world, 'confirm'), exitCodes.failed);
  assert.match(world.stderr, /did not answer confirm: it answered safe-mode/);
});

test('the author is one printable line of at most 64 units', async () => {
  for (const [author, expected] of [
    ['anna\n\u001b[31m', 'anna[31m'],
    ['Zoë 家', 'Zoë 家'],
    ['', 'unknown'],
    ['\u202e\n', 'unknown'],
    [`${'x'.repeat(63)}🦊`, 'x'.repeat(63)],
  ] as const) {
    const world = worldThatAnswers(applied);
    world.author = author;
    await typed(world, 'apply');
    const [question] = world.questions;
    assert.ok(question?.kind === 'apply', JSON.stringify(author));
    assert.equal(question.author, expected);
  }
});

test('what becomes of the change under way is told in seconds, then minutes', async () => {
  const world = worldThatAnswers({ ...applied, rollbackInMs: 600_000 });
  await typed(world, 'apply', '--confirm', '10m');
  assert.match(world.stdout, /^applied; will be rolled back in 10 min 0 s unless: /m);
});
