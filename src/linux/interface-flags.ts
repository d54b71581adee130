/** Turning interfaces of this thread's network namespace on, without starting a program. */
import { closeSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';
import { ioctl } from './libc.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
});

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 0x8_0002;
/** linux/sockios.h */
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const IFF_UP = 1;
/** sizeof(struct ifreq), and where its flags stand. */
const IFREQ_BYTES = 40;
const IFREQ_FLAGS_OFFSET = 16;

/** @throws LinuxError, ENODEV when there is no interface of that name */
export function setInterfaceUp(interfaceName: string): void {
  const request = new Uint8Array(IFREQ_BYTES);
  new TextEncoder().encodeInto(interfaceName, request.subarray(0, IFREQ_FLAGS_OFFSET - 1));
  const view = new DataView(request.buffer);
  const socket = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (socket < 0) throw new LinuxError('open a socket to set interfaces', errno());
  try {
    ioctl(socket, SIOCGIFFLAGS, request, `read the flags of ${interfaceName}`);
    const flags = view.getUint16(IFREQ_FLAGS_OFFSET, true);
    view.setUint16(IFREQ_FLAGS_OFFSET, flags | IFF_UP, true);
    ioctl(socket, SIOCSIFFLAGS, request, `set ${interfaceName} up`);
  } finally {
    closeSync(socket);
  }
}
