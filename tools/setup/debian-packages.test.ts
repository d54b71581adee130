import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { installDebianPackages, packagesFor } from './debian-packages.mjs';

/** dpkg-query for packages whose names are files in $SYSTEM/installed. */
const dpkgQuery = `
shift 2
code=0
for name in "$@"; do
  if [ -e "$SYSTEM/installed/$name" ]; then echo "$name installed"; else code=1; fi
done
exit $code`;

const install = `
for name in "$@"; do case $name in [a-z]*) : > "$SYSTEM/installed/$name";; esac; done`;

/**
 * A Debian system made of small programs on the PATH; each call of apt-get and of dpkg is one
 * line of its log.
 */
async function fakeSystem(context: TestContext, programs: Record<string, string> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'gatehouse-apt-'));
  const journalFolder = join(folder, 'updates');
  const unitFolder = join(folder, 'units');
  for (const name of ['bin', 'installed', 'updates']) mkdirSync(join(folder, name));
  const log = join(folder, 'log');
  writeFileSync(log, '');
  const all = { 'dpkg-query': dpkgQuery, dpkg: '', 'apt-get': install, ...programs };
  for (const [name, body] of Object.entries(all)) {
    const record = name === 'dpkg-query' ? '' : `echo "${name} $*" >> "$SYSTEM/log"`;
    const path = join(folder, 'bin', name);
    writeFileSync(path, `#!/bin/sh\n${record}\n${body}\n`);
    chmodSync(path, 0o755);
  }
  const before = { PATH: process.env['PATH'], SYSTEM: process.env['SYSTEM'] };
  Object.assign(process.env, { PATH: join(folder, 'bin'), SYSTEM: folder });
  context.after(async () => {
    process.env['PATH'] = before.PATH;
    delete process.env['SYSTEM'];
    await rm(folder, { recursive: true });
  });
  const said: string[] = [];
  const say = (line: string) => void said.push(line);
  return {
    said,
    journalFolder,
    unitFolder,
    setUp: (userId = 0, purpose: 'check' | 'test' = 'check') =>
      installDebianPackages(purpose, { userId, say, journalFolder, unitFolder }),
    install(names: readonly string[]) {
      for (const name of names) writeFileSync(join(folder, 'installed', name), '');
    },
    has: (name: string) => existsSync(join(folder, 'installed', name)),
    /** The calls without apt's options. */
    calls: () =>
      readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.replaceAll(/ -o \S+/g, '')),
  };
}

test('nothing is called when nothing is missing', async (context) => {
  const system = await fakeSystem(context);
  system.install(packagesFor('check'));
  await system.setUp();
  assert.deepEqual(system.calls(), []);
  assert.deepEqual(system.said, []);
});

test('only what is missing is installed, and said in one line', async (context) => {
  const system = await fakeSystem(context);
  const [missing = '', ...present] = packagesFor('check');
  system.install(present);
  await system.setUp();
  const apt = `apt-get install -y --no-install-recommends ${missing}`;
  assert.deepEqual(system.calls(), ['dpkg --audit', apt]);
  assert.deepEqual(system.said, [`Installing Debian packages: ${missing}`]);
});

test('the package lists are fetched when they do not know a package', async (context) => {
  const system = await fakeSystem(context, {
    'apt-get': `
case "$*" in *update) : > "$SYSTEM/lists"; exit 0;; esac
if [ ! -e "$SYSTEM/lists" ]; then echo "E: Unable to locate package clang"; exit 100; fi
${install}`,
  });
  await system.setUp();
  assert.ok(system.calls().includes('apt-get update'));
  for (const name of packagesFor('check')) assert.ok(system.has(name), name);
});

test('a mirror out of reach is shown as the reason, not the packages unknown without it', async (context) => {
  const system = await fakeSystem(context, {
    'apt-get': `
case "$*" in *update) echo "W: Failed to fetch http://mirror.test/InRelease"; exit 0;; esac
echo "E: Unable to locate package clang"; exit 100`,
  });
  await assert.rejects(system.setUp(), (error: Error) => {
    assert.match(error.message, /^The Debian packages .*clang.* could not be installed/);
    assert.match(error.message, /\n {2}W: Failed to fetch http:\/\/mirror\.test/);
    assert.doesNotMatch(error.message, /Unable to locate/);
    return true;
  });
});

test('an installation that was interrupted is finished first', async (context) => {
  const system = await fakeSystem(context);
  writeFileSync(join(system.journalFolder, '0001'), '');
  await system.setUp();
  const calls = system.calls();
  assert.deepEqual(
    calls.slice(0, 2).map((call) => call.split(' ', 2).join(' ')),
    ['dpkg --audit', 'dpkg --configure'],
  );
  assert.match(calls[2] ?? '', /^apt-get install/);
});

test('a package that dpkg left half-way is finished too', async (context) => {
  const system = await fakeSystem(context, {
    dpkg: '[ "$1" = --audit ] && echo "The following packages are in a mess"; exit 0',
  });
  await system.setUp();
  assert.match(system.calls()[1] ?? '', /^dpkg --configure -a/);
});

test("another apt's lock is waited for", async (context) => {
  const system = await fakeSystem(context, {
    'apt-get': `
if [ ! -e "$SYSTEM/waited" ]; then
  : > "$SYSTEM/waited"
  echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 42 (apt-get)"
  exit 100
fi
${install}`,
  });
  await system.setUp();
  assert.ok(system.said.includes('Waiting for another apt on this machine to finish'));
  assert.ok(!system.calls().includes('apt-get update'));
});

test('the service that a package brings along is kept from starting', async (context) => {
  const system = await fakeSystem(context, {
    'apt-get': `[ -L "$SYSTEM/units/coturn.service" ] && : > "$SYSTEM/masked-before"${install}`,
  });
  system.install(packagesFor('test').filter((name) => name !== 'coturn'));
  await system.setUp(0, 'test');
  const unit = join(system.unitFolder, 'coturn.service');
  assert.equal(readlinkSync(unit), '/dev/null');
  assert.ok(existsSync(join(system.unitFolder, '../masked-before')));
  assert.match(system.said.join('\n'), /systemctl unmask coturn\.service/);
});

test('what the administrator has said about such a service stays', async (context) => {
  const system = await fakeSystem(context);
  mkdirSync(system.unitFolder);
  symlinkSync('/lib/systemd/system/coturn.service', join(system.unitFolder, 'coturn.service'));
  await system.setUp(0, 'test');
  const unit = join(system.unitFolder, 'coturn.service');
  assert.equal(readlinkSync(unit), '/lib/systemd/system/coturn.service');
});

test('the service of a package that is installed already is not touched', async (context) => {
  const system = await fakeSystem(context);
  const [missing, ...present] = packagesFor('test').filter((name) => name !== 'coturn');
  assert.ok(missing);
  system.install([...present, 'coturn']);
  mkdirSync(system.unitFolder);
  await system.setUp(0, 'test');
  assert.deepEqual(readdirSync(system.unitFolder), []);
});

test('without root the exact command is named and nothing is called', async (context) => {
  const system = await fakeSystem(context);
  const expected = `apt-get install --no-install-recommends ${packagesFor('check').join(' ')}`;
  await assert.rejects(system.setUp(1000), (error: Error) => error.message.endsWith(expected));
  assert.deepEqual(system.calls(), []);
});

test('another distribution is told which packages to look for', async (context) => {
  const system = await fakeSystem(context);
  await rm(join(system.journalFolder, '../bin/dpkg-query'));
  await assert.rejects(system.setUp(), /Debian 12, and this system has no dpkg.*clang/);
});

test('unit tests need no Debian package', () => {
  assert.deepEqual(packagesFor('unit'), []);
});
