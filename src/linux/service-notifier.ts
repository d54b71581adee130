/**
 * Tells systemd (or whoever sets NOTIFY_SOCKET) how the service does: sd_notify(3). Without the
 * variable, nothing is said.
 */
import { closeSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  sendto: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'u32'], return: 'i64' },
});

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** `sun_path` of `struct sockaddr_un`. */
const PATH_BYTES_MAX = 108;

export interface ServiceNotifier {
  /** One or several assignments, for example `READY=1` or `STATUS=two roles run`. */
  notify(...assignments: readonly string[]): void;
  /** How often `WATCHDOG=1` is to be sent: half of what the manager waits. */
  readonly watchdogEveryMs: number | undefined;
}

/**
 * @param environment `process.env`: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID
 * @throws LinuxError when the address cannot be used, so that a wrong unit file is found at start
 */
export function connectServiceNotifier(
  environment: Readonly<Record<string, string | undefined>>,
): ServiceNotifier {
  const address = environment['NOTIFY_SOCKET'];
  if (address === undefined || address === '') {
    return { notify: () => {}, watchdogEveryMs: undefined };
  }
  const socketAddress = unixAddress(address);
  return {
    notify: (...assignments) => send(socketAddress, address, assignments),
    watchdogEveryMs: watchdogEvery(environment),
  };
}

function watchdogEvery(
  environment: Readonly<Record<string, string | undefined>>,
): number | undefined {
  const microseconds = Number(environment['WATCHDOG_USEC']);
  const isForUs = (environment['WATCHDOG_PID'] ?? `${process.pid}`) === `${process.pid}`;
  if (!Number.isInteger(microseconds) || microseconds <= 0 || !isForUs) return undefined;
  return microseconds / 2_000;
}

/** `struct sockaddr_un`; an `@` in front means the abstract name space. */
function unixAddress(path: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(path);
  if (!/^[/@]/.test(path) || bytes.length >= PATH_BYTES_MAX) {
    throw new RangeError(`NOTIFY_SOCKET ${JSON.stringify(path)} is no address of a Unix socket`);
  }
  const address = new Uint8Array(2 + bytes.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, 2);
  if (path.startsWith('@')) address[2] = 0;
  return address;
}

function send(
  address: Uint8Array<ArrayBuffer>,
  path: string,
  assignments: readonly string[],
): void {
  // A line break would begin another assignment.
  const lines = assignments.map((assignment) => assignment.replaceAll('\n', ' '));
  const text = new TextEncoder().encode(lines.join('\n'));
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new LinuxError('open a socket to the service manager', errno());
  try {
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const sent = libc.sendto(fd, text, BigInt(text.length), flags, address, address.length);
    if (sent < 0n) throw new LinuxError(`notify the service manager at ${path}`, errno());
  } finally {
    closeSync(fd);
  }
}
