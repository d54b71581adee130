/**
 * ICMPv6 errors (RFC 4443 §3) and the packets that they quote. Nothing is translated, so they only
 * have to be told from those about no session.
 */
import { type Endpoint, protocols } from './ip-packet.ts';
import { digestEndpoint, digestOf, pairCheck } from './ipv6-digest.ts';
import {
  followChain,
  IPV6_HEADER_BYTES,
  type Ipv6Packet,
  icmpv6QueryDirection,
  ipv6AddressesAt,
} from './ipv6-packet.ts';
import type { Passage } from './passage.ts';

/** Whether the quoted packet has a live session, and was sent by whom the error is for. */
export function isAboutSession({ state, packet, tick }: Passage<Ipv6Packet>): boolean {
  const quoted = readQuotedPacket(packet);
  if (quoted === undefined || quoted.sourceAddress !== packet.destinationAddress) return false;
  const { hashKey } = state.settings;
  const source = digestOf(hashKey, quoted.sourceAddress);
  const destination = digestOf(hashKey, quoted.destinationAddress);
  const key = {
    protocol: quoted.protocol,
    ipv6Check: pairCheck(source, destination),
    sender: digestEndpoint(source, quoted.ports.source),
    receiver: digestEndpoint(destination, quoted.ports.destination),
  };
  return state.sessions.find(key, tick) !== undefined;
}

interface QuotedIpv6Packet extends Pick<Ipv6Packet, 'sourceAddress' | 'destinationAddress'> {
  readonly protocol: number;
  readonly ports: { readonly source: Endpoint['port']; readonly destination: Endpoint['port'] };
}

const ICMP_HEADER_BYTES = 8;
const QUOTED_TRANSPORT_BYTES_MIN = 8;

/** @returns undefined when no session can be behind it */
function readQuotedPacket({ view, transportAt, endAt }: Ipv6Packet): QuotedIpv6Packet | undefined {
  const networkAt = transportAt + ICMP_HEADER_BYTES;
  if (networkAt + IPV6_HEADER_BYTES > endAt || view.getUint8(networkAt) >> 4 !== 6) {
    return undefined;
  }
  const chain = followChain(view, { networkAt, endAt });
  if (chain === undefined || chain.part === 'later') return undefined;
  if (chain.transportAt + QUOTED_TRANSPORT_BYTES_MIN > endAt) return undefined;
  const ports = quotedPorts(view, chain);
  return ports && { protocol: chain.protocol, ports, ...ipv6AddressesAt(view, networkAt) };
}

/** @returns undefined for ICMPv6 that is no query */
function quotedPorts(
  view: DataView,
  { protocol, transportAt }: { readonly protocol: number; readonly transportAt: number },
): QuotedIpv6Packet['ports'] | undefined {
  switch (protocol) {
    case protocols.tcp:
    case protocols.udp:
      return { source: view.getUint16(transportAt), destination: view.getUint16(transportAt + 2) };
    case protocols.icmpv6: {
      if (icmpv6QueryDirection(view.getUint8(transportAt)) === undefined) return undefined;
      const identifier = view.getUint16(transportAt + 4);
      return { source: identifier, destination: identifier };
    }
    default:
      return { source: 0, destination: 0 };
  }
}
