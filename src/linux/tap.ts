/**
 * TAP devices: an Ethernet interface whose other side is this process, and waiting for several of
 * them without Node's event loop, for a process that does nothing else.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { constants as system } from 'node:os';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';
import { inNetworkNamespace, ioctl } from './libc.ts';

const { functions: libc } = openNativeLibrary(null, {
  read: { arguments: ['i32', 'buffer', 'u64'], return: 'i64' },
  write: { arguments: ['i32', 'buffer', 'u64'], return: 'i64' },
  ppoll: { arguments: ['buffer', 'u64', 'buffer', 'pointer'], return: 'i32' },
});

const { EAGAIN, EINTR } = system.errno;
/** The device is gone, with its namespace for example. asm-generic/errno.h */
const EBADFD = 77;

/** linux/if_tun.h */
const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_TUN_EXCL = 0x8000;
/** sizeof(struct ifreq), and where its flags stand. */
const IFREQ_BYTES = 40;
const IFREQ_FLAGS_OFFSET = 16;

/** The device disappears when it is closed or this process ends. */
export class TapDevice {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Makes a TAP device in a network namespace, down and without addresses. It offers no offload,
   * so each frame that is read has its checksums and is no larger than the MTU allows.
   *
   * @throws LinuxError, EBUSY when an interface of that name exists
   */
  static open(options: { namespacePath: string; interfaceName: string }): TapDevice {
    const { namespacePath, interfaceName } = options;
    const request = new Uint8Array(IFREQ_BYTES);
    new TextEncoder().encodeInto(interfaceName, request.subarray(0, IFREQ_FLAGS_OFFSET - 1));
    const flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL;
    new DataView(request.buffer).setUint16(IFREQ_FLAGS_OFFSET, flags, true);
    return inNetworkNamespace(namespacePath, () => {
      const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
      try {
        ioctl(fd, TUNSETIFF, request, `make the TAP device ${interfaceName} in ${namespacePath}`);
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      return new TapDevice(fd);
    });
  }

  /** Reads one frame and returns its length; undefined when none waits. */
  readFrame(buffer: Uint8Array<ArrayBuffer>): number | undefined {
    const length = Number(libc.read(this.fd, buffer, BigInt(buffer.length)));
    if (length >= 0) return length;
    const code = errno();
    if (code === EAGAIN || code === EINTR) return undefined;
    throw new LinuxError('read from a TAP device', code);
  }

  /** Lets a frame arrive at the interface. False when it is down or has no memory for it. */
  writeFrame(frame: Uint8Array<ArrayBuffer>): boolean {
    if (Number(libc.write(this.fd, frame, BigInt(frame.length))) === frame.length) return true;
    const code = errno();
    if (code === EBADFD) throw new LinuxError('write to a TAP device', code);
    return false;
  }

  close(): void {
    closeSync(this.fd);
  }
}

const POLLIN = 1;
/** sizeof(struct pollfd) */
const POLLFD_BYTES = 8;

/**
 * Waits, with the thread blocked, until one of the descriptors can be read, or is at its end, or
 * the time has passed.
 *
 * @param timeoutMs with fractions; undefined waits for ever
 * @returns for each descriptor whether reading will not block
 */
export function waitReadable(fds: readonly number[], timeoutMs: number | undefined): boolean[] {
  const polled = new DataView(new ArrayBuffer(fds.length * POLLFD_BYTES));
  for (const [index, fd] of fds.entries()) {
    polled.setInt32(index * POLLFD_BYTES, fd, true);
    polled.setInt16(index * POLLFD_BYTES + 4, POLLIN, true);
  }
  const nanoseconds = BigInt(Math.ceil(Math.max(0, timeoutMs ?? FOREVER_MS) * 1e6));
  const timeout = new BigInt64Array([nanoseconds / 1_000_000_000n, nanoseconds % 1_000_000_000n]);
  const bytes = new Uint8Array(polled.buffer);
  const count = libc.ppoll(bytes, BigInt(fds.length), new Uint8Array(timeout.buffer), 0n);
  if (count < 0) {
    const code = errno();
    if (code !== EINTR) throw new LinuxError(`wait for ${fds.length} files`, code);
  }
  return fds.map((_, index) => count > 0 && polled.getInt16(index * POLLFD_BYTES + 6, true) !== 0);
}

/** An hour: the caller asks again. */
const FOREVER_MS = 3_600_000;
