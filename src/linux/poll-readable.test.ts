import assert from 'node:assert/strict';
import { closeSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';
import { pollReadable } from './poll-readable.ts';

const { functions: libc } = openNativeLibrary(null, {
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
});

const O_CLOEXEC = 0o2000000;
/** So many turns of the event loop are enough to notice what there is. */
const TURNS = 20;

class Pipe implements Disposable {
  readonly readFd: number;
  readonly writeFd: number;

  constructor() {
    const fds = new Int32Array(2);
    if (libc.pipe2(new Uint8Array(fds.buffer), O_CLOEXEC) !== 0) {
      throw new LinuxError('make a pipe', errno());
    }
    const [readFd = -1, writeFd = -1] = fds;
    this.readFd = readFd;
    this.writeFd = writeFd;
  }

  write(): void {
    writeSync(this.writeFd, 'x');
  }

  read(): void {
    readSync(this.readFd, new Uint8Array(1));
  }

  [Symbol.dispose](): void {
    closeSync(this.readFd);
    closeSync(this.writeFd);
  }
}

async function turns(): Promise<void> {
  for (let count = 0; count < TURNS; count++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

test('a descriptor is told as long as something is there to read, and not while nothing is', async () => {
  using pipe = new Pipe();
  let told = 0;
  const poll = pollReadable(pipe.readFd, () => {
    told++;
    pipe.read();
  });
  await turns();
  assert.equal(told, 0);
  pipe.write();
  pipe.write();
  await turns();
  assert.equal(told, 2);
  poll.stop();
});

test('a paused poll tells nothing until it goes on, and then what came meanwhile', async () => {
  using pipe = new Pipe();
  let told = 0;
  const poll = pollReadable(pipe.readFd, () => {
    told++;
    poll.pause();
  });
  pipe.write();
  await turns();
  assert.equal(told, 1);
  await turns();
  assert.equal(told, 1);
  poll.resume();
  await turns();
  assert.equal(told, 2);
  poll.stop();
});

test('a stopped poll tells nothing any more, and can be stopped, paused and resumed again', async () => {
  using pipe = new Pipe();
  const poll = pollReadable(pipe.readFd, () => assert.fail('told'));
  pipe.write();
  poll.stop();
  for (const again of [poll.stop, poll.pause, poll.resume]) again();
  await turns();
});

test('a descriptor that cannot be polled is refused', () => {
  assert.throws(() => pollReadable(-1, () => {}), /cannot uv_poll_init: EBADF/);
});
