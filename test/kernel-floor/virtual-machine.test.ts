import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInVirtualMachine, VirtualMachineError } from '../../lab/virtual-machine.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { startProcess } from '../../src/linux/command-runner.ts';
import type { CountReport } from './count-packets.ts';
import type { Failure } from './fail.ts';

function failBy(failure: Failure, timeoutMs?: number): Promise<unknown> {
  return runInVirtualMachine({
    kernel: 'debian-12-cloud',
    script: 'test/kernel-floor/fail.ts',
    input: failure,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
}

async function failureOf(run: Promise<unknown>): Promise<string> {
  const error = await run.then(
    () => assert.fail('the machine did not fail'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof VirtualMachineError, String(error));
  return error.message;
}

test('a machine dies with the process that started it', async () => {
  const script = `
    const { runInVirtualMachine } = await import(process.argv[1]);
    await runInVirtualMachine({ kernel: 'debian-12-cloud', script: 'test/kernel-floor/fail.ts' });
  `;
  const module = import.meta.resolve('../../lab/virtual-machine.ts');
  const starter = startProcess([process.execPath, '--input-type=module', '-e', script, module]);
  assert.ok(starter.pid !== undefined);
  const emulator = await waitFor('the emulator', () => emulatorOf(starter.pid ?? 0), {
    timeoutMs: 30_000,
  });
  process.kill(starter.pid, 'SIGKILL');
  await starter.exited;
  await waitFor('the end of the emulator', () => !isAlive(emulator), { timeoutMs: 10_000 });
});

test('a script attaches programs to links of the machine and reads what they count', async () => {
  const { messages } = await runInVirtualMachine({
    kernel: 'debian-12-cloud',
    script: 'test/kernel-floor/count-packets.ts',
    files: ['build/bpf'],
    modules: ['veth', 'sch_ingress', 'cls_bpf'],
    programs: ['/usr/sbin/ip'],
  });
  // Of tcx this kernel knows nothing.
  const expected: CountReport = {
    xdpMode: 'native',
    tcHook: 'clsact',
    counted: true,
    detached: true,
  };
  assert.deepEqual(messages, [expected]);
});

test('what a script throws inside the machine ends the run, with its stack', async () => {
  const message = await failureOf(failBy('throw'));
  assert.match(message, /RangeError: thrown inside the machine\s+at Module.run \(.*fail\.ts:\d+/);
});

test('a kernel that dies ends the run, with its last words', async () => {
  const message = await failureOf(failBy('crash-kernel'));
  assert.match(message, /it died before its script ended/);
  assert.match(message, /Kernel panic - not syncing: sysrq triggered crash/);
});

test('a machine that runs longer than its time limit is killed', async () => {
  const message = await failureOf(failBy('throw', 1_000));
  assert.match(message, /qemu-system-x86_64 ran longer than 1000 ms/);
});

/** The process id of the emulator whose scratch folder names this process, or undefined. */
function emulatorOf(starter: number): number | undefined {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const argv = commandLine(Number(entry));
    if (argv.startsWith('qemu-') && argv.includes(`/scratch-${starter}-`)) return Number(entry);
  }
  return undefined;
}

function isAlive(pid: number): boolean {
  return commandLine(pid) !== '';
}

/** Empty for a process that is gone, or that is dead and not yet waited for. */
function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
