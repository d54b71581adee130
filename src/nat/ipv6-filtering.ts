/**
 * Who may reach an endpoint of an IPv6 host from the internet (RFC 6092 REC-11, REC-33): whom its
 * network's filtering names, once the endpoint has sent out. docs/nat.md, "IPv6", "Filtering".
 */
import { digestEndpoint, type Ipv6Digest, pairCheck } from './ipv6-digest.ts';
import type { Ipv6Packet } from './ipv6-packet.ts';
import type { Ipv6PermissionKey } from './ipv6-permissions.ts';
import { MAPPING_MARGIN_TICKS } from './mapping-table.ts';
import type { NatFiltering } from './nat-settings.ts';
import type { NatState, Passage } from './passage.ts';
import { isInside } from './place.ts';
import { type EndIndex, otherEnd, type Session } from './session.ts';

/** The packet has opened a session that leaves for the internet. */
export function permitStrangers(passage: Passage<Ipv6Packet>, session: Session): void {
  const { state, packet, tick } = passage;
  const { transport } = packet;
  const { place } = session.ends[session.initiator];
  const isOfPorts = transport.kind === 'tcp' || transport.kind === 'udp';
  if (!isInside(place) || !isReachedFromWan(session, session.initiator) || !isOfPorts) return;
  const key = keyFor(filteringOf(state, place), {
    protocol: packet.protocol,
    inside: packet.sourceDigest,
    port: transport.ports.source,
    remote: packet.destinationDigest,
  });
  if (key === undefined) return;
  const { times } = state.settings;
  const ticks = transport.kind === 'tcp' ? times.tcpOpening : times.udp;
  const untilTick = tick + ticks + 1 + MAPPING_MARGIN_TICKS;
  state.sessions.permitIpv6(key, { network: place, untilTick, now: tick });
}

/** Whether whoever sent a packet from the internet may reach its destination without a rule. */
export function isLetIn({ state, packet, hook, tick }: Passage<Ipv6Packet>): boolean {
  const { transport, protocol } = packet;
  const isOfPorts = transport.kind === 'tcp' || transport.kind === 'udp';
  if (hook !== 'wan-ingress' || !isOfPorts) return false;
  const place = {
    protocol,
    inside: packet.destinationDigest,
    port: transport.ports.destination,
    remote: packet.sourceDigest,
  };
  return wideFilterings.some((filtering) => {
    const key = keyFor(filtering, place);
    const permission = key && state.sessions.findIpv6Permission(key, tick);
    return permission !== undefined && filteringOf(state, permission.network) === filtering;
  });
}

/** One that is there lives on by the packets of its endpoint's sessions. */
export function prolongIpv6Permission(
  { state, packet, tick }: Passage<Ipv6Packet>,
  met: { readonly session: Session; readonly sender: EndIndex; readonly end: EndIndex },
): void {
  const { session, sender, end } = met;
  const { place, port } = session.ends[end];
  if (!isInside(place) || !isReachedFromWan(session, end)) return;
  const { sourceDigest, destinationDigest } = packet;
  const [inside, remote] =
    sender === end ? [sourceDigest, destinationDigest] : [destinationDigest, sourceDigest];
  const { protocol } = session;
  const key = keyFor(filteringOf(state, place), { protocol, inside, port, remote });
  const permission = key && state.sessions.findIpv6Permission(key, tick);
  if (permission === undefined) return;
  const untilTick = session.untilTick + MAPPING_MARGIN_TICKS;
  permission.untilTick = Math.max(permission.untilTick, untilTick);
}

/** An inside end of a session with the internet. */
export function isReachedFromWan({ ends }: Session, end: EndIndex): boolean {
  return isInside(ends[end].place) && ends[otherEnd(end)].place === 'wan';
}

/** Those that let strangers in at all. */
const wideFilterings = ['endpoint-independent', 'address-dependent'] as const;

interface PermissionPlace {
  readonly protocol: number;
  readonly inside: Ipv6Digest;
  readonly port: number;
  readonly remote: Ipv6Digest;
}

/** @returns undefined where nobody is let in */
function keyFor(
  filtering: NatFiltering | undefined,
  { protocol, inside, port, remote }: PermissionPlace,
): Ipv6PermissionKey | undefined {
  const endpoint = digestEndpoint(inside, port);
  switch (filtering) {
    case 'endpoint-independent':
      return { protocol, inside: endpoint, remote: 0, check: inside.share };
    case 'address-dependent':
      return {
        ...{ protocol, inside: endpoint, remote: remote.digest },
        check: pairCheck(inside, remote),
      };
    default:
      return undefined;
  }
}

function filteringOf({ settings }: NatState, network: number): NatFiltering | undefined {
  return settings.networks[network]?.filtering;
}
