/** TCP sockets of a lab's host. */
import { constants as system } from 'node:os';
import { errno, LinuxError } from '../src/linux/ffi.ts';
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

const READ_BYTES = 65_536;
const INTERVAL_MS = 2;
const BACKLOG = 16;

/** What the kernel says of a connection. */
export type TcpCondition =
  | 'open'
  /** The other side has sent FIN, and all before it was read. */
  | 'ended'
  /** The errno by which it ended: ECONNRESET, ETIMEDOUT, EHOSTUNREACH … */
  | `E${string}`;

export interface TcpOptions {
  /** The port can be that of a listener and of connections at once, all of them shared. */
  readonly shared?: boolean;
}

export class TcpListener extends LabSocket {
  static open(host: LabHost, local: Endpoint, options: TcpOptions = {}): TcpListener {
    const listener = new TcpListener(openStream(host, local.address), host.name);
    listener.setOption(socketNumbers.SOL_SOCKET, socketNumbers.SO_REUSEADDR, 1);
    listener.setOption(
      socketNumbers.SOL_SOCKET,
      socketNumbers.SO_REUSEPORT,
      options.shared === true ? 1 : 0,
    );
    listener.bind(local);
    listener.must('listen', socketCalls.listen(listener.fd, BACKLOG));
    return listener;
  }

  /** A connection that waits there. */
  take(): { readonly connection: TcpSocket; readonly from: Endpoint } | undefined {
    const name = new Uint8Array(SOCKET_NAME_BYTES);
    const flags = socketNumbers.SOCK_NONBLOCK | socketNumbers.SOCK_CLOEXEC;
    const length = lengthBytes(name.length);
    const result = socketCalls.accept4(this.fd, name, length, flags);
    const fd = this.mayWait('accept a connection', result);
    return fd === undefined ? undefined : TcpSocket.accepted(fd, name);
  }

  next(timeoutMs: number): Promise<{ readonly connection: TcpSocket; readonly from: Endpoint }> {
    const description = `a connection to port ${this.local.port}`;
    return waitFor(description, () => this.take(), { timeoutMs, intervalMs: INTERVAL_MS });
  }
}

export class TcpSocket extends LabSocket {
  #condition: TcpCondition = 'open';
  readonly #received: Buffer[] = [];

  /** Not connected. `SO_REUSEADDR` is set, so that a port in TIME-WAIT can be used again. */
  static open(host: LabHost, local: Partial<Endpoint> = {}, options: TcpOptions = {}): TcpSocket {
    const { address = anyAddressFor('0.0.0.0'), port = 0 } = local;
    const socket = new TcpSocket(openStream(host, address), host.name);
    socket.setOption(socketNumbers.SOL_SOCKET, socketNumbers.SO_REUSEADDR, 1);
    socket.setOption(
      socketNumbers.SOL_SOCKET,
      socketNumbers.SO_REUSEPORT,
      options.shared === true ? 1 : 0,
    );
    socket.bind({ address, port });
    return socket;
  }

  /** Opened, and the SYN sent. */
  static connecting(
    host: LabHost,
    options: TcpOptions & { readonly from?: Partial<Endpoint>; readonly to: Endpoint },
  ): TcpSocket {
    const from = { address: anyAddressFor(options.to.address), ...options.from };
    const socket = TcpSocket.open(host, from, options);
    socket.connect(options.to);
    return socket;
  }

  /** @throws Error when the connection fails or takes too long */
  static async connected(
    host: LabHost,
    options: TcpOptions & {
      readonly from?: Partial<Endpoint>;
      readonly to: Endpoint;
      readonly timeoutMs: number;
    },
  ): Promise<TcpSocket> {
    const socket = TcpSocket.connecting(host, options);
    try {
      await socket.whenConnected(options.timeoutMs);
    } catch (error) {
      // An ICMP error that comes while connect() runs is told, but does not end the attempt: the
      // next SYN would follow a second later.
      socket.close();
      throw error;
    }
    return socket;
  }

  static accepted(fd: number, name: Uint8Array<ArrayBuffer>) {
    return { connection: new TcpSocket(fd, 'a listener'), from: decodeEndpoint(name) };
  }

  connect(to: Endpoint): void {
    const name = encodeEndpoint(to);
    const result = socketCalls.connect(this.fd, name, name.length);
    if (result < 0 && errno() === system.errno.EINPROGRESS) return;
    this.must(`connect to ${to.address}:${to.port}`, result);
  }

  async whenConnected(timeoutMs: number): Promise<void> {
    const outcome = () => this.#connectOutcome();
    const options = { timeoutMs, intervalMs: INTERVAL_MS };
    const result = await waitFor('a TCP connection', outcome, options);
    if (result !== 'connected') throw new LinuxError('connect', result);
  }

  /** The errno by which connecting failed; undefined while it is under way. */
  #connectOutcome(): 'connected' | number | undefined {
    const error = this.getOption(socketNumbers.SOL_SOCKET, socketNumbers.SO_ERROR);
    if (error !== 0) return error;
    // The first byte of struct tcp_info.
    const state = this.getOption(socketNumbers.SOL_TCP, socketNumbers.TCP_INFO) & 0xff;
    return state === TCP_SYN_SENT || state === TCP_SYN_RECV ? undefined : 'connected';
  }

  /** @throws LinuxError, EAGAIN where the kernel has no room for all of it */
  write(data: string | Uint8Array): void {
    const bytes = new Uint8Array(Buffer.from(data));
    const length = BigInt(bytes.length);
    const sent = this.must(
      'send',
      socketCalls.send(this.fd, bytes, length, socketNumbers.MSG_NOSIGNAL),
    );
    if (sent < bytes.length) throw new LinuxError('send at once', system.errno.EAGAIN);
  }

  /** Sends as fast as the other side takes it. */
  async writeAll(data: Uint8Array, timeoutMs: number): Promise<void> {
    let rest = new Uint8Array(data);
    const write = () => {
      const length = BigInt(rest.length);
      const result = socketCalls.send(this.fd, rest, length, socketNumbers.MSG_NOSIGNAL);
      rest = rest.subarray(this.mayWait('send', result) ?? 0);
      return rest.length === 0;
    };
    await waitFor(`${data.length} bytes to be sent`, write, { timeoutMs, intervalMs: INTERVAL_MS });
  }

  /** Reads what is there. */
  condition(): TcpCondition {
    while (this.#condition === 'open') {
      const buffer = new Uint8Array(READ_BYTES);
      const result = socketCalls.recv(this.fd, buffer, BigInt(buffer.length), 0);
      if (result < 0) {
        const code = errno();
        if (code === system.errno.EAGAIN) break;
        this.#condition = new LinuxError('receive', code).code as TcpCondition;
      } else if (result === 0n) {
        this.#condition = 'ended';
      } else {
        this.#received.push(Buffer.from(buffer.subarray(0, Number(result))));
      }
    }
    return this.#condition;
  }

  /** Everything that was received. */
  received(): Buffer {
    this.condition();
    return Buffer.concat(this.#received);
  }

  /** Waits until so much was received. */
  async waitForBytes(count: number, timeoutMs: number): Promise<Buffer> {
    return waitFor(`${count} bytes`, () => this.received(), {
      timeoutMs,
      intervalMs: INTERVAL_MS,
      until: (bytes) => bytes.length >= count,
    });
  }

  /** Waits until the connection is over, and tells how. */
  async whenOver(timeoutMs: number): Promise<TcpCondition> {
    return waitFor('the end of a TCP connection', () => this.condition(), {
      timeoutMs,
      intervalMs: INTERVAL_MS,
      until: (condition) => condition !== 'open',
    });
  }

  /** Sends FIN. */
  finish(): void {
    this.must('shut down', socketCalls.shutdown(this.fd, SHUT_WR));
  }

  /** Sends RST and closes. */
  reset(): void {
    const linger = new Uint8Array(8);
    linger[0] = 1;
    this.setOption(socketNumbers.SOL_SOCKET, socketNumbers.SO_LINGER, linger);
    this.close();
  }
}

function openStream(host: LabHost, address: string): number {
  return openSocket(host, { type: socketNumbers.SOCK_STREAM, family: familyOfAddress(address) });
}

const SHUT_WR = 1;
/** net/tcp_states.h */
const TCP_SYN_SENT = 2;
const TCP_SYN_RECV = 3;
