/**
 * The sessions of the NAT for people: found by a filter, told as rows, and killed. Everything is
 * read in place, a slice of the table at a time, so that a million of them hold nobody up.
 *
 * The kernel goes on writing meanwhile. It never moves a session to another slot, so one that lives
 * all the time is told exactly once. A slot that the kernel fills anew in the same microsecond may
 * be told half old and half new, or killed in place of the one that was there: then its next packet
 * opens it again.
 */

import {
  NatLimits,
  NatSession,
  NatSessionBucket,
  NatSessionFlags,
  NatSessionState,
  NatSessionVersion,
  type NatSettings,
} from '../abi/layouts.generated.ts';
import { type Ipv4Address, ipv4Address } from '../net/ipv4-address.ts';
import type { Ipv6Address } from '../net/ipv6-address.ts';
import { digestOf, pairCheck } from './ipv6-digest.ts';

/**
 * How far a session is. `unconfirmed`: nft has let no packet of it through. TCP is `opening`,
 * `established` or `closing`; all else is `unanswered` until both ends have sent, then `answered`.
 */
export const sessionStates = [
  'unconfirmed',
  'opening',
  'established',
  'closing',
  'unanswered',
  'answered',
] as const;
export type SessionState = (typeof sessionStates)[number];

/**
 * `outbound`: an inside host opened it, to the WAN. `inbound`: a stranger, by a mapping. `hairpin`:
 * between inside hosts by an external address. `routed`: without translation.
 */
export type SessionDirection = 'outbound' | 'inbound' | 'hairpin' | 'routed';

/** Addresses whose bits under the mask are the prefix. */
export interface AddressBlock {
  readonly prefix: Ipv4Address;
  readonly mask: Ipv4Address;
}

/** Addresses of IPv6, as sessions keep them. */
export interface DigestBlock {
  readonly digests: ReadonlySet<number>;
}

/** All of it must be so. The empty one finds everything. */
export interface SessionFilter {
  /** Of an inside end; the other end is the remote one. */
  readonly device?: AddressBlock | DigestBlock;
  readonly remote?: AddressBlock | DigestBlock;
  /** Of either end, as the inside or as the outside sees it; ICMP queries: the identifier. */
  readonly port?: number;
  readonly protocol?: number;
  readonly state?: SessionState;
}

/** Of IPv6: 32 bits of a hash, and the address that is known to have them. */
export interface Ipv6End {
  readonly digest: number;
  readonly address?: Ipv6Address;
}

export interface SessionAddress {
  readonly address: Ipv4Address | Ipv6End;
  /** ICMP queries: the identifier. Other protocols: 0. */
  readonly port: number;
}

export interface SessionEnd extends SessionAddress {
  /** How the other side sees it, where that is another. */
  readonly external?: SessionAddress;
}

export interface SessionRow {
  readonly protocol: number;
  readonly direction: SessionDirection;
  readonly state: SessionState;
  readonly initiator: SessionEnd;
  readonly responder: SessionEnd;
  readonly ageSeconds: number;
  /** When no further packet comes. */
  readonly expiresInSeconds: number;
  /** Sent by it, from the IP header on; modulo 2^48. */
  readonly initiatorBytes: number;
  readonly responderBytes: number;
}

/** The table and what its sessions refer to. */
export interface SessionTable {
  /** The elements of nat_sessions, `strideBytes` each. */
  readonly view: DataView;
  readonly strideBytes: number;
  readonly settings: SessionSettings;
  readonly nowTick: number;
  /** The address of IPv6 that left this digest, as long as somebody keeps it. */
  ipv6AddressOf(digest: number): Ipv6Address | undefined;
}

type SessionSettings = Pick<
  NatSettings,
  'hashKey' | 'sessionBucketCount' | 'externalCount' | 'externals' | 'networkCount' | 'networks'
>;

/** What a slice looks for, and where: from the slot with number `from` on. */
export interface SliceOptions {
  readonly filter: SessionFilter;
  readonly from: number;
  /** About two milliseconds for four thousand full ones. */
  readonly bucketsMax: number;
}

export interface SliceEnd {
  /** Living sessions that were looked at, whether the filter fits them or not. */
  readonly examinedCount: number;
  /** Where the next slice begins; absent at the end of the table. */
  readonly next?: number;
}

/** The sessions of one slice, in the table's order, at most `limit`. */
export function listSessions(
  table: SessionTable,
  options: SliceOptions & { readonly limit: number },
): SliceEnd & { readonly rows: readonly SessionRow[] } {
  const rows: SessionRow[] = [];
  const end = walk(table, options, (session) => {
    rows.push(rowOf(session, table.nowTick));
    return rows.length < options.limit;
  });
  return { ...end, rows };
}

/** Ends every session of one slice that the filter fits: the kernel knows it no more. */
export function killSessions(
  table: SessionTable,
  options: SliceOptions,
): SliceEnd & { readonly killedCount: number } {
  let killedCount = 0;
  const end = walk(table, options, (session) => {
    session.kill();
    killedCount++;
    return true;
  });
  return { ...end, killedCount };
}

/** A place in the table as text, which is of no use in a table of another size. */
export function formatCursor(table: SessionTable, slot: number): string {
  return `${bucketCountOf(table).toString(36)}.${slot.toString(36)}`;
}

/** @returns the slot, or undefined for a text that no table of this size gave */
export function parseCursor(table: SessionTable, text: string): number | undefined {
  const [, sizeText = '', slotText = ''] = /^([0-9a-z]{1,9})\.([0-9a-z]{1,9})$/.exec(text) ?? [];
  const slot = Number.parseInt(slotText, 36);
  const bucketCount = bucketCountOf(table);
  const isOfTable = Number.parseInt(sizeText, 36) === bucketCount;
  return isOfTable && slot < bucketCount * SLOTS ? slot : undefined;
}

const { fields } = NatSession;
const { tags, slots } = NatSessionBucket.fields;
const SLOTS = NatLimits.slotsPerBucket;
const TAG_BYTES = 2;
const SECONDS_PER_TICK = 2 ** NatLimits.tickShift / 1e9;
const PROTOCOL_TCP = 6;

/** Calls for each living session that fits, until it is told to stop. */
function walk(
  table: SessionTable,
  { filter, from, bucketsMax }: SliceOptions,
  onFit: (session: SessionInPlace) => boolean,
): SliceEnd {
  const { view, strideBytes, nowTick } = table;
  const session = new SessionInPlace(table);
  const tableEnd = bucketCountOf(table) * SLOTS;
  const end = Math.min((Math.floor(from / SLOTS) + bucketsMax) * SLOTS, tableEnd);
  let examinedCount = 0;
  for (let slot = from; slot < end; slot++) {
    const index = slot % SLOTS;
    const bucketAt = ((slot - index) / SLOTS) * strideBytes;
    if (view.getUint16(bucketAt + tags.offsetBytes + index * TAG_BYTES, true) === 0) continue;
    session.at = bucketAt + slots.offsetBytes + index * NatSession.sizeBytes;
    if (!session.isLiving(nowTick)) continue;
    examinedCount++;
    if (fits(session, filter) && !onFit(session)) {
      return { examinedCount, ...nextFrom(slot + 1, tableEnd) };
    }
  }
  return { examinedCount, ...nextFrom(end, tableEnd) };
}

function nextFrom(slot: number, tableEnd: number): Pick<SliceEnd, 'next'> {
  return slot < tableEnd ? { next: slot } : {};
}

/** Settings and table are set up apart: neither may be read beyond its end. */
function bucketCountOf({ view, strideBytes, settings }: SessionTable): number {
  return Math.min(settings.sessionBucketCount, Math.floor(view.byteLength / strideBytes));
}

/** What tells most sessions apart is compared first. */
function fits(
  session: SessionInPlace,
  { device, remote, port, protocol, state }: SessionFilter,
): boolean {
  return (
    (protocol === undefined || session.protocol === protocol) &&
    (port === undefined || hasPort(session, port)) &&
    ((device === undefined && remote === undefined) || hasEnds(session, { device, remote })) &&
    (state === undefined || stateOf(session) === state)
  );
}

function hasPort(session: SessionInPlace, port: number): boolean {
  return (
    session.lowPort === port ||
    session.highPort === port ||
    (session.isLowTranslated && session.lowExternalPort === port) ||
    (session.isHighTranslated && session.highExternalPort === port)
  );
}

type WantedBlock = AddressBlock | DigestBlock | undefined;

interface WantedEnds {
  readonly device: WantedBlock;
  readonly remote: WantedBlock;
}

function hasEnds(session: SessionInPlace, { device, remote }: WantedEnds): boolean {
  const { lowAddress, highAddress, isIpv6 } = session;
  const fitsIn = (address: number, block: WantedBlock) => liesIn({ address, isIpv6 }, block);
  const mayBeLow = fitsIn(lowAddress, device) && fitsIn(highAddress, remote);
  const mayBeHigh = fitsIn(highAddress, device) && fitsIn(lowAddress, remote);
  if (!mayBeLow && !mayBeHigh) return false;
  const { isLowInside, isHighInside } = session;
  // Of a session whose networks the settings have no more, either end counts.
  if (!isLowInside && !isHighInside) return true;
  return (mayBeLow && isLowInside) || (mayBeHigh && isHighInside);
}

function liesIn(end: { address: number; isIpv6: boolean }, block: WantedBlock): boolean {
  if (block === undefined) return true;
  if ('digests' in block) return end.isIpv6 && block.digests.has(end.address);
  return !end.isIpv6 && (end.address & block.mask) >>> 0 === block.prefix;
}

function stateOf({ protocol, flags, state }: SessionInPlace): SessionState {
  const has = (bits: number) => (state & bits) !== 0;
  if (!has(NatSessionState.confirmed)) return 'unconfirmed';
  if (protocol === PROTOCOL_TCP) {
    const isReset = has(NatSessionState.rstLow) || has(NatSessionState.rstHigh);
    const isEnded = has(NatSessionState.finLow) && has(NatSessionState.finHigh);
    if (isReset || isEnded) return 'closing';
    return has(NatSessionState.established) ? 'established' : 'opening';
  }
  const seen = NatSessionFlags.lowSeen | NatSessionFlags.highSeen;
  return (flags & seen) === seen ? 'answered' : 'unanswered';
}

function directionOf(session: SessionInPlace): SessionDirection {
  const { isLowTranslated, isHighTranslated } = session;
  if (!isLowTranslated && !isHighTranslated) return 'routed';
  // A hairpin's second end is translated only from its first answer on.
  if (session.isLowInside && session.isHighInside) return 'hairpin';
  const isInitiatorTranslated = session.isHighInitiator ? isHighTranslated : isLowTranslated;
  return isInitiatorTranslated ? 'outbound' : 'inbound';
}

function rowOf(session: SessionInPlace, nowTick: number): SessionRow {
  const { low, high, isHighInitiator } = session;
  const [initiator, responder] = isHighInitiator ? [high, low] : [low, high];
  return {
    protocol: session.protocol,
    direction: directionOf(session),
    state: stateOf(session),
    initiator: initiator.end,
    responder: responder.end,
    // The kernel's clock may be a tick ahead of ours.
    ageSeconds: secondsOf(Math.max(0, nowTick - session.createdTick)),
    expiresInSeconds: secondsOf(session.untilTick - nowTick),
    initiatorBytes: initiator.bytes,
    responderBytes: responder.bytes,
  };
}

function secondsOf(ticks: number): number {
  return Math.round(ticks * SECONDS_PER_TICK);
}

interface FieldPlace {
  readonly offsetBytes: number;
}

/** The session at one place of the table, read field by field. */
class SessionInPlace {
  /** The byte where it begins. */
  at = 0;
  readonly #view: DataView;
  readonly #networks: SessionSettings['networks'];
  readonly #externals: SessionSettings['externals'];
  readonly #hashKey: readonly [bigint, bigint];
  readonly #ipv6AddressOf: SessionTable['ipv6AddressOf'];

  constructor({ view, settings, ipv6AddressOf }: SessionTable) {
    this.#view = view;
    const [first = 0n, second = 0n] = settings.hashKey;
    this.#hashKey = [first, second];
    this.#ipv6AddressOf = ipv6AddressOf;
    this.#networks = settings.networks.slice(0, settings.networkCount);
    this.#externals = settings.externals.slice(0, settings.externalCount);
  }

  isLiving(nowTick: number): boolean {
    return (
      this.#byte(fields.killed.offsetBytes) === 0 &&
      (this.flags & NatSessionFlags.entry) === 0 &&
      this.untilTick > nowTick
    );
  }

  /** The only byte of a session that is ours to write. */
  kill(): void {
    this.#view.setUint8(this.at + fields.killed.offsetBytes, 1);
  }

  get protocol(): number {
    return this.#byte(fields.protocol.offsetBytes);
  }

  get flags(): number {
    return this.#byte(fields.flags.offsetBytes);
  }

  get isIpv6(): boolean {
    return (this.#byte(fields.network.offsetBytes) & NatSessionVersion.six) !== 0;
  }

  get state(): number {
    return this.#byte(fields.state.offsetBytes);
  }

  get untilTick(): number {
    return this.#view.getUint32(this.at + fields.untilTick.offsetBytes, true);
  }

  get createdTick(): number {
    return this.#view.getUint32(this.at + fields.createdTick.offsetBytes, true);
  }

  /** Of IPv6 a digest. */
  get lowAddress(): number {
    return this.#view.getUint32(this.at + fields.lowAddress.offsetBytes);
  }

  get highAddress(): number {
    return this.#view.getUint32(this.at + fields.highAddress.offsetBytes);
  }

  get lowPort(): number {
    return this.#port(fields.lowPort.offsetBytes);
  }

  get highPort(): number {
    return this.#port(fields.highPort.offsetBytes);
  }

  get lowExternalPort(): number {
    return this.#port(fields.lowExternalPort.offsetBytes);
  }

  get highExternalPort(): number {
    return this.#port(fields.highExternalPort.offsetBytes);
  }

  get isHighInitiator(): boolean {
    return (this.flags & NatSessionFlags.initiatorHigh) !== 0;
  }

  get isLowTranslated(): boolean {
    return (this.flags & NatSessionFlags.lowTranslated) !== 0;
  }

  get isHighTranslated(): boolean {
    return (this.flags & NatSessionFlags.highTranslated) !== 0;
  }

  get isLowInside(): boolean {
    if (this.isIpv6) return this.#byte(fields.lowExternal.offsetBytes) < NatLimits.networks;
    return this.isLowTranslated || this.#isInside(this.lowAddress);
  }

  get isHighInside(): boolean {
    if (this.isIpv6) return this.#byte(fields.highExternal.offsetBytes) < NatLimits.networks;
    return this.isHighTranslated || this.#isInside(this.highAddress);
  }

  get low(): { readonly end: SessionEnd; readonly bytes: number } {
    const index = this.#byte(fields.lowExternal.offsetBytes);
    const external = this.isLowTranslated ? this.#external(index, this.lowExternalPort) : {};
    const address = this.isIpv6 ? this.#ipv6Ends().low : ipv4Address(this.lowAddress);
    const end = { address, port: this.lowPort, ...external };
    return { end, bytes: this.#bytes(fields.lowBytes, fields.lowBytesAbove) };
  }

  get high(): { readonly end: SessionEnd; readonly bytes: number } {
    const index = this.#byte(fields.highExternal.offsetBytes);
    const external = this.isHighTranslated ? this.#external(index, this.highExternalPort) : {};
    const address = this.isIpv6 ? this.#ipv6Ends().high : ipv4Address(this.highAddress);
    const end = { address, port: this.highPort, ...external };
    return { end, bytes: this.#bytes(fields.highBytes, fields.highBytesAbove) };
  }

  /** With both addresses, or without any where those that are known are not the session's. */
  #ipv6Ends(): { readonly low: Ipv6End; readonly high: Ipv6End } {
    const digests = { low: this.lowAddress, high: this.highAddress };
    const low = this.#ipv6AddressOf(digests.low);
    const high = this.#ipv6AddressOf(digests.high);
    const ends = { low: { digest: digests.low }, high: { digest: digests.high } };
    if (low === undefined || high === undefined) return ends;
    const check = this.#view.getUint32(this.at + fields.lowExternalPort.offsetBytes);
    const known = pairCheck(digestOf(this.#hashKey, low), digestOf(this.#hashKey, high));
    if (known !== check) return ends;
    return { low: { ...ends.low, address: low }, high: { ...ends.high, address: high } };
  }

  /** Nothing where the settings have the external address no more. */
  #external(index: number, port: number): Pick<SessionEnd, 'external'> {
    const address = this.#externals[index]?.address;
    return address === undefined ? {} : { external: { address: ipv4Address(address), port } };
  }

  #isInside(address: number): boolean {
    return this.#networks.some(({ prefix, mask }) => (address & mask) >>> 0 === prefix);
  }

  #byte(offset: number): number {
    return this.#view.getUint8(this.at + offset);
  }

  #port(offset: number): number {
    return this.#view.getUint16(this.at + offset);
  }

  /** 32 bits, and the 16 above them. */
  #bytes(low: FieldPlace, above: FieldPlace): number {
    const upper = this.#view.getUint16(this.at + above.offsetBytes, true);
    return upper * 2 ** 32 + this.#view.getUint32(this.at + low.offsetBytes, true);
  }
}
