/** The panic button: a way in and a way out, whatever rules, config file and core do. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, beforeEach, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import type { RunningProcess } from '../../src/linux/command-runner.ts';
import { NftGeneration } from '../../src/linux/nft-generation.ts';
import { addresses, end, exitCodes, GatehouseLab, kill, TIMEOUT_MS } from './gatehouse-lab.ts';
import { SshAccess } from './ssh-access.ts';

/** Neither SSH nor anything else gets through. */
const lockedUp = [
  '{ name: no_service, action: drop, from: lan, to: gateway }',
  '{ name: no_way_out, action: drop, from: lan }',
];

let place: GatehouseLab;
let ssh: SshAccess;
let core: RunningProcess;

before(async () => {
  place = await GatehouseLab.start('safemode');
  ssh = await SshAccess.start(place);
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset({ keepsNat: true });
  place.writeConfig({ rules: lockedUp });
  core = await place.run();
});

async function getsOut(): Promise<boolean> {
  const argv = ['ping', '-c', '1', '-W', '1', addresses.internet] as const;
  return (await place.laptop.run(argv, { timeoutMs: TIMEOUT_MS })).success;
}

async function assertWays(expected: { readonly open: boolean }): Promise<void> {
  assert.deepEqual([await ssh.opens(), await getsOut()], [expected.open, expected.open]);
}

/** How often nft's rules changed meanwhile. */
async function transactionsDuring(action: () => Promise<unknown>): Promise<number> {
  using generation = new NftGeneration(place.gateway.namespacePath);
  const before = generation.read();
  await action();
  return generation.read() - before;
}

test('the panic button lets administrator and network through, and back', async () => {
  await assertWays({ open: false });
  const on = () => place.expectCode(exitCodes.done, 'safe');
  assert.equal(await transactionsDuring(on), 1);
  await assertWays({ open: true });
  const status = await place.status();
  assert.equal(status.ruleset, 'safe');
  assert.notEqual(status.safeMode, undefined);
  await place.expectCode(exitCodes.toTell, 'status');
  const off = () => place.expectCode(exitCodes.done, 'safe', '--off');
  assert.equal(await transactionsDuring(off), 1);
  assert.equal((await place.status()).ruleset, 'config');
  await assertWays({ open: false });
});

test('with the core killed and the config file broken, it works all the same', async () => {
  const text = place.readConfig();
  await kill(core);
  writeFileSync(place.configFile, `${text}  broken: [\n`);
  await assertWays({ open: false });
  const on = () => place.expectCode(exitCodes.done, 'safe');
  assert.equal(await transactionsDuring(on), 1);
  await assertWays({ open: true });
  // The next core keeps to it, although the file is still broken.
  core = await place.run();
  assert.equal((await place.status()).ruleset, 'safe');
  await assertWays({ open: true });
  assert.match((await place.status()).alarms.map((alarm) => alarm.text).join('\n'), /problems/);
  writeFileSync(place.configFile, text);
  await place.expectCode(exitCodes.done, 'safe', '--off');
  assert.equal((await place.status()).ruleset, 'config');
  await assertWays({ open: false });
});

test('it holds over a restart until somebody switches it off', async () => {
  await place.expectCode(exitCodes.done, 'safe');
  assert.equal(await end(core), 0);
  await assertWays({ open: true });
  core = await place.run();
  assert.equal((await place.status()).ruleset, 'safe');
  await assertWays({ open: true });
});

test('pressed in the window of a change whose core died, it holds against the guard', async () => {
  await place.install(place.config());
  await assertWays({ open: true });
  const guards = (count: number) => () => place.guards().length === count;
  await waitFor('the guard of that to end', guards(0), { timeoutMs: TIMEOUT_MS });
  const by = { author: 'test', forced: true, windowMs: 5_000 } as const;
  await place.ask({ kind: 'apply', configText: place.config({ rules: lockedUp }), ...by });
  await kill(core);
  assert.ok(guards(1)());
  await place.expectCode(exitCodes.done, 'safe');
  await assertWays({ open: true });
  await waitFor('the guard to end', guards(0), { timeoutMs: 2 * TIMEOUT_MS });
  await assertWays({ open: true });
  core = await place.run();
  const status = await place.status();
  assert.equal(status.change, undefined);
  assert.equal(status.ruleset, 'safe');
});

test('somebody else who undoes it does not succeed', async () => {
  await place.expectCode(exitCodes.done, 'safe');
  const argv = ['nft', 'flush', 'chain', 'inet', 'gatehouse', 'input'] as const;
  await place.gateway.run(argv, { timeoutMs: TIMEOUT_MS });
  await waitFor('the way in', () => ssh.opens(), { timeoutMs: TIMEOUT_MS });
  assert.equal((await place.status()).ruleset, 'safe');
});
