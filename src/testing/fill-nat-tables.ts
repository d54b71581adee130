/**
 * Fills the NAT's tables as its programs would have, so that they find every entry: for tests and
 * benchmarks with more sessions than anybody sends packets for. docs/nat.md says what lies where.
 * What hosts have used of their quotas is not counted.
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
  NatSessionState,
  NatSessionVersion,
  type NatSettings,
} from '../abi/layouts.generated.ts';

/** The elements of an array in shared memory, one behind the other. */
export interface TableMemory {
  readonly view: DataView;
  readonly strideBytes: number;
}

export interface FilledEnd {
  /** Four octets as a number; of IPv6 the digest. */
  readonly address: number;
  readonly port: number;
  /** Of IPv6: a number of `enum nat_place`, or a network's index. */
  readonly place?: number;
  /** How the other side sees it: an index into the settings' externals. */
  readonly external?: { readonly index: number; readonly port: number };
}

export interface FilledSession {
  readonly protocol: number;
  readonly initiator: FilledEnd;
  readonly responder: FilledEnd;
  readonly untilTick: number;
  /** Default: 1. */
  readonly createdTick?: number;
  /** Bits of `enum nat_session_state`. Default: confirmed, and TCP established. */
  readonly state?: number;
  /** Default: both ends have sent. */
  readonly isAnswered?: boolean;
  /** Of IPv6. */
  readonly check?: number;
  /** Below 2^48. */
  readonly initiatorBytes?: number;
  readonly responderBytes?: number;
}

/**
 * Puts sessions into free slots. None of them may be in the table already.
 *
 * @returns how many found room: the others are left out, as the programs would
 */
export function fillSessions(
  { view, strideBytes }: TableMemory,
  options: {
    readonly settings: Pick<NatSettings, 'hashKey' | 'sessionBucketCount'>;
    readonly sessions: Iterable<FilledSession>;
  },
): number {
  const { settings, sessions } = options;
  const hash = sipHasher(settings.hashKey);
  const slot = new DataView(new ArrayBuffer(NatSession.sizeBytes));
  const slotBytes = new Uint8Array(slot.buffer);
  const table = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  let filledCount = 0;
  for (const session of sessions) {
    NatSession.encode(natSession(session), slot, 0);
    const { low, high } = hash(
      slot.getUint32(0, true),
      slot.getUint32(4, true),
      slot.getUint32(8, true),
      slot.getUint8(NatSession.fields.protocol.offsetBytes),
    );
    const first = bucketOf(low, settings.sessionBucketCount) * strideBytes;
    const second = bucketOf(high, settings.sessionBucketCount) * strideBytes;
    const place = placeIn(view, first, second);
    if (place === undefined) continue;
    const { bucketAt, index } = place;
    table.set(slotBytes, bucketAt + slots.offsetBytes + index * NatSession.sizeBytes);
    view.setUint16(tagAt(bucketAt, index), low & 0xffff || 1, true);
    if (bucketAt !== first) noteGuest(view, { first, bucketAt, index });
    filledCount++;
  }
  return filledCount;
}

export interface FilledMapping {
  readonly protocol: number;
  readonly internal: { readonly address: number; readonly port: number };
  readonly external: { readonly index: number; readonly port: number };
  /** Index into the settings' networks. Default: 0. */
  readonly network?: number;
  readonly untilTick: number;
}

/**
 * Opens mappings of TCP, UDP or ICMP, with the references from their inside endpoints.
 *
 * @returns how many found room for their reference
 */
export function fillMappings(
  memory: { readonly mappings: TableMemory; readonly buckets: TableMemory },
  options: {
    readonly settings: Pick<NatSettings, 'hashKey' | 'mappingBucketCount'>;
    readonly mappings: Iterable<FilledMapping>;
  },
): number {
  const { settings } = options;
  const hash = sipHasher(settings.hashKey);
  let filledCount = 0;
  for (const { protocol, internal, external, network = 0, untilTick } of options.mappings) {
    const classNumber = classOf(protocol);
    const { address, port } = internal;
    const { high } = hash(swap32(address), swap16(port) | (classNumber << 16), 0, 0);
    const bucketAt = bucketOf(high, settings.mappingBucketCount) * memory.buckets.strideBytes;
    const referenceAt = freeReference(memory.buckets.view, bucketAt);
    if (referenceAt === undefined) continue;
    const element =
      (external.index * NatLimits.protocolClasses + classNumber) * PORTS + external.port;
    const mapping: NatMapping = {
      internalAddress: address,
      internalPort: port,
      network,
      flags: NatMappingFlags.live,
      untilTick,
      establishedUntilTick: 0,
      establishedCount: 0,
      unansweredCount: 0,
      createdTick: 1,
    };
    NatMapping.encode(mapping, memory.mappings.view, element * memory.mappings.strideBytes);
    memory.buckets.view.setUint32(referenceAt, element + 1, true);
    filledCount++;
  }
  return filledCount;
}

const { tags, away, guests, slots } = NatSessionBucket.fields;
const { references } = NatMappingBucket.fields;
const SLOTS = NatLimits.slotsPerBucket;
/** A bucket with fewer takes new sessions without a look at the other. */
const SLOTS_PREFERRED = 12;
const PORTS = 65_536;
const PROTOCOL_TCP = 6;
const PROTOCOL_UDP = 17;

function natSession(session: FilledSession): NatSession {
  const { protocol, initiator, responder, untilTick, createdTick = 1 } = session;
  const { initiatorBytes = 0, responderBytes = 0 } = session;
  const isHighInitiator = orderOf(initiator) > orderOf(responder);
  const [low, high] = isHighInitiator ? [responder, initiator] : [initiator, responder];
  const lowBytes = isHighInitiator ? responderBytes : initiatorBytes;
  const highBytes = isHighInitiator ? initiatorBytes : responderBytes;
  const initiatorSeen = isHighInitiator ? NatSessionFlags.highSeen : NatSessionFlags.lowSeen;
  const bothSeen = NatSessionFlags.lowSeen | NatSessionFlags.highSeen;
  const established = protocol === PROTOCOL_TCP ? NatSessionState.established : 0;
  const isOneTranslated = (low.external === undefined) !== (high.external === undefined);
  const isHighCharged = isOneTranslated ? high.external !== undefined : isHighInitiator;
  return {
    lowAddress: low.address,
    highAddress: high.address,
    lowPort: low.port,
    highPort: high.port,
    protocol,
    flags:
      (isHighInitiator ? NatSessionFlags.initiatorHigh : 0) |
      (low.external === undefined ? 0 : NatSessionFlags.lowTranslated) |
      (high.external === undefined ? 0 : NatSessionFlags.highTranslated) |
      (session.isAnswered === false ? initiatorSeen : bothSeen) |
      (isHighCharged ? NatSessionFlags.chargedHigh : 0),
    state: session.state ?? NatSessionState.confirmed | established,
    ...externalsOf(session, low, high),
    killed: 0,
    refreshed: 0,
    untilTick,
    createdTick,
    lowEnd: 0,
    lowAcknowledged: 0,
    highEnd: 0,
    highAcknowledged: 0,
    judged: 0,
    lowBytesAbove: Math.floor(lowBytes / 2 ** 32),
    highBytesAbove: Math.floor(highBytes / 2 ** 32),
    lowBytes: lowBytes % 2 ** 32,
    highBytes: highBytes % 2 ** 32,
  };
}

function externalsOf({ check }: FilledSession, low: FilledEnd, high: FilledEnd) {
  const isIpv6 = check !== undefined;
  return {
    network: isIpv6 ? NatSessionVersion.six : 0,
    lowExternalPort: isIpv6 ? check >>> 16 : (low.external?.port ?? 0),
    highExternalPort: isIpv6 ? check & 0xffff : (high.external?.port ?? 0),
    lowExternal: low.place ?? low.external?.index ?? 0,
    highExternal: high.place ?? high.external?.index ?? 0,
  };
}

function orderOf({ address, port }: FilledEnd): number {
  return address * PORTS + port;
}

/** Upper half of a product, as the programs spread 32 bits over `count`. */
function bucketOf(half: number, count: number): number {
  // Exact below 2^21 buckets.
  return Math.floor((half * count) / 2 ** 32);
}

function placeIn(view: DataView, first: number, second: number) {
  const one = occupationOf(view, first);
  if (one.liveCount < SLOTS_PREFERRED) return { bucketAt: first, index: one.free };
  const two = occupationOf(view, second);
  if (two.liveCount < one.liveCount) return { bucketAt: second, index: two.free };
  return one.liveCount < SLOTS ? { bucketAt: first, index: one.free } : undefined;
}

/** A session in its second bucket. */
function noteGuest(
  view: DataView,
  at: { readonly first: number; readonly bucketAt: number; readonly index: number },
): void {
  const awayAt = at.first + away.offsetBytes;
  view.setUint32(awayAt, view.getUint32(awayAt, true) + 1, true);
  const guestsAt = at.bucketAt + guests.offsetBytes;
  view.setUint16(guestsAt, view.getUint16(guestsAt, true) | (1 << at.index), true);
}

/** The first free slot, and how many are taken. */
function occupationOf(view: DataView, bucketAt: number) {
  let free: number = SLOTS;
  let liveCount = 0;
  for (let index = SLOTS - 1; index >= 0; index--) {
    if (view.getUint16(tagAt(bucketAt, index), true) === 0) free = index;
    else liveCount++;
  }
  return { free, liveCount };
}

function tagAt(bucketAt: number, index: number): number {
  return bucketAt + tags.offsetBytes + 2 * index;
}

function freeReference(view: DataView, bucketAt: number): number | undefined {
  for (let index = 0; index < NatLimits.referencesPerBucket; index++) {
    const at = bucketAt + references.offsetBytes + 4 * index;
    if (view.getUint32(at, true) === 0) return at;
  }
  return undefined;
}

function classOf(protocol: number): number {
  if (protocol === PROTOCOL_TCP) return NatClass.tcp;
  return protocol === PROTOCOL_UDP ? NatClass.udp : NatClass.icmp;
}

function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

function swap32(value: number): number {
  return ((swap16(value & 0xffff) << 16) | swap16(value >>> 16)) >>> 0;
}

/** The two halves of a hash. */
interface Hash {
  readonly low: number;
  readonly high: number;
}

/**
 * SipHash-1-3 of 16 bytes, given as four little-endian words: as src/nat/siphash.ts, and quick
 * enough for a million.
 */
export function sipHasher([key0 = 0n, key1 = 0n]: readonly bigint[]) {
  const initial = new Uint32Array(
    new BigUint64Array([
      key0 ^ 0x736f6d6570736575n,
      key1 ^ 0x646f72616e646f6dn,
      key0 ^ 0x6c7967656e657261n,
      key1 ^ 0x7465646279746573n,
    ]).buffer,
  );
  const v = new Uint32Array(8);
  return (...words: readonly [number, number, number, number]): Hash => {
    v.set(initial);
    for (const [low, high] of [words.slice(0, 2), words.slice(2), [0, LENGTH_WORD]]) {
      xorWord(v, V3, low ?? 0, high ?? 0);
      sipRound(v);
      xorWord(v, V0, low ?? 0, high ?? 0);
    }
    xorWord(v, V2, 0xff, 0);
    for (let round = 0; round < 3; round++) sipRound(v);
    for (const other of [V1, V2, V3]) xor(v, V0, other);
    return { low: v[V0] ?? 0, high: v[V0 + 1] ?? 0 };
  };
}

/** Of 16 bytes, in the highest one. */
const LENGTH_WORD = 16 << 24;
const V0 = 0;
const V1 = 2;
const V2 = 4;
const V3 = 6;

function sipRound(v: Uint32Array): void {
  add(v, V0, V1);
  add(v, V2, V3);
  rotate(v, V1, 13);
  xor(v, V1, V0);
  rotate(v, V3, 16);
  xor(v, V3, V2);
  rotate(v, V0, 32);
  add(v, V0, V3);
  add(v, V2, V1);
  rotate(v, V1, 17);
  xor(v, V1, V2);
  rotate(v, V3, 21);
  xor(v, V3, V0);
  rotate(v, V2, 32);
}

function add(v: Uint32Array, to: number, what: number): void {
  const low = (v[to] ?? 0) + (v[what] ?? 0);
  v[to] = low;
  v[to + 1] = (v[to + 1] ?? 0) + (v[what + 1] ?? 0) + (low > 0xffff_ffff ? 1 : 0);
}

function xor(v: Uint32Array, to: number, what: number): void {
  xorWord(v, to, v[what] ?? 0, v[what + 1] ?? 0);
}

function xorWord(v: Uint32Array, to: number, low: number, high: number): void {
  v[to] = (v[to] ?? 0) ^ low;
  v[to + 1] = (v[to + 1] ?? 0) ^ high;
}

/** To the left, by at most 32 bits. */
function rotate(v: Uint32Array, at: number, bits: number): void {
  const low = v[at] ?? 0;
  const high = v[at + 1] ?? 0;
  v[at] = bits === 32 ? high : (low << bits) | (high >>> (32 - bits));
  v[at + 1] = bits === 32 ? low : (high << bits) | (low >>> (32 - bits));
}
