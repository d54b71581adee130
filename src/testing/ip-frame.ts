/**
 * Ethernet frames of either IP version around any protocol that rules can name, right in every
 * length and checksum.
 */
import type { IpAddress } from '../net/ip-address.ts';
import { internetChecksum, internetSum } from '../wire/internet-checksum.ts';
import { ethernetFrame } from './packet-builder.ts';

export interface IpFrameOptions {
  readonly sourceMac?: string;
  readonly destinationMac: string;
  /** Of one family. */
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly hopLimit: number;
  /** IPv4's type of service or IPv6's traffic class, all eight bits. Default: 0. */
  readonly trafficClass?: number;
  readonly content: IpContent;
}

export type IpContent =
  | ({
      readonly protocol: 'tcp';
      /** As RFC 9293 §3.1 has them: FIN 1, SYN 2, RST 4, PSH 8, ACK 16. */
      readonly flags: number;
      /** The option "maximum segment size" (RFC 9293 §3.7.1). Default: no options. */
      readonly maximumSegmentBytes?: number;
    } & Ports)
  | ({ readonly protocol: 'udp' } & Ports)
  /** An INIT chunk (RFC 9260 §3.3.2). */
  | ({ readonly protocol: 'sctp' } & Ports)
  | {
      readonly protocol: 'icmp' | 'icmpv6';
      readonly type: number;
      /** Behind the first eight bytes: the packet that an error quotes. Default: 20 zero bytes. */
      readonly quoted?: Uint8Array;
    }
  /** Sixteen bytes that nobody reads further. */
  | { readonly protocol: 'esp' | 'gre' | 'other' }
  /** An authentication header (RFC 4302) around the protocol of {@link IpContent} `other`. */
  | { readonly protocol: 'ah' };

interface Ports {
  readonly sourcePort: number;
  readonly destinationPort: number;
}

const ETHERNET_HEADER_BYTES = 14;
/** For experiments (RFC 3692). */
const OTHER_PROTOCOL = 253;
const protocolNumbers = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  sctp: 132,
  other: OTHER_PROTOCOL,
} as const;

export function ipFrame(options: IpFrameOptions): Uint8Array<ArrayBuffer> {
  const { source } = options;
  const payload = payloadOf(options);
  const header = source.family === 4 ? ipv4Header : ipv6Header;
  const packet = joined(header(options, payload.length), payload);
  const etherType = source.family === 4 ? 0x0800 : 0x86dd;
  const { sourceMac, destinationMac } = options;
  const macs = { destinationMac, ...(sourceMac === undefined ? {} : { sourceMac }) };
  return ethernetFrame({ ...macs, etherType, payload: packet });
}

/** The packet without its Ethernet header and without padding. */
export function ipPacket(options: IpFrameOptions): Uint8Array {
  const frame = ipFrame(options);
  const view = new DataView(frame.buffer, ETHERNET_HEADER_BYTES);
  const length = options.source.family === 4 ? view.getUint16(2) : 40 + view.getUint16(4);
  return frame.subarray(ETHERNET_HEADER_BYTES, ETHERNET_HEADER_BYTES + length);
}

/** RFC 791 §3.1, without options. */
function ipv4Header(options: IpFrameOptions, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, 0x45);
  view.setUint8(1, options.trafficClass ?? 0);
  view.setUint16(2, bytes.length + payloadBytes);
  view.setUint8(8, options.hopLimit);
  view.setUint8(9, protocolNumbers[options.content.protocol]);
  bytes.set(addressBytes(options.source), 12);
  bytes.set(addressBytes(options.destination), 16);
  view.setUint16(10, internetChecksum(bytes));
  return bytes;
}

/** RFC 8200 §3. */
function ipv6Header(options: IpFrameOptions, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x6000_0000 + (options.trafficClass ?? 0) * 2 ** 20);
  view.setUint16(4, payloadBytes);
  view.setUint8(6, protocolNumbers[options.content.protocol]);
  view.setUint8(7, options.hopLimit);
  bytes.set(addressBytes(options.source), 8);
  bytes.set(addressBytes(options.destination), 24);
  return bytes;
}

function payloadOf(options: IpFrameOptions): Uint8Array {
  const { content } = options;
  switch (content.protocol) {
    case 'tcp': {
      const { flags, maximumSegmentBytes: mss } = content;
      const bytes = withPorts(mss === undefined ? 20 : 24, content);
      bytes.set([bytes.length << 2, flags, 0xff, 0xff], 12);
      if (mss !== undefined) bytes.set([2, 4, mss >> 8, mss & 0xff], 20);
      return checksummed(bytes, { offset: 16, initial: pseudoHeaderSum(options, bytes.length) });
    }
    case 'udp': {
      const bytes = withPorts(8, content);
      bytes[5] = bytes.length;
      return checksummed(bytes, { offset: 6, initial: pseudoHeaderSum(options, bytes.length) });
    }
    case 'sctp':
      return sctpInit(content);
    case 'icmp':
    case 'icmpv6': {
      const bytes = joined(new Uint8Array(8), content.quoted ?? new Uint8Array(20));
      bytes[0] = content.type;
      const isWithAddresses = options.source.family === 6 && content.protocol === 'icmpv6';
      const initial = isWithAddresses ? pseudoHeaderSum(options, bytes.length) : 0;
      return checksummed(bytes, { offset: 2, initial });
    }
    case 'ah': {
      const bytes = new Uint8Array(12 + 16);
      // The next header, and the length in words of four bytes less two.
      bytes.set([OTHER_PROTOCOL, 1], 0);
      return bytes;
    }
    default:
      return new Uint8Array(16);
  }
}

function withPorts(length: number, { sourcePort, destinationPort }: Ports) {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  return bytes;
}

function checksummed(
  bytes: Uint8Array<ArrayBuffer>,
  { offset, initial }: { readonly offset: number; readonly initial: number },
): Uint8Array {
  // UDP takes zero as "no checksum"; for the others both zeros mean the same.
  new DataView(bytes.buffer).setUint16(offset, internetChecksum(bytes, initial) || 0xffff);
  return bytes;
}

/** RFC 9293 §3.1 and RFC 8200 §8.1: their sums are equal, as short lengths have no upper half. */
function pseudoHeaderSum({ source, destination, content }: IpFrameOptions, length: number) {
  const addresses = internetSum(joined(addressBytes(source), addressBytes(destination)));
  return addresses + length + protocolNumbers[content.protocol];
}

function sctpInit(content: Ports): Uint8Array {
  const bytes = withPorts(12 + 20, content);
  const view = new DataView(bytes.buffer);
  view.setUint8(12, 1);
  view.setUint16(14, 20);
  // Initiate tag, window, streams, first sequence number.
  view.setUint32(16, 1);
  view.setUint32(20, 0xffff);
  view.setUint32(24, 0x0001_0001);
  view.setUint32(28, 1);
  view.setUint32(8, crc32c(bytes), true);
  return bytes;
}

/** Castagnoli's polynomial, reflected (RFC 9260 appendix A). */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}

function addressBytes({ family, bits }: IpAddress): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  let rest = bits;
  for (let at = bytes.length - 1; at >= 0; at--, rest >>= 8n) bytes[at] = Number(rest & 0xffn);
  return bytes;
}

function joined(head: Uint8Array, tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(head.length + tail.length);
  bytes.set(head);
  bytes.set(tail, head.length);
  return bytes;
}
