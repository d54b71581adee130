/** The NAT's kernel programs behind the interface that the twin has, packet by packet. */
import {
  NatCounter,
  NatMappingFlags,
  NatPlace,
  type NatSession,
  NatSessionFlags,
  NatSessionState,
  NatSessionVersion,
  NatSettings,
} from '../../src/abi/layouts.generated.ts';
import { natObject } from '../../src/abi/nat.generated.ts';
import type { MappedArray } from '../../src/linux/bpf-map.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import { raiseAddressGenerations } from '../../src/linux/core/rules-generation.ts';
import { mappingHash } from '../../src/nat/mapping-upkeep.ts';
import type { NatTwinOptions, PortForward } from '../../src/nat/nat.ts';
import type { NatCounterName, NatCounts } from '../../src/nat/nat-counters.ts';
import type { NatHook } from '../../src/nat/nat-hook.ts';
import {
  type NatExternal,
  type NatInterfaces,
  natSettingsLayout,
  networkIndexOf,
  type NatSettings as TwinSettings,
  withInterfaces,
} from '../../src/nat/nat-settings.ts';
import type { Place } from '../../src/nat/place.ts';
import { knownAddresses, type ListedEnd, type SessionListing } from '../../src/nat/twin-listing.ts';
import type { IpAddress } from '../../src/net/ip-address.ts';
import { ipv4Address } from '../../src/net/ipv4-address.ts';
import { type Ipv6Address, ipv6Address } from '../../src/net/ipv6-address.ts';
import { udp } from '../../src/testing/nat-packets.ts';
import {
  FIRST_TICK,
  type NatUnderTest,
  TESTED_INTERFACE_INDEX,
  type TestedOutcome,
  type TestedPacket,
} from '../../src/testing/tested-nat.ts';

/** Few enough that every tick has time to sweep them all, many enough that none is ever full. */
const SESSION_BUCKETS = 64;
const MAPPING_BUCKETS = 256;
const MAPPINGS_PER_EXTERNAL = 3 * 65_536;
const EXTERNALS_MAX = 3;
/** Packets sweep every 2^22 ns: so many sweeps are in a tick. */
const SWEEP_SHIFT = 22n;
const TICK_SHIFT = 30n;

/** The sizes of its tables are the kernel's own. */
export interface KernelNatOptions extends Omit<NatTwinOptions, 'limits' | 'isOwnPort'> {
  /** Default: enough that none is ever full. */
  readonly sessionBucketCount?: number;
}

const verdicts = new Map<number, TestedOutcome['verdict']>([
  [0xffff_ffff, 'pass'],
  [2, 'drop'],
  [7, 'hold'],
]);

const programs = {
  'inside-ingress': 'natInsideIngress',
  'inside-egress': 'natInsideEgress',
  'wan-ingress': 'natWanIngress',
  'wan-egress': 'natWanEgress',
} as const satisfies { readonly [H in NatHook]: keyof typeof natObject.programs };

const counterNames = Object.entries(NatCounter)
  .filter(([name]) => name !== 'count')
  .map(([name, index]) => [name as NatCounterName, index] as const);

export class KernelNat implements NatUnderTest, Disposable {
  readonly object: BpfObject<typeof natObject>;
  readonly #settings: MappedArray;
  readonly #addressGenerations: MappedArray;
  #options: KernelNatOptions | undefined;
  #tick = 0;
  readonly #counted = new Map<NatCounterName, bigint>();

  constructor() {
    this.object = loadBpfObject(natObject, {
      maxEntries: {
        natSessions: SESSION_BUCKETS,
        natMappingBuckets: MAPPING_BUCKETS,
        natMappings: EXTERNALS_MAX * MAPPINGS_PER_EXTERNAL,
      },
    });
    this.#settings = this.object.maps.natSettings.mapMemory();
    this.#addressGenerations = this.object.maps.natAddressGenerations.mapMemory();
  }

  /** Forgets everything and begins anew. */
  start(options: KernelNatOptions): void {
    const { maps } = this.object;
    for (const map of [maps.natSessions, maps.natMappings, maps.natMappingBuckets]) {
      const memory = map.mapMemory();
      new Uint8Array(memory.buffer).fill(0);
      memory.unmap();
    }
    maps.natHosts.deleteBatch([...maps.natHosts.entries()].map(([key]) => key));
    maps.natSixHosts.deleteBatch([...maps.natSixHosts.entries()].map(([key]) => key));
    maps.natSixAddresses.deleteBatch([...maps.natSixAddresses.entries()].map(([key]) => key));
    maps.natFragments.deleteBatch([...maps.natFragments.entries()].map(([key]) => key));
    const work = maps.natWork.lookup(0);
    if (work === undefined) throw new Error('nat_work has no element');
    const exhaustedUntilTick = work.exhaustedUntilTick.map(() => 0);
    const skipped = work.skipped.map(() => 0);
    const cursors = { sweptAt: 0n, sessionCursor: 0, mappingCursor: 0, restingUntilTick: 0 };
    maps.natWork.update(0, { ...cursors, exhaustedUntilTick, skipped });
    this.setGeneration(0);
    new Uint8Array(this.#addressGenerations.buffer).fill(0);
    this.#set(options);
    this.#addPortForwards(options);
    this.setTick(FIRST_TICK);
  }

  setTick(tick: number): void {
    this.#tick = tick;
    const at = NatSettings.fields.fixedNowNs.offsetBytes;
    for (let sweep = 0n; sweep <= BigInt(SESSION_BUCKETS); sweep++) {
      const now = (BigInt(tick) << TICK_SHIFT) + (sweep << SWEEP_SHIFT);
      this.#settings.view.setBigUint64(at, now, true);
      this.object.programs.natWanIngress.testRun({ data: passingFrame, context: context({}) });
    }
    this.#takeCounts();
  }

  setGeneration(generation: number): void {
    this.object.maps.natGeneration.update(0, generation);
  }

  raiseAddressGeneration(address: IpAddress): void {
    const { hashKey } = this.#options?.settings ?? {};
    if (hashKey === undefined) throw new Error('an address changes before start()');
    const { buffer: memory } = this.#addressGenerations;
    const ranges = [{ first: address, last: address }];
    const isRaised = raiseAddressGenerations({ memory, hashKey }, ranges);
    if (!isRaised) throw new Error('an address is too many');
  }

  setInterfaces(interfaces: NatInterfaces): void {
    if (this.#options === undefined) throw new Error('interfaces are set before start()');
    const settings = withInterfaces(this.#options.settings, interfaces);
    this.#set({ ...this.#options, settings });
  }

  killSessions(): void {
    const { natSessions } = this.object.maps;
    for (const [index, bucket] of natSessions.entries()) {
      const slots = bucket.slots.map((slot) => {
        const isSession = (slot.flags & NatSessionFlags.entry) === 0;
        return isSession ? { ...slot, killed: 1 } : slot;
      });
      natSessions.update(index, { ...bucket, slots });
    }
  }

  handle({ hook, bytes, ...fields }: TestedPacket): TestedOutcome {
    const result = this.object.programs[programs[hook]].testRun({
      data: bytes,
      context: context(fields),
    });
    const verdict = verdicts.get(result.returnValue);
    if (verdict === undefined) throw new Error(`the verdict is ${result.returnValue}`);
    const counts = this.#takeCounts();
    if (verdict === 'drop') return { verdict, counts };
    const newMark = new DataView(result.context.buffer).getUint32(MARK_AT, true);
    return { verdict, counts, bytes: result.data, mark: newMark };
  }

  sessions(): readonly SessionListing[] {
    const { externals = [] } = this.#options?.settings ?? {};
    const found: SessionListing[] = [];
    for (const [, { tags, slots }] of this.object.maps.natSessions.entries()) {
      for (const [index, session] of slots.entries()) {
        const isLive = session.untilTick > this.#tick && session.killed === 0;
        const isSession = (session.flags & NatSessionFlags.entry) === 0;
        if (tags[index] === 0 || !isLive || !isSession) continue;
        const ends = isIpv6(session) ? this.#ipv6Ends(session) : ipv4Ends(session, externals);
        found.push(listed(session, ends));
      }
    }
    return found;
  }

  #ipv6Ends(session: NatSession): EndPair {
    const { lowAddress, highAddress, lowExternalPort, highExternalPort } = session;
    const { hashKey = [0n, 0n] } = this.#options?.settings ?? {};
    const check = lowExternalPort * 65_536 + highExternalPort;
    const kept = [this.#ipv6Address(lowAddress), this.#ipv6Address(highAddress)] as const;
    const [low, high] = knownAddresses(hashKey, kept, check);
    return [
      {
        address: low,
        digest: lowAddress,
        place: placeAt(session.lowExternal),
        port: session.lowPort,
        bytes: session.lowBytesAbove * 2 ** 32 + session.lowBytes,
      },
      {
        address: high,
        digest: highAddress,
        place: placeAt(session.highExternal),
        port: session.highPort,
        bytes: session.highBytesAbove * 2 ** 32 + session.highBytes,
      },
    ];
  }

  #ipv6Address(digest: number): Ipv6Address | undefined {
    const kept = this.object.maps.natSixAddresses.lookup(digest);
    return kept && ipv6AddressOf(kept.bytes);
  }

  [Symbol.dispose](): void {
    this.#settings.unmap();
    this.#addressGenerations.unmap();
    this.object.close();
  }

  /** The time stays. */
  #set(options: KernelNatOptions): void {
    const { sessionBucketCount = SESSION_BUCKETS } = options;
    const { view } = this.#settings;
    const fixedNowNs = view.getBigUint64(NatSettings.fields.fixedNowNs.offsetBytes, true);
    const place = { sessionBucketCount, mappingBucketCount: MAPPING_BUCKETS, fixedNowNs };
    NatSettings.encode(natSettingsLayout(options.settings, place), view, 0);
    this.#options = options;
  }

  #addPortForwards({ settings, portForwards = [] }: KernelNatOptions): void {
    for (const portForward of portForwards) this.#addPortForward(settings, portForward);
  }

  #addPortForward(settings: TwinSettings, portForward: PortForward): void {
    const { maps } = this.object;
    const { insideAddress: address, insidePort: port } = portForward;
    const classNumber = { tcp: 0, udp: 1, icmp: 2 }[portForward.class];
    const element = (portForward.external * 3 + classNumber) * 65_536 + portForward.externalPort;
    maps.natMappings.update(element, {
      internalAddress: address,
      internalPort: port,
      network: networkIndexOf(settings, address) ?? 0,
      flags: NatMappingFlags.live | NatMappingFlags.static,
      ...{ untilTick: 0, establishedUntilTick: 0, establishedCount: 0, unansweredCount: 0 },
      createdTick: 0,
    });
    const hash = mappingHash(settings.hashKey, portForward.class, { address, port });
    const bucket = Number(((hash >> 32n) * BigInt(MAPPING_BUCKETS)) >> 32n);
    const { references, lock } = maps.natMappingBuckets.lookup(bucket) ?? emptyBucket;
    const free = references.indexOf(0);
    const filled = references.map((value, index) => (index === free ? element + 1 : value));
    maps.natMappingBuckets.update(bucket, { lock, references: filled });
  }

  #takeCounts(): NatCounts {
    const counts: { [N in NatCounterName]?: number } = {};
    const perCpu = new Map(this.object.maps.natCounters.entries());
    for (const [name, index] of counterNames) {
      const total = (perCpu.get(index) ?? []).reduce((sum, count) => sum + count, 0n);
      const moved = total - (this.#counted.get(name) ?? 0n);
      if (moved !== 0n) counts[name] = Number(moved);
      this.#counted.set(name, total);
    }
    return counts;
  }
}

/** As the twin lists it. */
function listed(session: NatSession, [low, high]: EndPair): SessionListing {
  const { flags, protocol, judged, createdTick, untilTick } = session;
  const isHighOpener = (flags & NatSessionFlags.initiatorHigh) !== 0;
  return {
    version: isIpv6(session) ? 6 : 4,
    protocol,
    opener: isHighOpener ? high : low,
    responder: isHighOpener ? low : high,
    state: stateOf(session),
    isPortForward: (flags & NatSessionFlags.portForward) !== 0,
    judged,
    createdTick,
    untilTick,
  };
}

type EndPair = readonly [ListedEnd, ListedEnd];

function isIpv6({ network }: NatSession): boolean {
  return (network & NatSessionVersion.six) !== 0;
}

function ipv4Ends(session: NatSession, externals: readonly NatExternal[]): EndPair {
  const { flags } = session;
  const end = (at: ListedFields): ListedEnd => {
    const address = externals[at.external]?.address;
    const isTranslated = (flags & at.flag) !== 0 && address !== undefined;
    return {
      address: ipv4Address(at.address),
      port: at.port,
      bytes: at.bytesAbove * 2 ** 32 + at.bytes,
      ...(isTranslated ? { external: { address, port: at.externalPort } } : {}),
    };
  };
  const low = end({
    address: session.lowAddress,
    port: session.lowPort,
    bytes: session.lowBytes,
    bytesAbove: session.lowBytesAbove,
    flag: NatSessionFlags.lowTranslated,
    external: session.lowExternal,
    externalPort: session.lowExternalPort,
  });
  const high = end({
    address: session.highAddress,
    port: session.highPort,
    bytes: session.highBytes,
    bytesAbove: session.highBytesAbove,
    flag: NatSessionFlags.highTranslated,
    external: session.highExternal,
    externalPort: session.highExternalPort,
  });
  return [low, high];
}

function placeAt(place: number): Place {
  if (place === NatPlace.wan) return 'wan';
  return place === NatPlace.none ? 'elsewhere' : place;
}

interface ListedFields {
  readonly address: number;
  readonly port: number;
  readonly bytes: number;
  readonly bytesAbove: number;
  readonly flag: number;
  readonly external: number;
  readonly externalPort: number;
}

function stateOf({ protocol, state, flags }: NatSession): SessionListing['state'] {
  const bits = NatSessionState;
  if ((state & bits.confirmed) === 0) return 'unconfirmed';
  const seen = NatSessionFlags.lowSeen | NatSessionFlags.highSeen;
  if (protocol !== TCP) return (flags & seen) === seen ? 'answered' : 'unanswered';
  const fins = bits.finLow | bits.finHigh;
  if ((state & (bits.rstLow | bits.rstHigh)) !== 0 || (state & fins) === fins) return 'closing';
  return (state & bits.established) !== 0 ? 'established' : 'opening';
}

function ipv6AddressOf(bytes: Uint8Array): Ipv6Address {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return ipv6Address((view.getBigUint64(0) << 64n) | view.getBigUint64(8));
}

const TCP = 6;
const emptyBucket = { lock: 0, references: Array.from({ length: 15 }, () => 0) };
/** To an address that is neither inside nor external. */
const passingFrame = udp('198.51.100.77:9 > 198.51.100.78:9');

/** Offsets in `struct __sk_buff`. */
const MARK_AT = 8;
const INGRESS_INTERFACE_AT = 36;
const INTERFACE_AT = 40;
const SEGMENT_BYTES_AT = 176;
const CONTEXT_BYTES = 192;
/** Of a super-packet; any number serves. */
const SEGMENT_BYTES = 1_000;

function context({
  mark = 0,
  cameInBy = TESTED_INTERFACE_INDEX,
  isSuperPacket = false,
}: Pick<TestedPacket, 'mark' | 'cameInBy' | 'isSuperPacket'>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(CONTEXT_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(MARK_AT, mark, true);
  view.setUint32(INGRESS_INTERFACE_AT, cameInBy, true);
  view.setUint32(INTERFACE_AT, TESTED_INTERFACE_INDEX, true);
  view.setUint32(SEGMENT_BYTES_AT, isSuperPacket ? SEGMENT_BYTES : 0, true);
  return bytes;
}
