import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import {
  claimInstance,
  cleanLeftovers,
  findProcesses,
  listNamespaces,
  OWNER_VARIABLE,
  RECORDS_DIRECTORY,
} from '../../lab/ownership.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { runCommand, startProcess } from '../../src/linux/command-runner.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 20_000;

const record = (instance: string) => `${RECORDS_DIRECTORY}/${instance}.json`;

async function ip(...words: readonly string[]): Promise<void> {
  const result = await runCommand(['ip', ...words], { timeoutMs: TIMEOUT_MS });
  assert.equal(result.success, true, result.stderr);
}

/** Makes what a killed lab leaves; the record's lock is let go as its death would do it. */
async function leaveBehind(make: (instance: string) => Promise<void>): Promise<string> {
  const owned = claimInstance('dead');
  writeFileSync(`${owned.directory}/1-eth0.pcap`, 'a capture');
  await make(owned.instance);
  owned.lock.release();
  return owned.instance;
}

/** Another lab on this machine may be cleaning the same; whoever does it, it goes. */
async function cleanAway(instance: string): Promise<void> {
  await cleanLeftovers();
  const left = () => ({
    record: existsSync(record(instance)),
    directory: existsSync(`${RECORDS_DIRECTORY}/${instance}`),
    namespaces: listNamespaces(instance),
    processes: findProcesses(instance),
  });
  await waitFor(`lab ${instance} to be cleaned away`, left, {
    timeoutMs: TIMEOUT_MS,
    until: (seen) =>
      !seen.record && !seen.directory && seen.namespaces.length + seen.processes.length === 0,
  });
}

test('namespaces, files and the record of a dead owner are removed', async () => {
  const instance = await leaveBehind(async (name) => {
    await ip('netns', 'add', `gh-${name}-left`);
    await ip('netns', 'add', `gh-${name}-right`);
  });
  await cleanAway(instance);
});

test('a namespace that was only half made is removed', async () => {
  const instance = await leaveBehind(async (name) => {
    mkdirSync('/run/netns', { recursive: true });
    writeFileSync(`/run/netns/gh-${name}-left`, '');
  });
  await cleanAway(instance);
});

test('a record that was never written to its end serves as well', async () => {
  const instance = await leaveBehind(async (name) => {
    await ip('netns', 'add', `gh-${name}-left`);
    truncateSync(record(name), 7);
  });
  await cleanAway(instance);
});

test('processes are ended by where they live or by who started them', async () => {
  const started: ReturnType<typeof startProcess>[] = [];
  const instance = await leaveBehind(async (name) => {
    await ip('netns', 'add', `gh-${name}-left`);
    const networkNamespace = `/run/netns/gh-${name}-left`;
    started.push(startProcess(['env', '-i', '/bin/sleep', '1000'], { networkNamespace }));
    started.push(startProcess(['sleep', '1000'], { env: { [OWNER_VARIABLE]: name } }));
    await waitFor('both processes to be found', () => findProcesses(name), {
      timeoutMs: TIMEOUT_MS,
      until: (pids) => pids.length === 2,
    });
  });
  const stranger = startProcess(['sleep', '1000'], { env: { [OWNER_VARIABLE]: `${instance}0` } });
  try {
    await cleanAway(instance);
    for (const { exited } of started) assert.equal((await exited).signal, 'SIGKILL');
    process.kill(stranger.pid ?? 0, 0);
  } finally {
    await Promise.all([stranger, ...started].map((process) => process.stop()));
  }
});

test('a living lab, a foreign namespace and a foreign file are not touched', async () => {
  const foreign = `gh-foreign-${randomBytes(4).toString('hex')}-host`;
  const file = `${RECORDS_DIRECTORY}/notes-${foreign}.json`;
  await using lab = await Lab.start({
    hosts: {
      left: { addresses: { eth0: ['10.0.0.1/24'] } },
      right: { addresses: { eth0: ['10.0.0.2/24'] } },
    },
    links: { wire: { ends: ['left:eth0', 'right:eth0'] } },
  });
  await ip('netns', 'add', foreign);
  writeFileSync(file, '{}');
  try {
    const server = lab.host('right').spawn(['sleep', '1000']);
    const { removed } = await cleanLeftovers();
    assert.equal(removed.includes(lab.instance), false);
    const argv = ['ping', '-c', '1', '10.0.0.2'] as const;
    assert.equal((await lab.host('left').run(argv, { timeoutMs: TIMEOUT_MS })).success, true);
    process.kill(server.pid ?? 0, 0);
    assert.ok(existsSync(`/run/netns/${foreign}`));
    assert.ok(existsSync(file));
  } finally {
    await ip('netns', 'del', foreign);
    rmSync(file);
  }
});

test('two cleaners at once remove each leftover once, without getting into each other', async () => {
  const instances = await Promise.all(
    [1, 2, 3].map(() => leaveBehind((name) => ip('netns', 'add', `gh-${name}-left`))),
  );
  const [one, two] = await Promise.all([cleanLeftovers(), cleanLeftovers()]);
  for (const instance of instances) {
    const count = [...one.removed, ...two.removed].filter((name) => name === instance).length;
    assert.ok(count <= 1);
    await cleanAway(instance);
  }
  assert.deepEqual([...one.failed, ...two.failed], []);
});

test('a name that could not be told from others is refused', () => {
  for (const name of ['', 'Lab', 'a-b', '../x', 'sixteenletters012']) {
    assert.throws(() => claimInstance(name), /is no name for a lab/);
  }
});
