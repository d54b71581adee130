/** A TCP connection through the NAT, both ends of which the test holds. */
import type { Endpoint } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { ARRIVAL_MS, addresses, type HostName, ipv6Addresses, type NatLab } from './nat-lab.ts';

export interface Connection {
  readonly inside: TcpSocket;
  readonly outside: TcpSocket;
  /** As the server sees the inside end. */
  readonly mapped: Endpoint;
}

/** @param options `shared`: the port is to be used for other sockets as well */
export async function openConnection(
  place: NatLab,
  options: {
    readonly from?: HostName;
    readonly port?: number;
    readonly shared?: boolean;
    readonly serverPort?: number;
    /** Default: 4. */
    readonly family?: 4 | 6;
  } = {},
): Promise<Connection> {
  const { from = 'alice', port = 0, shared = false, serverPort = 7_000, family = 4 } = options;
  const address = (family === 4 ? addresses : ipv6Addresses).server;
  const local = { address, port: serverPort };
  using listener = TcpListener.open(place.host('server'), local);
  const inside = await TcpSocket.connected(place.host(from), {
    from: { port },
    shared,
    to: local,
    timeoutMs: ARRIVAL_MS,
  });
  const { connection: outside, from: mapped } = await listener.next(ARRIVAL_MS);
  return { inside, outside, mapped };
}

/** Each end receives what the other sends now. */
export async function assertConnected(one: TcpSocket, other: TcpSocket): Promise<void> {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    const before = to.received().length;
    from.write('data');
    await to.waitForBytes(before + 4, ARRIVAL_MS);
  }
}
