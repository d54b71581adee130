/** Changing a packet's addresses and ports, with every checksum that covers them. */
import {
  addressWords,
  type ChangedWords,
  updatedChecksum,
  updatedUdpChecksum,
} from './incremental-checksum.ts';
import type { Ipv4Packet } from './ipv4-packet.ts';

/** @property port undefined where the protocol has none, or the fragment does not hold it */
export interface NewEndpoint {
  readonly address: number;
  readonly port?: number;
}

export function rewriteSource(packet: Ipv4Packet, to: NewEndpoint): void {
  rewriteEnd(packet, to, { address: 12, port: 0 });
}

export function rewriteDestination(packet: Ipv4Packet, to: NewEndpoint): void {
  rewriteEnd(packet, to, { address: 16, port: 2 });
}

/** The IPv4 header alone. @returns the change, for checksums that cover the addresses */
export function rewriteAddress(
  view: DataView,
  {
    networkAt,
    offset,
    address,
  }: {
    readonly networkAt: number;
    readonly offset: 12 | 16;
    readonly address: number;
  },
): ChangedWords {
  const at = networkAt + offset;
  const change = { before: addressWords(view.getUint32(at)), after: addressWords(address) };
  view.setUint32(at, address);
  view.setUint16(networkAt + 10, updatedChecksum(view.getUint16(networkAt + 10), change));
  return change;
}

export interface TransportChange {
  readonly at: number;
  readonly endAt: number;
  readonly kind: 'tcp' | 'udp' | 'icmp-query';
  /** Of the addresses in front. */
  readonly addresses: ChangedWords;
  /** Where in the header the port stands. */
  readonly portOffset: number;
  readonly port: number;
}

/** A transport header, of which the checksum may be cut off. */
export function rewriteTransport(view: DataView, change: TransportChange): void {
  const { at, kind, addresses, port } = change;
  const portAt = at + (kind === 'icmp-query' ? 4 : change.portOffset);
  const ports = { before: view.getUint16(portAt), after: port };
  view.setUint16(portAt, port);
  const both = {
    before: addresses.before + ports.before,
    after: addresses.after + ports.after,
  };
  if (kind === 'udp') {
    view.setUint16(at + 6, updatedUdpChecksum(view.getUint16(at + 6), both));
  } else if (kind === 'tcp') {
    if (at + 18 > change.endAt) return;
    view.setUint16(at + 16, updatedChecksum(view.getUint16(at + 16), both));
  } else if (ports.before !== ports.after) {
    view.setUint16(at + 2, updatedChecksum(view.getUint16(at + 2), ports));
  }
}

function rewriteEnd(
  { view, networkAt, transportAt, endAt, transport }: Ipv4Packet,
  to: NewEndpoint,
  offsets: { readonly address: 12 | 16; readonly port: 0 | 2 },
): void {
  const place = { networkAt, offset: offsets.address, address: to.address };
  const addresses = rewriteAddress(view, place);
  if (to.port === undefined || !('ports' in transport)) return;
  const { kind } = transport;
  const { port } = to;
  const at = transportAt;
  rewriteTransport(view, { at, endAt, kind, addresses, portOffset: offsets.port, port });
}
