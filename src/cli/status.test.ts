import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CoreStatus } from '../messages/control-messages.ts';
import { exitCodes } from './exit-codes.ts';
import { documentOf, SimulatedWorld, typed } from './simulated-world.ts';

const healthy: CoreStatus = {
  version: '1.2.3',
  pid: 4711,
  uptimeMs: 7_384_000,
  configFile: '/etc/gatehouse/gatehouse.yaml',
  stateFolder: '/var/lib/gatehouse',
  revision: 12,
  healthy: true,
  problems: [],
  alarms: [],
  ruleset: 'config',
  ruleCount: 42,
  forwarding: true,
  roles: [{ role: 'api', phase: 'running', restartCount: 0, forMs: 90_000 }],
  interfaces: [
    { name: 'wan0', state: 'counting' },
    { name: 'lan0', state: 'absent' },
  ],
  nat: {
    state: 'on',
    interfaces: [
      { name: 'wan0', state: 'attached' },
      { name: 'lan0', state: 'absent' },
    ],
    overlappingNetworks: [],
    externalAddresses: ['198.51.100.1', '198.51.100.2'],
    sessions: { open: 1_234, max: 1_000_000 },
    mappings: 321,
    memoryBytes: 157_000_000,
    counters: [
      { name: 'translated', count: 123_456 },
      { name: 'droppedHostSessions', count: 7 },
    ],
  },
  apiAddresses: ['127.0.0.1:8443'],
  notInForce: ['dns: no questions are answered yet.'],
};

const { revision: _revision, ...withoutRevision } = healthy;
const troubled: CoreStatus = {
  ...withoutRevision,
  healthy: false,
  problems: ['nft crashed'],
  alarms: Array.from({ length: 12 }, (_, index) => ({
    atMs: index * 1000,
    text: `alarm ${index}`,
  })),
  ruleset: 'safe',
  forwarding: false,
  nat: {
    state: 'off',
    reason: 'cannot load nat.o: EPERM',
    interfaces: [],
    overlappingNetworks: ['lan'],
    externalAddresses: [],
    counters: [],
  },
  safeMode: { sinceMs: 0, author: 'anna' },
  change: { changeId: 'c3f9', author: 'ben', phase: 'waiting', rollbackInMs: 41_000 },
  roles: [
    { role: 'api', phase: 'waiting', restartCount: 3, lastExit: 'signal SIGKILL', forMs: 2_000 },
  ],
};

function worldWith(status: CoreStatus): SimulatedWorld {
  const world = new SimulatedWorld();
  world.core = () => ({ kind: 'status', status });
  return world;
}

test('a healthy instance ends with 0 and says all of it in a screen', async () => {
  const world = worldWith(healthy);
  assert.equal(await typed(world, 'status'), exitCodes.done);
  assert.equal(
    world.stdout,
    `gatehouse  1.2.3, process 4711, for 2 h 3 min
health     as it should be
config     /etc/gatehouse/gatehouse.yaml
state      /var/lib/gatehouse
revision   12
ruleset    of the config, 42 rules; packets are forwarded
role       api: running for 90 s
interface  wan0: counting
interface  lan0: absent
nat        on, with 198.51.100.1, 198.51.100.2
nat        1234 of 1000000 sessions, 321 mappings, 157 MB
nat        not on lan0 yet: absent
nat        translated 123456, dropped host sessions 7
api        127.0.0.1:8443
not yet    dns: no questions are answered yet.
`,
  );
});

test('one that is not healthy ends with 6 and says why', async () => {
  const world = worldWith(troubled);
  assert.equal(await typed(world, '--runtime', '/run/x', 'status'), exitCodes.toTell);
  const way = 'gatehouse --runtime /run/x confirm c3f9';
  for (const line of [
    'health     not as it should be: see the problems below',
    'revision   none recorded',
    'ruleset    minimal, by safe mode, 42 rules; nothing is forwarded',
    'safe mode  on since 1970-01-01T00:00:00Z by anna',
    `change     c3f9 by ben: waiting; rolled back in 41 s unless: ${way}`,
    'role       api: waiting for 2 s, started again 3 times, last ended: signal SIGKILL',
    'nat        off: cannot load nat.o: EPERM',
    'nat        without the network lan, whose addresses the WAN has, too',
    'problem    nft crashed',
    'alarm      2 earlier ones: see --json',
    'alarm      1970-01-01T00:00:11Z: alarm 11',
  ]) {
    assert.ok(world.stdout.includes(`${line}\n`), line);
  }
  assert.doesNotMatch(world.stdout, /alarm 1$/m);
});

test('the JSON is the status as the core gave it', async () => {
  const world = worldWith(troubled);
  assert.equal(await typed(world, 'status', '--json'), exitCodes.toTell);
  assert.deepEqual(documentOf(world), { status: troubled });
});

test('a stopped instance ends with 4', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world, 'status', '--json'), exitCodes.notRunning);
  const { error } = documentOf(world) as { error: { code: string; message: string } };
  assert.equal(error.code, 'stopped');
  assert.match(error.message, /control\.sock/);
});
