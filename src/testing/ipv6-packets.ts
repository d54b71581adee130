/**
 * IPv6 packets for tests of the NAT (RFC 8200): the header, chains of extension headers, fragments.
 * Nothing is made to fit that a test asks to be odd.
 */
import type { Ipv6Address } from '../net/ipv6-address.ts';
import { ethernetFrame } from './packet-builder.ts';

/** One header of the chain, whose first byte is filled in: what comes next. */
export interface ExtensionHeader {
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface Ipv6Options {
  readonly source: Ipv6Address;
  readonly destination: Ipv6Address;
  readonly hopLimit?: number;
  /** All eight bits. */
  readonly trafficClass?: number;
  /** In the order in which they stand. */
  readonly extensions?: readonly ExtensionHeader[];
  /** What the last extension header, or the fixed one, says comes next. */
  readonly nextHeader: number;
  readonly payload: Uint8Array;
  readonly sourceMac?: string;
  readonly destinationMac?: string;
}

export const IPV6_HEADER_BYTES = 40;

/** The "next header" values of extension headers. */
export const extensionTypes = {
  hopByHop: 0,
  routing: 43,
  fragment: 44,
  authentication: 51,
  destination: 60,
} as const;

const ETHERNET_HEADER_BYTES = 14;
const ETHER_TYPE_IPV6 = 0x86dd;

export function ipv6(options: Ipv6Options): Uint8Array<ArrayBuffer> {
  const { source, destination, extensions = [], payload } = options;
  const chain = chained(extensions, options.nextHeader);
  const packet = new Uint8Array(IPV6_HEADER_BYTES + chain.bytes.length + payload.length);
  const view = new DataView(packet.buffer);
  view.setUint32(0, 0x6000_0000 + (options.trafficClass ?? 0) * 2 ** 20);
  view.setUint16(4, packet.length - IPV6_HEADER_BYTES);
  view.setUint8(6, chain.first);
  view.setUint8(7, options.hopLimit ?? 64);
  packet.set(ipv6Bytes(source), 8);
  packet.set(ipv6Bytes(destination), 24);
  packet.set(chain.bytes, IPV6_HEADER_BYTES);
  packet.set(payload, IPV6_HEADER_BYTES + chain.bytes.length);
  return ethernetFrame({ ...options, etherType: ETHER_TYPE_IPV6, payload: packet });
}

/** RFC 8200 §4.3, filled up by a PadN option. @param bytes a multiple of eight */
export function hopByHop(bytes = 8): ExtensionHeader {
  return { type: extensionTypes.hopByHop, bytes: padded(bytes) };
}

/** RFC 8200 §4.6. @param bytes a multiple of eight */
export function destinationOptions(bytes = 8): ExtensionHeader {
  return { type: extensionTypes.destination, bytes: padded(bytes) };
}

/** RFC 8200 §4.4: eight bytes, which name no addresses. */
export function routing(options: {
  readonly type: number;
  readonly segmentsLeft: number;
}): ExtensionHeader {
  const bytes = Uint8Array.of(0, 0, options.type, options.segmentsLeft, 0, 0, 0, 0);
  return { type: extensionTypes.routing, bytes };
}

/** RFC 4302 §2. @param bytes a multiple of four, at least 12 */
export function authentication(bytes = 24): ExtensionHeader {
  const header = new Uint8Array(bytes);
  header[1] = bytes / 4 - 2;
  return { type: extensionTypes.authentication, bytes: header };
}

/** RFC 8200 §4.5. */
export function fragmentHeader(options: {
  /** In units of eight bytes. */
  readonly offset: number;
  readonly isMore: boolean;
  readonly identification: number;
}): ExtensionHeader {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint16(2, options.offset * 8 + (options.isMore ? 1 : 0));
  view.setUint32(4, options.identification);
  return { type: extensionTypes.fragment, bytes };
}

/**
 * The packet in two fragments. All behind its fixed header is what is cut.
 *
 * @param firstBytes in the first fragment, a multiple of eight
 */
export function ipv6Fragments(
  frame: Uint8Array,
  { firstBytes, identification }: { readonly firstBytes: number; readonly identification: number },
): readonly [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>] {
  const packet = ipv6PacketBytes(frame);
  const content = packet.subarray(IPV6_HEADER_BYTES);
  const part = (payload: Uint8Array, offset: number, isMore: boolean) => {
    const { type, bytes } = fragmentHeader({ offset, isMore, identification });
    bytes[0] = packet[6] ?? 0;
    const whole = new Uint8Array(IPV6_HEADER_BYTES + bytes.length + payload.length);
    whole.set(packet.subarray(0, IPV6_HEADER_BYTES));
    whole.set(bytes, IPV6_HEADER_BYTES);
    whole.set(payload, IPV6_HEADER_BYTES + bytes.length);
    whole[6] = type;
    new DataView(whole.buffer).setUint16(4, bytes.length + payload.length);
    return ethernetFrame({ etherType: ETHER_TYPE_IPV6, payload: whole });
  };
  return [
    part(content.subarray(0, firstBytes), 0, true),
    part(content.subarray(firstBytes), firstBytes / 8, false),
  ];
}

/** Without Ethernet header and padding, as far as it is there. */
export function ipv6PacketBytes(frame: Uint8Array): Uint8Array {
  const packet = frame.subarray(ETHERNET_HEADER_BYTES);
  if (packet.length < IPV6_HEADER_BYTES) return packet;
  return packet.subarray(0, IPV6_HEADER_BYTES + (((packet[4] ?? 0) << 8) | (packet[5] ?? 0)));
}

/** Behind all extension headers that are whole: which protocol, and where. */
export function ipv6Transport(packet: Uint8Array): {
  readonly protocol: number;
  readonly at: number;
  /** Behind the first fragment of a datagram: there is no transport header. */
  readonly isLaterFragment: boolean;
} {
  let protocol = packet[6] ?? 0;
  let at = IPV6_HEADER_BYTES;
  let isLaterFragment = false;
  while (isExtension(protocol) && at + 8 <= packet.length && !isLaterFragment) {
    const lengthByte = packet[at + 1] ?? 0;
    const isFragment = protocol === extensionTypes.fragment;
    if (isFragment) isLaterFragment = (((packet[at + 2] ?? 0) << 8) | (packet[at + 3] ?? 0)) > 7;
    const isAuthentication = protocol === extensionTypes.authentication;
    protocol = packet[at] ?? 0;
    at += isFragment ? 8 : isAuthentication ? (lengthByte + 2) * 4 : (lengthByte + 1) * 8;
  }
  return { protocol, at, isLaterFragment };
}

/** The first octet highest, as on the wire. */
export function ipv6Bytes(address: Ipv6Address): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, address >> 64n);
  view.setBigUint64(8, address & 0xffff_ffff_ffff_ffffn);
  return bytes;
}

function isExtension(type: number): boolean {
  return Object.values<number>(extensionTypes).includes(type);
}

function chained(extensions: readonly ExtensionHeader[], nextHeader: number) {
  const types = [...extensions.map(({ type }) => type), nextHeader];
  const parts = extensions.map(({ bytes }, index) => {
    const copy = Uint8Array.from(bytes);
    copy[0] = types[index + 1] ?? 0;
    return copy;
  });
  return { first: types[0] ?? nextHeader, bytes: Uint8Array.from(parts.flatMap((p) => [...p])) };
}

function padded(bytes: number): Uint8Array {
  const header = new Uint8Array(bytes);
  // One PadN as long as all that is left (RFC 8200 §4.2), or several of at most 255 bytes.
  header[1] = bytes / 8 - 1;
  for (let at = 2; at < bytes; ) {
    const length = Math.min(bytes - at, 257);
    header[at] = length === 1 ? 0 : 1;
    if (length > 1) header[at + 1] = length - 2;
    at += length;
  }
  return header;
}
