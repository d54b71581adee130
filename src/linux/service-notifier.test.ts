import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openNativeLibrary } from './ffi.ts';
import { connectServiceNotifier } from './service-notifier.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
});

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

/** A service manager's end: what was said to it, datagram by datagram. */
function listenAt(path: string): { next(): string | undefined; close(): void } {
  const name = new TextEncoder().encode(path);
  const address = new Uint8Array(2 + name.length);
  address.set([AF_UNIX, 0, ...name]);
  if (path.startsWith('@')) address[2] = 0;
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0);
  assert.equal(libc.bind(fd, address, address.length), 0);
  const buffer = new Uint8Array(4_096);
  return {
    next: () => {
      const length = Number(libc.recv(fd, buffer, BigInt(buffer.length), MSG_DONTWAIT));
      return length < 0 ? undefined : new TextDecoder().decode(buffer.subarray(0, length));
    },
    close: () => closeSync(fd),
  };
}

for (const kind of ['a path', 'an abstract name']) {
  test(`assignments reach the service manager at ${kind}, each on a line`, () => {
    const folder = mkdtempSync(join(tmpdir(), 'gatehouse-notify-'));
    const path = kind === 'a path' ? join(folder, 'notify') : `@gatehouse-test-${process.pid}`;
    const manager = listenAt(path);
    try {
      const service = connectServiceNotifier({ NOTIFY_SOCKET: path });
      service.notify('READY=1', 'STATUS=all\nSTOPPING=1');
      assert.equal(manager.next(), 'READY=1\nSTATUS=all STOPPING=1');
      assert.equal(manager.next(), undefined);
    } finally {
      manager.close();
      rmSync(folder, { recursive: true });
    }
  });
}

test('without a service manager nothing is said and nothing fails', () => {
  const service = connectServiceNotifier({});
  service.notify('READY=1');
  assert.equal(service.watchdogEveryMs, undefined);
});

test('the watchdog is fed twice in its time, and only by the process that it is for', () => {
  const socket = { NOTIFY_SOCKET: '/run/none' };
  const every = (more: Record<string, string>) =>
    connectServiceNotifier({ ...socket, ...more }).watchdogEveryMs;
  assert.equal(every({ WATCHDOG_USEC: '30000000' }), 15_000);
  assert.equal(every({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: `${process.pid}` }), 15_000);
  assert.equal(every({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' }), undefined);
  assert.equal(every({ WATCHDOG_USEC: 'soon' }), undefined);
  assert.equal(every({}), undefined);
});

test('an address that cannot be one is refused by name', () => {
  for (const path of ['relative', `/${'x'.repeat(120)}`]) {
    assert.throws(() => connectServiceNotifier({ NOTIFY_SOCKET: path }), /NOTIFY_SOCKET/);
  }
});

test('a service manager that has gone is an error that names it', () => {
  const service = connectServiceNotifier({ NOTIFY_SOCKET: '/nonexistent/notify' });
  assert.throws(() => service.notify('READY=1'), /manager at \/nonexistent\/notify: ENOENT/);
});
