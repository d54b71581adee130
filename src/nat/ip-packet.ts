/**
 * An IP packet in its Ethernet frame, as far as the NAT reads it, whichever version it has. The
 * bytes are changed in place.
 */

export interface Endpoint {
  /** IPv4: the address. IPv6: its digest, see docs/nat.md. */
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

export interface IpPacket {
  readonly family: 4 | 6;
  readonly view: DataView;
  /** Where the IP header begins in the view. */
  readonly networkAt: number;
  readonly transportAt: number;
  /** Behind the packet's last byte; padding of the frame follows. */
  readonly endAt: number;
  /** From the IP header on. */
  readonly bytes: number;
  readonly isFirstFragment: boolean;
  readonly protocol: number;
  /** IPv6: digests of the addresses. */
  readonly source: number;
  readonly destination: number;
  readonly transport: Transport;
}

export const protocols = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;

export const ETHERNET_HEADER_BYTES = 14;

const TCP_HEADER_BYTES_MIN = 20;
const UDP_HEADER_BYTES = 8;

export function etherTypeOf(frame: Uint8Array): number | undefined {
  return frame.length >= ETHERNET_HEADER_BYTES ? viewOf(frame).getUint16(12) : undefined;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Where a transport header is. */
export interface TransportPlace {
  readonly protocol: number;
  readonly at: number;
  /** Behind the packet. */
  readonly endAt: number;
  readonly isFirstFragment: boolean;
}

/** Of every protocol but ICMP. @returns undefined when it is malformed */
export function parseTransport(view: DataView, place: TransportPlace): Transport | undefined {
  switch (place.protocol) {
    case protocols.tcp:
      return parseTcp(view, place);
    case protocols.udp: {
      if (place.at + UDP_HEADER_BYTES > place.endAt) return undefined;
      const ports = parsePorts(view, place.at);
      return ports && { kind: 'udp', ports };
    }
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
