/**
 * The NAT's tables as user space writes them: port forwards put in, and mappings and sessions ended
 * whose address or network is no more. Everything else in them belongs to the programs in the
 * kernel, which go on meanwhile; docs/nat.md and bpf/gateway/nat-mappings.h say how both sides keep
 * out of each other's way.
 */
import {
  NatClass,
  NatLimits,
  NatMapping,
  NatMappingBucket,
  NatMappingFlags,
  NatSession,
  NatSessionBucket,
  NatSessionFlags,
  NatSessionVersion,
  type NatSettings,
} from '../abi/layouts.generated.ts';
import { sipHash13 } from '../nat/siphash.ts';
import type { NatPlan, PlannedForward } from './nat-plan.ts';

/** The memory of the maps `nat_mappings`, `nat_mapping_buckets` and `nat_sessions`. */
export interface NatMemory {
  readonly mappings: ArrayBuffer;
  readonly mappingBuckets: ArrayBuffer;
  readonly sessions: ArrayBuffer;
}

interface InternalEndpoint {
  /** As a number: the first octet is highest. */
  readonly address: number;
  readonly port: number;
  readonly class: NatClass;
}

/** One port that is forwarded. */
export interface Forward extends InternalEndpoint {
  /** Of nat_mappings. */
  readonly element: number;
  /** Its place in the settings. */
  readonly network: number;
}

export interface ForwardChanges {
  /** Elements of nat_mappings that belong to somebody else now, or to nobody. */
  readonly takenElements: ReadonlySet<number>;
  /** Hosts that had a mapping which a forward took the place of; one entry for each. */
  readonly lostMappings: readonly number[];
  /** Forwards whose host cannot be found by its own endpoint: its bucket is full. */
  readonly unreferencedCount: number;
}

const PORTS = 65_536;
/** As many as the programs try; whoever holds a mapping for longer has died. */
const BUSY_TRIES = 1_000;
const { live: LIVE, static: STATIC, busy: BUSY } = NatMappingFlags;
/** 32-bit words of a mapping. */
const MAPPING_WORDS = NatMapping.sizeBytes / 4;
/** The word of port, network and flags, which changes as one. */
const STATE_WORD = NatMapping.fields.internalPort.offsetBytes / 4;
const BUCKET_WORDS = NatMappingBucket.sizeBytes / 4;
const REFERENCE_WORD = NatMappingBucket.fields.references.offsetBytes / 4;

export class NatTableWriter {
  readonly #mappingView: DataView<ArrayBuffer>;
  readonly #mappingWords: Uint32Array<ArrayBuffer>;
  readonly #bucketWords: Uint32Array<ArrayBuffer>;
  readonly #sessionView: DataView<ArrayBuffer>;
  readonly #hashKey: readonly [bigint, bigint];
  readonly mappingCount: number;
  readonly mappingBucketCount: number;
  readonly sessionBucketCount: number;

  /** @param hashKey of the settings */
  constructor(memory: NatMemory, hashKey: readonly [bigint, bigint]) {
    this.#mappingView = new DataView(memory.mappings);
    this.#mappingWords = new Uint32Array(memory.mappings);
    this.#bucketWords = new Uint32Array(memory.mappingBuckets);
    this.#sessionView = new DataView(memory.sessions);
    this.#hashKey = hashKey;
    this.mappingCount = memory.mappings.byteLength / NatMapping.sizeBytes;
    this.mappingBucketCount = memory.mappingBuckets.byteLength / NatMappingBucket.sizeBytes;
    this.sessionBucketCount = memory.sessions.byteLength / NatSessionBucket.sizeBytes;
  }

  /** Mappings that live. Looks at all of them: a millisecond for each external address. */
  liveMappingCount(tick: number): number {
    let count = 0;
    for (const element of this.#usedElements()) {
      if (this.#isLive(element, tick)) count++;
    }
    return count;
  }

  /**
   * Makes the port forwards those that are wanted. Sessions of the elements that it returns have to
   * end, by {@link endSessions}.
   */
  putForwards(forwards: readonly Forward[], tick: number): ForwardChanges {
    const wanted = new Map(forwards.map((forward) => [forward.element, forward]));
    const takenElements = new Set<number>();
    const lostMappings: number[] = [];
    for (const element of this.#usedElements()) {
      const word = this.#stateAt(element);
      if ((flagsOf(word) & STATIC) === 0) continue;
      const forward = wanted.get(element);
      if (forward !== undefined && this.#isOf(element, forward)) continue;
      this.#release(element, word);
      takenElements.add(element);
    }
    for (const forward of wanted.values()) {
      const { element } = forward;
      const word = this.#stateAt(element);
      if (flagsOf(word) === (LIVE | STATIC)) {
        this.#setState(element, stateOf(forward));
        continue;
      }
      if (this.#isLive(element, tick) && !this.#isOf(element, forward)) takenElements.add(element);
      const owner = this.#put(forward, tick);
      if (owner !== undefined) lostMappings.push(owner);
    }
    const unreferencedCount = this.refer(forwards, tick);
    return { takenElements, lostMappings, unreferencedCount };
  }

  /**
   * Lets each internal endpoint find its forward; the first forward of an endpoint wins. A program
   * that wrote to the same bucket meanwhile may have overwritten it: call it again a little later.
   *
   * @returns how many found no room
   */
  refer(forwards: readonly Forward[], tick: number): number {
    return forwards.filter((forward) => !this.#referTo(forward, tick)).length;
  }

  /** Ends mappings of these places, and of hosts that no translated network has. */
  endMappings(settings: NatSettings, gonePlaces: readonly number[]): void {
    const networks = new Networks(settings);
    for (const element of this.#usedElements()) {
      const flags = flagsOf(this.#stateAt(element));
      if ((flags & LIVE) === 0 || (flags & STATIC) !== 0) continue;
      const place = Math.floor(element / (PORTS * NatLimits.protocolClasses));
      const at = element * NatMapping.sizeBytes;
      const address = this.#mappingView.getUint32(at);
      if (!gonePlaces.includes(place) && networks.translates(address)) continue;
      // Its time is over, so the programs free it in their sweep.
      this.#mappingView.setUint32(at + NatMapping.fields.untilTick.offsetBytes, 0, true);
      this.#mappingView.setUint32(at + NatMapping.fields.establishedUntilTick.offsetBytes, 0, true);
    }
  }

  /**
   * Ends sessions, some thousand buckets at a time.
   *
   * @returns a generator of how many were ended since the last time
   */
  *endSessions(ending: EndingSessions): Generator<number> {
    const judge = new SessionJudge(ending, this.#sessionView);
    for (let bucket = 0; bucket < this.sessionBucketCount; bucket += BUCKETS_PER_STEP) {
      const end = Math.min(bucket + BUCKETS_PER_STEP, this.sessionBucketCount);
      let ended = 0;
      for (let index = bucket; index < end; index++) ended += judge.endIn(index);
      yield ended;
    }
  }

  /** Elements that are or were in use, which are few. */
  *#usedElements(): Generator<number> {
    const words = this.#mappingWords;
    for (let at = STATE_WORD; at < words.length; at += MAPPING_WORDS) {
      if (words[at] !== 0) yield (at - STATE_WORD) / MAPPING_WORDS;
    }
  }

  #stateAt(element: number): number {
    return Atomics.load(this.#mappingWords, element * MAPPING_WORDS + STATE_WORD);
  }

  #setState(element: number, word: number): void {
    Atomics.store(this.#mappingWords, element * MAPPING_WORDS + STATE_WORD, word);
  }

  #exchangeState(element: number, before: number, after: number): boolean {
    const at = element * MAPPING_WORDS + STATE_WORD;
    return Atomics.compareExchange(this.#mappingWords, at, before, after) === before;
  }

  /** The element is of this endpoint, whatever else is known of it. */
  #isOf(element: number, { address, port }: InternalEndpoint): boolean {
    const at = element * NatMapping.sizeBytes;
    return (
      this.#mappingView.getUint32(at) === address &&
      this.#mappingView.getUint16(at + NatMapping.fields.internalPort.offsetBytes) === port
    );
  }

  #isLive(element: number, tick: number): boolean {
    const flags = flagsOf(this.#stateAt(element));
    if ((flags & LIVE) === 0) return false;
    if ((flags & STATIC) !== 0) return true;
    const { untilTick, establishedUntilTick, establishedCount } = NatMapping.fields;
    const at = element * NatMapping.sizeBytes;
    const word = (field: { offsetBytes: number }) =>
      this.#mappingView.getUint32(at + field.offsetBytes, true);
    return (
      word(untilTick) > tick || (word(establishedCount) > 0 && word(establishedUntilTick) > tick)
    );
  }

  /** A forward counts against no host, so nobody has to be told. */
  #release(element: number, word: number): void {
    this.#exchangeState(element, word, 0);
  }

  /** @returns whose mapping was there, dead or alive: it does not count any more */
  #put(forward: Forward, tick: number): number | undefined {
    const { element } = forward;
    const at = element * NatMapping.sizeBytes;
    let before = this.#stateAt(element);
    const busy = (BUSY << 24) >>> 0;
    for (let tries = 0; ; tries++) {
      const isFree = (flagsOf(before) & BUSY) === 0 || tries >= BUSY_TRIES;
      if (isFree && this.#exchangeState(element, before, busy)) break;
      before = this.#stateAt(element);
    }
    const owner = (flagsOf(before) & LIVE) === 0 ? undefined : this.#mappingView.getUint32(at);
    NatMapping.encode(
      {
        internalAddress: forward.address,
        internalPort: 0,
        network: 0,
        flags: BUSY,
        untilTick: 0,
        establishedUntilTick: 0,
        establishedCount: 0,
        unansweredCount: 0,
        createdTick: tick,
      },
      this.#mappingView,
      at,
    );
    // The last: whoever sees that it lives sees the rest.
    this.#setState(element, stateOf(forward));
    return owner;
  }

  #referTo(forward: Forward, tick: number): boolean {
    const hash = endpointHash(forward, this.#hashKey);
    const bucket = Number(((hash >> 32n) * BigInt(this.mappingBucketCount)) >> 32n);
    const first = bucket * BUCKET_WORDS + REFERENCE_WORD;
    const places = Array.from({ length: NatLimits.referencesPerBucket }, (_, at) => first + at);
    const isOther = (place: number) =>
      this.#refersTo(Atomics.load(this.#bucketWords, place), forward);
    if (places.some(isOther)) return true;
    for (const place of places) {
      const before = Atomics.load(this.#bucketWords, place);
      if (before !== 0 && this.#isLive(before - 1, tick)) continue;
      const reference = forward.element + 1;
      if (Atomics.compareExchange(this.#bucketWords, place, before, reference) === before)
        return true;
    }
    return false;
  }

  /** To this forward, or to one of the same endpoint that came before. */
  #refersTo(reference: number, forward: Forward): boolean {
    if (reference === 0 || reference > this.mappingCount) return false;
    const element = reference - 1;
    if (classOf(element) !== forward.class || !this.#isOf(element, forward)) return false;
    return (flagsOf(this.#stateAt(element)) & STATIC) !== 0;
  }
}

function endpointHash(
  { address, port, class: natClass }: InternalEndpoint,
  key: readonly [bigint, bigint],
): bigint {
  const message = new DataView(new ArrayBuffer(16));
  message.setUint32(0, address);
  message.setUint16(4, port);
  message.setUint8(6, natClass);
  return sipHash13(key, new Uint8Array(message.buffer));
}

/** Every port of every forward. Those to hosts in no translated network are left out. */
export function forwardsOf(
  plan: NatPlan,
  { settings, mainPlace }: { readonly settings: NatSettings; readonly mainPlace?: number },
): Forward[] {
  if (mainPlace === undefined) return [];
  const networks = new Networks(settings);
  return plan.forwards.flatMap((forward) => portsOf(forward, { mainPlace, networks }));
}

function portsOf(
  forward: PlannedForward,
  { mainPlace, networks }: { readonly mainPlace: number; readonly networks: Networks },
): Forward[] {
  const { ports, internalAddress: address, internalPortFirst } = forward;
  const network = networks.placeOf(address);
  if (network === undefined || !networks.translates(address)) return [];
  return Array.from({ length: ports.last - ports.first + 1 }, (_, index) => ({
    address,
    port: internalPortFirst + index,
    class: forward.class,
    network,
    element: elementOf(mainPlace, forward.class, ports.first + index),
  }));
}

function elementOf(place: number, natClass: number, port: number): number {
  return (place * NatLimits.protocolClasses + natClass) * PORTS + port;
}

function classOf(element: number): number {
  return Math.floor(element / PORTS) % NatLimits.protocolClasses;
}

function flagsOf(word: number): number {
  return word >>> 24;
}

/** The port lies in network order in memory. */
function stateOf({ port, network }: Forward): number {
  const swapped = ((port & 0xff) << 8) | (port >> 8);
  return (swapped | (network << 16) | ((LIVE | STATIC) << 24)) >>> 0;
}

/** Networks of the settings, to look addresses up in. */
class Networks {
  readonly #rows: readonly { prefix: number; mask: number; translate: number }[];

  constructor({ networks, networkCount }: NatSettings) {
    this.#rows = networks.slice(0, networkCount);
  }

  placeOf(address: number): number | undefined {
    const place = this.#rows.findIndex(({ prefix, mask }) => (address & mask) >>> 0 === prefix);
    return place < 0 ? undefined : place;
  }

  translates(address: number): boolean {
    const place = this.placeOf(address);
    return place !== undefined && this.#rows[place]?.translate === 1;
  }
}

/** Which sessions have to end. */
export interface EndingSessions {
  /** By which everything else may go on. */
  readonly settings: NatSettings;
  readonly gonePlaces: readonly number[];
  readonly goneAddresses: readonly number[];
  readonly takenElements: ReadonlySet<number>;
}

/** A step takes a few milliseconds. */
const BUCKETS_PER_STEP = 4_096;

const sessionFields = NatSession.fields;
const { lowTranslated, highTranslated, entry: ENTRY } = NatSessionFlags;
const ends = [
  {
    translated: lowTranslated,
    address: sessionFields.lowAddress.offsetBytes,
    external: sessionFields.lowExternal.offsetBytes,
    port: sessionFields.lowExternalPort.offsetBytes,
  },
  {
    translated: highTranslated,
    address: sessionFields.highAddress.offsetBytes,
    external: sessionFields.highExternal.offsetBytes,
    port: sessionFields.highExternalPort.offsetBytes,
  },
] as const;
/** By IANA's numbers. */
const classOfProtocol = new Map<number, number>([
  [6, NatClass.tcp],
  [17, NatClass.udp],
  [1, NatClass.icmp],
]);

class SessionJudge {
  readonly #ending: EndingSessions;
  readonly #networks: Networks;
  readonly #view: DataView<ArrayBuffer>;

  constructor(ending: EndingSessions, view: DataView<ArrayBuffer>) {
    this.#ending = ending;
    this.#networks = new Networks(ending.settings);
    this.#view = view;
  }

  /** @returns how many of the bucket's sessions were ended */
  endIn(bucket: number): number {
    const { tags, slots } = NatSessionBucket.fields;
    const at = bucket * NatSessionBucket.sizeBytes;
    let ended = 0;
    for (let index = 0; index < NatLimits.slotsPerBucket; index++) {
      if (this.#view.getUint16(at + tags.offsetBytes + index * 2, true) === 0) continue;
      const slot = at + slots.offsetBytes + index * NatSession.sizeBytes;
      if (this.#view.getUint8(slot + sessionFields.killed.offsetBytes) !== 0) continue;
      if (this.#goesOn(slot)) continue;
      this.#view.setUint8(slot + sessionFields.killed.offsetBytes, 1);
      ended++;
    }
    return ended;
  }

  /** IPv6 is not translated, and bound to no address of ours. */
  #goesOn(slot: number): boolean {
    const network = this.#view.getUint8(slot + sessionFields.network.offsetBytes);
    if ((network & NatSessionVersion.six) !== 0) return true;
    const flags = this.#view.getUint8(slot + sessionFields.flags.offsetBytes);
    const { goneAddresses } = this.#ending;
    const addresses = ends.map(({ address }) => this.#view.getUint32(slot + address));
    if ((flags & ENTRY) !== 0) return !addresses.some((one) => goneAddresses.includes(one));
    const protocol = this.#view.getUint8(slot + sessionFields.protocol.offsetBytes);
    const translated = ends.filter((end) => (flags & end.translated) !== 0);
    for (const end of translated) {
      const address = this.#view.getUint32(slot + end.address);
      if (!this.#networks.translates(address)) return false;
      const place = this.#view.getUint8(slot + end.external);
      if (this.#ending.gonePlaces.includes(place)) return false;
      const natClass = classOfProtocol.get(protocol);
      if (natClass === undefined) continue;
      const port = this.#view.getUint16(slot + end.port);
      if (this.#ending.takenElements.has(elementOf(place, natClass, port))) return false;
    }
    const hasPorts = classOfProtocol.has(protocol);
    return translated.length > 0 || this.#mayStayUntranslated(addresses, hasPorts);
  }

  /** Between networks, of a routed one, or of a protocol that has nothing to translate. */
  #mayStayUntranslated(addresses: readonly number[], hasPorts: boolean): boolean {
    const inside = addresses.filter((one) => this.#networks.placeOf(one) !== undefined);
    if (inside.length === 0) return false;
    return (
      inside.length === 2 || !hasPorts || !inside.every((one) => this.#networks.translates(one))
    );
  }
}
