/**
 * Sends a frame through a packet socket's ring (`PACKET_TX_RING`, packet(7)). The kernel leaves
 * all but the Ethernet header in page fragments, as network cards do for what they receive: what
 * reads only the linear part of a packet sees nothing of it.
 */
import { closeSync } from 'node:fs';
import { endianness } from 'node:os';
import { errno, LinuxError, openNativeLibrary } from '../src/linux/ffi.ts';
import { interfaceIndex, mapMemory, pageBytes } from '../src/linux/libc.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  setsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'u32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  send: { arguments: ['i32', 'pointer', 'u64', 'i32'], return: 'i64' },
});

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOL_PACKET = 263;
const PACKET_TX_RING = 13;
const ETH_P_IP = 0x0800;
const TP_STATUS_SEND_REQUEST = 1n;
/** `struct tpacket_hdr`, aligned: where the frame's bytes begin. */
const TPACKET_HEADER_BYTES = 32;

/** Sends one frame from the calling thread's network namespace; blocks until it is on its way. */
export function sendThroughRing(interfaceName: string, frame: Uint8Array): void {
  if (endianness() !== 'LE') throw new Error('the structures here are little-endian');
  const what = `send a frame through the ring of ${interfaceName}`;
  const require = (result: number | bigint): void => {
    if (result < 0) throw new LinuxError(what, errno());
  };
  const fd = libc.socket(AF_PACKET, SOCK_RAW, 0);
  require(fd);
  try {
    // struct tpacket_req: one block of one page with one frame.
    const request = new Uint8Array(new Uint32Array([pageBytes, 1, pageBytes, 1]).buffer);
    require(libc.setsockopt(fd, SOL_PACKET, PACKET_TX_RING, request, request.length));
    const ring = mapMemory({ fd, lengthBytes: pageBytes, writable: true, what });
    const view = new DataView(ring.buffer);
    new Uint8Array(ring.buffer).set(frame, TPACKET_HEADER_BYTES);
    view.setUint32(8, frame.length, true);
    view.setBigUint64(0, TP_STATUS_SEND_REQUEST, true);
    const address = linkAddress(interfaceIndex(interfaceName));
    require(libc.bind(fd, address, address.length));
    require(libc.send(fd, null, 0n, 0));
    ring.unmap();
  } finally {
    closeSync(fd);
  }
}

/** `struct sockaddr_ll`: family, protocol in network order, interface. */
function linkAddress(index: number): Uint8Array<ArrayBuffer> {
  const address = new DataView(new ArrayBuffer(20));
  address.setUint16(0, AF_PACKET, true);
  address.setUint16(2, ETH_P_IP);
  address.setInt32(4, index, true);
  return new Uint8Array(address.buffer);
}
