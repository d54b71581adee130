/** What `npm start` runs, as a user would: it comes up, answers, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { waitFor } from '../../lab/wait-for.ts';
import { type RunningProcess, startProcess } from '../../src/linux/command-runner.ts';

const demoProgram = join(import.meta.dirname, '../../lab/demo.ts');

/** A demo's start takes seconds here; on a machine that does something else, more. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 20_000;

interface Demo {
  readonly running: RunningProcess;
  readonly url: string;
  /** `demo-1f0c22a9` */
  readonly instance: string;
}

async function startDemo(): Promise<Demo> {
  const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
  const running = startProcess([...node, demoProgram, '--port', '0'], { killWithParent: true });
  await running.waitForOutput(/Ctrl-C ends it/, START_TIMEOUT_MS);
  const { stdout } = running.output();
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(stdout)?.[0] ?? assert.fail(stdout);
  const instance = /gh-(demo-[0-9a-f]+)-gateway/.exec(stdout)?.[1] ?? assert.fail(stdout);
  return { running, url, instance };
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
  const { running, url, instance } = await startDemo();
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

  process.kill(running.pid ?? assert.fail('the demo has no process'), 'SIGINT');
  const exit = await within(running.exited);
  assert.deepEqual({ code: exit.code, signal: exit.signal }, { code: 0, signal: null });
  assert.deepEqual(namespacesOf(instance), []);
  assert.equal(existsSync(join('/run/gatehouse-lab', instance)), false);
  assert.equal(existsSync(join('/run/gatehouse-lab', `${instance}.json`)), false);
});

test('a demo that cannot have its port says so before it makes anything', async () => {
  const first = await startDemo();
  const port = new URL(first.url).port;
  const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
  const second = startProcess([...node, demoProgram, '--port', port], { killWithParent: true });
  const exit = await within(second.exited);
  assert.equal(exit.code, 1);
  assert.match(second.output().stderr, /cannot listen on 127\.0\.0\.1:\d+ \(EADDRINUSE\)/);
  await first.running.stop(STOP_TIMEOUT_MS);
  assert.deepEqual(namespacesOf(first.instance), []);
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
