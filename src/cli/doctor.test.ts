import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exitCodes } from './exit-codes.ts';
import { documentOf, homeConfig, SimulatedWorld, typed } from './simulated-world.ts';
import type { Finding } from './world.ts';

const met: Finding = {
  name: 'kernel-version',
  requirement: 'Linux 6.1 or newer',
  verdict: 'met',
  detail: 'Linux 6.18',
};
const limited: Finding = {
  name: 'btf',
  requirement: 'BTF of the kernel',
  verdict: 'limited',
  detail: 'no packets are counted',
  remedy: 'install a kernel with CONFIG_DEBUG_INFO_BTF',
};
const missing: Finding = {
  name: 'nft',
  requirement: 'the program nft',
  verdict: 'missing',
  detail: 'not in $PATH',
  remedy: 'apt-get install nftables',
};

function worldWith(...findings: Finding[]): SimulatedWorld {
  const world = new SimulatedWorld();
  world.findings = findings;
  return world;
}

test('each requirement has a row, and what is missing a remedy below it', async () => {
  const world = worldWith(met, limited, missing);
  assert.equal(await typed(world, 'doctor'), exitCodes.toTell);
  assert.equal(
    world.stdout,
    `met      Linux 6.1 or newer  Linux 6.18
limited  BTF of the kernel   no packets are counted
                             remedy: install a kernel with CONFIG_DEBUG_INFO_BTF
missing  the program nft     not in $PATH
                             remedy: apt-get install nftables
1 missing, 1 limited
`,
  );
});

test('what is limited is no failure', async () => {
  assert.equal(await typed(worldWith(met, limited), 'doctor'), exitCodes.done);
  const world = worldWith(met);
  assert.equal(await typed(world, 'doctor'), exitCodes.done);
  assert.match(world.stdout, /^nothing is missing$/m);
});

test('the JSON has the findings with their names', async () => {
  const world = worldWith(met, missing);
  assert.equal(await typed(world, 'doctor', '--json'), exitCodes.toTell);
  assert.deepEqual(documentOf(world), {
    findings: [met, missing],
    missingCount: 1,
    limitedCount: 0,
  });
});

test('the folders of the config are looked at, without a running instance', async () => {
  const world = worldWith(met);
  world.files.set('home.yaml', homeConfig);
  await typed(world, 'doctor', '--config', 'home.yaml');
  await typed(world, 'doctor');
  assert.deepEqual(world.examined, [
    { state: '/srv/gate/state', runtime: '/srv/gate/runtime' },
    { state: '/var/lib/gatehouse', runtime: '/run/gatehouse' },
  ]);
  assert.deepEqual(world.connectedTo, []);
});
