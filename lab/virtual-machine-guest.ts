/**
 * The first and only program of a virtual machine: Node as process 1. It mounts what a Linux
 * program expects, loads the kernel modules, runs the script of its task and sends what the script
 * reports to the host, as one line of JSON each, through the second serial port.
 *
 * A process 1 that ends makes the kernel panic, so this one never ends by itself: it reports and
 * restarts the machine, which ends the emulator.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { release } from 'node:os';
import { errno, LinuxError, openNativeLibrary } from '../src/linux/ffi.ts';
import {
  GUEST_REPOSITORY,
  GUEST_TASK,
  type Guest,
  type GuestLine,
  type GuestTask,
} from './virtual-machine-protocol.ts';

const { functions: libc } = openNativeLibrary(null, {
  mount: { arguments: ['string', 'string', 'string', 'u64', 'pointer'], return: 'i32' },
  reboot: { arguments: ['i32'], return: 'i32' },
  syscall: { arguments: ['i64', 'i32', 'string', 'i32'], return: 'i64' },
});

const RB_AUTOBOOT = 0x0123_4567;
/** x86-64's number of finit_module, which the C library does not wrap. */
const SYS_FINIT_MODULE = 313n;

/** The order matters: /sys before what is mounted below it. */
const mounts = [
  ['proc', '/proc'],
  ['sysfs', '/sys'],
  ['bpf', '/sys/fs/bpf'],
  ['devtmpfs', '/dev'],
  ['tmpfs', '/tmp'],
  ['tmpfs', '/run'],
] as const;

for (const [type, path] of mounts) {
  if (libc.mount(type, path, type, 0n, 0n) !== 0) {
    throw new LinuxError(`mount ${type} on ${path}`, errno());
  }
}
const port = openSync('/dev/ttyS1', 'w');
process.on('uncaughtException', (error) => end(error));
process.on('exit', (code) => end(new Error(`the script ended its process with code ${code}`)));
process.chdir(GUEST_REPOSITORY);
send({ kind: 'start', release: release() });
try {
  await runTask();
  end();
} catch (error) {
  end(error);
}

async function runTask(): Promise<void> {
  const task: GuestTask = JSON.parse(readFileSync(GUEST_TASK, 'utf8'));
  for (const module of task.modules) loadModule(module);
  const script: { run(guest: Guest): void | Promise<void> } = await import(task.script);
  await script.run({
    input: task.input,
    report: (message) => send({ kind: 'message', message }),
  });
}

function loadModule(path: string): void {
  const file = openSync(path, 'r');
  const result = libc.syscall(SYS_FINIT_MODULE, file, '', 0);
  if (result !== 0n) throw new LinuxError(`load the kernel module ${path}`, errno());
  closeSync(file);
}

function send(line: GuestLine): void {
  const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
  let written = 0;
  while (written < bytes.length) written += writeSync(port, bytes, written);
}

function end(error?: unknown): never {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  send(error === undefined ? { kind: 'end' } : { kind: 'end', error: text });
  // Closing waits until the last byte has left the port.
  closeSync(port);
  libc.reboot(RB_AUTOBOOT);
  throw new LinuxError('restart the machine', errno());
}
