/**
 * IPv6 through the table of sessions, without translation (docs/nat.md, "IPv6"): what becomes of a
 * packet at each hook.
 */
import { isApproved, judge } from './approval.ts';
import { tcpFlags } from './ip-packet.ts';
import { digestOf } from './ipv6-digest.ts';
import { isAboutSession } from './ipv6-errors.ts';
import { isLetIn, permitStrangers } from './ipv6-filtering.ts';
import { type Ipv6Packet, parseIpv6Content, parseIpv6Header, staysAtHome } from './ipv6-packet.ts';
import { packetKinds, packetMarks } from './nat-hook.ts';
import {
  type Decision,
  drop,
  endpointsOf,
  type NatState,
  type Passage,
  pass,
  passAsRequest,
} from './passage.ts';
import { isInside, placeOf } from './place.ts';
import { bringUpToDate, meetSession, openSession } from './session-upkeep.ts';
import { isOpeningSegment } from './tcp-tracking.ts';

export interface Ipv6Decision {
  readonly decision: Decision;
  /** Absent where the packet was not looked at, so that nothing is told about it. */
  readonly passage?: Passage<Ipv6Packet>;
}

/** A packet before anything is known of it. */
export type Ipv6Arrival = Omit<Passage, 'packet'> & {
  readonly frame: Uint8Array;
  readonly isSuperPacket: boolean;
};

export function handleIpv6({ frame, isSuperPacket, ...arrival }: Ipv6Arrival): Ipv6Decision {
  const isEgress = arrival.hook.endsWith('egress');
  if (isEgress && needsNothing(arrival)) return { decision: passAsRequest };
  const header = parseIpv6Header(frame, { isSuperPacket });
  if (header === undefined) return { decision: drop('droppedMalformed') };
  if (staysAtHome(header)) return { decision: passAsRequest };
  const content = parseIpv6Content(header);
  if (content === undefined) return { decision: drop('droppedMalformed') };
  const packet = { family: 6, ...header, ...content, ...digestsOf(arrival.state, header) } as const;
  const passage = { ...arrival, packet };
  return { decision: isEgress ? handleEgress(passage) : handleIngress(passage), passage };
}

/** It belongs to a session, or the gateway says it. */
function needsNothing({ mark, isMadeByGateway }: Pick<Passage, 'mark' | 'isMadeByGateway'>) {
  if (isMadeByGateway || (mark & (packetMarks.approved | packetMarks.done)) !== 0) return true;
  const kind = mark & packetMarks.kind;
  return kind === packetKinds.reply || kind === packetKinds.related;
}

function digestsOf(
  { settings }: NatState,
  addresses: Pick<Ipv6Packet, 'sourceAddress' | 'destinationAddress'>,
) {
  const sourceDigest = digestOf(settings.hashKey, addresses.sourceAddress);
  const destinationDigest = digestOf(settings.hashKey, addresses.destinationAddress);
  return {
    ...{ sourceDigest, destinationDigest },
    source: sourceDigest.digest,
    destination: destinationDigest.digest,
  };
}

function handleIngress(passage: Passage<Ipv6Packet>): Decision {
  const { packet } = passage;
  const { kind } = packet.transport;
  if (kind === 'later-fragment' || kind === 'icmp-other') return passAsRequest;
  if (kind === 'icmp-error') return isAboutSession(passage) ? pass('related') : passAsRequest;
  const met = meetSession(passage, endpointsOf(packet));
  if (met === undefined) return tellNew(passage);
  bringUpToDate(passage, met, { isConfirming: false });
  const isKnown = isApproved(passage, met.session, packet.destination);
  if (met.session.initiator !== met.sender) return pass('reply', isKnown);
  return pass(!isKnown && isLetIn(passage) ? 'mapped' : 'request', isKnown);
}

/** Nothing is dropped for want of a session: it may be for the gateway itself. */
function tellNew(passage: Passage<Ipv6Packet>): Decision {
  const { packet, hook, state } = passage;
  if (!mayOpen(passage)) return pass('stray');
  const isFromInside = hook === 'inside-ingress';
  const isFull = isFromInside && state.sessions.refusalFor(packet.source, 6) !== undefined;
  if (isFull) return pass('full');
  return isLetIn(passage) ? pass('mapped') : passAsRequest;
}

function handleEgress(passage: Passage<Ipv6Packet>): Decision {
  const { packet, mark } = passage;
  const { kind } = packet.transport;
  if (kind === 'later-fragment' || kind === 'icmp-error' || kind === 'icmp-other') {
    return passAsRequest;
  }
  const met = meetSession(passage, endpointsOf(packet));
  if (met !== undefined) {
    judge(passage, met);
    return passAsRequest;
  }
  const told = mark & packetMarks.kind;
  const isNew = told === packetKinds.request || told === packetKinds.mapped;
  return isNew ? open(passage) : passAsRequest;
}

/** nft let it through. */
function open(passage: Passage<Ipv6Packet>): Decision {
  const { packet, state, cameInBy, interfaceIndex } = passage;
  const { transport } = packet;
  const isAnswer = transport.kind === 'icmp-query' && !transport.isRequest;
  if (isAnswer || !mayOpen(passage)) return drop('droppedStray');
  const places = {
    sender: placeOf(state.settings, cameInBy),
    receiver: placeOf(state.settings, interfaceIndex),
  };
  const isFromInside = isInside(places.sender);
  const opened = openSession(passage, {
    ...endpointsOf(packet),
    chargedTo: isFromInside ? 'sender' : 'receiver',
    isConfirmed: true,
    network: undefined,
    places,
  });
  if (typeof opened === 'string') {
    if (isFromInside) return drop(opened);
    state.counters.add('unansweredLimit');
    return passAsRequest;
  }
  state.ipv6Addresses.set(packet.source, packet.sourceAddress);
  state.ipv6Addresses.set(packet.destination, packet.destinationAddress);
  permitStrangers(passage, opened);
  return passAsRequest;
}

/** TCP opens a session by its SYN alone, but for a while after the NAT began. */
function mayOpen(passage: Passage<Ipv6Packet>): boolean {
  const { packet, state, hook, tick, cameInBy, interfaceIndex } = passage;
  const { transport } = packet;
  if (transport.kind !== 'tcp' || isOpeningSegment(transport.tcp)) return true;
  if (hook === 'wan-ingress' || tick >= state.settings.pickupUntilTick) return false;
  const { syn, ack, rst, fin } = tcpFlags;
  if ((transport.tcp.flags & (syn | ack | rst | fin)) !== ack) return false;
  const entrance = hook === 'inside-ingress' ? interfaceIndex : cameInBy;
  return isInside(placeOf(state.settings, entrance));
}
