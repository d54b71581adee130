/**
 * An IPv4 packet (RFC 791). Frames with VLAN tags are none here: tags are taken off before the
 * NAT's hooks.
 */
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

export interface Ipv4Packet extends IpPacket {
  readonly family: 4;
  readonly identification: number;
}

const ETHER_TYPE_IPV4 = 0x0800;
const IPV4_HEADER_BYTES_MIN = 20;
const ICMP_HEADER_BYTES = 8;
const icmpQueryRequests: readonly number[] = [8, 13, 15, 17];
const icmpQueryReplies: readonly number[] = [0, 14, 16, 18];
const icmpErrors: readonly number[] = [3, 4, 5, 11, 12];

export function isIpv4Frame(frame: Uint8Array): boolean {
  return etherTypeOf(frame) === ETHER_TYPE_IPV4;
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
    : parseContent(view, { protocol, at: transportAt, endAt, isFirstFragment });
  if (transport === undefined) return undefined;
  return {
    ...{ view, networkAt, transportAt, endAt, bytes, isFirstFragment, protocol, transport },
    family: 4,
    identification: view.getUint16(networkAt + 4),
    source: view.getUint32(networkAt + 12),
    destination: view.getUint32(networkAt + 16),
  };
}

/** Whether an ICMP type asks or answers; undefined for what is no query. */
export function icmpQueryDirection(type: number): 'request' | 'reply' | undefined {
  if (icmpQueryRequests.includes(type)) return 'request';
  return icmpQueryReplies.includes(type) ? 'reply' : undefined;
}

function parseContent(view: DataView, place: TransportPlace): Transport | undefined {
  return place.protocol === protocols.icmp ? parseIcmp(view, place) : parseTransport(view, place);
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
