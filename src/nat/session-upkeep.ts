/** Sessions as packets meet them: finding, opening, bringing up to date, and their times. */
import { judgeFirst } from './approval.ts';
import { type Endpoint, type IpPacket, tcpFlags } from './ip-packet.ts';
import { pairCheck } from './ipv6-digest.ts';
import { isReachedFromWan, prolongIpv6Permission } from './ipv6-filtering.ts';
import { isLive, MAPPING_MARGIN_TICKS } from './mapping-table.ts';
import { networkOf } from './nat-settings.ts';
import type { EitherPacket, NatState, Passage } from './passage.ts';
import {
  type EndIndex,
  endIndexOf,
  isClosing,
  otherEnd,
  type Session,
  type TimeClass,
  timeClassOf,
} from './session.ts';
import { type NewSession, natClassOf, type OpenRefusal } from './session-table.ts';
import { isOpeningSegment, trackSegment } from './tcp-tracking.ts';

/** Mappings are told of every eighth tick only. */
const REFRESH_SHIFT = 3;

export interface Ends {
  readonly sender: Endpoint;
  readonly receiver: Endpoint;
}

/** A session and which of its ends sent the packet. */
export interface MetSession {
  readonly session: Session;
  readonly sender: EndIndex;
}

/** The live session of the packet's ends, one that it would replace among them. */
export function findSession(passage: Passage<EitherPacket>, ends: Ends): MetSession | undefined {
  const { state, packet, tick } = passage;
  const { protocol } = packet;
  const session = state.sessions.find({ protocol, ipv6Check: checkOf(packet), ...ends }, tick);
  return session && { session, sender: endIndexOf(ends) };
}

/** The session that the packet belongs to. One that it may replace counts as not found. */
export function meetSession(passage: Passage<EitherPacket>, ends: Ends): MetSession | undefined {
  const found = findSession(passage, ends);
  if (found === undefined) return undefined;
  const { session, sender } = found;
  const isOpener = session.initiator === sender;
  if (!session.isConfirmed && !isOpener) return undefined;
  const { transport } = passage.packet;
  const isReopening = transport.kind === 'tcp' && isOpeningSegment(transport.tcp);
  const mayReopen = isOpener || passage.hook !== 'wan-ingress';
  return isReopening && mayReopen && isClosing(session) ? undefined : found;
}

/**
 * Whether the sender's external endpoint may be another's by now. It cannot be while the sender
 * opened the session: then every packet prolongs its mapping.
 */
export function hasLostMapping({ state, tick }: Passage, { session, sender }: MetSession): boolean {
  const { external } = session.ends[sender];
  const hasMapping = external !== undefined && natClassOf(session.protocol) !== undefined;
  if (!hasMapping || session.initiator === sender) return false;
  if (state.settings.externals[external.index]?.oneToOne !== undefined) return false;
  const mapping = state.sessions.mappingOf(session, sender);
  return mapping === undefined || !isLive(mapping, tick);
}

export interface UpdateOptions {
  /** Confirms the session when its opener sent the packet. */
  readonly isConfirming: boolean;
}

/** The packet belongs to the session: its numbers, its time and its mappings' times. */
export function bringUpToDate(
  passage: Passage<EitherPacket>,
  { session, sender }: MetSession,
  { isConfirming }: UpdateOptions,
): void {
  const before = timeClassOf(session);
  const isCounted = takePacket(passage, { session, sender });
  const isConfirmedNow = isConfirming && !session.isConfirmed && session.initiator === sender;
  if (isConfirmedNow) session.isConfirmed = true;
  if (isCounted || isConfirmedNow) renew(passage, { session, sender }, before);
}

/** nft let the opener's packet through. Nothing else of the session changes but its time. */
export function confirm(passage: Passage, { session, sender }: MetSession): void {
  if (session.isConfirmed || session.initiator !== sender) return;
  const before = timeClassOf(session);
  session.isConfirmed = true;
  renew(passage, { session, sender }, before);
}

/** Opens a session by the packet, which is taken into it. */
export function openSession(
  passage: Passage<EitherPacket>,
  options: Omit<NewSession, 'protocol' | 'ipv6Check' | 'tick' | 'isHalfQuota'>,
): Session | OpenRefusal {
  const { state, packet, tick } = passage;
  const { protocol } = packet;
  const ipv6Check = checkOf(packet);
  const isHalfQuota = options.chargedTo === 'receiver' || isAnsweringSyn(packet);
  const session = state.sessions.open({ ...options, isHalfQuota, protocol, ipv6Check, tick });
  if (typeof session === 'string') return session;
  // It answers a SYN that nobody could keep.
  if (isAnsweringSyn(packet)) session.ends[otherEnd(session.initiator)].hasSyn = true;
  const met = { session, sender: session.initiator };
  takePacket(passage, met);
  renew(passage, met, undefined);
  judgeFirst(passage, session);
  return session;
}

/** A SYN with an acknowledgement: strangers can make a host send it. */
export function isAnsweringSyn({ transport }: IpPacket): boolean {
  if (transport.kind !== 'tcp') return false;
  const { syn, ack, rst } = tcpFlags;
  return (transport.tcp.flags & (syn | ack | rst)) === (syn | ack);
}

/** What a packet without a session may do. For protocols other than TCP: always. */
export function mayOpen(passage: Passage, ends: Ends): boolean {
  const { state, packet, tick } = passage;
  if (packet.transport.kind !== 'tcp') return true;
  const { tcp } = packet.transport;
  if (isOpeningSegment(tcp)) return true;
  const { syn, ack, rst, fin } = tcpFlags;
  const isFromInside = networkOf(state.settings, ends.sender.address) !== undefined;
  if (!isFromInside || passage.hook === 'wan-ingress') return false;
  if (isAnsweringSyn(packet)) {
    return state.mappings.liveOf('tcp', ends.sender, tick) !== undefined;
  }
  const isPickup = (tcp.flags & (syn | ack | rst | fin)) === ack;
  return isPickup && tick < state.settings.pickupUntilTick;
}

/** @returns false when the packet is no sign of life of its end: then its bytes alone count */
function takePacket(
  { state, packet, hook }: Passage<EitherPacket>,
  { session, sender }: MetSession,
): boolean {
  const { transport } = packet;
  session.ends[sender].bytes += packet.bytes;
  if (transport.kind === 'tcp') {
    const isTrusted = hook !== 'wan-ingress';
    const outcome = trackSegment(session, transport.tcp, { sender, isTrusted });
    if (!outcome.isCounted) {
      if (outcome.reason !== undefined) state.counters.add(outcome.reason);
      return false;
    }
  }
  session.ends[sender].isSeen = true;
  state.sessions.recount(session);
  return true;
}

/** @param before the class of time that the session had; undefined for a new one */
function renew(
  passage: Passage<EitherPacket>,
  { session, sender }: MetSession,
  before: TimeClass | undefined,
): void {
  const { state, tick } = passage;
  const timeClass = timeClassOf(session);
  session.untilTick = tick + state.settings.times[timeClass] + 1;
  const isNew = before === undefined;
  const isTurning = !isNew && (before === 'tcpEstablished') !== (timeClass === 'tcpEstablished');
  const mayRefresh = isHeldOpen(session, sender) || session.initiator !== sender;
  const refreshed = (session.untilTick >>> REFRESH_SHIFT) & 0xff;
  const isDue = mayRefresh && session.refreshed !== refreshed;
  if (!isNew && !isTurning && !isDue) return;
  if (mayRefresh) session.refreshed = refreshed;
  const { packet } = passage;
  const refresh = (end: EndIndex) => {
    if (packet.family === 4) refreshMapping(state, session, end);
    else prolongIpv6Permission({ ...passage, packet }, { session, sender, end });
  };
  refresh(sender);
  // Traffic that strangers started never prolongs a mapping, but for its beginning and its end.
  const other = otherEnd(sender);
  if (isTurning || session.initiator === other) refresh(other);
}

/** Whether its packets keep the way to it open. */
function isHeldOpen(session: Session, end: EndIndex): boolean {
  return session.ends[end].external !== undefined || isReachedFromWan(session, end);
}

/** Undefined: IPv4. */
function checkOf(packet: EitherPacket): number | undefined {
  if (packet.family === 4) return undefined;
  return pairCheck(packet.sourceDigest, packet.destinationDigest);
}

/** The mapping of an end, where it has one, and its permission live as long as the session asks. */
export function refreshMapping(state: NatState, session: Session, end: EndIndex): void {
  const until = session.untilTick + MAPPING_MARGIN_TICKS;
  refreshPermission(state, { session, end, until });
  const mapping = state.sessions.mappingOf(session, end);
  if (mapping === undefined) return;
  if (session.isEstablished) {
    mapping.establishedUntilTick = Math.max(mapping.establishedUntilTick, until);
  } else {
    mapping.untilTick = Math.max(mapping.untilTick, until);
  }
}

/** One that is there lives as long as the mapping of its inside endpoint. */
function refreshPermission(
  state: NatState,
  place: { readonly session: Session; readonly end: EndIndex; readonly until: number },
): void {
  const { protocol, ends } = place.session;
  const { address, port, external } = ends[place.end];
  if (external === undefined) return;
  const remote = ends[otherEnd(place.end)].address;
  state.sessions.prolongPermission({ protocol, inside: { address, port }, remote }, place.until);
}
