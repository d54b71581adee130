/** `bin/gatehouse run`, the product itself, on interfaces of the lab. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, beforeEach, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { Argv, RunningProcess } from '../../src/linux/command-runner.ts';

const gatehouse = join(import.meta.dirname, '../../bin/gatehouse');

/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;

const peers = { w0: '192.0.2', w1: '198.51.100' } as const;
type Wire = keyof typeof peers;
const wires = Object.keys(peers) as Wire[];

let lab: Lab;
let gateway: LabHost;
let socketPath: string;

before(async () => {
  lab = await Lab.start({ hosts: { gateway: {}, peer: {} }, links: {} }, { name: 'run' });
  gateway = lab.host('gateway');
  socketPath = join(lab.directory, 'api.sock');
});

after(() => lab.stop());

/** New wires for each test, since tests take them down. */
beforeEach(async () => {
  const namespace = lab.host('peer').namespacePath;
  for (const wire of wires) {
    await gateway.run(['ip', 'link', 'del', wire], { timeoutMs: TIMEOUT_MS });
    const peer = ['peer', 'name', wire, 'netns', namespace] as const;
    await output(gateway, 'ip', 'link', 'add', wire, 'type', 'veth', ...peer);
    for (const [host, address] of [
      [gateway, `${peers[wire]}.1/24`],
      [lab.host('peer'), `${peers[wire]}.2/24`],
    ] as const) {
      await output(host, 'ip', 'address', 'add', address, 'dev', wire);
      await output(host, 'ip', 'link', 'set', wire, 'up');
    }
  }
});

async function output(host: LabHost, ...argv: Argv): Promise<string> {
  const result = await host.run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

function start(interfaces: readonly string[], listen = `unix:${socketPath}`): RunningProcess {
  const names = interfaces.flatMap((name) => ['--interface', name]);
  return gateway.spawn([gatehouse, 'run', ...names, '--listen', listen]);
}

async function startReady(interfaces: readonly string[], listen?: string) {
  const running = start(interfaces, listen);
  await running.waitForOutput(/API on/, TIMEOUT_MS);
  return running;
}

async function end(running: RunningProcess, signal: NodeJS.Signals): Promise<number | null> {
  process.kill(running.pid ?? assert.fail('never started'), signal);
  return exitCode(running);
}

async function exitCode(running: RunningProcess): Promise<number | null> {
  let ended = false;
  const watched = running.exited.finally(() => {
    ended = true;
  });
  await waitFor('the process to end', () => ended, { timeoutMs: TIMEOUT_MS });
  return (await watched).code;
}

/** Ids of the programs at tc, both directions. */
async function attached(wire: Wire): Promise<string[]> {
  const filters = await Promise.all(
    ['ingress', 'egress'].map((side) => output(gateway, 'tc', 'filter', 'show', 'dev', wire, side)),
  );
  return filters.flatMap((shown) => [...shown.matchAll(/\bid (\d+)/g)].map(([, id = '']) => id));
}

async function ask(path: string): Promise<string> {
  const asked = request({ socketPath, path, agent: false, headers: { host: 'localhost' } });
  asked.setTimeout(TIMEOUT_MS, () => asked.destroy(new Error('no answer')));
  const [response] = await once(asked.end(), 'response');
  return text(response);
}

/** Echo requests that left by the wire, as the API tells it. */
async function pingsCounted(wire: Wire): Promise<number> {
  const { protocols } = JSON.parse(await ask('/inspection/stats')) as {
    protocols: { interface: string; direction: string; protocol: string; packets: number }[];
  };
  const row = protocols.find(
    (one) => one.interface === wire && one.direction === 'egress' && one.protocol === 'ipv4/icmp',
  );
  return row?.packets ?? 0;
}

async function ping(wire: Wire): Promise<void> {
  await output(gateway, 'ping', '-c', '1', '-W', '5', `${peers[wire]}.2`);
}

/** The claims on interfaces of the lab's gateway. */
function claims(): string[] {
  const { ino } = statSync(gateway.namespacePath);
  return readdirSync('/run/gatehouse').filter((file) => file.startsWith(`network-${ino}-`));
}

test('it counts on its interfaces, answers, and takes all of it away at the end', async () => {
  const running = await startReady(wires);
  await ping('w0');
  await ping('w0');
  await ping('w1');
  assert.equal(await pingsCounted('w0'), 2);
  assert.equal(await pingsCounted('w1'), 1);
  assert.equal(claims().length, 2);
  assert.equal(await end(running, 'SIGTERM'), 0);
  assert.deepEqual([await attached('w0'), await attached('w1')], [[], []]);
  assert.equal(existsSync(socketPath), false);
  assert.deepEqual(claims(), []);
  assert.equal(running.output().stderr, '');
});

test('further signals do not break the taking down off', async () => {
  const running = await startReady(wires);
  const pid = running.pid ?? assert.fail('never started');
  // Without a pause, since taking down takes a millisecond or two.
  for (let sent = 0; sent < 100_000; sent++) process.kill(pid, 'SIGINT');
  // Whatever the code is: one may come when all is down and Node ends.
  await exitCode(running);
  assert.deepEqual([await attached('w0'), await attached('w1')], [[], []]);
  assert.equal(existsSync(socketPath), false);
});

test('an interface that went away is no failure, and the other is detached', async () => {
  const running = await startReady(wires);
  await output(gateway, 'ip', 'link', 'del', 'w0');
  assert.equal(await end(running, 'SIGTERM'), 0);
  assert.equal(running.output().stderr, '');
  assert.deepEqual(await attached('w1'), []);
  assert.equal(existsSync(socketPath), false);
});

test('what cannot be detached is told, and all else is taken down', async () => {
  const running = await startReady(wires);
  await output(gateway, 'tc', 'qdisc', 'del', 'dev', 'w0', 'clsact');
  assert.equal(await end(running, 'SIGTERM'), 1);
  const { stderr } = running.output();
  assert.match(stderr, /cannot detach count_protocols_tc_egress from w0 at tc egress/);
  assert.match(stderr, /cannot detach count_protocols_tc_ingress from w0 at tc ingress/);
  assert.deepEqual(await attached('w1'), []);
  assert.equal(existsSync(socketPath), false);
  assert.deepEqual(claims(), []);
});

test('a renamed interface, which keeps its programs, is told', async () => {
  const running = await startReady(['w1']);
  await output(gateway, 'ip', 'link', 'set', 'w1', 'down');
  await output(gateway, 'ip', 'link', 'set', 'w1', 'name', 'other');
  assert.equal(await end(running, 'SIGTERM'), 1);
  assert.match(running.output().stderr, /cannot find interface w1: ENODEV/);
  await output(gateway, 'ip', 'link', 'del', 'other');
});

test('a second instance leaves the interface of the first alone and names it', async () => {
  const first = await startReady(['w0']);
  const programs = await attached('w0');
  assert.equal(programs.length, 2);
  const second = start(['w1', 'w0'], 'unix:/nowhere');
  assert.equal(await exitCode(second), 1);
  const message = `gatehouse: cannot count on w0: process ${first.pid} does so already\n`;
  assert.equal(second.output().stderr, message);
  assert.deepEqual(await attached('w0'), programs);
  assert.deepEqual(await attached('w1'), []);
  await ping('w0');
  assert.equal(await pingsCounted('w0'), 1);
  assert.equal(await end(first, 'SIGTERM'), 0);
});

test('the same interface number in another network namespace is free', async () => {
  const first = await startReady(['lo']);
  const names = ['--interface', 'lo', '--listen', '127.0.0.1:0'];
  const second = lab.host('peer').spawn([gatehouse, 'run', ...names]);
  await second.waitForOutput(/API on/, TIMEOUT_MS);
  assert.equal(await end(second, 'SIGTERM'), 0);
  assert.equal(await end(first, 'SIGTERM'), 0);
});

test('the place of a killed instance is taken over, programs and socket', async () => {
  const killed = await startReady(['w0']);
  const programs = await attached('w0');
  assert.equal(await end(killed, 'SIGKILL'), null);
  assert.deepEqual(await attached('w0'), programs);
  assert.equal(existsSync(socketPath), true);
  const next = await startReady(['w0']);
  const taken = await attached('w0');
  assert.equal(taken.length, 2);
  assert.ok(taken.every((id) => !programs.includes(id)));
  await ping('w0');
  assert.equal(await pingsCounted('w0'), 1);
  assert.equal(await end(next, 'SIGTERM'), 0);
  assert.deepEqual(await attached('w0'), []);
});

/** The process of the api role, a child of the core. */
function rolePid(core: RunningProcess): number {
  const tasks = `/proc/${core.pid}/task`;
  const children = readdirSync(tasks).flatMap((task) =>
    readFileSync(`${tasks}/${task}/children`, 'utf8').trim().split(' '),
  );
  const found = children.filter((pid) => pid !== '').map(Number);
  assert.equal(found.length, 1, `children: ${found}`);
  return found[0] ?? 0;
}

test('the process that answers has no rights of root, and no way to get any', async () => {
  const running = await startReady(['w0']);
  const status = readFileSync(`/proc/${rolePid(running)}/status`, 'utf8');
  const account = (await output(gateway, 'id', '-u', 'gatehouse')).trim();
  assert.match(
    status,
    RegExp(`^Uid:\\s+${account}\\s+${account}\\s+${account}\\s+${account}$`, 'm'),
  );
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) {
    assert.match(status, RegExp(`^${set}:\\s+0+$`, 'm'));
  }
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  assert.match(status, /^Groups:\s*$/m);
  assert.equal(await end(running, 'SIGTERM'), 0);
});

test('survive-122 a role that is killed is back, while the core goes on counting', async () => {
  const running = await startReady(['w0']);
  const programs = await attached('w0');
  await ping('w0');
  const killed = rolePid(running);
  process.kill(killed, 'SIGKILL');
  await ping('w0');
  const counted = await waitFor(
    'an answer of the next process',
    () => pingsCounted('w0').catch(() => 0),
    { timeoutMs: TIMEOUT_MS, until: (count) => count === 2 },
  );
  assert.equal(counted, 2);
  assert.notEqual(rolePid(running), killed);
  assert.deepEqual(await attached('w0'), programs);
  assert.match(running.output().stderr, /role api ended \(SIGKILL\) and is started again/);
  assert.equal(await end(running, 'SIGTERM'), 0);
  assert.equal(existsSync(socketPath), false);
});

test('survive-123 a role that hangs is killed and started again', async () => {
  const running = await startReady(['w0']);
  const hung = rolePid(running);
  process.kill(hung, 'SIGSTOP');
  await running.waitForOutput(/killing role api: did not answer for 5000 ms/, TIMEOUT_MS);
  await waitFor('an answer', () => ask('/').catch(() => ''), {
    timeoutMs: TIMEOUT_MS,
    until: (answer) => answer.includes('gatehouse'),
  });
  assert.equal(await end(running, 'SIGTERM'), 0);
});

test('survive-83 when the core is killed, its role ends, the kernel goes on, the next takes over', async () => {
  const killed = await startReady(['w0']);
  const role = rolePid(killed);
  await ping('w0');
  assert.equal(await end(killed, 'SIGKILL'), null);
  await waitFor('the role to end', () => !existsSync(`/proc/${role}`), { timeoutMs: TIMEOUT_MS });
  await ping('w0');
  await ping('w0');
  const next = await startReady(['w0']);
  await ping('w0');
  assert.equal(await pingsCounted('w0'), 4);
  assert.equal(await end(next, 'SIGTERM'), 0);
});

test('without the account for its processes, it says how to make it', async () => {
  const names = ['--interface', 'w0', '--listen', `unix:${socketPath}`];
  const running = gateway.spawn([gatehouse, 'run', ...names, '--user', 'gatehouse-none']);
  assert.equal(await exitCode(running), 1);
  const remedy = 'useradd --system --user-group --no-create-home gatehouse-none';
  const message = `gatehouse: there is no account gatehouse-none; make it by: ${remedy}\n`;
  assert.equal(running.output().stderr, message);
  assert.deepEqual(await attached('w0'), []);
});

test('a role cannot be started by hand', async () => {
  const result = await gateway.run([gatehouse, 'role', 'api'], { timeoutMs: TIMEOUT_MS });
  assert.equal(result.code, 1);
  assert.match(result.stderr, /a role is started by `gatehouse run` only/);
});

test("a second instance leaves a living one's socket alone", async () => {
  const first = await startReady(['w0']);
  const second = start(['w1']);
  assert.equal(await exitCode(second), 1);
  const message = `gatehouse: cannot listen on unix:${socketPath}: EADDRINUSE\n`;
  assert.equal(second.output().stderr, message);
  assert.deepEqual(await attached('w1'), []);
  assert.equal(JSON.parse(await ask('/')).service, 'gatehouse');
  assert.equal(await end(first, 'SIGTERM'), 0);
});

test('a port that it chose is printed', async () => {
  const running = start(['w0'], '127.0.0.1:0');
  const ready = await running.waitForOutput(/API on http:\/\/127\.0\.0\.1:(\d+)/, TIMEOUT_MS);
  const listening = await output(gateway, 'ss', '-Hltn');
  assert.match(listening, RegExp(`127\\.0\\.0\\.1:${ready[1]}\\b`));
  assert.equal(await end(running, 'SIGINT'), 0);
});

test('an interface that does not exist is named and nothing is left attached', async () => {
  const running = start(['w0', 'wan7']);
  assert.equal(await exitCode(running), 1);
  assert.equal(running.output().stderr, 'gatehouse: cannot find interface wan7: ENODEV\n');
  assert.deepEqual(await attached('w0'), []);
  assert.deepEqual(claims(), []);
});
