import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { asControlAnswer, type CoreStatus } from '../../messages/control-messages.ts';
import { Alarms } from './alarms.ts';
import { type CoreParts, coreStatus } from './core-status.ts';

const state = mkdtempSync(join(tmpdir(), 'gatehouse-core-status-'));
after(() => rmSync(state, { recursive: true }));

interface World {
  readonly interfaces: readonly { name: string; state: 'counting' | 'absent' | 'failed' }[];
  readonly trouble?: string | undefined;
  readonly failure?: string | undefined;
  readonly lastExit?: string | undefined;
  readonly notInForce: readonly string[];
  readonly addresses: readonly string[];
  readonly alarms: readonly string[];
  readonly author?: string | undefined;
  readonly inForce: CoreStatus['ruleset'];
  readonly forwarding: boolean;
  readonly natProblems?: readonly string[];
}

const nat: CoreStatus['nat'] = {
  state: 'unused',
  reason: 'the config has no networks',
  interfaces: [],
  overlappingNetworks: [],
  externalAddresses: [],
  counters: [],
};

const healthy: World = {
  interfaces: [{ name: 'lan0', state: 'counting' }],
  notInForce: [],
  addresses: [],
  alarms: [],
  inForce: 'config',
  forwarding: true,
};

function statusOf(world: World): CoreStatus {
  const alarms = new Alarms(() => {});
  for (const text of world.alarms) alarms.raise(text);
  const { author, lastExit } = world;
  const change = author === undefined ? undefined : { id: 'c1', author };
  const phase = lastExit === undefined ? 'running' : 'waiting';
  const role = { role: 'api', phase, restartCount: 3, sinceAt: 0, forMs: 5 } as const;
  const parts = {
    paths: { state, runtime: '/run/gatehouse' },
    store: world.failure === undefined ? {} : { failure: new Error(world.failure) },
    records: {},
    keeper: { ...world, ruleCount: 7 },
    counting: { states: () => world.interfaces },
    nat: { status: () => nat, problems: () => world.natProblems ?? [] },
    changes: {
      revision: 4,
      running: { notInForce: world.notInForce },
      underWay: change === undefined ? undefined : { change, phase: 'waiting', rollbackInMs: 12.5 },
    },
    roles: {
      statuses: () => [lastExit === undefined ? role : { ...role, lastExit }],
      apiAddresses: world.addresses,
    },
  };
  return coreStatus({
    // Only what the status reads.
    ...(parts as unknown as CoreParts),
    version: '0.1.0',
    configFile: '/etc/gatehouse/gatehouse.yaml',
    alarms: alarms.list,
  });
}

function isAnswer(status: CoreStatus): boolean {
  const line = JSON.stringify({ kind: 'status', id: 1, status });
  return asControlAnswer(JSON.parse(line)) !== undefined;
}

test('an instance that is as it should be is healthy and has nothing to tell', () => {
  const status = statusOf(healthy);
  assert.ok(isAnswer(status));
  assert.deepEqual([status.healthy, status.problems, status.revision], [true, [], 4]);
});

test('each thing that is not as it should be is one sentence', () => {
  const worlds: readonly (readonly [part: Partial<World>, problem: RegExp])[] = [
    [{ trouble: 'nft: gone' }, /^nft: gone$/],
    [{ inForce: 'posture' }, /^the ruleset in force is not that of the config$/],
    [{ forwarding: false }, /^nothing is forwarded$/],
    [{ failure: 'full' }, /^the state is not on disk: full$/],
    [{ lastExit: 'SIGKILL' }, /^role api is waiting \(SIGKILL\)$/],
    [{ interfaces: [{ name: 'wan0', state: 'absent' }] }, /^interface wan0 is absent$/],
    [{ natProblems: ['addresses are not translated: EPERM'] }, /^addresses are not .*: EPERM$/],
  ];
  for (const [part, problem] of worlds) {
    const { problems, healthy: isHealthy } = statusOf({ ...healthy, ...part });
    assert.equal(isHealthy, false);
    assert.equal(problems.length, 1);
    assert.match(problems[0] ?? '', problem);
  }
});

test('whatever happens, the command line understands the status', () => {
  const text = fc.oneof(
    fc.uint16Array({ maxLength: 40 }).map((units) => String.fromCharCode(...units)),
    fc.constantFrom(
      'x'.repeat(5_000),
      '大\n'.repeat(2_000),
      '👩‍🚀'.repeat(1_000),
      '\ud83d'.repeat(2_000),
    ),
  );
  const states = fc.constantFrom('counting' as const, 'absent' as const, 'failed' as const);
  const port = fc.record({ name: fc.stringMatching(/^[a-z0-9.]{1,15}$/), state: states });
  const world: fc.Arbitrary<World> = fc.record({
    interfaces: fc.array(port, { maxLength: 80, size: 'max' }),
    trouble: fc.option(text, { nil: undefined }),
    failure: fc.option(text, { nil: undefined }),
    lastExit: fc.option(text, { nil: undefined }),
    notInForce: fc.array(fc.string({ maxLength: 200 }), { maxLength: 64, size: 'max' }),
    addresses: fc.array(fc.string({ maxLength: 256 }), { maxLength: 17, size: 'max' }),
    alarms: fc.array(text, { maxLength: 120, size: 'max' }),
    author: fc.option(fc.stringMatching(/^[a-z]{1,64}$/), { nil: undefined }),
    inForce: fc.constantFrom('config', 'safe', 'posture', 'unknown'),
    forwarding: fc.boolean(),
  });
  fc.assert(
    fc.property(world, (one) => {
      assert.ok(isAnswer(statusOf(one)));
    }),
    { numRuns: 5 },
  );
});
