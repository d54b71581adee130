import assert from 'node:assert/strict';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { writeKernelSetting } from './kernel-settings.ts';

const directory = mkdtempSync(join(tmpdir(), 'gatehouse-kernel-settings-'));
mkdirSync(join(directory, 'net'));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, text?: string): string {
  const path = join(directory, 'net', name);
  if (text !== undefined) writeFileSync(path, text);
  return path;
}

test('a setting gets its value', () => {
  const path = file('ports', '32768\t60999\n');
  writeKernelSetting({ path: 'net/ports', value: '61440 65535' }, directory);
  assert.equal(readFileSync(path, 'utf8'), '61440 65535');
});

test('one that has its value already, however the kernel writes it, is left alone', () => {
  const path = file('same', '61440\t65535\n');
  utimesSync(path, 1, 1);
  writeKernelSetting({ path: 'net/same', value: '61440 65535' }, directory);
  assert.equal(statSync(path).mtimeMs, 1_000);
});

test('one that the kernel lacks is an error, unless it may be absent', () => {
  const setting = { path: 'net/absent', value: '0' };
  writeKernelSetting({ ...setting, mayBeAbsent: true }, directory);
  assert.throws(() => writeKernelSetting(setting, directory), /cannot write '0' to .*net\/absent/);
  assert.throws(() => readFileSync(file('absent')), { code: 'ENOENT' });
});
