/** `bin/gatehouse run`, the product itself, on interfaces of the lab. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';
import {
  attachedTcProgramId,
  clearTcPlace,
  type TcPlace,
  tcDirections,
} from '../../src/linux/attach.ts';
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
  socketPath = join(lab.directory, 'run/api.sock');
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

/** Writes a config that names these wires: `w0` as the WAN, `w1` as a network. */
function writeConfig(interfaces: readonly string[], options: { listen?: string } = {}): string {
  const { listen = '127.0.0.1:8443' } = options;
  const wan = 'wan: { interface: w0, address: 192.0.2.1/24, gateway: 192.0.2.2 }';
  const lan = 'lan: { interfaces: [w1], address: 198.51.100.1/24 }';
  const text = `version: 1
${interfaces.includes('w0') ? wan : ''}
networks: { ${interfaces.includes('w1') ? lan : ''} }
nat: { sessions: 1024 }
api: { listen: ['${listen}'], tls: { mode: off } }
paths: { state: ${lab.directory}/state, runtime: ${lab.directory}/run }
`;
  const path = join(lab.directory, 'gatehouse.yaml');
  writeFileSync(path, text);
  return path;
}

function start(interfaces: readonly string[], options?: { listen?: string }): RunningProcess {
  return spawned([gatehouse, 'run', '--config', writeConfig(interfaces, options)]);
}

/** Ended behind its test at the latest, so that a failure stays one. */
function spawned(argv: Argv): RunningProcess {
  const running = gateway.spawn(argv);
  started.push(running);
  return running;
}

const started: RunningProcess[] = [];

afterEach(async () => {
  for (const running of started.splice(0)) await running.stop();
});

async function startReady(interfaces: readonly string[], options?: { listen?: string }) {
  const running = start(interfaces, options);
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
function attached(wire: string, place: TcPlace = 'counting'): number[] {
  const target = { interface: wire, networkNamespace: gateway.namespacePath };
  const ids = tcDirections.map((direction) => attachedTcProgramId(target, direction, place));
  return ids.filter((id) => id !== undefined);
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

/** The lab gateway's network namespace is somebody's. */
function isClaimed(): boolean {
  return existsSync(`/run/gatehouse/network-${statSync(gateway.namespacePath).ino}.lock`);
}

/** What the log says besides the commands that it runs. */
function told(running: RunningProcess): string[] {
  const lines = running.output().stderr.trim().split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('gatehouse: run: '));
}

async function rules(): Promise<string> {
  return output(gateway, 'nft', 'list', 'table', 'inet', 'gatehouse');
}

test('it counts on its interfaces, answers, and at the end leaves only its rules and NAT', async () => {
  const running = await startReady(wires);
  assert.match(
    running.output().stdout,
    /^gatehouse \S+ runs: revision \d+, \d+ rules \(config\)$/m,
  );
  await ping('w0');
  await ping('w0');
  await ping('w1');
  assert.equal(await pingsCounted('w0'), 2);
  assert.equal(await pingsCounted('w1'), 1);
  assert.ok(isClaimed());
  const inForce = await rules();
  assert.match(inForce, /iifname "w1" tcp dport 22 counter .* accept comment "service ssh"/);
  assert.equal(await end(running, 'SIGTERM'), 0);
  assert.deepEqual([attached('w0'), attached('w1')], [[], []]);
  for (const wire of wires) assert.equal(attached(wire, 'nat').length, 2);
  assert.equal(existsSync(socketPath), false);
  assert.equal(isClaimed(), false);
  assert.deepEqual(told(running), []);
  // A gateway that stops does not open the network behind it.
  const withoutCounters = (text: string) => text.replace(/packets \d+ bytes \d+/g, '');
  assert.equal(withoutCounters(await rules()), withoutCounters(inForce));
});

test('further signals do not break the taking down off', async () => {
  const running = await startReady(wires);
  const pid = running.pid ?? assert.fail('never started');
  // Without a pause, since taking down takes a millisecond or two.
  for (let sent = 0; sent < 100_000; sent++) process.kill(pid, 'SIGINT');
  // Whatever the code is: one may come when all is down and Node ends.
  await exitCode(running);
  assert.deepEqual([attached('w0'), attached('w1')], [[], []]);
  assert.equal(existsSync(socketPath), false);
});

test('an interface that goes is no failure, and is counted again when it is back', async () => {
  const running = await startReady(wires);
  await output(gateway, 'ip', 'link', 'del', 'w0');
  await output(gateway, 'ip', 'link', 'add', 'w0', 'type', 'veth', 'peer', 'name', 'w0p');
  await waitFor('the programs', () => attached('w0', 'nat'), {
    timeoutMs: TIMEOUT_MS,
    until: (programs) => programs.length === 2,
  });
  assert.equal(await end(running, 'SIGTERM'), 0);
  assert.deepEqual(told(running), []);
  assert.deepEqual([attached('w0'), attached('w1')], [[], []]);
  assert.equal(existsSync(socketPath), false);
});

test('what cannot be detached is told, and all else is taken down', async () => {
  const running = await startReady(['w0']);
  const target = { interface: 'w0', networkNamespace: gateway.namespacePath };
  for (const direction of tcDirections) clearTcPlace(target, direction, 'counting');
  assert.equal(await end(running, 'SIGTERM'), 0);
  const { stderr } = running.output();
  assert.match(stderr, /cannot detach count_protocols_tc_egress from w0 at tc egress/);
  assert.match(stderr, /cannot detach count_protocols_tc_ingress from w0 at tc ingress/);
  assert.equal(existsSync(socketPath), false);
  assert.equal(isClaimed(), false);
});

test('an interface that gets another name has no programs any more', async () => {
  const running = await startReady(['w1']);
  assert.equal(attached('w1', 'nat').length, 2);
  await output(gateway, 'ip', 'link', 'set', 'w1', 'down');
  await output(gateway, 'ip', 'link', 'set', 'w1', 'name', 'other');
  const programs = await waitFor('the programs to be gone', () => attached('other', 'nat'), {
    timeoutMs: TIMEOUT_MS,
    until: (found) => found.length === 0,
  });
  assert.deepEqual(programs, []);
  assert.equal(await end(running, 'SIGTERM'), 0);
  await output(gateway, 'ip', 'link', 'del', 'other');
});

test('another network namespace takes an instance of its own', async () => {
  const first = await startReady(['w0']);
  const folder = join(lab.directory, 'other');
  const path = `${folder}.yaml`;
  writeFileSync(path, `version: 1\npaths: { state: ${folder}/state, runtime: ${folder}/run }\n`);
  const second = lab.host('peer').spawn([gatehouse, 'run', '--config', path]);
  await second.waitForOutput(/API on/, TIMEOUT_MS);
  assert.equal(await end(second, 'SIGTERM'), 0);
  assert.equal(await end(first, 'SIGTERM'), 0);
});

test('the place of a killed instance is taken over, programs and socket', async () => {
  const killed = await startReady(['w0']);
  const programs = attached('w0');
  assert.equal(await end(killed, 'SIGKILL'), null);
  assert.deepEqual(attached('w0'), programs);
  assert.equal(existsSync(socketPath), true);
  const next = await startReady(['w0']);
  const taken = attached('w0');
  assert.equal(taken.length, 2);
  assert.ok(taken.every((id) => !programs.includes(id)));
  await ping('w0');
  assert.equal(await pingsCounted('w0'), 1);
  assert.equal(await end(next, 'SIGTERM'), 0);
  assert.deepEqual(attached('w0'), []);
});

test('what the NAT has counted is there behind a killed instance', async () => {
  const killed = await startReady(wires);
  await ping('w0');
  assert.equal(await end(killed, 'SIGKILL'), null);
  await ping('w0');
  const next = await startReady(wires);
  await ping('w0');
  assert.equal(await pingsCounted('w0'), 3);
  assert.deepEqual([attached('w0'), attached('w1')], [[], []]);
  assert.equal(await end(next, 'SIGTERM'), 0);
});

/** The process of the api role: a child of the core, as an nft is now and then. */
function rolePid(core: RunningProcess): number {
  const tasks = `/proc/${core.pid}/task`;
  const children = readdirSync(tasks).flatMap((task) =>
    readFileSync(`${tasks}/${task}/children`, 'utf8').trim().split(' '),
  );
  const found = children.filter((pid) => pid !== '' && commandOf(pid).includes('role\0api\0'));
  assert.equal(found.length, 1, `children: ${children}`);
  return Number(found[0]);
}

/** Its words, each with a zero behind it; nothing when it has ended. */
function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
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
  const programs = attached('w0');
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
  assert.deepEqual(attached('w0'), programs);
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

test('without the account for its processes, it runs and says how to make it', async () => {
  const argv = [gatehouse, 'run', '--config', writeConfig(['w0']), '--user', 'gatehouse-none'];
  const running = spawned(argv as [string, ...string[]]);
  const remedy = 'useradd --system --user-group --no-create-home gatehouse-none';
  await running.waitForOutput(
    RegExp(`role api ended \\(there is no account gatehouse-none; make it by: ${remedy}\\)`),
    TIMEOUT_MS,
  );
  assert.match(await rules(), /chain forward/);
  assert.equal(await end(running, 'SIGTERM'), 0);
});

test('a role cannot be started by hand', async () => {
  const result = await gateway.run([gatehouse, 'role', 'api'], { timeoutMs: TIMEOUT_MS });
  assert.equal(result.code, 1);
  assert.match(result.stderr, /a role is started by `gatehouse run` only/);
});

test('a loopback address of the config is served and printed', async () => {
  const running = await startReady(['w0'], { listen: '127.0.0.1:8099' });
  await running.waitForOutput(/API on unix:.*, http:\/\/127\.0\.0\.1:8099/, TIMEOUT_MS);
  assert.match(await output(gateway, 'ss', '-Hltn'), /127\.0\.0\.1:8099\b/);
  assert.equal(await end(running, 'SIGINT'), 0);
});

test('a config that names another address of the API moves it there, and back', async () => {
  const running = await startReady(['w0'], { listen: '127.0.0.1:8099' });
  const path = writeConfig(['w0'], { listen: '127.0.0.1:8098' });
  const listening = () => output(gateway, 'ss', '-Hltn');
  const cli = [gatehouse, '--config', path] as const;
  await output(gateway, ...cli, 'apply', '--confirm', '60s');
  await waitFor('the new address', listening, {
    timeoutMs: TIMEOUT_MS,
    until: (sockets) => /127\.0\.0\.1:8098\b/.test(sockets) && !/:8099\b/.test(sockets),
  });
  await output(gateway, ...cli, 'rollback');
  await waitFor('the old address', listening, {
    timeoutMs: TIMEOUT_MS,
    until: (sockets) => /127\.0\.0\.1:8099\b/.test(sockets) && !/:8098\b/.test(sockets),
  });
  assert.equal(await end(running, 'SIGTERM'), 0);
});

test('an interface that does not exist yet is counted when it comes, and its rules are there', async () => {
  await output(gateway, 'ip', 'link', 'del', 'w1');
  const running = await startReady(wires);
  assert.match(await rules(), /iifname "w1"/);
  await output(gateway, 'ip', 'link', 'add', 'w1', 'type', 'veth', 'peer', 'name', 'w1p');
  await waitFor('the programs', () => attached('w1', 'nat'), {
    timeoutMs: TIMEOUT_MS,
    until: (programs) => programs.length === 2,
  });
  assert.equal(await end(running, 'SIGTERM'), 0);
});

test('a config with problems starts nothing the first time, and every problem is told', async () => {
  const path = join(lab.directory, 'wrong.yaml');
  const folder = join(lab.directory, 'wrong');
  const paths = `paths: { state: ${folder}/state, runtime: ${folder}/run }`;
  writeFileSync(path, `version: 1\nwan: { interfce: w0 }\n${paths}\n`);
  const running = spawned([gatehouse, 'run', '--config', path]);
  assert.equal(await exitCode(running), 3);
  const { stderr } = running.output();
  assert.match(stderr, /wrong\.yaml:2:8: wan\.interfce: expected .*; did you mean `interface`\?/);
  assert.match(stderr, /wan: expected the key `address`|wan\.address/);
});

test('a config that got problems while it was stopped does not keep the network down', async () => {
  const first = await startReady(wires);
  const before = first.output().stdout;
  assert.equal(await end(first, 'SIGTERM'), 0);
  const path = writeConfig(wires);
  const good = readFileSync(path, 'utf8');
  writeFileSync(path, good.replace('networks:', 'netwroks:'));
  const next = spawned([gatehouse, 'run', '--config', path]);
  await next.waitForOutput(/API on/, TIMEOUT_MS);
  assert.match(next.output().stderr, /the config has problems, so revision \d+ is in force/);
  assert.match(next.output().stdout, /\d+ rules \(config\)/);
  assert.equal(next.output().stdout.match(/\d+ rules/)?.[0], before.match(/\d+ rules/)?.[0]);
  assert.equal(await end(next, 'SIGTERM'), 0);
});

test('without a config file, it says how to make one', async () => {
  const path = join(lab.directory, 'none.yaml');
  const running = spawned([gatehouse, 'run', '--config', path]);
  assert.equal(await exitCode(running), 1);
  assert.match(running.output().stderr, /none\.yaml.*gatehouse init/);
});
