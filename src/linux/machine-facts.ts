/**
 * Asks the machine what it has. Every question is bounded in time and fails alone, and what is
 * tried for an answer is gone afterwards.
 */
import { readFileSync } from 'node:fs';
import { open, readFile, statfs } from 'node:fs/promises';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import type {
  Attempt,
  BpfFacts,
  MachineFacts,
  PrivilegeFacts,
  Probed,
} from '../gateway/machine-facts.ts';
import { type Argv, type CommandResult, describeFailure, runCommand } from './command-runner.ts';
import { examineRuntimeFolder, examineStateFolder } from './folder-facts.ts';
import { readMemoryLimit } from './memory-limit.ts';
import { askNftVersion, checkNftRuleset, findOtherFirewalls } from './nft-facts.ts';

export interface MachinePaths {
  /** `paths.state` of the config. */
  readonly state: string;
  /** `paths.runtime` of the config. */
  readonly runtime: string;
}

/** Loading takes a second on a slow machine; a hung file system answers never. */
const PROBE_MS_MAX = 20_000;

export async function gatherMachineFacts(paths: MachinePaths): Promise<MachineFacts> {
  const [privileges, bpf, nftVersion, nftRuleset, otherFirewalls, setpriv] = await Promise.all([
    probe(readPrivileges),
    probe(askBpf),
    probe(askNftVersion),
    probe(checkNftRuleset),
    probe(findOtherFirewalls),
    probe(trySetpriv),
  ]);
  const [stateFolder, runtimeFolder, limits, memoryBytesMax] = await Promise.all([
    probe(() => examineStateFolder(paths.state)),
    probe(() => examineRuntimeFolder(paths.runtime)),
    probe(() => readFile('/proc/self/limits', 'utf8')),
    probe(() => readMemoryLimit()),
  ]);
  return {
    kernelRelease: release(),
    hasKernelTypes: await probe(() => isReadable('/sys/kernel/btf/vmlinux')),
    privileges,
    bpf,
    jitSetting: await probe(readJitSetting),
    hasBpffs: await probe(async () => (await statfs('/sys/fs/bpf')).type === BPF_FS_MAGIC),
    nftVersion,
    nftRuleset,
    otherFirewalls,
    hasProtocolNames: await probe(() => hasLine('/etc/protocols', /^tcp\s/m)),
    setpriv,
    hasAccount: await probe(() => hasLine('/etc/passwd', /^gatehouse:/m)),
    stateFolder,
    runtimeFolder,
    forwardingSetting: await probe(() => tryToOpen('/proc/sys/net/ipv4/ip_forward')),
    openFilesMax: limitAmong(limits, 'Max open files'),
    lockedMemoryBytesMax: limitAmong(limits, 'Max locked memory'),
    memoryBytesMax,
    year: new Date().getUTCFullYear(),
  };
}

/** linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;

/** What goes wrong with a question, the time included, is its answer. */
async function probe<T>(ask: () => T | Promise<T>): Promise<Probed<T>> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new Error(`no answer within ${PROBE_MS_MAX} ms`));
  }, PROBE_MS_MAX);
  try {
    return { value: await Promise.race([ask(), late.promise]) };
  } catch (cause) {
    return { failure: wordsOf(cause) };
  } finally {
    clearTimeout(timer);
  }
}

function readPrivileges(): PrivilegeFacts {
  const status = readFileSync('/proc/self/status', 'utf8');
  const capabilities = /^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1];
  if (capabilities === undefined) throw new Error('/proc/self/status names no capabilities');
  const idMap = readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/);
  return {
    userId: process.geteuid?.() ?? -1,
    capabilities: BigInt(`0x${capabilities}`),
    isUnderSeccomp: /^Seccomp:\s+[12]$/m.test(status),
    isInUserNamespace: idMap.join(' ') !== '0 0 4294967295',
  };
}

const probeProgram = fileURLToPath(new URL('bpf-probe.ts', import.meta.url));

async function askBpf(): Promise<BpfFacts> {
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', probeProgram] as const;
  const result = await run(argv);
  if (!result.success) throw new Error(describeFailure(argv, result));
  return JSON.parse(result.stdout);
}

/** BusyBox has a setpriv of its own, which knows no --pdeathsig. */
async function trySetpriv(): Promise<Attempt> {
  const argv = ['setpriv', '--pdeathsig', 'KILL', '--', 'setpriv', '--version'] as const;
  const result = await run(argv);
  if (result.success) return { success: true };
  return { success: false, reason: describeFailure(argv, result) };
}

function run(argv: Argv): Promise<CommandResult> {
  return runCommand(argv, { timeoutMs: PROBE_MS_MAX });
}

/** Only the first network namespace shows the setting, which holds for all of them. */
async function readJitSetting(): Promise<string | undefined> {
  try {
    return (await readFile('/proc/sys/net/core/bpf_jit_enable', 'utf8')).trim();
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}

async function isReadable(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'r');
    await file.close();
    return true;
  } catch (cause) {
    if (isAbsence(cause)) return false;
    throw cause;
  }
}

async function hasLine(path: string, pattern: RegExp): Promise<boolean> {
  try {
    return pattern.test(await readFile(path, 'utf8'));
  } catch (cause) {
    if (isAbsence(cause)) return false;
    throw cause;
  }
}

/** For reading and writing, without doing either. */
async function tryToOpen(path: string): Promise<Attempt> {
  try {
    const file = await open(path, 'r+');
    await file.close();
    return { success: true };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    return { success: false, reason: wordsOf(cause), ...(code === undefined ? {} : { code }) };
  }
}

/** The soft limit: Node has raised it to the hard one already where it could. */
function limitAmong(limits: Probed<string>, name: string): Probed<number> {
  if ('failure' in limits) return limits;
  const row = limits.value.split('\n').find((line) => line.startsWith(`${name} `));
  const [soft = ''] = row?.slice(name.length).trim().split(/\s+/) ?? [];
  if (soft === 'unlimited') return { value: Number.POSITIVE_INFINITY };
  if (!/^[0-9]+$/.test(soft)) return { failure: `/proc/self/limits has no ${name}` };
  return { value: Number(soft) };
}

function isAbsence(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException).code === 'ENOENT';
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
