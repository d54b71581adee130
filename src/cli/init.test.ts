import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodes } from './exit-codes.ts';
import { documentOf, homeConfig, SimulatedWorld, typed } from './simulated-world.ts';

const configFile = '/etc/gatehouse/gatehouse.yaml';

function worldThatProposes(): SimulatedWorld {
  const world = new SimulatedWorld();
  world.proposal = { success: true, lines: ['wan0 has the default route'], text: homeConfig };
  return world;
}

test('the proposal is written where the config file is looked for, for root alone', async () => {
  const world = worldThatProposes();
  assert.equal(await typed(world, 'init'), exitCodes.done);
  assert.equal(world.files.get(configFile), homeConfig);
  assert.equal(world.modes.get(configFile), 0o600);
  assert.equal(world.stdout, `wan0 has the default route\nwrote ${configFile}: look it over\n`);
});

test('a file that is there is never replaced', async () => {
  const world = worldThatProposes();
  world.files.set('mine.yaml', 'precious');
  assert.equal(await typed(world, 'init', '--output', 'mine.yaml'), exitCodes.failed);
  assert.equal(world.files.get('mine.yaml'), 'precious');
  assert.match(world.stderr, /mine\.yaml is there already/);
});

test('printed, the config alone is on standard output', async () => {
  const world = worldThatProposes();
  assert.equal(await typed(world, 'init', '--output', '-'), exitCodes.done);
  assert.equal(world.stdout, homeConfig);
  assert.equal(world.stderr, 'wan0 has the default route\n');
  assert.equal(world.files.size, 0);
});

test('the JSON holds the config and the choices', async () => {
  const world = worldThatProposes();
  await typed(world, 'init', '--output', '-', '--json');
  const notes = ['wan0 has the default route'];
  assert.deepEqual(documentOf(world), { file: '-', configText: homeConfig, notes });
});

test('a machine that no config fits is told why', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world, 'init'), exitCodes.failed);
  assert.equal(world.stderr, 'gatehouse: no WAN\n');
  world.proposal = { success: true, lines: [] };
  assert.equal(await typed(world, 'init'), exitCodes.failed);
  assert.equal(world.files.size, 0);
});
