/** A UDP socket of a lab's host, with what the kernel learns of ICMP errors about it. */
import { constants as system } from 'node:os';
import { addressOf, errno } from '../src/linux/ffi.ts';
import type { LabHost } from './lab-host.ts';
import {
  anyAddressFor,
  decodeEndpoint,
  type Endpoint,
  encodeEndpoint,
  familyOfAddress,
  LabSocket,
  lengthBytes,
  openSocket,
  SOCKET_NAME_BYTES,
  socketCalls,
  socketNumbers,
} from './lab-socket.ts';
import { waitFor } from './wait-for.ts';

export interface Datagram {
  readonly from: Endpoint;
  readonly payload: Buffer;
}

/** An ICMP error about a datagram of the socket, as the kernel tells it (ip(7), IP_RECVERR). */
export interface IcmpError {
  readonly type: number;
  readonly code: number;
  /** Of IPv4's 3/4 and IPv6's 2: the MTU. */
  readonly info: number;
  /** Where the datagram went. */
  readonly to: Endpoint;
  /** Who sent the error. */
  readonly offender: string;
}

const DATAGRAM_BYTES_MAX = 65_535;
/** How often to look while waiting: a lab's packets take less than a millisecond. */
const INTERVAL_MS = 2;
const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;

export class UdpSocket extends LabSocket {
  /** @param local an absent address is any of IPv4, an absent port is chosen by the kernel */
  static open(host: LabHost, local: Partial<Endpoint> = {}): UdpSocket {
    const { address = anyAddressFor('0.0.0.0'), port = 0 } = local;
    const family = familyOfAddress(address);
    const kind = { type: socketNumbers.SOCK_DGRAM, family } as const;
    const socket = new UdpSocket(openSocket(host, kind), host.name);
    if (family === 4) socket.setOption(socketNumbers.SOL_IP, socketNumbers.IP_RECVERR, 1);
    else socket.setOption(socketNumbers.SOL_IPV6, socketNumbers.IPV6_RECVERR, 1);
    socket.bind({ address, port });
    return socket;
  }

  /**
   * ICMP errors that came since are passed over: `takeError` has them.
   *
   * @throws LinuxError
   */
  send(to: Endpoint, payload: string | Uint8Array): void {
    this.getOption(socketNumbers.SOL_SOCKET, socketNumbers.SO_ERROR);
    const bytes = new Uint8Array(Buffer.from(payload));
    const name = encodeEndpoint(to);
    const length = BigInt(bytes.length);
    const sent = socketCalls.sendto(this.fd, bytes, length, 0, name, name.length);
    this.must(`send ${bytes.length} bytes to ${to.address}:${to.port}`, sent);
  }

  /** A datagram that has arrived. ICMP errors are passed over: `takeError` has them. */
  receive(): Datagram | undefined {
    const buffer = new Uint8Array(DATAGRAM_BYTES_MAX);
    const name = new Uint8Array(SOCKET_NAME_BYTES);
    for (;;) {
      const size = BigInt(buffer.length);
      const nameLength = lengthBytes(name.length);
      const length = socketCalls.recvfrom(this.fd, buffer, size, 0, name, nameLength);
      // An ICMP error that waits is told once, instead of a datagram.
      if (length < 0 && errno() !== system.errno.EAGAIN) continue;
      if (length < 0) return undefined;
      return {
        from: decodeEndpoint(name),
        payload: Buffer.from(buffer.subarray(0, Number(length))),
      };
    }
  }

  /** The next datagram. @throws Error when none comes in time */
  nextDatagram(timeoutMs: number): Promise<Datagram> {
    const description = `a datagram at port ${this.local.port}`;
    return waitFor(description, () => this.receive(), { timeoutMs, intervalMs: INTERVAL_MS });
  }

  /** All that has arrived, oldest first. */
  drain(): Datagram[] {
    const datagrams: Datagram[] = [];
    for (;;) {
      const datagram = this.receive();
      if (datagram === undefined) return datagrams;
      datagrams.push(datagram);
    }
  }

  takeError(): IcmpError | undefined {
    const name = new Uint8Array(SOCKET_NAME_BYTES);
    const control = new Uint8Array(CONTROL_BYTES);
    const vector = new Uint8Array(16);
    const data = new Uint8Array(DATAGRAM_BYTES_MAX);
    const vectorView = new DataView(vector.buffer);
    vectorView.setBigUint64(0, addressOf(data), true);
    vectorView.setBigUint64(8, BigInt(data.length), true);
    const message = encodeMessage({ name, vector, control });
    const flags = socketNumbers.MSG_ERRQUEUE | socketNumbers.MSG_DONTWAIT;
    const result = socketCalls.recvmsg(this.fd, message, flags);
    if (this.mayWait('read the errors', result) === undefined) return undefined;
    const to = decodeEndpoint(name);
    return decodeError(control, to) ?? this.takeError();
  }

  nextError(timeoutMs: number): Promise<IcmpError> {
    const description = `an ICMP error about port ${this.local.port}`;
    return waitFor(description, () => this.takeError(), { timeoutMs, intervalMs: INTERVAL_MS });
  }
}

/** Room for one control message with sock_extended_err and a socket's name. */
const CONTROL_BYTES = 64;
const CONTROL_HEADER_BYTES = 16;

/** struct msghdr of 64-bit systems */
function encodeMessage(parts: {
  readonly name: Uint8Array<ArrayBuffer>;
  readonly vector: Uint8Array<ArrayBuffer>;
  readonly control: Uint8Array<ArrayBuffer>;
}): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(56);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, addressOf(parts.name), true);
  view.setUint32(8, parts.name.length, true);
  view.setBigUint64(16, addressOf(parts.vector), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, addressOf(parts.control), true);
  view.setBigUint64(40, BigInt(parts.control.length), true);
  return bytes;
}

/** struct sock_extended_err of linux/errqueue.h, behind a struct cmsghdr. */
function decodeError(control: Uint8Array<ArrayBuffer>, to: Endpoint): IcmpError | undefined {
  const view = new DataView(control.buffer, CONTROL_HEADER_BYTES);
  const origin = view.getUint8(4);
  if (origin !== SO_EE_ORIGIN_ICMP && origin !== SO_EE_ORIGIN_ICMP6) return undefined;
  return {
    type: view.getUint8(5),
    code: view.getUint8(6),
    info: view.getUint32(8, true),
    to,
    offender: decodeEndpoint(control.subarray(CONTROL_HEADER_BYTES + 16)).address,
  };
}
