/**
 * Packets for tests of the NAT, written as people say them: `udp('10.77.0.2:5000 > 192.0.2.1:53')`,
 * `udp('[2001:db8::2]:5000 > [2001:db8:1::1]:53')`. All lengths and checksums are right unless an
 * option says otherwise.
 */
import { parseEndpoint } from '../net/endpoint.ts';
import { formatIpAddress, type IpAddress, requireIpAddress } from '../net/ip-address.ts';
import { ipv6Address } from '../net/ipv6-address.ts';
import { internetChecksum, internetSum } from '../wire/internet-checksum.ts';
import {
  type ExtensionHeader,
  IPV6_HEADER_BYTES,
  ipv6,
  ipv6Bytes,
  ipv6PacketBytes,
  ipv6Transport,
} from './ipv6-packets.ts';
import { ethernetFrame } from './packet-builder.ts';

export type Frame = Uint8Array<ArrayBuffer>;

/**
 * `source > destination`, both with a port where the protocol has ports. IPv6 addresses with a port
 * stand in brackets.
 */
export type Route = `${string} > ${string}`;

export interface IpOptions {
  /** IPv4. */
  readonly identification?: number;
  /** IPv6: the hop limit. */
  readonly timeToLive?: number;
  /** IPv4: bytes of options behind the header, a multiple of four: no operations. */
  readonly optionBytes?: number;
  /** IPv6: between the fixed header and the transport's. */
  readonly extensions?: readonly ExtensionHeader[];
}

export interface UdpOptions extends IpOptions {
  /** Default: none. */
  readonly payloadBytes?: number;
  /** `none`: zero, so that there is none. `wrong`: one more than the right one. */
  readonly checksum?: 'right' | 'none' | 'wrong';
}

export function udp(route: Route, options: UdpOptions = {}): Frame {
  const { source, destination } = endpoints(route);
  const { payloadBytes = 0, checksum = 'right' } = options;
  const segment = new Uint8Array(8 + payloadBytes);
  const view = new DataView(segment.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint16(4, segment.length);
  fillPayload(segment.subarray(8));
  const right = transportChecksum(route, protocolNumbers.udp, segment) || 0xffff;
  if (checksum !== 'none') view.setUint16(6, right + (checksum === 'wrong' ? 1 : 0));
  return ip(route, protocolNumbers.udp, segment, options);
}

export interface TcpOptions extends IpOptions {
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly payloadBytes?: number;
  readonly checksum?: 'right' | 'wrong';
}

/** @param flags letters of S, A, F, R and P */
export function tcp(route: Route, flags: string, options: TcpOptions = {}): Frame {
  const { source, destination } = endpoints(route);
  const { payloadBytes = 0, checksum = 'right' } = options;
  const segment = new Uint8Array(20 + payloadBytes);
  const view = new DataView(segment.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint32(4, options.sequence ?? 0);
  view.setUint32(8, options.acknowledgement ?? 0);
  view.setUint8(12, 5 << 4);
  view.setUint8(13, flagBits(flags));
  view.setUint16(14, 65_535);
  fillPayload(segment.subarray(20));
  const right = transportChecksum(route, protocolNumbers.tcp, segment);
  view.setUint16(16, right + (checksum === 'wrong' ? 1 : 0));
  return ip(route, protocolNumbers.tcp, segment, options);
}

export interface PingOptions extends IpOptions {
  readonly identifier: number;
  readonly payloadBytes?: number;
  /** Default: an echo request, 8 or with IPv6 128. */
  readonly type?: number;
}

/** An ICMP query, without ports in the route. */
export function ping(route: Route, options: PingOptions): Frame {
  const message = new Uint8Array(8 + (options.payloadBytes ?? 0));
  const view = new DataView(message.buffer);
  const { icmp, icmpv6 } = protocolNumbers;
  const protocol = familyOf(route) === 6 ? icmpv6 : icmp;
  view.setUint8(0, options.type ?? (protocol === icmpv6 ? 128 : 8));
  view.setUint16(4, options.identifier);
  view.setUint16(6, 1);
  fillPayload(message.subarray(8));
  view.setUint16(2, icmpChecksum(route, message));
  return ip(route, protocol, message, options);
}

export interface IcmpErrorOptions extends IpOptions {
  readonly type: number;
  readonly code?: number;
  /** The second word of the header: for 3/4 the next hop's MTU. Default: 0. */
  readonly rest?: number;
  /** What the error quotes: a frame, of which the Ethernet header and padding are left away. */
  readonly quoted: Uint8Array;
  /** How much of its transport header and payload. Default: all. */
  readonly quotedTransportBytes?: number;
  readonly checksum?: 'right' | 'wrong';
}

export function icmpError(route: Route, options: IcmpErrorOptions): Frame {
  const quoted = ipBytes(options.quoted);
  const { at: transportAt } = transportOf(quoted);
  const kept = quoted.subarray(0, transportAt + (options.quotedTransportBytes ?? quoted.length));
  const message = new Uint8Array(8 + kept.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, options.type);
  view.setUint8(1, options.code ?? 0);
  view.setUint32(4, options.rest ?? 0);
  message.set(kept, 8);
  view.setUint16(2, icmpChecksum(route, message) + (options.checksum === 'wrong' ? 1 : 0));
  const { icmp, icmpv6 } = protocolNumbers;
  return ip(route, familyOf(route) === 6 ? icmpv6 : icmp, message, options);
}

/** Any other protocol with sixteen bytes that nobody reads. */
export function rawIp(route: Route, protocol: number, options: IpOptions = {}): Frame {
  return ip(route, protocol, new Uint8Array(16).fill(0xa5), options);
}

/** A packet around any payload, of the family of its addresses. Ports of the route do not count. */
export function ip(
  route: Route,
  protocol: number,
  payload: Uint8Array,
  options: IpOptions = {},
): Frame {
  const { source, destination } = endpoints(route);
  if (source.address.family === 4) return ipv4(route, protocol, payload, options);
  const { timeToLive: hopLimit, extensions = [] } = options;
  return ipv6({
    source: ipv6Address(source.address.bits),
    destination: ipv6Address(destination.address.bits),
    ...(hopLimit === undefined ? {} : { hopLimit }),
    ...{ extensions, nextHeader: protocol, payload },
  });
}

function ipv4(route: Route, protocol: number, payload: Uint8Array, options: IpOptions): Frame {
  const { source, destination } = endpoints(route);
  const headerBytes = 20 + (options.optionBytes ?? 0);
  const packet = new Uint8Array(headerBytes + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x40 + headerBytes / 4);
  view.setUint16(2, packet.length);
  view.setUint16(4, options.identification ?? 0);
  view.setUint8(8, options.timeToLive ?? 64);
  view.setUint8(9, protocol);
  view.setUint32(12, Number(source.address.bits));
  view.setUint32(16, Number(destination.address.bits));
  packet.fill(1, 20, headerBytes);
  view.setUint16(10, internetChecksum(packet.subarray(0, headerBytes)));
  packet.set(payload, headerBytes);
  return ethernetFrame({ etherType: 0x0800, payload: packet });
}

/**
 * An IPv4 packet in fragments.
 *
 * @param firstBytes of its payload in the first, a multiple of eight; the rest is the second
 */
export function fragments(frame: Uint8Array, firstBytes: number): readonly [Frame, Frame] {
  const packet = ipBytes(frame);
  const headerBytes = ((packet[0] ?? 0) & 0xf) * 4;
  const header = packet.subarray(0, headerBytes);
  const payload = packet.subarray(headerBytes);
  return [
    fragment(header, payload.subarray(0, firstBytes), 0x2000),
    fragment(header, payload.subarray(firstBytes), firstBytes / 8),
  ];
}

/** The packet without Ethernet header and padding. */
export function ipBytes(frame: Uint8Array): Uint8Array {
  if (isIpv6(frame.subarray(ETHERNET_HEADER_BYTES))) return ipv6PacketBytes(frame);
  const length = new DataView(frame.buffer, frame.byteOffset).getUint16(ETHERNET_HEADER_BYTES + 2);
  return frame.subarray(ETHERNET_HEADER_BYTES, ETHERNET_HEADER_BYTES + length);
}

/** A copy with other bytes at a place; nothing else is made to fit. */
export function withBytes(frame: Uint8Array, at: number, bytes: readonly number[]): Frame {
  const copy = Uint8Array.from(frame);
  copy.set(bytes, at);
  return copy;
}

const ETHERNET_HEADER_BYTES = 14;
const protocolNumbers = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
const flagValues = { F: 1, S: 2, R: 4, P: 8, A: 16 } as const;

function flagBits(letters: string): number {
  let bits = 0;
  for (const letter of letters) {
    if (!(letter in flagValues)) throw new RangeError(`no TCP flag is called ${letter}`);
    bits |= flagValues[letter as keyof typeof flagValues];
  }
  return bits;
}

function endpoints(route: Route) {
  const [source = '', destination = ''] = route.split(' > ');
  return { source: endpoint(source), destination: endpoint(destination) };
}

function endpoint(text: string): { readonly address: IpAddress; readonly port: number } {
  const parsed = parseEndpoint(text);
  return parsed ?? { address: requireIpAddress(text), port: 0 };
}

function familyOf(route: Route): 4 | 6 {
  return endpoints(route).source.address.family;
}

/** ICMP for IPv6 covers the addresses (RFC 4443 §2.3), ICMP does not. */
function icmpChecksum(route: Route, message: Uint8Array): number {
  return familyOf(route) === 6
    ? transportChecksum(route, protocolNumbers.icmpv6, message)
    : internetChecksum(message);
}

/** RFC 9293 §3.1 and RFC 8200 §8.1, whose sums are alike: short lengths have no upper half. */
function transportChecksum(route: Route, protocol: number, segment: Uint8Array): number {
  const { source, destination } = endpoints(route);
  const addresses = [source, destination].map(({ address }) => internetSum(bytesOf(address)));
  const pseudoHeader = (addresses[0] ?? 0) + (addresses[1] ?? 0) + protocol + segment.length;
  return internetChecksum(segment, pseudoHeader);
}

function bytesOf({ family, bits }: IpAddress): Uint8Array {
  const bytes = ipv6Bytes(ipv6Address(bits));
  return family === 6 ? bytes : bytes.subarray(12);
}

function fillPayload(payload: Uint8Array): void {
  for (let at = 0; at < payload.length; at++) payload[at] = (at * 7 + 3) & 0xff;
}

function fragment(header: Uint8Array, payload: Uint8Array, flagsAndOffset: number): Frame {
  const packet = new Uint8Array(header.length + payload.length);
  packet.set(header);
  packet.set(payload, header.length);
  const view = new DataView(packet.buffer);
  view.setUint16(2, packet.length);
  view.setUint16(6, flagsAndOffset);
  view.setUint16(10, 0);
  view.setUint16(10, internetChecksum(packet.subarray(0, header.length)));
  return ethernetFrame({ etherType: 0x0800, payload: packet });
}

/** For people who read why a test failed. */
export function describeFrame(frame: Uint8Array): string {
  const packet = frame.subarray(ETHERNET_HEADER_BYTES);
  if (packet.length < (isIpv6(packet) ? IPV6_HEADER_BYTES : 20)) return `${frame.length} bytes`;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const { protocol, at, isLaterFragment } = transportOf(packet);
  const text = [addressesOf(packet), `protocol ${protocol}`, ...describeHeader(packet, at)];
  if (isLaterFragment || packet.length < at + 8) return text.join(' ');
  const { icmp, icmpv6, tcp, udp } = protocolNumbers;
  if (protocol === icmp || protocol === icmpv6) {
    text.push(`type ${packet[at]}/${packet[at + 1]} id ${view.getUint16(at + 4)}`);
    const errors = protocol === icmp ? [3, 4, 5, 11, 12] : [1, 2, 3, 4];
    const isQuoting = errors.includes(packet[at] ?? 0);
    if (isQuoting) text.push(`(${describeFrame(packet.subarray(at + 8 - ETHERNET_HEADER_BYTES))})`);
  } else if (protocol === tcp || protocol === udp) {
    text.push(`ports ${view.getUint16(at)} > ${view.getUint16(at + 2)}`);
  }
  if (protocol === tcp && packet.length >= at + 20) {
    const flags = Object.entries(flagValues).filter(([, bit]) => (packet[at + 13] ?? 0) & bit);
    text.push(`${flags.map(([letter]) => letter).join('') || 'no flags'}`);
    text.push(`sequence ${view.getUint32(at + 4)} acknowledgement ${view.getUint32(at + 8)}`);
  }
  return text.join(' ');
}

function describeHeader(packet: Uint8Array, transportAt: number): readonly string[] {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  if (isIpv6(packet)) {
    const chain = packet.subarray(IPV6_HEADER_BYTES, transportAt);
    const hex = Array.from(chain, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return chain.length === 0 ? [] : [`behind ${packet[6]}:${hex}`];
  }
  const fragment = view.getUint16(6);
  const isFragment = (fragment & 0x3fff) !== 0;
  return isFragment ? [`fragment ${fragment.toString(16)} of ${view.getUint16(4)}`] : [];
}

/** Where the transport header of an IP packet is. */
function transportOf(packet: Uint8Array): ReturnType<typeof ipv6Transport> {
  if (isIpv6(packet)) return ipv6Transport(packet);
  const isLaterFragment = (((packet[6] ?? 0) & 0x1f) | (packet[7] ?? 0)) !== 0;
  return { protocol: packet[9] ?? 0, at: ((packet[0] ?? 0) & 0xf) * 4, isLaterFragment };
}

function isIpv6(packet: Uint8Array): boolean {
  return (packet[0] ?? 0) >> 4 === 6;
}

function addressesOf(packet: Uint8Array): string {
  const [at, length] = isIpv6(packet) ? [8, 16] : [12, 4];
  return `${addressText(packet, at, length)} > ${addressText(packet, at + length, length)}`;
}

function addressText(packet: Uint8Array, at: number, length: number): string {
  const octets = packet.subarray(at, at + length);
  const bits = octets.reduce((value, octet) => (value << 8n) | BigInt(octet), 0n);
  return formatIpAddress({ family: length === 16 ? 6 : 4, bits });
}
