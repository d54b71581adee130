/**
 * An administrator on the laptop who locks himself out of the gateway, over a real SSH connection,
 * and what brings him back in when the core, its guard or the whole machine dies meanwhile.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { CommandResult, RunningProcess } from '../../src/linux/command-runner.ts';
import {
  askCore,
  end,
  exitCodes,
  GatehouseLab,
  gatehouse,
  kill,
  output,
  saidBy,
  TIMEOUT_MS,
  untilReady,
} from './gatehouse-lab.ts';
import { mountedOver } from './mounted-over.ts';
import { SshAccess } from './ssh-access.ts';

/** Of changes that are rolled back: long enough to try the door meanwhile. */
const WINDOW = '10s';
/** Time to start a core as well. */
const WINDOW_WITH_START = '20s';
/** Never ends within a test. */
const LONG_WINDOW = '5m';

const shutsOut =
  '{ name: no_ssh, action: drop, from: lan, to: gateway, protocol: tcp, ports: [22] }';
const harmless =
  '{ name: no_mail, action: reject, from: lan, to: wan, protocol: tcp, ports: [25] }';

let place: GatehouseLab;
let ssh: SshAccess;
let core: RunningProcess;
let goodText: string;

before(async () => {
  place = await GatehouseLab.start('lockout');
  ssh = await SshAccess.start(place);
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset({ keepsNat: true });
  goodText = place.writeConfig();
  core = await place.run();
});

/** A command line on the gateway, typed by the administrator on the laptop. */
function overSsh(...words: string[]): Promise<CommandResult> {
  return ssh.run(gatehouse, '--config', place.configFile, ...words);
}

async function assertCode(code: number, result: CommandResult): Promise<string> {
  assert.equal(result.code, code, saidBy(result));
  return saidBy(result);
}

interface LockedOut {
  readonly changeId: string;
  /** On the clock of `performance.now`. */
  readonly deadlineAt: number;
  readonly wrongText: string;
}

/** He edits the config file, and insists. */
async function lockHimselfOut(window = WINDOW): Promise<LockedOut> {
  const wrongText = place.writeConfig({ rules: [shutsOut] });
  await assertCode(exitCodes.done, await overSsh('apply', '--confirm', window, '--force'));
  assert.deepEqual(await place.ruleNames(), ['no_ssh']);
  const { change } = await place.status();
  assert.ok(change?.rollbackInMs !== undefined);
  const { changeId, rollbackInMs } = change;
  return { changeId, deadlineAt: performance.now() + rollbackInMs, wrongText };
}

async function assertLockedOut(): Promise<void> {
  const before = await place.matched('no_ssh');
  assert.equal(await ssh.opens(), false);
  assert.ok((await place.matched('no_ssh')) > before);
}

async function waitUntilLetIn(): Promise<void> {
  await waitFor('the gateway to let the administrator in', () => ssh.opens(), {
    timeoutMs: TIMEOUT_MS,
  });
}

/** As if the change had never been, but for the copy of what the administrator had written. */
async function assertAsBefore({ changeId, wrongText }: LockedOut): Promise<void> {
  assert.deepEqual(await place.ruleNames(), []);
  assert.equal(place.readConfig(), goodText);
  assert.equal(readFileSync(`${place.configFile}.rolled-back-${changeId}`, 'utf8'), wrongText);
}

async function assertHealthy(revision: number): Promise<void> {
  const status = await place.awaitHealth();
  assert.equal(status.ruleset, 'config');
  assert.equal(status.change, undefined);
  assert.equal(status.revision, revision);
}

test('survive-109 a change that would shut out whoever makes it is refused, and the rule named', async () => {
  const wrong = place.writeOther('wrong.yaml', place.config({ rules: [harmless, shutsOut] }));
  const refusal = await overSsh('apply', wrong, '--confirm', WINDOW);
  assert.match(await assertCode(exitCodes.refused, refusal), /no_ssh/);
  assert.deepEqual(await place.ruleNames(), []);
  assert.equal(place.readConfig(), goodText);
  await assertHealthy(1);
  assert.ok(await ssh.opens());
});

test('survive-109 on the console, nobody is shut out by the same change', async () => {
  const wrong = place.writeOther('wrong.yaml', place.config({ rules: [shutsOut] }));
  await place.expectCode(exitCodes.done, 'apply', wrong, '--confirm', LONG_WINDOW);
  assert.deepEqual(await place.ruleNames(), ['no_ssh']);
  await place.expectCode(exitCodes.done, 'rollback');
  assert.deepEqual(await place.ruleNames(), []);
});

const withoutHisWay = {
  "the gateway's address in his network": { lanAddress: '10.88.0.1/24' },
  'his network': { networks: '{ other: { interfaces: [lan9], address: 10.99.0.1/24 } }' },
  'every network': { networks: '{}' },
};

for (const [what, options] of Object.entries(withoutHisWay)) {
  test(`survive-109 a change that takes away ${what} is refused, too`, async () => {
    const wrong = place.writeOther('wrong.yaml', place.config(options));
    const refusal = await overSsh('apply', wrong, '--confirm', WINDOW);
    assert.match(await assertCode(exitCodes.refused, refusal), /10\.77\.0\.1/);
    await assertHealthy(1);
    assert.ok(await ssh.opens());
  });
}

test('survive-109 locked out in spite of it, he is let in again when the window ends', async () => {
  const revisions = await place.revisions();
  const change = await lockHimselfOut();
  await assertLockedOut();
  await waitUntilLetIn();
  await place.awaitStatus('the change to end', (status) => status.change === undefined);
  await assertAsBefore(change);
  await assertHealthy(1);
  assert.deepEqual(await place.revisions(), revisions);
  await place.expectCode(exitCodes.done, 'status');
});

test('survive-109 also when the core is killed and nobody starts it again', async () => {
  const revisions = await place.revisions();
  const change = await lockHimselfOut();
  await kill(core);
  await assertLockedOut();
  await waitUntilLetIn();
  const gone = () => place.guards().length === 0;
  await waitFor('the guard to end', gone, { timeoutMs: 2 * TIMEOUT_MS });
  await assertAsBefore(change);
  core = await place.run();
  await assertHealthy(1);
  assert.deepEqual(await place.revisions(), revisions);
});

test('survive-109 when the guard is killed as well, the next start lets him in first of all', async () => {
  const change = await lockHimselfOut();
  await place.killAll();
  await waitFor('the end of the window', () => performance.now() > change.deadlineAt + 1_000, {
    timeoutMs: TIMEOUT_MS,
  });
  await assertLockedOut();
  core = await place.run();
  await assertAsBefore(change);
  await assertHealthy(1);
  assert.ok(await ssh.opens());
});

test('survive-109 a core that is started again within the window lets it run to its end', async () => {
  const change = await lockHimselfOut(WINDOW_WITH_START);
  await kill(core);
  core = await place.run();
  const leftMs = change.deadlineAt - performance.now();
  const status = await place.status();
  assert.equal(status.change?.changeId, change.changeId);
  // Some tolerance for two clocks and the time between two looks.
  assert.ok((status.change?.rollbackInMs ?? Number.POSITIVE_INFINITY) < leftMs + 500);
  assert.deepEqual(await place.ruleNames(), ['no_ssh']);
  await waitUntilLetIn();
  await place.awaitStatus('the change to end', ({ change }) => change === undefined);
  await assertAsBefore(change);
  await assertHealthy(1);
  const gone = () => place.guards().length === 0;
  await waitFor('the guards to end', gone, { timeoutMs: TIMEOUT_MS });
});

test('survive-109 the guard of an earlier change does not keep a core from the next one', async () => {
  const earlier = await lockHimselfOut();
  await kill(core);
  core = await place.run();
  await place.expectCode(exitCodes.done, 'confirm');
  const next = place.writeOther('next.yaml', place.config({ rules: [harmless] }));
  await place.expectCode(exitCodes.done, 'apply', next, '--confirm', LONG_WINDOW);
  const { change } = await place.status();
  await kill(core);
  await waitFor('the end of the window', () => performance.now() > earlier.deadlineAt + 1_000, {
    timeoutMs: TIMEOUT_MS,
  });
  core = place.spawn();
  // Only bounds a hang: a guard that tries to end a change may take a minute.
  await core.waitForOutput(/^gatehouse .* runs/m, TIMEOUT_MS / 2);
  assert.equal((await place.status()).change?.changeId, change?.changeId);
  assert.deepEqual(await place.ruleNames(), ['no_mail']);
});

test('survive-109 a core that starts while the guard is at work takes up what that leaves', async () => {
  // An nft that waits for as long as a file is there.
  const programs = join(place.lab.directory, 'programs');
  const obstacle = join(programs, 'obstacle');
  const search = process.env['PATH'] ?? '';
  mkdirSync(programs);
  writeFileSync(
    join(programs, 'nft'),
    `#!/bin/sh
while [ -e ${obstacle} ]; do sleep 0.1; done
PATH=${search} exec nft "$@"
`,
    { mode: 0o755 },
  );
  await end(core);
  core = await place.run({ env: { PATH: `${programs}:${search}` } });
  const change = await lockHimselfOut();
  writeFileSync(obstacle, '');
  await kill(core);
  await waitFor('the guard to be at work', () => place.nftProcesses().length > 0, {
    timeoutMs: TIMEOUT_MS,
  });
  // The kernel notes when a file that was changed since is read.
  assert.equal(place.readConfig(), change.wrongText);
  utimesSync(place.configFile, 0, new Date());
  core = place.spawn();
  const isRead = () => statSync(place.configFile).atimeMs > 0;
  await waitFor('the new core to read its config', isRead, { timeoutMs: TIMEOUT_MS });
  rmSync(obstacle);
  await untilReady(core);
  await assertAsBefore(change);
  await assertHealthy(1);
  assert.ok(await ssh.opens());
});

test('survive-109 what he confirms in time after all stays', async () => {
  const { changeId, wrongText } = await lockHimselfOut(LONG_WINDOW);
  await kill(core);
  core = await place.run();
  await place.expectCode(exitCodes.done, 'confirm');
  await assertHealthy(2);
  assert.equal(place.readConfig(), wrongText);
  assert.deepEqual(await place.ruleNames(), ['no_ssh']);
  assert.equal(existsSync(`${place.configFile}.rolled-back-${changeId}`), false);
});

test('survive-109 after a reboot within the window, nothing of the change comes into force', async () => {
  const change = await lockHimselfOut(LONG_WINDOW);
  // The disk at this moment. What is kept in memory does not survive a reboot.
  const disk = join(place.lab.directory, 'disk');
  await output(place.gateway, 'cp', '-a', place.folder, disk);
  rmSync(join(disk, 'runtime'), { recursive: true });
  await using elsewhere = await GatehouseLab.start('lockoutboot');
  const bootId = join(elsewhere.lab.directory, 'boot-id');
  writeFileSync(bootId, '5d0c4ae4-0a83-4a5f-9d5c-3c1bd38c1f10\n');
  const seen = await watchRules(elsewhere.gateway);
  const booted = elsewhere.gateway.spawn(
    mountedOver(
      [
        { shown: disk, at: place.folder },
        { shown: bootId, at: '/proc/sys/kernel/random/boot_id' },
      ],
      [gatehouse, 'run', '--config', place.configFile],
    ),
  );
  await untilReady(booted);
  await waitFor('the rules in what was seen', () => seen().includes('built-in outbound'), {
    timeoutMs: TIMEOUT_MS,
  });
  assert.ok(!seen().includes('no_ssh'));
  assert.deepEqual(await elsewhere.ruleNames(), []);
  assert.equal(readFileSync(join(disk, 'gatehouse.yaml'), 'utf8'), goodText);
  const kept = join(disk, `gatehouse.yaml.rolled-back-${change.changeId}`);
  assert.equal(readFileSync(kept, 'utf8'), change.wrongText);
  const status = await waitFor(
    'health',
    async () => {
      const answer = await askCore(join(disk, 'runtime'), { kind: 'get-status' });
      assert.ok(answer.kind === 'status');
      return answer.status;
    },
    { timeoutMs: TIMEOUT_MS, until: ({ healthy }) => healthy },
  );
  assert.equal(status.change, undefined);
  assert.equal(status.revision, 1);
  assert.equal(status.ruleset, 'config');
  assert.ok(await (await SshAccess.start(elsewhere)).opens());
  // Here, where nothing was rebooted, the window goes on.
  assert.equal((await place.status()).change?.changeId, change.changeId);
  assert.equal(await end(booted), 0);
});

/** Everything that nft's rules went through from now on, as text. */
async function watchRules(host: LabHost): Promise<() => string> {
  const monitor = host.spawn(['nft', 'monitor']);
  const seen = () => monitor.output().stdout;
  await waitFor(
    'nft to monitor',
    async () => {
      await output(host, 'nft', 'add', 'table', 'ip', 'seen');
      await output(host, 'nft', 'delete', 'table', 'ip', 'seen');
      return seen().includes('delete table ip seen');
    },
    { timeoutMs: TIMEOUT_MS },
  );
  return seen;
}

test('a change that leaves him in, confirmed over SSH, stays across a restart', async () => {
  const text = place.config({ rules: [harmless] });
  const good = place.writeOther('good.yaml', text);
  await assertCode(exitCodes.done, await overSsh('apply', good, '--confirm', LONG_WINDOW));
  assert.equal(place.readConfig(), goodText);
  await assertCode(exitCodes.done, await overSsh('confirm'));
  await assertHealthy(2);
  assert.equal(place.readConfig(), text);
  assert.deepEqual(
    (await place.revisions()).map(({ revision }) => revision),
    [2, 1],
  );
  assert.equal(await end(core), 0);
  assert.deepEqual(await place.ruleNames(), ['no_mail']);
  core = await place.run();
  await assertHealthy(2);
  assert.equal(place.readConfig(), text);
  assert.deepEqual(await place.ruleNames(), ['no_mail']);
  assert.deepEqual(place.guards(), []);
});
