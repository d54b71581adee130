/**
 * How a TCP segment moves its session (RFC 9293, and RFC 5961 for segments that somebody forged).
 * Sequence numbers are compared modulo 2^32.
 */
import { type TcpSegment, tcpFlags } from './ip-packet.ts';
import type { NatCounterName } from './nat-counters.ts';
import { type EndIndex, isClosing, otherEnd, type Session } from './session.ts';

export interface SegmentOptions {
  /** The end that sent it. */
  readonly sender: EndIndex;
  /** It came from inside or was let through by nft: forgers are outside. */
  readonly isTrusted: boolean;
}

export type SegmentOutcome =
  | { readonly isCounted: true }
  /** Nothing that the session knows of TCP changes, nor its time. */
  | { readonly isCounted: false; readonly reason?: NatCounterName };

/** Bytes that a segment may lie off: the largest window (RFC 7323) with room. */
const WINDOW_BYTES_MAX = 2 ** 26;
/** Bytes that a FIN may lie ahead of what was seen: no more is lost at once as a rule. */
const FIN_AHEAD_BYTES_MAX = 65_536;

/** Does not set the sender's `isSeen`: that is done for every protocol. */
export function trackSegment(
  session: Session,
  tcp: TcpSegment,
  options: SegmentOptions,
): SegmentOutcome {
  if (tcp.flags & tcpFlags.rst) return trackReset(session, tcp, options);
  if (tcp.flags & tcpFlags.syn) return trackSyn(session, tcp, options);
  return trackOther(session, tcp, options);
}

/** Whether it begins a connection, and so may open a session anywhere. */
export function isOpeningSegment({ flags }: TcpSegment): boolean {
  return (flags & (tcpFlags.syn | tcpFlags.ack | tcpFlags.rst)) === tcpFlags.syn;
}

function trackReset(
  session: Session,
  { flags, sequence, acknowledgement }: TcpSegment,
  options: SegmentOptions,
): SegmentOutcome {
  const sender = session.ends[options.sender];
  const other = session.ends[otherEnd(options.sender)];
  const isAcknowledging = (flags & tcpFlags.ack) !== 0;
  const isValid = sender.isSeen
    ? sequence === sender.end || (other.isSeen && sequence === other.acknowledged)
    : isAcknowledging && other.isSeen && acknowledgement === other.end;
  if (!isValid) return { isCounted: false, reason: 'tcpResetIgnored' };
  if (sender.hasRst || other.hasRst) return { isCounted: false };
  sender.hasRst = true;
  session.isEstablished = false;
  if (!sender.isSeen) {
    sender.end = sequence;
    sender.acknowledged = acknowledgement;
  }
  return { isCounted: true };
}

function trackSyn(session: Session, tcp: TcpSegment, options: SegmentOptions): SegmentOutcome {
  const isForgeable = isClosing(session) && !options.isTrusted;
  if (session.isEstablished || isForgeable) return { isCounted: false, reason: 'tcpSynIgnored' };
  const sender = session.ends[options.sender];
  sender.hasSyn = true;
  sender.end = (tcp.sequence + tcp.length) >>> 0;
  if (tcp.flags & tcpFlags.ack) sender.acknowledged = tcp.acknowledgement;
  return { isCounted: true };
}

function trackOther(session: Session, tcp: TcpSegment, options: SegmentOptions): SegmentOutcome {
  const sender = session.ends[options.sender];
  const other = session.ends[otherEnd(options.sender)];
  if (!options.isTrusted && !isPlausible(tcp, sender, other)) {
    return { isCounted: false, reason: 'tcpOutOfWindow' };
  }
  const isFinGood = isFinCredible(tcp, sender, other);
  moveNumbers(sender, tcp);
  if (tcp.flags & tcpFlags.fin && isFinGood) sender.hasFin = true;
  // Whoever goes on talking did not send the reset that came in its name.
  sender.hasRst = false;
  judgeEstablished(session, tcp, options);
  return { isCounted: true };
}

type Numbers = Session['ends'][0];

function isPlausible(tcp: TcpSegment, sender: Numbers, other: Numbers): boolean {
  const ahead = difference(tcp.sequence + tcp.length, sender.end);
  if (sender.isSeen && Math.abs(ahead) > WINDOW_BYTES_MAX) return false;
  if ((tcp.flags & tcpFlags.ack) === 0 || !other.isSeen) return true;
  const acknowledged = difference(tcp.acknowledgement, other.end);
  return acknowledged >= -WINDOW_BYTES_MAX && acknowledged <= 0;
}

function isFinCredible(tcp: TcpSegment, sender: Numbers, other: Numbers): boolean {
  if (!other.isSeen) return true;
  const fin = tcp.sequence + tcp.length - 1;
  if (difference(fin, other.acknowledged) < 0) return false;
  return !sender.isSeen || difference(fin, sender.end) <= FIN_AHEAD_BYTES_MAX;
}

function moveNumbers(sender: Numbers, tcp: TcpSegment): void {
  const end = (tcp.sequence + tcp.length) >>> 0;
  if (!sender.isSeen || (tcp.isLengthKnown && difference(end, sender.end) > 0)) sender.end = end;
  if ((tcp.flags & tcpFlags.ack) === 0) return;
  if (!sender.isSeen || difference(tcp.acknowledgement, sender.acknowledged) > 0) {
    sender.acknowledged = tcp.acknowledgement;
  }
}

function judgeEstablished(session: Session, tcp: TcpSegment, { sender }: SegmentOptions): void {
  const [low, high] = session.ends;
  if (low.hasFin && high.hasFin) session.isEstablished = false;
  if (isClosing(session) || (tcp.flags & tcpFlags.ack) === 0) return;
  const isPickedUp = !low.hasSyn && !high.hasSyn;
  if (isPickedUp && session.ends[otherEnd(sender)].isSeen) {
    low.hasSyn = true;
    high.hasSyn = true;
  }
  if (low.hasSyn && high.hasSyn) session.isEstablished = true;
}

/** Signed, of numbers modulo 2^32. */
function difference(left: number, right: number): number {
  return (left - right) | 0;
}
