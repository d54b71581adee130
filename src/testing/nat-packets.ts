/**
 * Packets for tests of the NAT, written as people say them: `udp('10.77.0.2:5000 > 192.0.2.1:53')`.
 * All lengths and checksums are right unless an option says otherwise.
 */
import { parseEndpoint } from '../net/endpoint.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { internetChecksum, internetSum } from '../wire/internet-checksum.ts';
import { ethernetFrame } from './packet-builder.ts';

export type Frame = Uint8Array<ArrayBuffer>;

/** `source > destination`, both with a port where the protocol has ports. */
export type Route = `${string} > ${string}`;

export interface IpOptions {
  readonly identification?: number;
  readonly timeToLive?: number;
  /** Bytes of options behind the header, a multiple of four: no operations. */
  readonly optionBytes?: number;
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
  return ipv4(route, protocolNumbers.udp, segment, options);
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
  return ipv4(route, protocolNumbers.tcp, segment, options);
}

export interface PingOptions extends IpOptions {
  readonly identifier: number;
  readonly payloadBytes?: number;
  /** Default: 8, an echo request. */
  readonly type?: number;
}

/** An ICMP query, without ports in the route. */
export function ping(route: Route, options: PingOptions): Frame {
  const message = new Uint8Array(8 + (options.payloadBytes ?? 0));
  const view = new DataView(message.buffer);
  view.setUint8(0, options.type ?? 8);
  view.setUint16(4, options.identifier);
  view.setUint16(6, 1);
  fillPayload(message.subarray(8));
  view.setUint16(2, internetChecksum(message));
  return ipv4(route, protocolNumbers.icmp, message, options);
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
  const headerBytes = ((quoted[0] ?? 0) & 0xf) * 4;
  const kept = quoted.subarray(0, headerBytes + (options.quotedTransportBytes ?? quoted.length));
  const message = new Uint8Array(8 + kept.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, options.type);
  view.setUint8(1, options.code ?? 0);
  view.setUint32(4, options.rest ?? 0);
  message.set(kept, 8);
  view.setUint16(2, internetChecksum(message) + (options.checksum === 'wrong' ? 1 : 0));
  return ipv4(route, protocolNumbers.icmp, message, options);
}

/** Any other protocol with sixteen bytes that nobody reads. */
export function rawIp(route: Route, protocol: number, options: IpOptions = {}): Frame {
  return ipv4(route, protocol, new Uint8Array(16).fill(0xa5), options);
}

/** An IPv4 packet around any payload. Ports of the route do not count. */
export function ipv4(
  route: Route,
  protocol: number,
  payload: Uint8Array,
  options: IpOptions = {},
): Frame {
  const { source, destination } = endpoints(route);
  const headerBytes = 20 + (options.optionBytes ?? 0);
  const packet = new Uint8Array(headerBytes + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x40 + headerBytes / 4);
  view.setUint16(2, packet.length);
  view.setUint16(4, options.identification ?? 0);
  view.setUint8(8, options.timeToLive ?? 64);
  view.setUint8(9, protocol);
  view.setUint32(12, source.address);
  view.setUint32(16, destination.address);
  packet.fill(1, 20, headerBytes);
  view.setUint16(10, internetChecksum(packet.subarray(0, headerBytes)));
  packet.set(payload, headerBytes);
  return ethernetFrame({ etherType: 0x0800, payload: packet });
}

/**
 * The packet in fragments.
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
const protocolNumbers = { icmp: 1, tcp: 6, udp: 17 } as const;
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

function endpoint(text: string): { readonly address: number; readonly port: number } {
  if (!text.includes(':')) return { address: requireIpv4Address(text), port: 0 };
  const parsed = parseEndpoint(text);
  if (parsed?.address.family !== 4) throw new RangeError(`not an IPv4 endpoint: ${text}`);
  return { address: Number(parsed.address.bits), port: parsed.port };
}

function transportChecksum(route: Route, protocol: number, segment: Uint8Array): number {
  const { source, destination } = endpoints(route);
  const pseudoHeader = new Uint8Array(12);
  const view = new DataView(pseudoHeader.buffer);
  view.setUint32(0, source.address);
  view.setUint32(4, destination.address);
  view.setUint8(9, protocol);
  view.setUint16(10, segment.length);
  return internetChecksum(segment, internetSum(pseudoHeader));
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
  if (packet.length < 20) return `${frame.length} bytes`;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const at = ((packet[0] ?? 0) & 0xf) * 4;
  const text = [`${dotted(packet, 12)} > ${dotted(packet, 16)}`, `protocol ${packet[9]}`];
  const fragment = view.getUint16(6);
  if (fragment & 0x3fff) text.push(`fragment ${fragment.toString(16)} of ${view.getUint16(4)}`);
  if ((fragment & 0x1fff) !== 0 || packet.length < at + 8) return text.join(' ');
  if (packet[9] === protocolNumbers.icmp) {
    text.push(`type ${packet[at]}/${packet[at + 1]} id ${view.getUint16(at + 4)}`);
    const isQuoting = [3, 4, 5, 11, 12].includes(packet[at] ?? 0);
    if (isQuoting) text.push(`(${describeFrame(packet.subarray(at + 8 - ETHERNET_HEADER_BYTES))})`);
  } else if (packet[9] === protocolNumbers.tcp || packet[9] === protocolNumbers.udp) {
    text.push(`ports ${view.getUint16(at)} > ${view.getUint16(at + 2)}`);
  }
  if (packet[9] === protocolNumbers.tcp && packet.length >= at + 20) {
    const flags = Object.entries(flagValues).filter(([, bit]) => (packet[at + 13] ?? 0) & bit);
    text.push(`${flags.map(([letter]) => letter).join('') || 'no flags'}`);
    text.push(`sequence ${view.getUint32(at + 4)} acknowledgement ${view.getUint32(at + 8)}`);
  }
  return text.join(' ');
}

function dotted(packet: Uint8Array, at: number): string {
  return [0, 1, 2, 3].map((index) => packet[at + index] ?? 0).join('.');
}
