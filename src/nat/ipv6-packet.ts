/**
 * An IPv6 packet (RFC 8200): the fixed header, a chain of extension headers, the transport's.
 * docs/nat.md, "IPv6", says what is malformed. Frames with VLAN tags are none here.
 */
import { type Ipv6Address, ipv6Address } from '../net/ipv6-address.ts';
import {
  ETHERNET_HEADER_BYTES,
  etherTypeOf,
  type IpPacket,
  parseTransport,
  protocols,
  type Transport,
  type TransportPlace,
  viewOf,
} from './ip-packet.ts';
import type { Ipv6Digest } from './ipv6-digest.ts';

export interface Ipv6Packet extends IpPacket {
  readonly family: 6;
  readonly sourceAddress: Ipv6Address;
  readonly destinationAddress: Ipv6Address;
  readonly sourceDigest: Ipv6Digest;
  readonly destinationDigest: Ipv6Digest;
}

export type Ipv6Header = Pick<
  Ipv6Packet,
  'view' | 'networkAt' | 'bytes' | 'sourceAddress' | 'destinationAddress'
>;

export type Ipv6Content = Pick<
  Ipv6Packet,
  'protocol' | 'transportAt' | 'endAt' | 'isFirstFragment' | 'transport'
>;

export const IPV6_HEADER_BYTES = 40;

const ETHER_TYPE_IPV6 = 0x86dd;
const ICMP_HEADER_BYTES = 8;
/** Of a chain: what no honest sender comes near. */
const EXTENSION_HEADERS_MAX = 8;
const EXTENSION_BYTES_MAX = 256;
const FRAGMENT_HEADER_BYTES = 8;

/** AH and ESP end a chain: nft sees no further, either. */
const headers = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 };
const extensionHeaders: readonly number[] = Object.values(headers);
const icmpv6Errors: readonly number[] = [1, 2, 3, 4];
const laterFragment: Transport = { kind: 'later-fragment' };

export function isIpv6Frame(frame: Uint8Array): boolean {
  return etherTypeOf(frame) === ETHER_TYPE_IPV6;
}

/** The fixed header. @returns undefined when the packet is malformed */
export function parseIpv6Header(
  frame: Uint8Array,
  { isSuperPacket }: { readonly isSuperPacket: boolean },
): Ipv6Header | undefined {
  const view = viewOf(frame);
  const networkAt = ETHERNET_HEADER_BYTES;
  const available = frame.length - networkAt;
  if (available < IPV6_HEADER_BYTES || view.getUint8(networkAt) >> 4 !== 6) return undefined;
  const payloadBytes = view.getUint16(networkAt + 4);
  const isBeyondLength = payloadBytes === 0 && isSuperPacket;
  const bytes = isBeyondLength ? available : IPV6_HEADER_BYTES + payloadBytes;
  if (bytes > available) return undefined;
  return { view, networkAt, bytes, ...ipv6AddressesAt(view, networkAt) };
}

/** What is behind it. @returns undefined when the packet is malformed */
export function parseIpv6Content(header: Ipv6Header): Ipv6Content | undefined {
  const { view, networkAt, bytes } = header;
  const endAt = networkAt + bytes;
  const chain = followChain(view, { networkAt, endAt });
  if (chain === undefined) return undefined;
  const { protocol, transportAt, part } = chain;
  const isFirstFragment = part === 'first';
  const place = { protocol, at: transportAt, endAt, isFirstFragment };
  const transport = part === 'later' ? laterFragment : parseTransportOf(view, place);
  return transport && { protocol, transportAt, endAt, isFirstFragment, transport };
}

/** From or to itself, its link, or many: never forwarded. */
export function staysAtHome({ sourceAddress, destinationAddress }: Ipv6Header): boolean {
  return isNeverForwarded(sourceAddress) || isNeverForwarded(destinationAddress);
}

/** Whether an ICMPv6 type asks or answers; undefined for what is no query (RFC 4443 §4). */
export function icmpv6QueryDirection(type: number): 'request' | 'reply' | undefined {
  if (type === 128) return 'request';
  return type === 129 ? 'reply' : undefined;
}

/** Of the header at a place of the view. */
export function ipv6AddressesAt(
  view: DataView,
  networkAt: number,
): Pick<Ipv6Packet, 'sourceAddress' | 'destinationAddress'> {
  const address = (at: number) =>
    ipv6Address((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8));
  return { sourceAddress: address(networkAt + 8), destinationAddress: address(networkAt + 24) };
}

/** What is behind the fixed header. */
export interface Ipv6Chain {
  readonly protocol: number;
  readonly transportAt: number;
  readonly part: 'whole' | 'first' | 'later';
}

/**
 * Steps over the extension headers of the packet at a place of the view.
 *
 * @returns undefined when the chain is malformed, or not whole
 */
export function followChain(
  view: DataView,
  { networkAt, endAt }: { readonly networkAt: number; readonly endAt: number },
): Ipv6Chain | undefined {
  const firstAt = networkAt + IPV6_HEADER_BYTES;
  let at = firstAt;
  let protocol = view.getUint8(networkAt + 6);
  let part: Ipv6Chain['part'] | undefined;
  for (let count = 0; extensionHeaders.includes(protocol); count++) {
    if (count === EXTENSION_HEADERS_MAX || at + 8 > endAt) return undefined;
    if (protocol === headers.hopByHop && count > 0) return undefined;
    if (isRefusedRouting(view, protocol, at)) return undefined;
    const isFragment = protocol === headers.fragment;
    if (isFragment && part !== undefined) return undefined;
    if (isFragment) part = fragmentPartAt(view, at);
    const length = isFragment ? FRAGMENT_HEADER_BYTES : (view.getUint8(at + 1) + 1) * 8;
    protocol = view.getUint8(at);
    at += length;
    if (at > endAt || at - firstAt > EXTENSION_BYTES_MAX) return undefined;
    if (part === 'later') break;
  }
  return { protocol, transportAt: at, part: part ?? 'whole' };
}

/** An offset of zero without more to come is no fragment at all (RFC 6946). */
function fragmentPartAt(view: DataView, at: number): Ipv6Chain['part'] {
  const offsetAndFlags = view.getUint16(at + 2);
  if (offsetAndFlags >> 3 !== 0) return 'later';
  return (offsetAndFlags & 1) !== 0 ? 'first' : 'whole';
}

/** RFC 5095: what would let anybody send packets to and fro. */
function isRefusedRouting(view: DataView, protocol: number, at: number): boolean {
  if (protocol !== headers.routing) return false;
  return view.getUint8(at + 2) === 0 && view.getUint8(at + 3) !== 0;
}

/** `::`, `::1`, fe80::/10 and ff00::/8. */
function isNeverForwarded(address: Ipv6Address): boolean {
  return address <= 1n || address >> 118n === 0xfe80n >> 6n || address >> 120n === 0xffn;
}

function parseTransportOf(view: DataView, place: TransportPlace): Transport | undefined {
  return place.protocol === protocols.icmpv6
    ? parseIcmpv6(view, place)
    : parseTransport(view, place);
}

function parseIcmpv6(view: DataView, { at, endAt }: TransportPlace): Transport | undefined {
  if (at + ICMP_HEADER_BYTES > endAt) return undefined;
  const type = view.getUint8(at);
  const direction = icmpv6QueryDirection(type);
  if (direction !== undefined) {
    const identifier = view.getUint16(at + 4);
    const ports = { source: identifier, destination: identifier };
    return { kind: 'icmp-query', ports, isRequest: direction === 'request' };
  }
  if (!icmpv6Errors.includes(type)) return { kind: 'icmp-other' };
  return { kind: 'icmp-error', type, code: view.getUint8(at + 1) };
}
