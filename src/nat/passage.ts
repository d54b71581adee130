/** One packet on its way through one hook, and what can come of it. */

import type { Ipv6Address } from '../net/ipv6-address.ts';
import type { FragmentKey, FragmentTable } from './fragment-table.ts';
import type { Generations } from './generations.ts';
import type { Endpoint, IpPacket } from './ip-packet.ts';
import type { Ipv4Packet } from './ipv4-packet.ts';
import type { Ipv6Packet } from './ipv6-packet.ts';
import type { MappingTable, NatClass } from './mapping-table.ts';
import type { NatCounters, NatDropReason } from './nat-counters.ts';
import type { NatHook, PacketKind } from './nat-hook.ts';
import type { NatSettings } from './nat-settings.ts';
import type { SessionTable } from './session-table.ts';

/** Whether a socket of the gateway is bound to one of its own external ports. */
export type IsOwnPort = (place: {
  readonly protocol: 'tcp' | 'udp';
  readonly address: number;
  readonly port: number;
}) => boolean;

/** All that the NAT remembers. */
export interface NatState {
  readonly generations: Generations;
  settings: NatSettings;
  readonly sessions: SessionTable;
  readonly mappings: MappingTable;
  readonly fragments: FragmentTable;
  /** From digests to addresses, for whoever lists sessions. */
  readonly ipv6Addresses: Map<number, Ipv6Address>;
  readonly counters: NatCounters;
  readonly isOwnPort: IsOwnPort;
  /** Until which tick each search for a port rests that failed. */
  readonly failedSearches: Map<string, number>;
  /** How many candidates each search has looked at in vain. */
  readonly skippedPorts: Map<string, number>;
}

/** Of one version or the other. */
export type EitherPacket = Ipv4Packet | Ipv6Packet;

export interface Passage<Packet extends EitherPacket = Ipv4Packet> {
  readonly state: NatState;
  readonly packet: Packet;
  readonly hook: NatHook;
  /** Now. */
  readonly tick: number;
  /** The mark as the packet brought it. */
  readonly mark: number;
  /** The interface of the hook: at egress, the one that the packet leaves by. */
  readonly interfaceIndex: number;
  /** The interface that the packet came in by. 0: by none. */
  readonly cameInBy: number;
  /** It came in by no interface. */
  readonly isMadeByGateway: boolean;
}

/** What becomes of the packet, whose bytes were changed already. */
export type Decision =
  | {
      readonly action: 'pass';
      /** Egress hooks tell nothing. */
      readonly kind: PacketKind;
      /** nft has let its session through, by the rules of now. */
      readonly isApproved: boolean;
      /** Its address was changed. */
      readonly isTranslated: boolean;
    }
  | { readonly action: 'drop'; readonly reason: NatDropReason }
  | { readonly action: 'hold' }
  /** As another fragment of the same datagram: with that one's bits of the mark. */
  | { readonly action: 'follow'; readonly mark: number; readonly isTranslated: boolean };

/** To user space: the first fragment of a datagram came, whose others are held. */
export interface FragmentEvent {
  readonly key: FragmentKey;
  readonly interfaceIndex: number;
}

/** What the gateway itself gets or sends, and what opens a session. */
export const passAsRequest: Decision = pass('request');

export function pass(kind: PacketKind, isApproved = false): Decision {
  return { action: 'pass', kind, isApproved, isTranslated: false };
}

export function translated(kind: PacketKind = 'request', isApproved = false): Decision {
  return { action: 'pass', kind, isApproved, isTranslated: true };
}

export function drop(reason: NatDropReason): Decision {
  return { action: 'drop', reason };
}

/** The class of the packet's protocol; undefined where there are no ports to change. */
export function classOf({ packet: { transport } }: Passage): NatClass | undefined {
  switch (transport.kind) {
    case 'tcp':
    case 'udp':
      return transport.kind;
    case 'icmp-query':
      return 'icmp';
    default:
      return undefined;
  }
}

/** The two ends of the packet as sessions have them: without ports where there are none. */
export function endpointsOf({ source, destination, transport }: IpPacket): {
  readonly sender: Endpoint;
  readonly receiver: Endpoint;
} {
  const ports = 'ports' in transport ? transport.ports : { source: 0, destination: 0 };
  return {
    sender: { address: source, port: ports.source },
    receiver: { address: destination, port: ports.destination },
  };
}
