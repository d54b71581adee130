/** IPv4 packets that no program would send, for {@link RawSocket}, and reading what arrives. */

import type { Endpoint } from '../../lab/lab-socket.ts';
import { formatIpv4Address, ipv4Address, requireIpv4Address } from '../../src/net/ipv4-address.ts';
import { udpFrame } from '../../src/testing/packet-builder.ts';
import { internetChecksum, internetSum } from '../../src/wire/internet-checksum.ts';

const ETHERNET_HEADER_BYTES = 14;
const HEADER_BYTES = 20;
const UDP = 17;
const ICMP = 1;

export interface Ipv4PacketOptions {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly timeToLive?: number;
  readonly identification?: number;
  /** RFC 791 §3.1: the flags and the fragment's offset as they stand in the header. */
  readonly fragment?: number;
  /** A multiple of four bytes. */
  readonly options?: readonly number[];
}

export function ipv4Packet(options: Ipv4PacketOptions): Uint8Array<ArrayBuffer> {
  const { payload, options: extra = [] } = options;
  const headerBytes = HEADER_BYTES + extra.length;
  const packet = new Uint8Array(headerBytes + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x40 | (headerBytes / 4));
  view.setUint16(2, packet.length);
  view.setUint16(4, options.identification ?? 0);
  view.setUint16(6, options.fragment ?? 0);
  view.setUint8(8, options.timeToLive ?? 64);
  view.setUint8(9, options.protocol);
  view.setUint32(12, requireIpv4Address(options.source));
  view.setUint32(16, requireIpv4Address(options.destination));
  packet.set(extra, HEADER_BYTES);
  view.setUint16(10, internetChecksum(packet.subarray(0, headerBytes)));
  packet.set(payload, headerBytes);
  return packet;
}

export interface UdpPacketOptions {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
  readonly timeToLive?: number;
  readonly options?: readonly number[];
  /** 0 in the checksum's place: there is none (RFC 768). */
  readonly withoutChecksum?: boolean;
}

export function udpPacket({ from, to, payload, ...rest }: UdpPacketOptions) {
  const { withoutChecksum = false, ...header } = rest;
  const frame = udpFrame({
    source: from.address,
    sourcePort: from.port,
    destination: to.address,
    destinationPort: to.port,
    payload,
  });
  const start = ETHERNET_HEADER_BYTES + HEADER_BYTES;
  const segment = frame.slice(start, start + 8 + payload.length);
  if (withoutChecksum) segment.fill(0, 6, 8);
  const { address: source } = from;
  const { address: destination } = to;
  return ipv4Packet({ ...header, source, destination, protocol: UDP, payload: segment });
}

export interface IcmpErrorOptions {
  readonly source: string;
  readonly destination: string;
  readonly type: number;
  readonly code: number;
  /** The packet that the error is about, as far as it is quoted. */
  readonly quoted: Uint8Array;
  /** Of 3/4. */
  readonly mtu?: number;
  /** Behind the quoted packet, which is padded to 128 bytes then (RFC 4884). */
  readonly extension?: Uint8Array;
}

export function icmpError(options: IcmpErrorOptions): Uint8Array<ArrayBuffer> {
  const { quoted, extension, mtu = 0, source, destination } = options;
  const quotedBytes = extension === undefined ? quoted.length : EXTENDED_QUOTE_BYTES;
  const message = new Uint8Array(8 + quotedBytes + (extension?.length ?? 0));
  const view = new DataView(message.buffer);
  view.setUint8(0, options.type);
  view.setUint8(1, options.code);
  if (extension !== undefined) view.setUint8(5, EXTENDED_QUOTE_BYTES / 4);
  view.setUint16(6, mtu);
  message.set(quoted.subarray(0, quotedBytes), 8);
  if (extension !== undefined) message.set(extension, 8 + quotedBytes);
  view.setUint16(2, internetChecksum(message));
  return ipv4Packet({ source, destination, protocol: ICMP, payload: message });
}

const EXTENDED_QUOTE_BYTES = 128;

/** RFC 4884 §7 with one object that nobody knows. */
export function icmpExtension(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(12);
  bytes.set([0x20, 0, 0, 0, 0, 8, 247, 1, 1, 2, 3, 4]);
  new DataView(bytes.buffer).setUint16(2, internetChecksum(bytes));
  return bytes;
}

/** @param frame Ethernet, without VLAN tags */
export function isIcmp(frame: Uint8Array): boolean {
  return viewOf(frame).getUint16(12) === 0x0800 && frame[ETHERNET_HEADER_BYTES + 9] === ICMP;
}

/** What an ICMP error that has arrived is about. */
export interface QuotedPacket {
  readonly from: Endpoint;
  readonly to: Endpoint;
  /** Of the IP header. */
  readonly isChecksumRight: boolean;
  /** Of UDP, where the whole packet is quoted: `none` is its zero. */
  readonly udpChecksum: 'right' | 'wrong' | 'none' | 'cut';
  /** ICMP's own checksum. */
  readonly isMessageChecksumRight: boolean;
}

/** @param frame of a capture: Ethernet, IPv4 without options, ICMP */
export function quotedPacket(frame: Uint8Array): QuotedPacket {
  const ip = frame.subarray(ETHERNET_HEADER_BYTES);
  const message = ip.subarray(HEADER_BYTES, viewOf(ip).getUint16(2));
  const quoted = message.subarray(8);
  const view = viewOf(quoted);
  const headerBytes = (view.getUint8(0) & 15) * 4;
  const segment = quoted.subarray(headerBytes, view.getUint16(2));
  const ports = viewOf(segment);
  const endpoint = (at: number) => formatIpv4Address(ipv4Address(view.getUint32(at)));
  return {
    from: { address: endpoint(12), port: ports.getUint16(0) },
    to: { address: endpoint(16), port: ports.getUint16(2) },
    isChecksumRight: internetChecksum(quoted.subarray(0, headerBytes)) === 0,
    udpChecksum: udpChecksum(quoted.subarray(12, 20), segment),
    isMessageChecksumRight: internetChecksum(message) === 0,
  };
}

function udpChecksum(addresses: Uint8Array, segment: Uint8Array): QuotedPacket['udpChecksum'] {
  const view = viewOf(segment);
  if (view.getUint16(6) === 0) return 'none';
  if (segment.length < view.getUint16(4)) return 'cut';
  const sum = internetSum(addresses) + UDP + segment.length;
  return internetChecksum(segment, sum) === 0 ? 'right' : 'wrong';
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const MORE_FRAGMENTS = 0x2000;

/**
 * Cuts a packet without options into fragments, in order.
 *
 * @param sizes bytes behind the header of each fragment but the last: multiples of eight
 * @param identification the same for all, unlike that of any other packet under way
 */
export function fragmentsOf(
  packet: Uint8Array,
  options: { readonly sizes: readonly number[]; readonly identification: number },
): Uint8Array<ArrayBuffer>[] {
  const view = viewOf(packet);
  const address = (at: number) => formatIpv4Address(ipv4Address(view.getUint32(at)));
  const header = {
    source: address(12),
    destination: address(16),
    protocol: view.getUint8(9),
    identification: options.identification,
  };
  const payload = packet.subarray(HEADER_BYTES);
  const starts = [0];
  for (const size of options.sizes) starts.push((starts.at(-1) ?? 0) + size);
  return starts.map((start, index) => {
    const end = starts[index + 1];
    const fragment = (start / 8) | (end === undefined ? 0 : MORE_FRAGMENTS);
    return ipv4Packet({ ...header, fragment, payload: payload.subarray(start, end) });
  });
}
