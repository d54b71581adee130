/** What `npm start` runs, as a user would: it comes up, answers, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { test } from 'node:test';
// check-ignore banned-calls: the moment of Ctrl-C is what is varied
import { setTimeout as delay } from 'node:timers/promises';
import { OWNER_VARIABLE, RECORDS_DIRECTORY } from '../../lab/ownership.ts';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { type RunningProcess, startProcess } from '../../src/linux/command-runner.ts';

const demoProgram = join(import.meta.dirname, '../../lab/demo.ts');

/** A demo's start takes seconds here; on a machine that does something else, more. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

const INTERRUPT_COUNT = 6;
/** About what a start takes here. */
const INTERRUPT_WITHIN_MS = 3_000;
const SEED = Number(process.env['GATEHOUSE_SEED'] ?? 20_240_607);

interface Demo {
  readonly running: RunningProcess;
  readonly url: string;
}

interface WholeDemo extends Demo {
  /** `demo-1f0c22a9` */
  readonly instance: string;
}

function spawnDemo(port: string, env: Readonly<Record<string, string>> = {}): RunningProcess {
  const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
  return startProcess([...node, demoProgram, '--port', port], { killWithParent: true, env });
}

/** A demo that has begun to start. */
async function beginDemo(env?: Readonly<Record<string, string>>): Promise<Demo> {
  const running = spawnDemo('0', env);
  const [, url = ''] = await running.waitForOutput(
    /^Bringing .* (http:\/\/127\.0\.0\.1:\d+)\/$/m,
    START_TIMEOUT_MS,
  );
  return { running, url };
}

async function startDemo(): Promise<WholeDemo> {
  const { running, url } = await beginDemo();
  await running.waitForOutput(/Ctrl-C ends it/, START_TIMEOUT_MS);
  const { stdout } = running.output();
  const instance = /gh-(demo-[0-9a-f]+)-gateway/.exec(stdout)?.[1] ?? assert.fail(stdout);
  return { running, url, instance };
}

function interrupt({ running }: Demo): void {
  process.kill(running.pid ?? assert.fail('the demo has no process'), 'SIGINT');
}

/** Ends well, having said so at once, and does not claim to be up. */
async function assertEndsUnstarted({ running }: Demo): Promise<void> {
  const exit = await within(running.exited);
  const { stdout, stderr } = running.output();
  assert.deepEqual(
    { code: exit.code, signal: exit.signal, stderr },
    {
      code: 0,
      signal: null,
      stderr: '',
    },
  );
  assert.match(stdout, /^Taking the network down\.$/m);
  await waitFor('nothing of a demo without its owner', orphans, {
    timeoutMs: STOP_TIMEOUT_MS,
    until: (found) => found.length === 0,
  });
}

/** Namespaces and processes of demos whose record is gone. Demos that others run have theirs. */
function orphans(): string[] {
  const found = [
    ...readdirSync('/run/netns').map((name) => /^gh-(demo-[0-9a-f]+)-/.exec(name)),
    ...readdirSync('/proc').map((entry) => ownerOf(entry)),
  ];
  const instances = new Set(found.flatMap((match) => match?.[1] ?? []));
  const isOwned = (instance: string) => existsSync(join(RECORDS_DIRECTORY, `${instance}.json`));
  return [...instances].filter((instance) => !isOwned(instance));
}

function ownerOf(procEntry: string): RegExpExecArray | null {
  try {
    const environment = `\0${readFileSync(`/proc/${procEntry}/environ`, 'latin1')}`;
    return RegExp(`\0${OWNER_VARIABLE}=(demo-[0-9a-f]+)\0`).exec(environment);
  } catch {
    // No process, or one that has ended.
    return null;
  }
}

function namespacesOf(instance: string): string[] {
  return readdirSync('/run/netns').filter((name) => name.startsWith(`gh-${instance}-`));
}

interface Stats {
  readonly protocols: readonly {
    readonly interface: string;
    readonly direction: string;
    readonly protocol: string;
    readonly packets: number;
  }[];
}

async function pingsSeen(url: string): Promise<number[]> {
  const response = await fetch(`${url}/inspection/stats`);
  const { protocols } = (await response.json()) as Stats;
  return [
    ['br-lan', 'ingress'],
    ['br-lan', 'egress'],
    ['wan0', 'ingress'],
    ['wan0', 'egress'],
  ].map(([name, direction]) => {
    const own = protocols.filter((row) => row.interface === name && row.direction === direction);
    return own.find((row) => row.protocol === 'ipv4/icmp')?.packets ?? 0;
  });
}

test('two machines get an address and reach the internet through the product', async () => {
  const demo = await startDemo();
  const { running, url, instance } = demo;
  assert.equal(namespacesOf(instance).length, 4);
  const root = (await (await fetch(url)).json()) as Record<string, unknown>;
  assert.equal(root['service'], 'gatehouse');
  const pings = await waitFor('pings on both sides, both ways', () => pingsSeen(url), {
    timeoutMs: START_TIMEOUT_MS,
    until: (counts) => counts.every((count) => count >= 4),
  });
  assert.equal(pings.length, 4);
  const leases = running.output().stdout.match(/^ {2}(?:laptop|phone) +10\.77\.0\.1\d\d\b/gm);
  assert.equal(new Set(leases).size, 2);

  interrupt(demo);
  const exit = await within(running.exited);
  assert.deepEqual({ code: exit.code, signal: exit.signal }, { code: 0, signal: null });
  assert.deepEqual(namespacesOf(instance), []);
  assert.equal(existsSync(join('/run/gatehouse-lab', instance)), false);
  assert.equal(existsSync(join('/run/gatehouse-lab', `${instance}.json`)), false);
});

test('a demo that cannot have its port says so before it makes anything', async () => {
  const first = await startDemo();
  const port = new URL(first.url).port;
  const second = spawnDemo(port);
  const exit = await within(second.exited);
  assert.equal(exit.code, 1);
  assert.match(second.output().stderr, /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/);
  await first.running.stop(STOP_TIMEOUT_MS);
  assert.deepEqual(namespacesOf(first.instance), []);
});

test('who connects while it starts is answered and does not keep it from ending', async () => {
  const demo = await beginDemo();
  const silent = connect(Number(new URL(demo.url).port), '127.0.0.1').on('error', () => {});
  await once(silent, 'connect');
  // 200 only if it should be up already.
  const response = await fetch(demo.url, { signal: AbortSignal.timeout(STOP_TIMEOUT_MS) });
  assert.ok([200, 503].includes(response.status), `${response.status}`);
  assert.notEqual(await response.text(), '');
  interrupt(demo);
  silent.resume();
  if (!silent.closed) await once(silent, 'close', { signal: AbortSignal.timeout(STOP_TIMEOUT_MS) });
  await assertEndsUnstarted(demo);
});

test('Ctrl-C at any moment of the start ends it and leaves nothing behind', async (context) => {
  context.diagnostic(`GATEHOUSE_SEED=${SEED}`);
  const random = seededRandom(SEED);
  for (let round = 0; round < INTERRUPT_COUNT; round++) {
    const demo = await beginDemo();
    // Not to wait for something: the moment is what is varied.
    await delay(random() * INTERRUPT_WITHIN_MS);
    interrupt(demo);
    await demo.running.waitForOutput(/Taking the network down/, STOP_TIMEOUT_MS);
    // From one who is impatient.
    interrupt(demo);
    await assertEndsUnstarted(demo);
  }
});

test('Ctrl-C ends a start that hangs', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-demo-'));
  try {
    const marker = join(folder, 'asked');
    // Never gets a lease.
    const script = `#!/bin/sh\n: > '${marker}'\nexec sleep 1000\n`;
    writeFileSync(join(folder, 'udhcpc'), script, { mode: 0o755 });
    const demo = await beginDemo({ PATH: `${folder}${delimiter}${process.env['PATH']}` });
    await waitFor('a DHCP client', () => existsSync(marker), { timeoutMs: START_TIMEOUT_MS });
    interrupt(demo);
    await assertEndsUnstarted(demo);
    assert.doesNotMatch(demo.running.output().stdout, /A home network is up/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** Bounds a hang: an answer that does not come fails the test. */
async function within<T>(promise: Promise<T>): Promise<T> {
  let settled = false;
  const watched = promise.finally(() => {
    settled = true;
  });
  await waitFor('the process to end', () => settled, { timeoutMs: STOP_TIMEOUT_MS });
  return watched;
}
