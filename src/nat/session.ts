/** One session: two endpoints as nft sees them, and what their packets have told so far. */
import { type Endpoint, protocols } from './ip-packet.ts';
import type { ExternalEndpoint, Mapping } from './mapping-table.ts';
import type { NatTimes } from './nat-settings.ts';
import type { Place } from './place.ts';

/** 0: the low endpoint, which is the smaller one as the number made of address and port. */
export type EndIndex = 0 | 1;

export interface SessionEnd extends Endpoint {
  /** Absent: it is not translated. */
  external: ExternalEndpoint | undefined;
  /** IPv6: where it was when the session was opened or judged last. */
  place: Place | undefined;
  /** A packet came from it. */
  isSeen: boolean;
  hasSyn: boolean;
  hasFin: boolean;
  hasRst: boolean;
  /** TCP: the number behind the last byte that it sent, and its last acknowledgement. */
  end: number;
  acknowledged: number;
  /** From the IPv4 header on. */
  bytes: number;
}

export interface Session {
  readonly protocol: number;
  /** Of its addresses, whose digests others may have, too. Undefined: IPv4. */
  readonly ipv6Check: number | undefined;
  readonly ends: readonly [SessionEnd, SessionEnd];
  readonly initiator: EndIndex;
  /** Whose host's quota it counts against. */
  readonly charged: EndIndex;
  readonly isPortForward: boolean;
  /** Of the translated endpoint, into the settings' networks. */
  readonly network: number | undefined;
  readonly createdTick: number;
  isEstablished: boolean;
  /** nft let its first packet through. */
  isConfirmed: boolean;
  /** The number of the rules by which it did so last; 0: by none. */
  judged: number;
  /** It lives while this is greater than now. */
  untilTick: number;
  /** The lowest byte of `untilTick >> 3` when its mappings were last refreshed. */
  refreshed: number;
  /** The mappings that count it among their established ones. */
  readonly establishedIn: Set<Mapping>;
  /** It came through a mapping, which counts it until it is answered. */
  readonly isByMapping: boolean;
  unansweredIn: Mapping | undefined;
}

export interface SessionKey {
  readonly protocol: number;
  /** Undefined: IPv4. */
  readonly ipv6Check?: number | undefined;
  readonly sender: Endpoint;
  readonly receiver: Endpoint;
}

/** Which row of the table of times holds for it. */
export type TimeClass = Exclude<keyof NatTimes, 'fragment'>;

export function timeClassOf(session: Session): TimeClass {
  if (!session.isConfirmed) return 'unconfirmed';
  switch (session.protocol) {
    case protocols.tcp:
      if (isClosing(session)) return 'tcpClosing';
      return session.isEstablished ? 'tcpEstablished' : 'tcpOpening';
    case protocols.udp:
      return isFromOutside(session) && isUnanswered(session) ? 'udpUnanswered' : 'udp';
    case protocols.icmp:
    case protocols.icmpv6:
      return 'icmp';
    default:
      return 'other';
  }
}

/** An RST or both FINs were seen. */
export function isClosing({ ends: [low, high] }: Session): boolean {
  return low.hasRst || high.hasRst || (low.hasFin && high.hasFin);
}

/** What goes first where there is no room: nobody has said that both ends want it. */
export function isExpendable(session: Session): boolean {
  const [low, high] = session.ends;
  return !low.isSeen || !high.isSeen || isOpening(session);
}

/** Whom it was opened to has not answered. */
export function isUnanswered(session: Session): boolean {
  if (session.protocol === protocols.tcp) return isOpening(session);
  return !session.ends[otherEnd(session.initiator)].isSeen;
}

/** The end that the sender is, of a session between sender and receiver. */
export function endIndexOf({
  sender,
  receiver,
}: Pick<SessionKey, 'sender' | 'receiver'>): EndIndex {
  return endpointNumber(sender) <= endpointNumber(receiver) ? 0 : 1;
}

export function otherEnd(end: EndIndex): EndIndex {
  return end === 0 ? 1 : 0;
}

/** Nobody inside opened it, so that it is charged to whom it was opened to. */
function isFromOutside({ charged, initiator }: Session): boolean {
  return charged !== initiator;
}

/** TCP that is neither established nor on its way to its end. */
function isOpening({ protocol, isEstablished, ends: [low, high] }: Session): boolean {
  if (protocol !== protocols.tcp || isEstablished) return false;
  return !low.hasRst && !high.hasRst && !low.hasFin && !high.hasFin;
}

function endpointNumber({ address, port }: Endpoint): number {
  return address * 65_536 + port;
}
