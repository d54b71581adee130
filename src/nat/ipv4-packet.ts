/**
 * An IPv4 packet in its Ethernet frame, as far as the NAT reads it. The bytes are changed in place.
 *
 * Frames with VLAN tags are no IPv4 here: tags are taken off before the NAT's hooks.
 */

export interface Endpoint {
  readonly address: number;
  /** ICMP queries: the identifier. Protocols without ports: 0. */
  readonly port: number;
}

/** RFC 9293 §3.1. */
export const tcpFlags = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 } as const;

export interface TcpSegment {
  readonly flags: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  /** Payload, SYN and FIN in sequence numbers. */
  readonly length: number;
  /** False for first fragments, whose payload's end is elsewhere: it counts as none. */
  readonly isLengthKnown: boolean;
}

/** What the transport header says. Of later fragments nothing is known. */
export type Transport =
  | { readonly kind: 'later-fragment' }
  | { readonly kind: 'tcp'; readonly ports: Ports; readonly tcp: TcpSegment }
  | { readonly kind: 'udp'; readonly ports: Ports }
  /** Both ports are the identifier. */
  | { readonly kind: 'icmp-query'; readonly ports: Ports; readonly isRequest: boolean }
  | { readonly kind: 'icmp-error'; readonly type: number; readonly code: number }
  | { readonly kind: 'icmp-other' }
  | { readonly kind: 'other' };

export interface Ports {
  readonly source: number;
  readonly destination: number;
}

export interface Ipv4Packet {
  readonly view: DataView;
  /** Where the IPv4 header begins in the view. */
  readonly networkAt: number;
  readonly transportAt: number;
  /** Behind the packet's last byte; padding of the frame follows. */
  readonly endAt: number;
  /** From the IPv4 header on. */
  readonly bytes: number;
  readonly isFirstFragment: boolean;
  readonly identification: number;
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly transport: Transport;
}

export const protocols = { icmp: 1, tcp: 6, udp: 17 } as const;

const ETHERNET_HEADER_BYTES = 14;
const ETHER_TYPE_IPV4 = 0x0800;
const IPV4_HEADER_BYTES_MIN = 20;
const TCP_HEADER_BYTES_MIN = 20;
const UDP_HEADER_BYTES = 8;
const ICMP_HEADER_BYTES = 8;
const icmpQueryRequests: readonly number[] = [8, 13, 15, 17];
const icmpQueryReplies: readonly number[] = [0, 14, 16, 18];
const icmpErrors: readonly number[] = [3, 4, 5, 11, 12];

export function isIpv4Frame(frame: Uint8Array): boolean {
  return frame.length >= ETHERNET_HEADER_BYTES && viewOf(frame).getUint16(12) === ETHER_TYPE_IPV4;
}

/** @returns undefined when the packet is malformed: docs/nat.md says what that means */
export function parseIpv4Packet(frame: Uint8Array): Ipv4Packet | undefined {
  const view = viewOf(frame);
  const networkAt = ETHERNET_HEADER_BYTES;
  const available = frame.length - networkAt;
  if (available < IPV4_HEADER_BYTES_MIN) return undefined;
  const headerBytes = (view.getUint8(networkAt) & 0xf) * 4;
  const totalLength = view.getUint16(networkAt + 2);
  // A super-packet is longer than its header can say.
  const bytes = totalLength || available;
  if (view.getUint8(networkAt) >> 4 !== 4 || headerBytes < IPV4_HEADER_BYTES_MIN) return undefined;
  if (headerBytes > bytes || bytes > available) return undefined;
  const fragment = view.getUint16(networkAt + 6);
  const isLater = (fragment & 0x1fff) !== 0;
  const isFirstFragment = !isLater && (fragment & 0x2000) !== 0;
  const protocol = view.getUint8(networkAt + 9);
  const transportAt = networkAt + headerBytes;
  const endAt = networkAt + bytes;
  const transport: Transport | undefined = isLater
    ? { kind: 'later-fragment' }
    : parseTransport(view, { protocol, at: transportAt, endAt, isFirstFragment });
  if (transport === undefined) return undefined;
  return {
    ...{ view, networkAt, transportAt, endAt, bytes, isFirstFragment, protocol, transport },
    identification: view.getUint16(networkAt + 4),
    source: view.getUint32(networkAt + 12),
    destination: view.getUint32(networkAt + 16),
  };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether an ICMP type asks or answers; undefined for what is no query. */
export function icmpQueryDirection(type: number): 'request' | 'reply' | undefined {
  if (icmpQueryRequests.includes(type)) return 'request';
  return icmpQueryReplies.includes(type) ? 'reply' : undefined;
}

interface TransportPlace {
  readonly protocol: number;
  readonly at: number;
  readonly endAt: number;
  readonly isFirstFragment: boolean;
}

function parseTransport(view: DataView, place: TransportPlace): Transport | undefined {
  switch (place.protocol) {
    case protocols.tcp:
      return parseTcp(view, place);
    case protocols.udp: {
      if (place.at + UDP_HEADER_BYTES > place.endAt) return undefined;
      const ports = parsePorts(view, place.at);
      return ports && { kind: 'udp', ports };
    }
    case protocols.icmp:
      return parseIcmp(view, place);
    default:
      return { kind: 'other' };
  }
}

function parseTcp(view: DataView, { at, endAt, isFirstFragment }: TransportPlace) {
  if (at + TCP_HEADER_BYTES_MIN > endAt) return undefined;
  const headerBytes = (view.getUint8(at + 12) >> 4) * 4;
  const ports = parsePorts(view, at);
  if (headerBytes < TCP_HEADER_BYTES_MIN || at + headerBytes > endAt) return undefined;
  if (ports === undefined) return undefined;
  const flags = view.getUint8(at + 13);
  const controls = (flags & tcpFlags.syn ? 1 : 0) + (flags & tcpFlags.fin ? 1 : 0);
  const tcp: TcpSegment = {
    flags,
    sequence: view.getUint32(at + 4),
    acknowledgement: view.getUint32(at + 8),
    length: controls + (isFirstFragment ? 0 : endAt - at - headerBytes),
    isLengthKnown: !isFirstFragment,
  };
  return { kind: 'tcp', ports, tcp } as const;
}

/** @returns undefined where a port is zero */
function parsePorts(view: DataView, at: number): Ports | undefined {
  const ports = { source: view.getUint16(at), destination: view.getUint16(at + 2) };
  return ports.source === 0 || ports.destination === 0 ? undefined : ports;
}

function parseIcmp(view: DataView, { at, endAt }: TransportPlace): Transport | undefined {
  if (at + ICMP_HEADER_BYTES > endAt) return undefined;
  const type = view.getUint8(at);
  const direction = icmpQueryDirection(type);
  if (direction !== undefined) {
    const identifier = view.getUint16(at + 4);
    const ports = { source: identifier, destination: identifier };
    return { kind: 'icmp-query', ports, isRequest: direction === 'request' };
  }
  if (!icmpErrors.includes(type)) return { kind: 'icmp-other' };
  return { kind: 'icmp-error', type, code: view.getUint8(at + 1) };
}
