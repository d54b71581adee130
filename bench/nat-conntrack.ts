/** The kernel's connection tracking: room for many connections, and forgetting them all. */
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import type { LabHost } from '../lab/lab.ts';
import { errno, LinuxError, openNativeLibrary } from '../src/linux/ffi.ts';

/** A million connections and as many again. */
const CONNECTIONS_MAX = 2_097_152;
const HASH_BUCKETS = 1_048_576;

/** Limits of the whole machine, which no namespace has for itself. */
const limits = [
  { path: '/proc/sys/net/netfilter/nf_conntrack_max', value: CONNECTIONS_MAX },
  { path: '/sys/module/nf_conntrack/parameters/hashsize', value: HASH_BUCKETS },
] as const;

/**
 * Gives connection tracking the room that a million flows need, machine-wide, until it is disposed
 * of. Limits that are higher already stay.
 *
 * @throws Error of node:fs when this kernel or container does not let us
 */
export function raiseConntrackLimits(): Disposable {
  using cleanup = new DisposableStack();
  for (const { path, value } of limits) {
    const before = readFileSync(path, 'utf8').trim();
    if (Number(before) >= value) continue;
    writeFileSync(path, `${value}`);
    cleanup.defer(() => writeFileSync(path, before));
  }
  return cleanup.move();
}

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
});

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_NETFILTER = 12;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLMSG_ERROR = 2;
/** Subsystem 1 is connection tracking (linux/netfilter/nfnetlink.h), its message 2 deletes. */
const CTNETLINK_DELETE = (1 << 8) | 2;

/** Forgets every connection of a host, by one request of ctnetlink. */
export function flushConntrack(host: LabHost): void {
  const what = `forget the connections of ${host.name}`;
  host.enter(() => {
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0) throw new LinuxError(what, errno());
    try {
      if (libc.send(fd, deleteAll, BigInt(deleteAll.length), 0) < 0n) {
        throw new LinuxError(what, errno());
      }
      const answer = new Uint8Array(256);
      if (libc.recv(fd, answer, BigInt(answer.length), 0) < 20n) {
        throw new LinuxError(what, errno());
      }
      const view = new DataView(answer.buffer);
      const error = view.getInt32(16, true);
      if (view.getUint16(4, true) !== NLMSG_ERROR || error !== 0) throw new LinuxError(what, error);
    } finally {
      closeSync(fd);
    }
  });
}

/** struct nlmsghdr (length, type, flags, sequence, port), struct nfgenmsg of zeros. */
const deleteAll = new Uint8Array(20);
{
  const view = new DataView(deleteAll.buffer);
  view.setUint32(0, deleteAll.length, true);
  view.setUint16(4, CTNETLINK_DELETE, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK, true);
}
