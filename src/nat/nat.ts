/**
 * The NAT as docs/nat.md specifies it: the twin of bpf/gateway/nat.bpf.c. It is the reference in
 * tests. Tables are plain maps with a size, so that what depends on the kernel's buckets differs:
 * which of several sessions goes when there is no room. There is no fast path.
 */
import type { IpAddress } from '../net/ip-address.ts';
import type { Ipv4Address } from '../net/ipv4-address.ts';
import { ipv6Address } from '../net/ipv6-address.ts';
import { FragmentTable } from './fragment-table.ts';
import { Generations, generationMark } from './generations.ts';
import { handleIngress, markOf } from './ingress.ts';
import { handleInsideEgress, isKnownToInside } from './inside-egress.ts';
import { isIpv4Frame, parseIpv4Packet } from './ipv4-packet.ts';
import { digestOf } from './ipv6-digest.ts';
import { handleIpv6 } from './ipv6-hooks.ts';
import { isIpv6Frame } from './ipv6-packet.ts';
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
  type EitherPacket,
  type FragmentEvent,
  type IsOwnPort,
  type NatState,
  type Passage,
  passAsRequest,
} from './passage.ts';
import { SessionTable } from './session-table.ts';
import { listedSession, type SessionListing } from './twin-listing.ts';
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
  /** Of several segments, which leave as one each: it may be longer than its header can say. */
  readonly isSuperPacket?: boolean;
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
      ipv6Addresses: new Map(),
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
  raiseAddressGeneration({ family, bits }: IpAddress): void {
    const { generations, settings } = this.#state;
    const { hashKey } = settings;
    const isIpv6 = family === 6;
    generations.raise(isIpv6 ? digestOf(hashKey, ipv6Address(bits)).digest : Number(bits));
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
    for (const session of this.#state.sessions.live(now)) yield listedSession(session, this.#state);
  }

  #decide(arriving: ArrivingPacket): {
    readonly decision: Decision;
    readonly event?: FragmentEvent | undefined;
    readonly passage?: Passage<EitherPacket>;
  } {
    const { settings } = this.#state;
    const { bytes: frame } = arriving;
    const isWithoutSettings = settings.externals.length === 0 && settings.networks.length === 0;
    if (isWithoutSettings) return { decision: passAsRequest };
    if (isIpv6Frame(frame)) {
      const { isSuperPacket = false } = arriving;
      return handleIpv6({ frame, isSuperPacket, ...surroundingsOf(arriving, this.#state) });
    }
    if (!isIpv4Frame(frame)) return { decision: passAsRequest };
    if (isLeftAlone(arriving)) return { decision: passAsRequest };
    const packet = parseIpv4Packet(arriving.bytes);
    if (packet === undefined) return { decision: drop('droppedMalformed') };
    const passage = { packet, ...surroundingsOf(arriving, this.#state) };
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
  #told(decision: Decision, passage: Passage<EitherPacket>): number {
    const { packet } = passage;
    // As it is by now.
    const destination =
      packet.family === 6
        ? packet.destination
        : packet.view.getUint32(packet.networkAt + DESTINATION_AT);
    const number = this.#state.generations.numberOf(packet.source, destination);
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
}

/** In the IPv4 header. */
const DESTINATION_AT = 16;

/** What egress hooks let go on, whatever it is: all that was to be done for it is done. */
function isLeftAlone({ hook, mark, cameInBy }: ArrivingPacket): boolean {
  if (hook === 'inside-egress') return isKnownToInside(mark);
  return hook === 'wan-egress' && isDone(mark) && cameInBy !== 0;
}

function surroundingsOf(arriving: ArrivingPacket, state: NatState): Omit<Passage, 'packet'> {
  const { hook, tick, mark, interfaceIndex, cameInBy } = arriving;
  return { state, hook, tick, mark, interfaceIndex, cameInBy, isMadeByGateway: cameInBy === 0 };
}
