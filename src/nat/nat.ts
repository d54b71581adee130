/**
 * The NAT as docs/nat.md specifies it: the twin of bpf/gateway/nat.bpf.c. It is the reference in
 * tests. Tables are plain maps with a size, so that what depends on the kernel's buckets differs:
 * which of several sessions goes when there is no room. There is no fast path.
 */
import { type Ipv4Address, ipv4Address } from '../net/ipv4-address.ts';
import { FragmentTable } from './fragment-table.ts';
import { Generations, generationMark } from './generations.ts';
import { handleIngress, markOf } from './ingress.ts';
import { handleInsideEgress, isKnownToInside } from './inside-egress.ts';
import { type Ipv4Packet, isIpv4Frame, parseIpv4Packet } from './ipv4-packet.ts';
import { MappingTable, type NatClass } from './mapping-table.ts';
import { NatCounters, type NatCounts } from './nat-counters.ts';
import { type NatHook, packetMarks } from './nat-hook.ts';
import {
  type NatInterfaces,
  type NatSettings,
  networkIndexOf,
  withInterfaces,
} from './nat-settings.ts';
import {
  type Decision,
  drop,
  type FragmentEvent,
  type IsOwnPort,
  type NatState,
  type Passage,
  passAsRequest,
} from './passage.ts';
import { type Session, type SessionEnd, timeClassOf } from './session.ts';
import { SessionTable } from './session-table.ts';
import { handleWanEgress, isDone } from './wan-egress.ts';

export interface NatTwinOptions {
  readonly settings: NatSettings;
  readonly portForwards?: readonly PortForward[];
  /** Default: no socket is bound. */
  readonly isOwnPort?: IsOwnPort;
  readonly limits?: NatTwinLimits;
}

export interface PortForward {
  readonly class: NatClass;
  /** Into the settings' externals. */
  readonly external: number;
  readonly externalPort: number;
  readonly insideAddress: Ipv4Address;
  readonly insidePort: number;
}

/** What the kernel's tables hold. The defaults are enough for any test. */
export interface NatTwinLimits {
  readonly sessionCountMax?: number;
  readonly mappingCountMax?: number;
  readonly hostCountMax?: number;
  readonly fragmentCountMax?: number;
}

export interface ArrivingPacket {
  readonly hook: NatHook;
  /** An Ethernet frame; it is not changed. */
  readonly bytes: Uint8Array;
  readonly mark: number;
  /** The interface of the hook. */
  readonly interfaceIndex: number;
  /** The interface that the packet came in by, for egress hooks. 0: the gateway made it. */
  readonly cameInBy: number;
  /** Now, in units of 2^30 ns; never less than before. */
  readonly tick: number;
}

export interface NatOutcome {
  /** `hold`: to the settings' hold interface. */
  readonly verdict: 'pass' | 'drop' | 'hold';
  /** The frame as it goes on. Dropped: as it came. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly mark: number;
  readonly counts: NatCounts;
  readonly event?: FragmentEvent;
}

/** A live session as a person wants to see it. */
export interface SessionListing {
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
  readonly address: Ipv4Address;
  readonly port: number;
  /** How the other side sees it. Absent: as it is. */
  readonly external?: { readonly address: Ipv4Address; readonly port: number };
  /** Sent by this end, from the IPv4 header on. */
  readonly bytes: number;
}

export class NatTwin {
  readonly #state: NatState;
  #tick = 0;

  constructor({ settings, portForwards = [], isOwnPort, limits = {} }: NatTwinOptions) {
    const counters = new NatCounters();
    const mappings = new MappingTable({ mappingCountMax: limits.mappingCountMax ?? 2 ** 18 });
    const sessionLimits = {
      sessionCountMax: limits.sessionCountMax ?? 2 ** 20,
      hostCountMax: limits.hostCountMax ?? 2 ** 16,
      sessionsPerHost: settings.sessionsPerHost,
    };
    this.#state = {
      ...{ settings, counters, mappings, generations: new Generations() },
      sessions: new SessionTable(sessionLimits, mappings, counters),
      fragments: new FragmentTable(limits.fragmentCountMax ?? 2 ** 14),
      isOwnPort: isOwnPort ?? (() => false),
      failedSearches: new Map(),
      skippedPorts: new Map(),
    };
    for (const portForward of portForwards) this.#addPortForward(portForward);
  }

  handlePacket(arriving: ArrivingPacket): NatOutcome {
    this.setTick(arriving.tick);
    this.#state.counters.take();
    const bytes = Uint8Array.from(arriving.bytes);
    const isIngress = arriving.hook.endsWith('ingress');
    const mark = isIngress ? (arriving.mark & ~packetMarks.ours) >>> 0 : arriving.mark;
    const { decision, event, passage } = this.#decide({ ...arriving, bytes, mark });
    const verdict = decision.action === 'follow' ? 'pass' : decision.action;
    const { counters } = this.#state;
    if (decision.action === 'drop') counters.add(decision.reason);
    if ('isTranslated' in decision && decision.isTranslated) counters.add('translated');
    const newBits = isIngress && passage !== undefined ? this.#told(decision, passage) : 0;
    return {
      verdict,
      bytes: verdict === 'drop' ? Uint8Array.from(arriving.bytes) : bytes,
      mark: (mark | newBits) >>> 0,
      counts: counters.take(),
      ...(event === undefined ? {} : { event }),
    };
  }

  /** Time goes on; what is over is removed. The counts of that belong to no packet. */
  setTick(tick: number): NatCounts {
    if (tick <= this.#tick) return {};
    this.#tick = tick;
    const { sessions, fragments, counters } = this.#state;
    sessions.removeDead(tick);
    fragments.removeDead(tick);
    return counters.take();
  }

  /** nft has other rules from now on. At first their number is 0, and nothing is approved. */
  setGeneration(generation: number): void {
    this.#state.generations.setRules(generation);
  }

  /** nft judges an address otherwise from now on. */
  raiseAddressGeneration(address: Ipv4Address): void {
    this.#state.generations.raise(address);
  }

  /** Interfaces went, came, or have other numbers from now on. */
  setInterfaces(interfaces: NatInterfaces): void {
    this.#state.settings = withInterfaces(this.#state.settings, interfaces);
  }

  /** Ends all sessions, as by hand. */
  killSessions(): void {
    this.#state.sessions.kill();
  }

  *sessions(now: number): Generator<SessionListing> {
    for (const session of this.#state.sessions.live(now)) yield this.#listed(session);
  }

  #decide(arriving: ArrivingPacket): {
    readonly decision: Decision;
    readonly event?: FragmentEvent | undefined;
    readonly passage?: Passage;
  } {
    const { settings } = this.#state;
    const isWithoutSettings = settings.externals.length === 0 && settings.networks.length === 0;
    if (isWithoutSettings || !isIpv4Frame(arriving.bytes)) return { decision: passAsRequest };
    if (isLeftAlone(arriving)) return { decision: passAsRequest };
    const packet = parseIpv4Packet(arriving.bytes);
    if (packet === undefined) return { decision: drop('droppedMalformed') };
    const passage = passageOf(arriving, packet, this.#state);
    switch (arriving.hook) {
      case 'wan-egress':
        return { decision: handleWanEgress(passage), passage };
      case 'inside-egress':
        return { decision: handleInsideEgress(passage), passage };
      default:
        return { ...handleIngress(passage), passage };
    }
  }

  /** Our bits of the mark behind an ingress hook. */
  #told(decision: Decision, passage: Passage): number {
    const { source, view, networkAt } = passage.packet;
    // As it is by now.
    const destination = view.getUint32(networkAt + DESTINATION_AT);
    const number = this.#state.generations.numberOf(source, destination);
    return markOf(decision, passage) | generationMark(number);
  }

  #addPortForward(portForward: PortForward): void {
    const { settings, mappings } = this.#state;
    const { insideAddress, insidePort, external, externalPort } = portForward;
    mappings.put({
      class: portForward.class,
      external: { index: external, port: externalPort },
      internal: { address: insideAddress, port: insidePort },
      network: networkIndexOf(settings, insideAddress),
      isStatic: true,
      ...{ untilTick: 0, establishedUntilTick: 0, establishedCount: 0, unansweredCount: 0 },
    });
  }

  #listed(session: Session): SessionListing {
    const { protocol, ends, initiator, isPortForward, judged, createdTick, untilTick } = session;
    const [opener, responder] = initiator === 0 ? ends : ([ends[1], ends[0]] as const);
    return {
      protocol,
      opener: this.#listedEnd(opener),
      responder: this.#listedEnd(responder),
      state: stateOf(session),
      ...{ isPortForward, judged, createdTick, untilTick },
    };
  }

  #listedEnd({ address, port, external, bytes }: SessionEnd): ListedEnd {
    const end = { address: ipv4Address(address), port, bytes };
    const shown = external && this.#state.settings.externals[external.index]?.address;
    if (external === undefined || shown === undefined) return end;
    return { ...end, external: { address: shown, port: external.port } };
  }
}

/** In the IPv4 header. */
const DESTINATION_AT = 16;

/** What egress hooks let go on, whatever it is: all that was to be done for it is done. */
function isLeftAlone({ hook, mark, cameInBy }: ArrivingPacket): boolean {
  if (hook === 'inside-egress') return isKnownToInside(mark);
  return hook === 'wan-egress' && isDone(mark) && cameInBy !== 0;
}

function passageOf(arriving: ArrivingPacket, packet: Ipv4Packet, state: NatState): Passage {
  const { hook, tick, mark, interfaceIndex, cameInBy } = arriving;
  const isMadeByGateway = cameInBy === 0;
  return { state, packet, hook, tick, mark, interfaceIndex, cameInBy, isMadeByGateway };
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
