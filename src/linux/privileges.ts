/** Gives up root for good. */
import { readFileSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';

const { functions: libc } = openNativeLibrary(null, {
  prctl: { arguments: ['i32', 'u64', 'u64', 'u64', 'u64'], return: 'i32' },
});

const PR_SET_PDEATHSIG = 1;
const PR_SET_NO_NEW_PRIVS = 38;
const SIGKILL = 9n;

/**
 * Becomes another account with its own group, no further groups and no capabilities, and lets no
 * program that is started later regain any. What is open stays open.
 *
 * @param account an account of this machine, for example `gatehouse`
 * @throws Error when there is no such account, or when anything of root would be left
 */
export function dropPrivileges(account: string): void {
  const groupId = groupIdOf(account);
  process.setgroups?.([]);
  process.setgid?.(groupId);
  process.setuid?.(account);
  if (libc.prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) !== 0) {
    throw new LinuxError('forbid new privileges', errno());
  }
  requireNothingLeft();
}

/**
 * The kernel kills this process when its parent ends. To be asked for after {@link dropPrivileges},
 * since a change of account forgets it.
 *
 * @param parentId the process that started us: it may have ended before this call
 */
export function dieWithParent(parentId: number): void {
  if (libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0n, 0n, 0n) !== 0) {
    throw new LinuxError('ask for the death signal', errno());
  }
  if (process.ppid !== parentId) throw new Error(`the parent ${parentId} has ended`);
}

function groupIdOf(account: string): number {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((candidate) => candidate.startsWith(`${account}:`));
  const groupId = Number(line?.split(':')[3]);
  if (line === undefined || !Number.isInteger(groupId)) {
    const remedy = `useradd --system --user-group --no-create-home ${account}`;
    throw new Error(`there is no account ${account}; make it by: ${remedy}`);
  }
  return groupId;
}

function requireNothingLeft(): void {
  const status = readFileSync('/proc/self/status', 'utf8');
  const ids = /^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/m.exec(status)?.slice(1) ?? ['0'];
  const capabilities = /^CapEff:\s+([0-9a-f]+)$/m.exec(status)?.[1] ?? 'unknown';
  if (ids.includes('0') || !/^0+$/.test(capabilities)) {
    throw new Error(`privileges are left: user ids ${ids.join(' ')}, capabilities ${capabilities}`);
  }
}
