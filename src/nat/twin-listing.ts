/** The twin's sessions as a test or a person wants to see them. */
import { type Ipv4Address, ipv4Address } from '../net/ipv4-address.ts';
import type { Ipv6Address } from '../net/ipv6-address.ts';
import { digestOf, type HashKey, pairCheck } from './ipv6-digest.ts';
import type { NatSettings } from './nat-settings.ts';
import type { NatState } from './passage.ts';
import type { Place } from './place.ts';
import { otherEnd, type Session, type SessionEnd, timeClassOf } from './session.ts';

/** A live session as a person wants to see it. */
export interface SessionListing {
  readonly version: 4 | 6;
  readonly protocol: number;
  readonly opener: ListedEnd;
  readonly responder: ListedEnd;
  readonly state: 'unconfirmed' | 'unanswered' | 'opening' | 'established' | 'closing' | 'answered';
  /** The number of its addresses when nft let it through last; 0: it did not. */
  readonly judged: number;
  readonly isPortForward: boolean;
  readonly createdTick: number;
  /** It lives while this is greater than now. */
  readonly untilTick: number;
}

export interface ListedEnd {
  /** Of IPv6 undefined, where nobody has kept what the digest stands for. */
  readonly address: Ipv4Address | Ipv6Address | undefined;
  readonly port: number;
  /** IPv6. */
  readonly digest?: number;
  readonly place?: Place;
  /** How the other side sees it. Absent: as it is. */
  readonly external?: { readonly address: Ipv4Address; readonly port: number };
  /** Sent by this end, from the IP header on. */
  readonly bytes: number;
}

export function listedSession(session: Session, state: NatState): SessionListing {
  const { protocol, initiator, isPortForward, judged, createdTick, untilTick } = session;
  const ends =
    session.ipv6Check === undefined ? ipv4Ends(session, state) : ipv6Ends(session, state);
  return {
    version: session.ipv6Check === undefined ? 4 : 6,
    protocol,
    opener: ends[initiator],
    responder: ends[otherEnd(initiator)],
    state: stateOf(session),
    ...{ isPortForward, judged, createdTick, untilTick },
  };
}

/** The addresses behind two digests: both, or none where they are not those of the session. */
export function knownAddresses(
  key: HashKey,
  [low, high]: readonly [Ipv6Address | undefined, Ipv6Address | undefined],
  check: number,
): readonly [Ipv6Address | undefined, Ipv6Address | undefined] {
  if (low === undefined || high === undefined) return [undefined, undefined];
  const isTheirs = pairCheck(digestOf(key, low), digestOf(key, high)) === check;
  return isTheirs ? [low, high] : [undefined, undefined];
}

type EndPair = readonly [ListedEnd, ListedEnd];

function ipv4Ends({ ends: [low, high] }: Session, { settings }: NatState): EndPair {
  return [ipv4End(low, settings), ipv4End(high, settings)];
}

function ipv4End({ address, port, external, bytes }: SessionEnd, settings: NatSettings): ListedEnd {
  const end = { address: ipv4Address(address), port, bytes };
  const shown = external && settings.externals[external.index]?.address;
  if (external === undefined || shown === undefined) return end;
  return { ...end, external: { address: shown, port: external.port } };
}

function ipv6Ends(session: Session, { settings, ipv6Addresses }: NatState): EndPair {
  const { ends, ipv6Check = 0 } = session;
  const [low, high] = ends;
  const kept = [ipv6Addresses.get(low.address), ipv6Addresses.get(high.address)] as const;
  const addresses = knownAddresses(settings.hashKey, kept, ipv6Check);
  return [ipv6End(low, addresses[0]), ipv6End(high, addresses[1])];
}

function ipv6End(
  { address: digest, port, place = 'elsewhere', bytes }: SessionEnd,
  address: Ipv6Address | undefined,
): ListedEnd {
  return { address, port, digest, place, bytes };
}

function stateOf(session: Session): SessionListing['state'] {
  switch (timeClassOf(session)) {
    case 'unconfirmed':
      return 'unconfirmed';
    case 'tcpClosing':
      return 'closing';
    case 'tcpEstablished':
      return 'established';
    case 'tcpOpening':
      return 'opening';
    default:
      return session.ends[0].isSeen && session.ends[1].isSeen ? 'answered' : 'unanswered';
  }
}
