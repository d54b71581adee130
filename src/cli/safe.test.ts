import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodes } from './exit-codes.ts';
import {
  type CoreBehaviour,
  documentOf,
  homeConfig,
  SimulatedWorld,
  typed,
} from './simulated-world.ts';

const configFile = '/etc/gatehouse/gatehouse.yaml';
const switching: CoreBehaviour = (question) => {
  if (question.kind !== 'set-safe-mode') return new Error(`asked ${question.kind}`);
  return { kind: 'safe-mode', on: question.on };
};

function worldWith(core: SimulatedWorld['core'], configText = homeConfig): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set(configFile, configText);
  world.core = core;
  return world;
}

const loaded = [{ configFile, stateFolder: '/srv/gate/state', author: 'anna' }];

test('the running instance switches, and is given little time', async () => {
  const world = worldWith(switching);
  assert.equal(await typed(world, 'safe'), exitCodes.done);
  assert.deepEqual(world.questions, [{ kind: 'set-safe-mode', on: true, author: 'anna' }]);
  assert.ok((world.withinMs[0] ?? Number.POSITIVE_INFINITY) <= 10_000);
  assert.match(world.stdout, /^safe mode is on: .*by: gatehouse safe --off$/m);
  assert.deepEqual(world.safeRulesets, []);
});

for (const [what, core] of [
  ['is stopped', undefined],
  ['does not answer at its socket', 'failed'],
  ['hangs', () => new Error('no answer in time')],
  ['refuses', () => ({ kind: 'refused', code: 'failed', reason: 'nft crashed' })],
] as readonly (readonly [string, SimulatedWorld['core']])[]) {
  test(`the minimal ruleset is loaded without an instance that ${what}`, async () => {
    const world = worldWith(core);
    world.action = { success: true, lines: ['of the last config in force'] };
    assert.equal(await typed(world, 'safe', '--json'), exitCodes.done);
    assert.deepEqual(world.safeRulesets, loaded);
    const { on, byCore, notes } = documentOf(world);
    assert.deepEqual([on, byCore], [true, false]);
    assert.equal((notes as string[])[0], 'of the last config in force');
  });
}

test('who has no right is told so, and nothing is loaded', async () => {
  const world = worldWith('denied');
  assert.equal(await typed(world, 'safe'), exitCodes.notRunning);
  assert.deepEqual(world.safeRulesets, []);
});

test('when both ways fail both reasons are told', async () => {
  const world = worldWith(undefined);
  world.action = { success: false, reason: 'nft is missing' };
  assert.equal(await typed(world, 'safe'), exitCodes.failed);
  assert.match(world.stderr, /^gatehouse: nft is missing; before that: .*control\.sock/);
});

for (const [what, text] of [
  ['with problems of meaning', homeConfig.replace('wan0', 'lan0')],
  ['that is no YAML at its head', `{{{ [\n${homeConfig}`],
  ['that is no YAML at its end', `${homeConfig}\n  ]: {{ \n`],
  ['with a control character', homeConfig.replace('# Of', '#\u0007 Of')],
  [
    'with folders in a block',
    `: [\npaths:\n  # mine\n  state: /srv/gate/state\n  runtime: /srv/gate/runtime\nx: 1\n`,
  ],
] as const) {
  test(`a config file ${what} keeps nobody from the running instance`, async () => {
    const world = worldWith(switching, text);
    assert.equal(await typed(world, 'safe'), exitCodes.done);
    assert.deepEqual(world.connectedTo, ['/srv/gate/runtime']);
    const stopped = worldWith(undefined, text);
    assert.equal(await typed(stopped, 'safe'), exitCodes.done);
    assert.deepEqual(stopped.safeRulesets, loaded);
  });
}

test('without a config file the usual folders are tried, and the doubt is told', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world, 'status'), exitCodes.notRunning);
  assert.deepEqual(world.connectedTo, ['/run/gatehouse']);
  assert.match(world.stderr, /\(the usual folder, since cannot read .*gatehouse\.yaml/);
});

test('back to the ruleset of the config needs the running instance', async () => {
  const world = worldWith(switching);
  assert.equal(await typed(world, 'safe', '--off'), exitCodes.done);
  assert.deepEqual(world.questions, [{ kind: 'set-safe-mode', on: false, author: 'anna' }]);
  const stopped = worldWith(undefined);
  assert.equal(await typed(stopped, 'safe', '--off'), exitCodes.notRunning);
  assert.deepEqual(stopped.safeRulesets, []);
  const refusing = worldWith(() => ({ kind: 'refused', code: 'failed', reason: 'nft crashed' }));
  assert.equal(await typed(refusing, 'safe', '--off'), exitCodes.refused);
});
