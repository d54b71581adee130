import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Machine, missingRequirement, purposes } from './requirements.mjs';

const debian12: Machine = {
  nodeVersion: '20.0.0',
  platform: 'linux',
  architecture: 'x64',
  userId: 0,
  kernelRelease: '6.1.0-37-amd64',
  hasKernelTypes: true,
};

test('Debian 12 with root and Node 20 lacks nothing for any purpose', () => {
  for (const purpose of purposes) assert.equal(missingRequirement(purpose, debian12), undefined);
});

test('an old Node is named for every purpose', () => {
  for (const purpose of purposes) {
    const reason = missingRequirement(purpose, { ...debian12, nodeVersion: '18.19.0' });
    assert.match(reason ?? '', /needs Node 20 or newer; this is 18\.19\.0/);
  }
});

test('another system and another processor are named for every purpose', () => {
  for (const purpose of purposes) {
    const system = missingRequirement(purpose, { ...debian12, platform: 'darwin' });
    assert.match(system ?? '', /Linux only; this is darwin/);
    const processor = missingRequirement(purpose, { ...debian12, architecture: 'riscv64' });
    assert.match(processor ?? '', /x64 and arm64 processors; this is riscv64/);
  }
});

test('running and testing need root, checking and unit tests do not', () => {
  const user = { ...debian12, userId: 1000 };
  assert.match(missingRequirement('run', user) ?? '', /needs root.*sudo/);
  assert.match(missingRequirement('test', user) ?? '', /needs root.*sudo npm test.*test:unit/);
  assert.equal(missingRequirement('check', user), undefined);
  assert.equal(missingRequirement('unit', user), undefined);
});

test('the kernel floor is 6.1, compared as numbers', () => {
  const reasonFor = (kernelRelease: string) =>
    missingRequirement('run', { ...debian12, kernelRelease });
  assert.match(reasonFor('5.15.0-101-generic') ?? '', /Linux 6\.1 or newer.*5\.15\.0-101-generic/);
  assert.match(reasonFor('6.0.12') ?? '', /Linux 6\.1 or newer/);
  assert.equal(reasonFor('6.10.3+bpo-amd64'), undefined);
  assert.equal(reasonFor('10.0-rc1'), undefined);
});

test('a kernel without BTF is told from one that is too old', () => {
  const reason = missingRequirement('test', { ...debian12, hasKernelTypes: false });
  assert.match(reason ?? '', /BTF.*CONFIG_DEBUG_INFO_BTF=y/);
});

test('checks and unit tests run on any kernel', () => {
  const old = { ...debian12, kernelRelease: '4.19.0', hasKernelTypes: false };
  assert.equal(missingRequirement('check', old), undefined);
  assert.equal(missingRequirement('unit', old), undefined);
});
