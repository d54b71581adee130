/** Sends whole IP packets as they are given, wrong and forged ones too, from a lab's host. */
import type { LabHost } from './lab-host.ts';
import { encodeEndpoint, LabSocket, openSocket, socketCalls, socketNumbers } from './lab-socket.ts';

const IPPROTO_RAW = 255;
const PACKET_BYTES_MAX = 65_535;

export class RawSocket extends LabSocket {
  /**
   * @param protocol number of the protocol whose packets it receives; default: none, for sending.
   *   With one, packets are sent without header: the kernel makes it
   * @param family of the packets' addresses
   */
  static open(host: LabHost, protocol = IPPROTO_RAW, family: 4 | 6 = 4): RawSocket {
    const kind = { type: socketNumbers.SOCK_RAW, family, protocol };
    return new RawSocket(openSocket(host, kind), host.name);
  }

  /**
   * The kernel routes it by `to`. Of IPv4's header it fills in total length and checksum, and the
   * identification where that is zero; of IPv6's nothing.
   *
   * @throws LinuxError
   */
  send(to: string, packet: Uint8Array): void {
    const bytes = new Uint8Array(packet);
    const name = encodeEndpoint({ address: to, port: 0 });
    const length = BigInt(bytes.length);
    const sent = socketCalls.sendto(this.fd, bytes, length, 0, name, name.length);
    this.must(`send ${bytes.length} bytes to ${to}`, sent);
  }

  /** A packet of its protocol with its header, reassembled. */
  receive(): Buffer | undefined {
    const buffer = new Uint8Array(PACKET_BYTES_MAX);
    const result = socketCalls.recv(this.fd, buffer, BigInt(buffer.length), 0);
    const length = this.mayWait('receive', result);
    return length === undefined ? undefined : Buffer.from(buffer.subarray(0, length));
  }
}
