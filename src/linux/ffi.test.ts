import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errnoName, LinuxError, NativeLibraryError, openNativeLibrary, readString } from './ffi.ts';

test('error numbers have the name that manual pages use first', () => {
  assert.equal(errnoName(11), 'EAGAIN');
  assert.equal(errnoName(95), 'EOPNOTSUPP');
  assert.equal(errnoName(524), 'ENOTSUPP');
  assert.equal(errnoName(4095), 'errno 4095');
});

test('an error names the action, the code of either sign, and what else is known', () => {
  const error = new LinuxError('attach traffic to wan0', -19, 'no such interface');
  assert.equal(error.message, 'cannot attach traffic to wan0: ENODEV: no such interface');
  assert.equal(error.code, 'ENODEV');
  assert.equal(error.errno, 19);
});

test('a missing library and a missing function are named with the remedy', () => {
  const wrongLibrary = () => openNativeLibrary('libnothing.so.9', {}, 'libnothing9');
  assert.throws(wrongLibrary, NativeLibraryError);
  assert.throws(wrongLibrary, /cannot load libnothing\.so\.9: .*install the package libnothing9/);
  const signature = { arguments: [], return: 'void' } as const;
  assert.throws(() => openNativeLibrary(null, { no_such_function: signature }), /no_such_function/);
});

test('NULL reads as the empty string', () => {
  assert.equal(readString(0n), '');
});
