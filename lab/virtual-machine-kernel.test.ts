import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import {
  fetchKernel,
  KernelUnavailableError,
  makeScratchFolder,
  resolveModules,
} from './virtual-machine-kernel.ts';

let folder: string;
const path = process.env['PATH'];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gatehouse-kernel-'));
});
afterEach(() => {
  process.env['PATH'] = path;
  rmSync(folder, { recursive: true });
});

/** Puts programs of ours in front of the system's apt. */
function fakeApt(programs: { 'apt-cache': string; 'apt-get': string }): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  process.env['PATH'] = `${bin}:${path}`;
  return join(folder, 'cache');
}

const dependency = 'echo "  Depends: linux-image-6.1.0-1-cloud-amd64"';

test('without the network, the error says what is needed and that it is needed once', async () => {
  const cache = fakeApt({
    'apt-cache': dependency,
    'apt-get': 'echo "E: Temporary failure resolving deb.debian.org" >&2; exit 100',
  });
  await assert.rejects(fetchKernel('debian-12-cloud', cache), (error) => {
    assert.ok(error instanceof KernelUnavailableError);
    assert.match(error.message, /^cannot fetch linux-image-cloud-amd64.* needed once.* resolving/);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
});

test('a broken download leaves nothing that a later run could take for a kernel', async () => {
  const cache = fakeApt({
    'apt-cache': dependency,
    'apt-get': 'echo "half a package" > linux-image.deb',
  });
  await assert.rejects(fetchKernel('debian-12-cloud', cache), KernelUnavailableError);
  assert.deepEqual(readdirSync(cache), ['download.lock']);
});

test('a kernel of another version than 6.1 is refused by name', async () => {
  const cache = fakeApt({
    'apt-cache': 'echo "  Depends: linux-image-6.12.1-cloud-amd64"',
    'apt-get': 'exit 1',
  });
  await assert.rejects(fetchKernel('debian-12-cloud', cache), /offers linux-image-6\.12\.1/);
});

test('of two runs at once, one fetches and both get the kernel', async () => {
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'DEBIAN'), { recursive: true });
  mkdirSync(join(tree, 'boot'));
  writeFileSync(
    join(tree, 'DEBIAN/control'),
    'Package: linux-image\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\n' +
      'Description: x\n',
  );
  writeFileSync(join(tree, 'boot/vmlinuz-6.1.0-1-cloud-amd64'), '');
  const calls = join(folder, 'calls');
  const cache = fakeApt({
    'apt-cache': dependency,
    'apt-get': `echo call >> ${calls}; dpkg-deb --build ${tree} linux-image.deb`,
  });
  const both = [fetchKernel('debian-12-cloud', cache), fetchKernel('debian-12-cloud', cache)];
  for (const { release } of await Promise.all(both)) assert.equal(release, '6.1.0-1-cloud-amd64');
  assert.equal(readFileSync(calls, 'utf8'), 'call\n');
});

test('a kernel that was fetched once is used without asking apt', async () => {
  const cache = fakeApt({ 'apt-cache': 'exit 1', 'apt-get': 'exit 1' });
  mkdirSync(join(cache, 'debian-12-cloud/boot'), { recursive: true });
  writeFileSync(join(cache, 'debian-12-cloud/boot/vmlinuz-6.1.0-1-cloud-amd64'), '');
  const kernel = await fetchKernel('debian-12-cloud', cache);
  assert.equal(kernel.release, '6.1.0-1-cloud-amd64');
});

test('modules come after those that they need, each once', () => {
  const module = (name: string, depends: string) =>
    writeFileSync(join(folder, `${name}.ko`), `\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`);
  module('nf_tables', 'nfnetlink,libcrc32c');
  module('nfnetlink', '');
  module('libcrc32c', '');
  module('nft-fib', 'nf_tables');
  const kernel = { release: '6.1', imagePath: '', modulesFolder: folder };
  const order = resolveModules(kernel, ['nft_fib', 'nf_tables']).map((file) => basename(file));
  assert.deepEqual(order, ['nfnetlink.ko', 'libcrc32c.ko', 'nf_tables.ko', 'nft-fib.ko']);
  assert.throws(() => resolveModules(kernel, ['veth']), /6\.1 has no module veth/);
});

test('a scratch folder removes those of processes that are gone, and no other', () => {
  // The largest process id that Linux can give is 4,194,304.
  mkdirSync(join(folder, 'scratch-4194305-abc'));
  mkdirSync(join(folder, 'scratch-1-abc'));
  mkdirSync(join(folder, 'debian-12-cloud'));
  const own = makeScratchFolder(folder);
  const left = ['debian-12-cloud', 'scratch-1-abc', basename(own)];
  assert.deepEqual(readdirSync(folder).sort(), left.sort());
});
