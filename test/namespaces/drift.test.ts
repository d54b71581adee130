/** Somebody else at our table: noticed, told, put right where the config says so, only there. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, type TestContext, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import type { NftTable } from '../../src/firewall/nft-table.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import type { Argv } from '../../src/linux/command-runner.ts';
import { exitCodes, GatehouseLab, output, saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';

const rules = [
  '{ name: no_mail, action: drop, from: lan, to: wan, protocol: tcp, ports: [25] }',
  '{ name: no_web, action: drop, from: lan, to: gateway, protocol: tcp, ports: [80] }',
];

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('drift');
});

after(() => place.stop());

beforeEach(() => place.reset({ keepsNat: true }));

function nft(...words: readonly string[]): Promise<string> {
  return output(place.gateway, 'nft', ...words);
}

const ours = ['inet', 'gatehouse'] as const;

/** What is done to the table, and what the alarm says of it. */
const foreignChanges: Readonly<Record<string, { commands: readonly Argv[]; told: RegExp }>> = {
  'a rule is added': {
    commands: [['add', 'rule', ...ours, 'forward', 'counter', 'accept']],
    told: /was added to forward/,
  },
  'a rule is put before ours': {
    commands: [['insert', 'rule', ...ours, 'input', 'tcp', 'dport', '23', 'accept']],
    told: /was added to input/,
  },
  'the rules of a chain are flushed': {
    commands: [['flush', 'chain', ...ours, 'forward']],
    told: /was removed from forward/,
  },
  'the whole ruleset is flushed': {
    commands: [['flush', 'ruleset']],
    told: /the table is gone/,
  },
  'the table is deleted': {
    commands: [['delete', 'table', ...ours]],
    told: /the table is gone/,
  },
  'the table is replaced by an empty one': {
    commands: [
      ['delete', 'table', ...ours],
      ['add', 'table', ...ours],
    ],
    told: /the chain forward was removed/,
  },
  'a chain of another is added': {
    commands: [
      ['add', 'chain', ...ours, 'sneaky', '{ type filter hook forward priority -10; }'],
      ['add', 'rule', ...ours, 'sneaky', 'accept'],
    ],
    told: /sneaky/,
  },
  'a set is added': {
    commands: [['add', 'set', ...ours, 'guests', '{ type ipv4_addr; }']],
    told: /set guests/,
  },
  'a policy is changed': {
    commands: [['chain', ...ours, 'forward', '{ policy accept; }']],
    told: /the chain forward became/,
  },
};

async function startWith(options: { foreignChanges?: 'restore' | 'report' }): Promise<NftTable> {
  place.writeConfig({ rules, ...options });
  await place.run();
  return (await place.table()) ?? assert.fail('there is no table');
}

async function makeChange({ commands }: { commands: readonly Argv[] }): Promise<void> {
  for (const words of commands) await nft(...words);
}

async function alarms(): Promise<string[]> {
  return (await place.status()).alarms.map(({ text }) => text);
}

async function awaitAlarm(told: RegExp): Promise<string> {
  return waitFor(
    `an alarm that says ${told}`,
    async () => (await alarms()).findLast((text) => told.test(text)),
    { timeoutMs: TIMEOUT_MS },
  );
}

async function awaitTable(expected: NftTable): Promise<void> {
  await waitFor(
    'the table to be as it was',
    async () => tableDiffers(expected, await place.table()),
    { timeoutMs: TIMEOUT_MS, until: (difference) => difference === undefined },
  );
}

test('survive-111 whatever somebody else does to the table is told and put right', async (t) => {
  const expected = await startWith({});
  for (const [what, change] of Object.entries(foreignChanges)) {
    await makeChange(change);
    assert.notEqual(tableDiffers(expected, await place.table()), undefined, what);
    await measured(t, what, async () => {
      await awaitTable(expected);
    });
    assert.match(await awaitAlarm(change.told), /somebody else/);
    await place.awaitHealth();
    // Told once for each.
    const repeated = (await alarms()).filter((text) => /somebody else/.test(text));
    assert.equal(repeated.length, Object.keys(foreignChanges).indexOf(what) + 1, what);
  }
});

async function measured(t: TestContext, what: string, action: () => Promise<void>): Promise<void> {
  const startedAt = performance.now();
  await action();
  t.diagnostic(`${what}: right again after ${Math.round(performance.now() - startedAt)} ms`);
}

test('survive-111 with `foreignChanges: report` it is told and left', async () => {
  await startWith({ foreignChanges: 'report' });
  await nft('add', 'rule', ...ours, 'forward', 'counter', 'accept', 'comment', '"theirs 1"');
  await awaitAlarm(/was added to forward/);
  // Whoever looks a second time has had the time to do something about the first.
  await nft('add', 'set', ...ours, 'theirs_2', '{ type ipv4_addr; }');
  await awaitAlarm(/set theirs_2/);
  const listed = await nft('list', 'table', ...ours);
  assert.match(listed, /theirs 1/);
  assert.match(listed, /theirs_2/);
  const status = await place.status();
  assert.equal(status.healthy, false);
  assert.match(status.problems.join('\n'), /somebody else/);
  assert.match(saidBy(await place.expectCode(exitCodes.toTell, 'status')), /somebody else/);
});

test('survive-111 what was left is put right by the next change', async () => {
  await startWith({ foreignChanges: 'report' });
  await nft('add', 'set', ...ours, 'theirs', '{ type ipv4_addr; }');
  await nft('delete', 'chain', ...ours, 'output');
  await nft('add', 'rule', ...ours, 'forward', 'counter', 'accept');
  await awaitAlarm(/set theirs/);
  await place.install(place.config({ rules: rules.slice(1), foreignChanges: 'report' }));
  assert.deepEqual(await place.ruleNames(), ['no_web']);
  const listed = await nft('list', 'table', ...ours);
  assert.match(listed, /chain output/);
  assert.doesNotMatch(listed, /^\t\tcounter packets \d+ bytes \d+ accept$/m);
  assert.doesNotMatch(listed, /theirs/);
  await place.awaitHealth();
});

test('survive-111 while a change waits to be confirmed, it is the new rules that are put back', async () => {
  const old = await startWith({});
  const by = { author: 'test', forced: false, windowMs: 60_000 } as const;
  const configText = place.config({ rules: rules.slice(1) });
  await place.ask({ kind: 'apply', configText, ...by });
  const next = (await place.table()) ?? assert.fail('there is no table');
  assert.notEqual(tableDiffers(old, next), undefined);
  await nft('flush', 'ruleset');
  await awaitTable(next);
  await nft('flush', 'ruleset');
  await place.ask({ kind: 'rollback', author: 'test' });
  await awaitTable(old);
  await awaitAlarm(/the table is gone/);
});

test("survive-111 nobody else's tables are touched, by a start, a change or its way back", async () => {
  const theirs = ['ip docker', 'inet firewalld', 'ip6 gatehouse', 'netdev gatehouse'];
  for (const table of theirs) {
    await nft('add', 'table', ...table.split(' '));
    await nft('add', 'chain', ...table.split(' '), 'theirs');
    await nft('add', 'rule', ...table.split(' '), 'theirs', 'counter', 'accept');
  }
  const base = '{ type filter hook forward priority 10; policy accept; }';
  await nft('add', 'chain', 'ip', 'docker', 'hooked', base);
  const listed = async () =>
    (
      await Promise.all(theirs.map((table) => nft('-a', 'list', 'table', ...table.split(' '))))
    ).join();
  const before = await listed();
  await startWith({});
  assert.equal(await listed(), before);
  await place.install(place.config({ rules: rules.slice(1) }));
  assert.equal(await listed(), before);
  await nft('delete', 'table', ...ours);
  await awaitAlarm(/the table is gone/);
  await place.awaitHealth();
  assert.equal(await listed(), before);
  await place.expectCode(exitCodes.done, 'safe');
  assert.equal(await listed(), before);
  await place.expectCode(exitCodes.done, 'safe', '--off');
  assert.equal(await listed(), before);
  // Changes of their owners are none of ours.
  const count = (await alarms()).length;
  await nft('flush', 'table', 'ip', 'docker');
  await nft('add', 'set', ...ours, 'theirs', '{ type ipv4_addr; }');
  await awaitAlarm(/set theirs/);
  const told = (await alarms()).slice(count).filter((text) => /somebody else/.test(text));
  assert.equal(told.length, 1, told.join('\n'));
  assert.doesNotMatch(told.join(), /docker/);
});
