/**
 * Sockets of the lab's hosts, held by this process: a test is the peer itself, on any host, with
 * every option of the kernel and without a program of its own there. Everything is non-blocking;
 * a test waits with `waitFor`, or by the methods that do so.
 */
import { closeSync } from 'node:fs';
import { constants as system } from 'node:os';
import { errno, LinuxError, openNativeLibrary } from '../src/linux/ffi.ts';
import { formatIpAddress, requireIpAddress } from '../src/net/ip-address.ts';
import type { LabHost } from './lab-host.ts';

export const { functions: socketCalls } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  connect: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  listen: { arguments: ['i32', 'i32'], return: 'i32' },
  accept4: { arguments: ['i32', 'buffer', 'buffer', 'i32'], return: 'i32' },
  sendto: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'u32'], return: 'i64' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recvfrom: { arguments: ['i32', 'buffer', 'u64', 'i32', 'buffer', 'buffer'], return: 'i64' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recvmsg: { arguments: ['i32', 'buffer', 'i32'], return: 'i64' },
  setsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'u32'], return: 'i32' },
  getsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'buffer'], return: 'i32' },
  getsockname: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
  shutdown: { arguments: ['i32', 'i32'], return: 'i32' },
});

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** Numbers of Linux on x64 and arm64. */
export const socketNumbers = {
  AF_INET: 2,
  AF_INET6: 10,
  SOCK_STREAM: 1,
  SOCK_DGRAM: 2,
  SOCK_RAW: 3,
  SOCK_NONBLOCK: 0x800,
  SOCK_CLOEXEC: 0x80000,
  MSG_DONTWAIT: 0x40,
  MSG_ERRQUEUE: 0x2000,
  MSG_NOSIGNAL: 0x4000,
  SOL_IP: 0,
  SOL_SOCKET: 1,
  SOL_TCP: 6,
  IP_TTL: 2,
  IP_OPTIONS: 4,
  IP_MTU_DISCOVER: 10,
  IP_RECVERR: 11,
  IP_MTU: 14,
  IP_PMTUDISC_DONT: 0,
  IP_PMTUDISC_DO: 2,
  SO_REUSEADDR: 2,
  SO_ERROR: 4,
  SO_RCVBUF: 8,
  SO_LINGER: 13,
  SO_REUSEPORT: 15,
  TCP_INFO: 11,
  SOL_IPV6: 41,
  IPV6_UNICAST_HOPS: 16,
  IPV6_MTU_DISCOVER: 23,
  IPV6_RECVERR: 25,
  IPV6_DSTOPTS: 59,
  IPV6_TCLASS: 67,
} as const;

const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;
/** Room for a socket's name of either family. */
export const SOCKET_NAME_BYTES = SOCKADDR_IN6_BYTES;
/** The kernel keeps twice as much as is asked for, up to net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

export abstract class LabSocket implements Disposable {
  readonly fd: number;
  readonly #host: string;
  #closed = false;

  protected constructor(fd: number, host: string) {
    this.fd = fd;
    this.#host = host;
  }

  /** The endpoint that the socket is bound to. */
  get local(): Endpoint {
    const name = new Uint8Array(SOCKET_NAME_BYTES);
    const length = lengthBytes(name.length);
    this.must('read the name', socketCalls.getsockname(this.fd, name, length));
    return decodeEndpoint(name);
  }

  setOption(level: number, option: number, value: number | Uint8Array<ArrayBuffer>): this {
    const bytes = typeof value === 'number' ? int32(value) : value;
    const result = socketCalls.setsockopt(this.fd, level, option, bytes, bytes.length);
    this.must(`set option ${option}`, result);
    return this;
  }

  getOption(level: number, option: number): number {
    const bytes = new Uint8Array(4);
    const result = socketCalls.getsockopt(this.fd, level, option, bytes, lengthBytes(4));
    this.must(`get option ${option}`, result);
    return new DataView(bytes.buffer).getInt32(0, true);
  }

  bind(local: Endpoint): void {
    const name = encodeEndpoint(local);
    const what = `bind to ${local.address}:${local.port}`;
    this.must(what, socketCalls.bind(this.fd, name, name.length));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @throws LinuxError for a result below zero */
  protected must(action: string, result: number | bigint): number {
    if (result < 0) throw new LinuxError(`${action} of a socket at ${this.#host}`, errno());
    return Number(result);
  }

  /** As `must`; undefined where the call would have to wait. */
  protected mayWait(action: string, result: number | bigint): number | undefined {
    if (result < 0 && errno() === system.errno.EAGAIN) return undefined;
    return this.must(action, result);
  }
}

export interface SocketKind {
  readonly type: number;
  readonly family: 4 | 6;
  readonly protocol?: number;
}

/** @throws LinuxError */
export function openSocket(host: LabHost, { type, family, protocol = 0 }: SocketKind): number {
  const flags = type | socketNumbers.SOCK_NONBLOCK | socketNumbers.SOCK_CLOEXEC;
  const domain = family === 4 ? socketNumbers.AF_INET : socketNumbers.AF_INET6;
  const fd = host.enter(() => socketCalls.socket(domain, flags, protocol));
  if (fd < 0) throw new LinuxError(`open a socket at ${host.name}`, errno());
  const bytes = int32(RECEIVE_BUFFER_BYTES);
  socketCalls.setsockopt(
    fd,
    socketNumbers.SOL_SOCKET,
    socketNumbers.SO_RCVBUF,
    bytes,
    bytes.length,
  );
  return fd;
}

export function familyOfAddress(address: string): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

/** For a socket that shall speak with this address. */
export function anyAddressFor(address: string): string {
  return familyOfAddress(address) === 4 ? '0.0.0.0' : '::';
}

/** struct sockaddr_in or sockaddr_in6 */
export function encodeEndpoint({ address, port }: Endpoint): Uint8Array<ArrayBuffer> {
  const { family, bits } = requireIpAddress(address);
  const isIpv4 = family === 4;
  const bytes = new Uint8Array(isIpv4 ? SOCKADDR_IN_BYTES : SOCKADDR_IN6_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIpv4 ? socketNumbers.AF_INET : socketNumbers.AF_INET6, true);
  view.setUint16(2, port);
  if (isIpv4) {
    view.setUint32(4, Number(bits));
  } else {
    view.setBigUint64(8, bits >> 64n);
    view.setBigUint64(16, bits & 0xffff_ffff_ffff_ffffn);
  }
  return bytes;
}

/** @param bytes a name that the kernel wrote, or is not there: then of IPv4's any */
export function decodeEndpoint(bytes: Uint8Array): Endpoint {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const port = view.getUint16(2);
  if (view.getUint16(0, true) !== socketNumbers.AF_INET6) {
    return { address: formatIpAddress({ family: 4, bits: BigInt(view.getUint32(4)) }), port };
  }
  const bits = (view.getBigUint64(8) << 64n) | view.getBigUint64(16);
  return { address: formatIpAddress({ family: 6, bits }), port };
}

/** A `socklen_t` that a call reads and writes. */
export function lengthBytes(length: number): Uint8Array<ArrayBuffer> {
  return int32(length);
}

function int32(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}
