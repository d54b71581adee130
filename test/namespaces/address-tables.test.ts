/** Address tables by the command line, across configs, restarts, the panic button and strangers. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import { end, exitCodes, GatehouseLab, kill, output, TIMEOUT_MS } from './gatehouse-lab.ts';

const rules = [
  '{ name: no_bad, action: drop, from: lan, to: wan, destination: ["@bad"] }',
  '{ name: no_mail, action: drop, from: lan, to: wan, protocol: tcp, ports: [25] }',
];
const tables = '{ bad: { addresses: [192.0.2.0/24, "2001:db8::/32"] }, good: { addresses: [] } }';

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('addrtables');
});

after(() => place.stop());

beforeEach(() => place.reset({ keepsNat: true }));

async function start() {
  place.writeConfig({ rules, tables });
  return place.run();
}

/** What the kernel has in both sets of a table; undefined without them. */
async function elementsOf(table: string): Promise<string[] | undefined> {
  const sets = (await place.table())?.sets ?? [];
  const own = sets.filter(({ name }) => name === `${table}_4` || name === `${table}_6`);
  return own.length === 0 ? undefined : own.flatMap(({ elements }) => [...elements]);
}

async function table(...words: string[]): Promise<string> {
  return (await place.expectCode(exitCodes.done, 'table', ...words)).stdout;
}

async function alarms(): Promise<string[]> {
  return (await place.status()).alarms.map(({ text }) => text);
}

test('the command line adds, shows and removes entries, and says why it does not', async () => {
  await start();
  assert.equal(await table('add', 'bad', '198.51.100.66'), '198.51.100.66 is in bad now\n');
  await table('add', 'bad', '2001:db9::/48', '--for', '10m');
  assert.deepEqual(await elementsOf('bad'), [
    ...['192.0.2.0/24', '198.51.100.66'],
    ...['2001:db8::/32', '2001:db9::/48'],
  ]);
  const shown = (await table('show', 'bad')).trimEnd().split('\n');
  assert.deepEqual(shown.slice(0, 3), [
    '192.0.2.0/24   by config',
    '2001:db8::/32  by config',
    '198.51.100.66  added',
  ]);
  assert.match(shown[3] ?? '', /^2001:db9::\/48 {2}added, for another (10m|[0-9]+s)$/);
  assert.equal(
    await table('show'),
    'table  by config  added\nbad    2          2\ngood   0          0\n',
  );
  await table('remove', 'bad', '198.51.100.66');
  assert.deepEqual((await elementsOf('bad'))?.length, 3);
  for (const [words, reason] of [
    [['add', 'worse', '192.0.2.1'], /the config in force has no table worse/],
    [['remove', 'bad', '192.0.2.0/24'], /is in the table bad by the config: edit that/],
    [['remove', 'good', '192.0.2.1'], /the table good has no entry 192\.0\.2\.1/],
  ] as const) {
    const { stderr } = await place.expectCode(exitCodes.refused, 'table', ...words);
    assert.match(stderr, reason);
  }
  assert.ok((await place.status()).healthy);
});

test('what was added stays through another config, its way back, and the panic button', async () => {
  await start();
  await table('add', 'bad', '198.51.100.66');
  await table('add', 'good', '10.0.0.0/8');
  const other = tables.replace('192.0.2.0/24', '203.0.113.9');
  await place.install(place.config({ rules: rules.slice(0, 1), tables: other }));
  const changed = ['198.51.100.66', '203.0.113.9', '2001:db8::/32'];
  assert.deepEqual(await elementsOf('bad'), changed);
  const configText = place.config({ rules: [] });
  const by = { author: 'test', forced: false, windowMs: 60_000 } as const;
  await place.ask({ kind: 'apply', configText, ...by });
  assert.equal(await elementsOf('bad'), undefined);
  await place.ask({ kind: 'rollback', author: 'test' });
  assert.deepEqual(await elementsOf('bad'), changed);
  await place.expectCode(exitCodes.done, 'safe');
  assert.equal(await elementsOf('bad'), undefined);
  await table('add', 'bad', '198.51.100.67');
  await place.expectCode(exitCodes.done, 'safe', '--off');
  assert.deepEqual(await elementsOf('bad'), [
    ...['198.51.100.66', '198.51.100.67', '203.0.113.9', '2001:db8::/32'],
  ]);
  assert.deepEqual(await elementsOf('good'), ['10.0.0.0/8']);
  assert.doesNotMatch((await alarms()).join(), /somebody else/);
  await place.awaitHealth();
});

test('what was added stays when the core ends, or dies, and a time goes on meanwhile', async () => {
  const first = await start();
  await table('add', 'bad', '198.51.100.66');
  await table('add', 'good', '198.51.100.67', '--for', '1s');
  await end(first);
  const second = await place.run();
  assert.deepEqual(await elementsOf('bad'), ['192.0.2.0/24', '198.51.100.66', '2001:db8::/32']);
  await table('remove', 'bad', '198.51.100.66');
  await table('add', 'bad', '198.51.100.68');
  await kill(second);
  await place.run();
  assert.deepEqual(await elementsOf('bad'), ['192.0.2.0/24', '198.51.100.68', '2001:db8::/32']);
  await waitFor('the end of an entry', () => elementsOf('good'), {
    timeoutMs: TIMEOUT_MS,
    until: (elements) => elements?.length === 0,
  });
  await place.awaitHealth();
});

test('what was added comes back with the rules that the guard of a dead core brings back', async () => {
  const running = await start();
  await table('add', 'bad', '198.51.100.66');
  const whole = await elementsOf('bad');
  const configText = place.config({ rules: [] });
  const by = { author: 'test', forced: false, windowMs: 10_000 } as const;
  const applied = await place.ask({ kind: 'apply', configText, ...by });
  assert.equal(applied.kind, 'change', JSON.stringify(applied));
  await kill(running);
  assert.equal(await elementsOf('bad'), undefined);
  await waitFor('the set to be as it was', () => elementsOf('bad'), {
    timeoutMs: TIMEOUT_MS,
    until: (elements) => elements !== undefined,
  });
  assert.deepEqual(await elementsOf('bad'), whole);
});

test('survive-111 somebody else who empties a set is noticed, and what was added comes back', async () => {
  await start();
  await table('add', 'bad', '198.51.100.66');
  const whole = await elementsOf('bad');
  for (const words of [
    ['flush', 'set', 'inet', 'gatehouse', 'bad_4'],
    ['add', 'element', 'inet', 'gatehouse', 'bad_6', '{ 2001:db9::1 }'],
    ['flush', 'ruleset'],
  ] as const) {
    await output(place.gateway, 'nft', ...words);
    assert.notDeepEqual(await elementsOf('bad'), whole);
    await waitFor('the set to be as it was', () => elementsOf('bad'), {
      timeoutMs: TIMEOUT_MS,
      until: (elements) => JSON.stringify(elements) === JSON.stringify(whole),
    });
  }
  const told = (await alarms()).filter((text) => /somebody else/.test(text)).join('\n');
  assert.match(told, /198\.51\.100\.66 was removed from the set bad_4/);
  assert.match(told, /2001:db9::1 was added to the set bad_6/);
  await place.awaitHealth();
});
