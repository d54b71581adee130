import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodes } from './exit-codes.ts';
import { documentOf, homeConfig, SimulatedWorld, typed } from './simulated-world.ts';

function worldWith(passphraseText = ''): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set('home.yaml', homeConfig);
  world.files.set('secret', passphraseText);
  return world;
}

const options = { file: 'a.backup', configFile: 'home.yaml', stateFolder: '/srv/gate/state' };
const verbs = [
  ['backup', (world: SimulatedWorld) => world.backups],
  ['restore', (world: SimulatedWorld) => world.restored],
] as const;

for (const [verb, done] of verbs) {
  const words = [verb, 'a.backup', '--config', 'home.yaml'] as const;

  test(`${verb} names the backup, the config file and the state folder`, async () => {
    const world = worldWith();
    world.action = { success: true, lines: ['12 revisions\none alarm'] };
    assert.equal(await typed(world, ...words, '--json'), exitCodes.done);
    assert.deepEqual(done(world), [options]);
    assert.deepEqual(documentOf(world), { file: 'a.backup', notes: ['12 revisions', 'one alarm'] });
  });

  test(`${verb} takes the first line of a file as passphrase, and nobody sees it`, async () => {
    for (const text of ['correct horse \nrest', 'correct horse \r\n', 'correct horse ']) {
      const world = worldWith(text);
      assert.equal(await typed(world, ...words, '--passphrase-file', 'secret'), exitCodes.done);
      assert.deepEqual(done(world), [{ ...options, passphrase: 'correct horse ' }]);
      assert.doesNotMatch(`${world.stdout}${world.stderr}`, /horse/);
    }
  });

  test(`${verb} refuses a passphrase that is none`, async () => {
    for (const text of ['', '\nsecond line', 'x'.repeat(1_025)]) {
      const world = worldWith(text);
      assert.equal(await typed(world, ...words, '--passphrase-file', 'secret'), exitCodes.failed);
      assert.match(
        world.stderr,
        /the first line of secret .* a passphrase of 1 to 1024 characters/,
      );
      assert.deepEqual(done(world), []);
    }
    const world = worldWith();
    assert.equal(await typed(world, ...words, '--passphrase-file', 'gone'), exitCodes.failed);
    assert.match(world.stderr, /no passphrase: cannot read gone/);
  });

  test(`${verb} that fails says why`, async () => {
    const world = worldWith();
    world.action = { success: false, reason: 'a.backup is damaged' };
    assert.equal(await typed(world, ...words), exitCodes.failed);
    assert.equal(world.stderr, 'gatehouse: a.backup is damaged\n');
  });
}
