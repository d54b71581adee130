/**
 * Runs a script of the repository on another kernel than the host's: qemu boots that kernel in
 * software emulation (no KVM, no root, no network, no disk), with Node as its only program.
 *
 * The script is ordinary TypeScript and may use everything in `src/`, the bridge to libbpf
 * included, as root of its machine:
 *
 *     import type { Guest } from '../../lab/virtual-machine-protocol.ts';
 *     export async function run(guest: Guest): Promise<void> {
 *       guest.report({ loaded: true });
 *     }
 *
 *     const { messages } = await runInVirtualMachine({
 *       kernel: 'debian-12-cloud',
 *       script: 'test/kernel-floor/example.ts',
 *       files: ['build/bpf'],
 *     });
 *
 * A boot takes 10 seconds, 25 on busy cores, so one machine should do all that a test needs. Code
 * runs some ten to fifty times slower than on the host: nothing inside can be timed. The kernel's
 * modules are not loaded by themselves: name `veth`, `sch_ingress`, `cls_bpf` and the like in
 * `modules`; `programs` brings `ip` or `nft` with their libraries.
 */
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Argv, type CommandResult, runCommand } from '../src/linux/command-runner.ts';
import { writeImage } from './virtual-machine-image.ts';
import {
  fetchKernel,
  type Kernel,
  type KernelName,
  makeScratchFolder,
  resolveModules,
} from './virtual-machine-kernel.ts';
import { GUEST_NODE, GUEST_REPOSITORY, type GuestLine } from './virtual-machine-protocol.ts';

export interface VirtualMachineOptions {
  readonly kernel: KernelName;
  /** The script, by path relative to the repository; see the head of this file. */
  readonly script: string;
  /** Files and folders of the repository that the script reads or imports besides `src/`. */
  readonly files?: readonly string[];
  /** Files that exist only inside the machine, by path relative to the repository. */
  readonly extraFiles?: Readonly<Record<string, Uint8Array>>;
  /** A JSON value for the script. */
  readonly input?: unknown;
  /** Kernel modules to load first, with all that they need. */
  readonly modules?: readonly string[];
  /** Programs of the host, by absolute path, to be found inside at the same path. */
  readonly programs?: readonly string[];
  /** From the start of the emulator to the script's end. */
  readonly timeoutMs?: number;
}

export interface VirtualMachineRun {
  /** As `uname -r` printed it inside. */
  readonly release: string;
  /** What the script reported, in order. */
  readonly messages: readonly unknown[];
  /** What the kernel and the script printed on the console. */
  readonly console: string;
}

/**
 * The machine did not reach the end of its script: the script threw, the kernel died or the time
 * was up. The message holds what the console said about it.
 */
export class VirtualMachineError extends Error {
  override readonly name = 'VirtualMachineError';
}

/** Memory of a machine: the archive of 150 MB stands in it twice while the kernel unpacks it. */
const MEMORY_MIB = 1024;
/** Ten seconds are usual; a busy machine with one slow core may need ten times as long. */
const TIMEOUT_DEFAULT_MS = 180_000;
/** More than a script has reason to report; a verifier's log has at most 16 MiB. */
const MESSAGES_MAX_BYTES = 64 * 1024 * 1024;
const CONSOLE_LINES_SHOWN = 30;

const repository = join(import.meta.dirname, '..');
const cacheFolder = join(repository, 'build/kernel-floor');

/**
 * Boots a machine, runs the script in it and ends it. Killing this process kills the machine.
 *
 * @throws KernelUnavailableError when the kernel cannot be fetched
 * @throws VirtualMachineError
 */
export async function runInVirtualMachine(
  options: VirtualMachineOptions,
): Promise<VirtualMachineRun> {
  const kernel = await fetchKernel(options.kernel, cacheFolder);
  const scratch = makeScratchFolder(cacheFolder);
  try {
    const image = join(scratch, 'initramfs.cpio');
    await writeImage(image, {
      repository,
      files: ['package.json', 'src', 'lab', options.script, ...(options.files ?? [])],
      extraFiles: options.extraFiles ?? {},
      programs: options.programs ?? [],
      modules: resolveModules(kernel, options.modules ?? []),
      script: options.script,
      input: options.input ?? null,
    });
    const ports = { console: join(scratch, 'console'), messages: join(scratch, 'messages') };
    const result = await runCommand(emulator(kernel, image, ports), {
      timeoutMs: options.timeoutMs ?? TIMEOUT_DEFAULT_MS,
      killWithParent: true,
    });
    return judge(result, ports);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Files that take what the machine writes to its serial ports. */
interface Ports {
  readonly console: string;
  readonly messages: string;
}

function emulator(kernel: Kernel, image: string, ports: Ports): Argv {
  // Every way in which a kernel can die becomes a restart, which ends the emulator.
  const options = 'console=ttyS0 oops=panic panic=-1';
  // What the kernel does not know, it hands to its first program: as environment, or after "--".
  const environment = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';
  const guest = `${GUEST_REPOSITORY}/lab/virtual-machine-guest.ts`;
  const init = `rdinit=${GUEST_NODE} -- --disable-warning=ExperimentalWarning ${guest}`;
  return [
    'qemu-system-x86_64',
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', String(MEMORY_MIB)],
    ...['-kernel', kernel.imagePath, '-initrd', image],
    ...['-append', `${options} ${environment} ${init}`],
    ...['-serial', `file:${ports.console}`, '-serial', `file:${ports.messages}`],
  ];
}

function judge(result: CommandResult, ports: Ports): VirtualMachineRun {
  const said = readIfThere(ports.console).replaceAll('\r', '');
  const fail = (what: string) => new VirtualMachineError(describeEnd(what, said));
  if (result.timedOut) throw fail(result.error ?? 'the time is up');
  if (!result.success) {
    const remedy = result.code === 127 ? '; install the package qemu-system-x86' : '';
    throw fail(`${result.error ?? `qemu failed: ${result.stderr.trim()}`}${remedy}`);
  }

  const lines = readLines(ports.messages);
  const start = lines.find((line) => line.kind === 'start');
  const end = lines.find((line) => line.kind === 'end');
  if (start === undefined || end === undefined) throw fail('it died before its script ended');
  if (end.error !== undefined) throw fail(end.error);
  const messages = lines.filter((line) => line.kind === 'message').map((line) => line.message);
  return { release: start.release, messages, console: said };
}

/** A kernel's last words start with the reason; without any, the end of the console must do. */
function describeEnd(what: string, said: string): string {
  const lines = said.trimEnd().split('\n');
  const crash = lines.findIndex((line) => /\b(BUG:|Oops:|Kernel panic)/.test(line));
  const from = crash === -1 ? Math.max(0, lines.length - CONSOLE_LINES_SHOWN) : crash;
  const shown = lines.slice(from, from + CONSOLE_LINES_SHOWN).join('\n');
  const verb = crash === -1 ? 'ended with' : 'said';
  return `the virtual machine failed: ${what}\nits console ${verb}:\n${shown}`;
}

function readLines(path: string): GuestLine[] {
  const sizeBytes = statSync(path).size;
  if (sizeBytes > MESSAGES_MAX_BYTES) {
    throw new VirtualMachineError(
      `the virtual machine reported ${sizeBytes} bytes, more than ${MESSAGES_MAX_BYTES}`,
    );
  }
  // What follows the last line feed was cut off by the machine's death.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line): GuestLine => JSON.parse(line));
}

/** The emulator makes the file; it may have failed before. */
function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}
