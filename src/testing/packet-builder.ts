/**
 * Ethernet frames for tests and measurements, right in every length and checksum unless a caller
 * overwrites bytes afterwards. Addresses are text, since tests are read by people.
 */
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { macAddressBytes, parseMacAddress } from '../net/mac-address.ts';
import { internetChecksum, internetSum } from '../wire/internet-checksum.ts';

export interface Ipv4FrameOptions {
  readonly sourceMac?: string;
  readonly destinationMac?: string;
  readonly source: string;
  readonly destination: string;
  readonly timeToLive?: number;
}

export interface TransportFrameOptions extends Ipv4FrameOptions {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload?: Uint8Array;
}

const ETHERNET_HEADER_BYTES = 14;
const IPV4_HEADER_BYTES = 20;
const IPV4_PAYLOAD_BYTES_MAX = 65_535 - IPV4_HEADER_BYTES;
/** Without the four bytes of checksum behind it (IEEE 802.3). */
const FRAME_BYTES_MIN = 60;

const protocols = { icmp: 1, tcp: 6, udp: 17 } as const;

/** UDP (RFC 768), padded to the shortest legal frame. */
export function udpFrame(options: TransportFrameOptions): Uint8Array<ArrayBuffer> {
  const payload = options.payload ?? new Uint8Array(0);
  const segment = new Uint8Array(8 + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, options.sourcePort);
  view.setUint16(2, options.destinationPort);
  view.setUint16(4, segment.length);
  segment.set(payload, 8);
  // Zero would mean "no checksum" to the receiver.
  view.setUint16(6, transportChecksum(options, protocols.udp, segment) || 0xffff);
  return ipv4Frame(options, protocols.udp, segment);
}

export interface TcpFrameOptions extends TransportFrameOptions {
  /** The flags' byte of RFC 9293 §3.1: FIN 1, SYN 2, RST 4, PSH 8, ACK 16. */
  readonly flags: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
}

/** TCP (RFC 9293) without options. */
export function tcpFrame(options: TcpFrameOptions): Uint8Array<ArrayBuffer> {
  const payload = options.payload ?? new Uint8Array(0);
  const segment = new Uint8Array(20 + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, options.sourcePort);
  view.setUint16(2, options.destinationPort);
  view.setUint32(4, options.sequence ?? 0);
  view.setUint32(8, options.acknowledgement ?? 0);
  view.setUint8(12, 5 << 4);
  view.setUint8(13, options.flags);
  view.setUint16(14, 65535);
  segment.set(payload, 20);
  view.setUint16(16, transportChecksum(options, protocols.tcp, segment));
  return ipv4Frame(options, protocols.tcp, segment);
}

export interface IcmpEchoFrameOptions extends Ipv4FrameOptions {
  readonly identifier: number;
  readonly sequence: number;
}

/** An ICMP echo request (RFC 792). */
export function icmpEchoFrame(options: IcmpEchoFrameOptions): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(8);
  const view = new DataView(message.buffer);
  view.setUint8(0, 8);
  view.setUint16(4, options.identifier);
  view.setUint16(6, options.sequence);
  view.setUint16(2, internetChecksum(message));
  return ipv4Frame(options, protocols.icmp, message);
}

/** An Ethernet frame of any type. */
export function ethernetFrame(options: {
  readonly sourceMac?: string;
  readonly destinationMac?: string;
  readonly etherType: number;
  readonly payload: Uint8Array;
}): Uint8Array<ArrayBuffer> {
  const { sourceMac = '02:00:00:00:00:01', destinationMac = '02:00:00:00:00:02' } = options;
  const length = ETHERNET_HEADER_BYTES + options.payload.length;
  const frame = new Uint8Array(Math.max(length, FRAME_BYTES_MIN));
  frame.set(macBytes(destinationMac), 0);
  frame.set(macBytes(sourceMac), 6);
  new DataView(frame.buffer).setUint16(12, options.etherType);
  frame.set(options.payload, ETHERNET_HEADER_BYTES);
  return frame;
}

/** An IPv4 packet (RFC 791) without options around any payload. */
export function ipv4Frame(
  options: Ipv4FrameOptions,
  protocol: number,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (payload.length > IPV4_PAYLOAD_BYTES_MAX) {
    throw new RangeError(`an IPv4 packet cannot hold ${payload.length} bytes`);
  }
  const packet = new Uint8Array(IPV4_HEADER_BYTES + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, packet.length);
  view.setUint8(8, options.timeToLive ?? 64);
  view.setUint8(9, protocol);
  view.setUint32(12, requireIpv4Address(options.source));
  view.setUint32(16, requireIpv4Address(options.destination));
  view.setUint16(10, internetChecksum(packet.subarray(0, IPV4_HEADER_BYTES)));
  packet.set(payload, IPV4_HEADER_BYTES);
  return ethernetFrame({ ...options, etherType: 0x0800, payload: packet });
}

function transportChecksum(
  options: Ipv4FrameOptions,
  protocol: number,
  segment: Uint8Array,
): number {
  const pseudoHeader = new Uint8Array(12);
  const view = new DataView(pseudoHeader.buffer);
  view.setUint32(0, requireIpv4Address(options.source));
  view.setUint32(4, requireIpv4Address(options.destination));
  view.setUint8(9, protocol);
  view.setUint16(10, segment.length);
  return internetChecksum(segment, internetSum(pseudoHeader));
}

function macBytes(text: string): Uint8Array {
  const address = parseMacAddress(text);
  if (address === undefined) throw new RangeError(`not a MAC address: ${JSON.stringify(text)}`);
  return macAddressBytes(address);
}
