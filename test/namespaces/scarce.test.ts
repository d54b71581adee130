/** The running product with a full disk, without file descriptors, and with two editors at once. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import { CONTROL_SOCKET_NAME } from '../../src/messages/control-messages.ts';
import { end, exitCodes, GatehouseLab, gatehouse, output, TIMEOUT_MS } from './gatehouse-lab.ts';

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('scarce');
});

after(() => place.stop());

beforeEach(() => place.reset({ keepsNat: true }));

const rule = (name: string, port: number) =>
  `{ name: ${name}, action: drop, from: lan, to: wan, protocol: tcp, ports: [${port}] }`;

test('survive-119 a full disk refuses a change, keeps the rules, and recovers by itself', async () => {
  await output(place.gateway, 'mkdir', '-p', place.stateFolder);
  const { stateFolder } = place;
  const mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'gatehouse-test', stateFolder];
  await output(place.gateway, ...(mount as [string, ...string[]]));
  try {
    place.writeConfig({ rules: [rule('first', 1)] });
    const running = await place.run();
    const filler = join(stateFolder, 'filler');
    fill(filler);
    const other = place.writeOther('other.yaml', place.config({ rules: [rule('second', 2)] }));
    const refused = await place.expectCode(exitCodes.refused, 'apply', other);
    assert.match(refused.stderr, /ENOSPC|full/);
    assert.deepEqual(await place.ruleNames(), ['first']);
    const status = await place.status();
    assert.equal(status.healthy, false);
    assert.match(status.problems.join('\n'), /the state is not on disk/);
    rmSync(filler);
    await place.expectCode(exitCodes.done, 'apply', other);
    await place.expectCode(exitCodes.done, 'confirm');
    assert.deepEqual(await place.ruleNames(), ['second']);
    await place.awaitHealth();
    assert.equal(await end(running), 0);
  } finally {
    await place.killAll();
    await output(place.gateway, 'umount', '--lazy', stateFolder);
  }
});

/** Writes until nothing more fits. */
function fill(path: string): void {
  const { bavail, bsize } = statfsSync(join(path, '..'));
  writeFileSync(path, Buffer.alloc(bavail * bsize));
}

test('survive-121 more connections than descriptors cost the others nothing, and nothing spins', async () => {
  place.writeConfig();
  const limited = ['prlimit', '--nofile=160:160', gatehouse, 'run', '--config', place.configFile];
  const running = place.gateway.spawn(limited as [string, ...string[]]);
  await running.waitForOutput(/API on/, TIMEOUT_MS);
  const path = join(place.runtimeFolder, CONTROL_SOCKET_NAME);
  const flood = Array.from({ length: 300 }, () => openAndHold(path));
  // Those that are too many are turned away.
  await waitFor('most connections to be closed', () => flood.filter(isClosed).length, {
    timeoutMs: TIMEOUT_MS,
    until: (count) => count >= 200,
  });
  const core = place.processes().find(({ argv }) => argv.includes('run'));
  const before = processorTicks(core?.pid ?? assert.fail('there is no core'));
  const ping = await output(place.laptop, 'ping', '-c', '4', '-i', '0.2', '10.77.0.1');
  assert.match(ping, /4 received/);
  // Half a second passed at the least; whoever spins takes all of it.
  const spent = processorTicks(core?.pid ?? 0) - before;
  assert.ok(spent < 20, `${spent} ticks of a hundredth of a second`);
  for (const socket of flood) socket.destroy();
  await place.awaitHealth();
  await place.expectCode(exitCodes.done, 'status');
  assert.equal(await end(running), 0);
});

function openAndHold(path: string): Socket {
  const socket = connect(path);
  socket.on('error', () => {});
  socket.resume();
  return socket;
}

function isClosed(socket: Socket): boolean {
  return socket.closed || socket.readableEnded;
}

/** User and system time of a process in hundredths of a second: fields 14 and 15 of its stat. */
function processorTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
}

test('survive-110 of two editors the second is refused, and neither loses an edit', async () => {
  place.writeConfig({ rules: [rule('before', 1)] });
  const running = await place.run();
  const one = place.writeOther('one.yaml', place.config({ rules: [rule('one', 2)] }));
  const two = place.writeOther('two.yaml', place.config({ rules: [rule('two', 3)] }));
  await place.expectCode(exitCodes.done, 'apply', one);
  const busy = await place.expectCode(exitCodes.refused, 'apply', two);
  assert.match(busy.stderr, /is under way: confirm it or roll it back first/);
  await place.expectCode(exitCodes.done, 'confirm');
  assert.deepEqual(await place.ruleNames(), ['one']);
  // Somebody edits the file by hand while another applies one of his own.
  const edited = place.writeConfig({ rules: [rule('by_hand', 4)] });
  const refused = await place.expectCode(exitCodes.refused, 'apply', two);
  assert.match(refused.stderr, /has edits that are neither in force nor in this change/);
  assert.equal(place.readConfig(), edited);
  await place.expectCode(exitCodes.done, 'apply');
  await place.expectCode(exitCodes.done, 'confirm');
  assert.deepEqual(await place.ruleNames(), ['by_hand']);
  const authors = (await place.revisions()).map(({ author }) => author);
  assert.equal(authors.length, 3);
  assert.equal(await end(running), 0);
});
