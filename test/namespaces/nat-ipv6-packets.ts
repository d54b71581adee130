/** IPv6 packets that no program would send, from the hosts of the lab, and reading what arrives. */
import { type Endpoint, familyOfAddress } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { requireIpAddress } from '../../src/net/ip-address.ts';
import { formatIpv6Address, type Ipv6Address, ipv6Address } from '../../src/net/ipv6-address.ts';
import {
  type ExtensionHeader,
  ipv6,
  ipv6Bytes,
  ipv6PacketBytes,
  ipv6Transport,
} from '../../src/testing/ipv6-packets.ts';
import type { Route } from '../../src/testing/nat-packets.ts';
import { internetChecksum, internetSum } from '../../src/wire/internet-checksum.ts';
import type { HostName, NatLab } from './nat-lab.ts';

const ETHERNET_HEADER_BYTES = 14;
const IPPROTO_RAW = 255;
const UDP = 17;

/** Frames of Ethernet, of which the packets are sent. */
export function sendPackets(place: NatLab, from: HostName, frames: readonly Uint8Array[]): void {
  using raw = RawSocket.open(place.host(from), IPPROTO_RAW, 6);
  for (const frame of frames) {
    const packet = ipv6PacketBytes(frame);
    const bits = new DataView(packet.buffer, packet.byteOffset);
    const destination = (bits.getBigUint64(24) << 64n) | bits.getBigUint64(32);
    raw.send(formatIpv6Address(ipv6Address(destination)), packet);
  }
}

/** As {@link Route} has it. */
export function routeOf(from: Endpoint, to: Endpoint): Route {
  return `${formatEndpoint(from)} > ${formatEndpoint(to)}`;
}

function formatEndpoint({ address, port }: Endpoint): string {
  return familyOfAddress(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

export interface Ipv6DatagramOptions {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
  readonly hopLimit?: number;
  /** Default: 0. */
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly extensions?: readonly ExtensionHeader[];
}

/** UDP with all of the header's fields to choose. */
export function ipv6Datagram(options: Ipv6DatagramOptions): Uint8Array<ArrayBuffer> {
  const { from, to, payload, flowLabel = 0, ...header } = options;
  const source = addressOf(from.address);
  const destination = addressOf(to.address);
  const segment = new Uint8Array(8 + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, from.port);
  view.setUint16(2, to.port);
  view.setUint16(4, segment.length);
  segment.set(payload, 8);
  const ends = { source: from.address, destination: to.address, protocol: UDP };
  view.setUint16(6, ipv6Checksum(segment, ends) || 0xffff);
  const frame = ipv6({ ...header, source, destination, nextHeader: UDP, payload: segment });
  const packet = new DataView(frame.buffer, ETHERNET_HEADER_BYTES);
  packet.setUint32(0, packet.getUint32(0) + flowLabel);
  return frame;
}

/** RFC 8200 §8.1, of what has zero in the checksum's place. */
export function ipv6Checksum(
  segment: Uint8Array,
  ends: { readonly source: string; readonly destination: string; readonly protocol: number },
): number {
  const addresses = [ends.source, ends.destination].map((address) =>
    internetSum(ipv6Bytes(addressOf(address))),
  );
  const sum = addresses.reduce((all, one) => all + one, ends.protocol + segment.length);
  return internetChecksum(segment, sum);
}

function addressOf(text: string): Ipv6Address {
  return ipv6Address(requireIpAddress(text).bits);
}

export function isIpv6(frame: Uint8Array): boolean {
  return frame[12] === 0x86 && frame[13] === 0xdd;
}

/** What a router may not change, and the hop limit, which it must. */
export function headerOf(frame: Uint8Array) {
  const view = new DataView(frame.buffer, frame.byteOffset + ETHERNET_HEADER_BYTES);
  return {
    trafficClass: (view.getUint32(0) >>> 20) & 0xff,
    flowLabel: view.getUint32(0) & 0xf_ffff,
    hopLimit: view.getUint8(7),
  };
}

/** Whether it is of this protocol, behind all extension headers. */
export function hasProtocol(frame: Uint8Array, protocol: number): boolean {
  return isIpv6(frame) && ipv6Transport(ipv6PacketBytes(frame)).protocol === protocol;
}

/** The byte of a TCP segment's flags (RFC 9293 §3.1). */
export function tcpFlagsOf(frame: Uint8Array): number {
  const packet = ipv6PacketBytes(frame);
  return packet[ipv6Transport(packet).at + 13] ?? 0;
}
