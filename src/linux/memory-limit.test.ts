import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { readMemoryLimit } from './memory-limit.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-cgroup-'));
after(() => rmSync(root, { recursive: true }));
let treeCount = 0;

/** A tree of control groups as the kernel shows it. */
function limitIn(membership: string, files: Readonly<Record<string, string>>) {
  const folder = join(root, `${++treeCount}`);
  mkdirSync(folder);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  writeFileSync(join(folder, 'membership'), membership);
  return readMemoryLimit({ membership: join(folder, 'membership'), folder });
}

test('the narrowest limit of the groups around us counts', async () => {
  const files = {
    'system.slice/memory.max': '268435456\n',
    'system.slice/gatehouse.service/memory.max': 'max\n',
    'other/memory.max': '1\n',
  };
  assert.equal(await limitIn('0::/system.slice/gatehouse.service\n', files), 268_435_456);
});

test('version 1 has another file, and its largest number means none', async () => {
  const membership = '5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n';
  const none = { 'memory/docker/abc/memory.limit_in_bytes': '9223372036854771712\n' };
  assert.equal(await limitIn(membership, none), undefined);
  const some = { ...none, 'memory/docker/memory.limit_in_bytes': '104857600\n' };
  assert.equal(await limitIn(membership, some), 104_857_600);
});

test('a container that shows its group as the root is limited by that', async () => {
  const membership = '0::/system.slice/docker-abc.scope\n';
  assert.equal(await limitIn(membership, { 'memory.max': '1000\n' }), 1000);
  assert.equal(await limitIn('0::/../../elsewhere\n', { 'memory.max': '1000\n' }), 1000);
});

test('without limits, and without groups, there is none', async () => {
  assert.equal(await limitIn('0::/x\n', { 'x/memory.max': 'max\n' }), undefined);
  assert.equal(await limitIn('', {}), undefined);
});
