/**
 * Examines the machine after taking things away from it, and prints the findings as JSON:
 * `node examine-machine-victim.ts STATE RUNTIME ACTION…`. It is started in a mount namespace of its
 * own, so what it hides is hidden from nobody else.
 *
 * - `hide=PATH`: an empty tmpfs over a folder
 * - `replace=PATH=FILE`: another file over a file
 * - `read-only=PATH`: a folder that cannot be written
 * - `small=PATH`: a tmpfs of a mebibyte over a folder
 * - `forbid-bpf`: a seccomp filter that refuses bpf(2)
 */
import { arch } from 'node:os';
import { runCommand } from '../../src/linux/command-runner.ts';
import { examineMachine } from '../../src/linux/examine-machine.ts';
import { addressOf, errno, LinuxError, openNativeLibrary } from '../../src/linux/ffi.ts';

const TIMEOUT_MS = 20_000;

async function mount(...argv: readonly string[]): Promise<void> {
  const result = await runCommand(['mount', ...argv], { timeoutMs: TIMEOUT_MS });
  if (!result.success) throw new Error(`mount ${argv.join(' ')}: ${result.stderr}`);
}

const actions: Readonly<Record<string, (path: string, file: string) => Promise<void> | void>> = {
  hide: (path) => mount('-t', 'tmpfs', 'none', path),
  replace: (path, file) => mount('--bind', file, path),
  'read-only': async (path) => {
    await mount('--bind', path, path);
    await mount('-o', 'remount,bind,ro', path);
  },
  small: (path) => mount('-t', 'tmpfs', '-o', 'size=1m,nr_inodes=64', 'none', path),
  'forbid-bpf': forbidBpf,
};

const PR_SET_SECCOMP = 22;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2n;
/** asm/unistd.h */
const bpfCallNumbers: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const SECCOMP_RET_ALLOW = 0x7fff0000;
const SECCOMP_RET_EPERM = 0x00050001;

/** `struct sock_filter` of linux/filter.h, four times: look at the call's number and answer. */
function forbidBpf(): void {
  const instructions: readonly (readonly [number, number, number, number])[] = [
    [0x20, 0, 0, 0],
    [0x15, 0, 1, bpfCallNumbers[arch()] ?? -1],
    [0x06, 0, 0, SECCOMP_RET_EPERM],
    [0x06, 0, 0, SECCOMP_RET_ALLOW],
  ];
  const filter = new DataView(new ArrayBuffer(8 * instructions.length));
  for (const [index, [code, jumpTrue, jumpFalse, value]] of instructions.entries()) {
    filter.setUint16(index * 8, code, true);
    filter.setUint8(index * 8 + 2, jumpTrue);
    filter.setUint8(index * 8 + 3, jumpFalse);
    filter.setUint32(index * 8 + 4, value, true);
  }
  const program = new DataView(new ArrayBuffer(16));
  program.setUint16(0, instructions.length, true);
  program.setBigUint64(8, addressOf(filter), true);
  const { functions: libc } = openNativeLibrary(null, {
    prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
  });
  const calls = [
    [PR_SET_NO_NEW_PRIVS, 1n, 0n],
    [PR_SET_SECCOMP, SECCOMP_MODE_FILTER, addressOf(program)],
  ] as const;
  for (const [option, first, second] of calls) {
    if (libc.prctl(option, first, second, 0n, 0n) !== 0) {
      throw new LinuxError('install a seccomp filter', errno());
    }
  }
}

const [state = '', runtime = '', ...wanted] = process.argv.slice(2);
for (const words of wanted) {
  const [name = '', path = '', file = ''] = words.split('=');
  await actions[name]?.(path, file);
}
process.stdout.write(`${JSON.stringify(await examineMachine({ state, runtime }))}\n`);
