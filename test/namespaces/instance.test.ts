/** One instance a folder and a network, and whatever happens to its process from outside. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { NftTable } from '../../src/firewall/nft-table.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import type { RunningProcess } from '../../src/linux/command-runner.ts';
import {
  end,
  exitCodeOf,
  exitCodes,
  GatehouseLab,
  gatehouse,
  isAlive,
  kill,
  output,
  pidOf,
  sendSignal,
  TIMEOUT_MS,
} from './gatehouse-lab.ts';

const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_261_122);
const rule = (name: string) =>
  `{ name: ${name}, action: drop, from: lan, to: wan, protocol: tcp, ports: [25] }`;

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('instance');
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset({ keepsNat: true });
  place.writeConfig({ rules: [rule('first')] });
});

/** A second config with folders of its own where it says so. @returns its path */
function secondConfig(folders: { readonly state?: string; readonly runtime?: string }): string {
  const text = place.config({ rules: [rule('second')] }).replace(/^paths:.*$/m, () => {
    const { state = place.stateFolder, runtime = place.runtimeFolder } = folders;
    return `paths: { state: ${state}, runtime: ${runtime} }`;
  });
  return place.writeOther('second.yaml', text);
}

/** The second instance ends and names the first; the first goes on, undisturbed. */
async function assertTurnedAway(core: RunningProcess, configFile: string): Promise<void> {
  const second = place.gateway.spawn([gatehouse, 'run', '--config', configFile]);
  assert.equal(await exitCodeOf(second), exitCodes.failed);
  assert.match(second.output().stderr, new RegExp(`\\b${pidOf(core)}\\b`));
  assert.deepEqual(await place.ruleNames(), ['first']);
  assert.equal((await place.awaitHealth()).pid, pidOf(core));
}

test('survive-125 a second instance on the same folders ends and names the first', async () => {
  const core = await place.run();
  await assertTurnedAway(core, place.configFile);
});

test('survive-125 a second one with its own state but the same network is turned away, too', async () => {
  const core = await place.run();
  const folder = join(place.lab.directory, 'second');
  mkdirSync(folder, { recursive: true });
  const own = { state: join(folder, 'state'), runtime: join(folder, 'runtime') };
  await assertTurnedAway(core, secondConfig(own));
  await assertTurnedAway(core, secondConfig({ state: own.state }));
});

test('survive-125 a second one in another network with the same state is turned away, too', async () => {
  const core = await place.run();
  const second = place.laptop.spawn([gatehouse, 'run', '--config', place.configFile]);
  assert.equal(await exitCodeOf(second), exitCodes.failed);
  assert.match(second.output().stderr, new RegExp(`\\b${pidOf(core)}\\b`));
  const tables = await output(place.laptop, 'nft', 'list', 'tables');
  assert.equal(tables, '');
  assert.equal((await place.status()).pid, pidOf(core));
});

test('survive-125 the place of a killed instance is free at once', async () => {
  for (let round = 0; round < 3; round++) await kill(await place.run());
  const core = await place.run();
  assert.equal((await place.status()).pid, pidOf(core));
});

test('survive-126 SIGTERM at any moment of a change ends it cleanly, and a start goes on', async (t) => {
  t.diagnostic(`seed ${SEED}`);
  const random = seededRandom(SEED);
  const texts = { first: place.readConfig(), second: place.config({ rules: [rule('second')] }) };
  let core = await place.run();
  const tables: NftTable[] = [];
  const startedAt = performance.now();
  for (const text of [texts.second, texts.first]) {
    await place.install(text);
    tables.push((await place.table()) ?? assert.fail('there is no table'));
  }
  const usualMs = (performance.now() - startedAt) / 2;
  const { revision } = await place.status();
  for (let round = 0; round < 12; round++) {
    const endAt = performance.now() + random() * usualMs;
    const by = { author: 'test', forced: false, windowMs: 60_000 } as const;
    // Whatever the answer is, if there is one.
    const asked = place
      .ask({ kind: 'apply', configText: texts.second, ...by })
      .catch(() => undefined);
    const until = () => performance.now() >= endAt;
    await waitFor('the moment of the signal', until, { timeoutMs: TIMEOUT_MS, intervalMs: 1 });
    const pid = pidOf(core);
    sendSignal(pid, 'SIGTERM');
    await waitFor('the core to end', () => !isAlive(pid), { timeoutMs: TIMEOUT_MS });
    await asked;
    const when = `round ${round}`;
    const table = await place.table();
    const matching = tables.filter((one) => tableDiffers(one, table) === undefined);
    assert.equal(matching.length, 1, when);
    core = await place.run();
    const status = await place.status();
    assert.equal(status.ruleset, 'config', when);
    if (status.change !== undefined) {
      assert.deepEqual(await place.ruleNames(), ['second'], when);
      await place.ask({ kind: 'rollback', author: 'test' });
    }
    assert.deepEqual(await place.ruleNames(), ['first'], when);
    assert.equal(place.readConfig(), texts.first, when);
    assert.equal((await place.awaitHealth()).revision, revision, when);
  }
  assert.equal(await end(core), 0);
});

test('survive-126 a SIGTERM ends core and roles and leaves the rules', async () => {
  const core = await place.run();
  const table = (await place.table()) ?? assert.fail('there is no table');
  assert.equal(await end(core), 0);
  assert.deepEqual(place.processes(), []);
  assert.equal(tableDiffers(table, await place.table()), undefined);
  await place.expectCode(exitCodes.notRunning, 'status');
  const forwarding = await output(place.gateway, 'sysctl', '-n', 'net.ipv4.ip_forward');
  assert.equal(forwarding, '1\n');
});

test('survive-126 a storm of SIGHUPs is told once and changes nothing', async () => {
  const core = await place.run();
  for (let sent = 0; sent < 10_000; sent++) process.kill(pidOf(core), 'SIGHUP');
  await core.waitForOutput(/SIGHUP/, TIMEOUT_MS);
  assert.equal((await place.awaitHealth()).pid, pidOf(core));
  assert.equal(await end(core), 0);
  const { stdout, stderr } = core.output();
  assert.equal([...`${stdout}${stderr}`.matchAll(/SIGHUP/g)].length, 1);
});

test('survive-126 without anybody at its input it goes on', async () => {
  const core = await place.run();
  core.closeInput();
  await place.install(place.config({ rules: [rule('second')] }));
  assert.deepEqual(await place.ruleNames(), ['second']);
  assert.equal(await end(core), 0);
});

/** Starts the program of the other words with some of its streams closed or cut off. */
const shells = {
  'whose reader is gone': '"$@" 2>&1 | head -n 0',
  'all closed': 'exec "$@" <&- >&- 2>&-',
  'that are full': 'exec "$@" >/dev/full 2>/dev/full',
};

for (const [what, script] of Object.entries(shells)) {
  test(`survive-126 with streams ${what} it goes on`, async () => {
    const words = [gatehouse, 'run', '--config', place.configFile] as const;
    place.gateway.spawn(['sh', '-c', script, 'sh', ...words]);
    // Whoever cannot read the line must ask.
    const pid = await waitFor(
      'an answer of the core',
      () =>
        place.status().then(
          (status) => (status.ruleset === 'config' ? status.pid : undefined),
          () => undefined,
        ),
      { timeoutMs: TIMEOUT_MS },
    );
    // Each makes it write.
    for (let sent = 0; sent < 3; sent++) sendSignal(pid, 'SIGHUP');
    await output(place.gateway, 'nft', 'flush', 'ruleset');
    const isTold = ({ text }: { text: string }) => /the table is gone/.test(text);
    await place.awaitStatus('the alarm', ({ alarms }) => alarms.some(isTold));
    await place.install(place.config({ rules: [rule('second')] }));
    assert.deepEqual(await place.ruleNames(), ['second']);
    assert.equal((await place.awaitHealth()).pid, pid);
    sendSignal(pid, 'SIGTERM');
    const gone = () => place.processes().length === 0;
    await waitFor('all processes to end', gone, { timeoutMs: TIMEOUT_MS });
    assert.deepEqual(await place.ruleNames(), ['second']);
  });
}
