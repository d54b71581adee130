/**
 * nft judges a session once, and once more after each change of the rules or about one of its
 * addresses (docs/nat.md, "Approval"): a packet of its opener that leaves by an egress hook was let
 * through, and from then on the session's packets are approved at ingress hooks. What is judged is
 * a way from one interface to another: what comes in elsewhere is not approved.
 */
import { generationMark } from './generations.ts';
import { tcpFlags } from './ip-packet.ts';
import { packetKinds, packetMarks } from './nat-hook.ts';
import { interfaceIndexOf } from './nat-settings.ts';
import { isImplausible } from './odd-addresses.ts';
import { type EitherPacket, endpointsOf, type Passage } from './passage.ts';
import { interfaceOfPlace, placeOf } from './place.ts';
import { type EndIndex, endIndexOf, otherEnd, type Session } from './session.ts';

/**
 * At an egress hook. A packet that came in before the last change judges nothing; one
 * that goes another way than between the interfaces of its addresses, or has an address that
 * nobody can have, takes the judgement back.
 */
export function judge(
  passage: Passage<EitherPacket>,
  { session, sender }: { readonly session: Session; readonly sender: EndIndex },
): void {
  if (session.initiator !== sender || !isByNumberOfNow(passage)) return;
  if (session.ipv6Check !== undefined) {
    judgePlaces(passage, { session, sender });
    return;
  }
  const { state, packet } = passage;
  const ends = [packet.source, packet.destination];
  const isOdd = ends.some((address) => isImplausible(state.settings, address));
  session.judged = isBetweenItsInterfaces(passage) && !isOdd ? numberOf(passage) : 0;
}

/** The same for a session that the packet opens: at an ingress hook nft has not seen it. */
export function judgeFirst(passage: Passage<EitherPacket>, session: Session): void {
  if (passage.hook.endsWith('egress')) judge(passage, { session, sender: session.initiator });
}

/** At an ingress hook. @param destination as nft sees it */
export function isApproved(
  passage: Passage<EitherPacket>,
  session: Session,
  destination: number,
): boolean {
  const { state, packet, interfaceIndex } = passage;
  const { transport, source } = packet;
  // nft clamps its MSS.
  if (transport.kind === 'tcp' && (transport.tcp.flags & tcpFlags.syn) !== 0) return false;
  if (hidingPorts.includes(packet.protocol)) return false;
  const number = state.generations.numberOf(source, destination);
  if (number === 0 || session.judged !== number || !session.isConfirmed) return false;
  if (session.ipv6Check === undefined) return isAtHome(passage, source, interfaceIndex);
  const { place = 'elsewhere' } = session.ends[endIndexOf(endpointsOf(packet))];
  return interfaceOfPlace(state.settings, place) === interfaceIndex;
}

/** DCCP, SCTP, UDP-Lite: rules may ask for their ports, which their sessions do not know. */
const hidingPorts: readonly number[] = [33, 132, 136];

/** At an egress hook: of the addresses that nft saw. */
function numberOf({ state, packet }: Passage<EitherPacket>): number {
  return state.generations.numberOf(packet.source, packet.destination);
}

/** IPv6: what is judged is the way between two places, which are the packet's from now on. */
function judgePlaces(
  passage: Passage<EitherPacket>,
  { session, sender }: { readonly session: Session; readonly sender: EndIndex },
): void {
  const { state, cameInBy, interfaceIndex } = passage;
  const from = placeOf(state.settings, cameInBy);
  const to = placeOf(state.settings, interfaceIndex);
  const isBetweenPlaces = from !== 'elsewhere' && to !== 'elsewhere';
  session.judged = isBetweenPlaces ? numberOf(passage) : 0;
  if (!isBetweenPlaces) return;
  session.ends[sender].place = from;
  session.ends[otherEnd(sender)].place = to;
}

function isByNumberOfNow(passage: Passage<EitherPacket>): boolean {
  const { mark, isMadeByGateway } = passage;
  const number = numberOf(passage);
  if (isMadeByGateway || number === 0) return false;
  // It was judged as what it answers, though it may open a session of its own now.
  if ((mark & packetMarks.kind) === packetKinds.reply) return false;
  return (mark & packetMarks.generation) === generationMark(number);
}

function isBetweenItsInterfaces(passage: Passage<EitherPacket>): boolean {
  const { packet, cameInBy, interfaceIndex } = passage;
  return (
    isAtHome(passage, packet.source, cameInBy) &&
    isAtHome(passage, packet.destination, interfaceIndex)
  );
}

/** An interface that is not there is nobody's. */
function isAtHome(
  { state }: Passage<EitherPacket>,
  address: number,
  interfaceIndex: number,
): boolean {
  return interfaceIndex !== 0 && interfaceIndexOf(state.settings, address) === interfaceIndex;
}
