/**
 * The sessions of the NAT, as the command line asks for them. The table may hold millions, so it is
 * looked at slice by slice, and all that the core does besides goes on in between.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type {
  ControlReply,
  ControlRequest,
  SessionSummary,
  StateFilter,
} from '../../messages/control-messages.ts';
import { digestOf } from '../../nat/ipv6-digest.ts';
import {
  type AddressBlock,
  type DigestBlock,
  formatCursor,
  killSessions,
  listSessions,
  parseCursor,
  type SessionEnd,
  type SessionFilter,
  type SessionRow,
  type SessionTable,
  type SliceEnd,
} from '../../nat/session-listing.ts';
import { addressWidths } from '../../net/ip-address.ts';
import { formatIpv4Address, ipv4Address } from '../../net/ipv4-address.ts';
import { formatIpv6Address, type Ipv6Address, ipv6Address } from '../../net/ipv6-address.ts';
import { lastAddressOf, type Prefix, parsePrefix } from '../../net/prefix.ts';

/** What the NAT in the kernel has, as long as it is loaded. */
export interface NatTables {
  /** nat_sessions. */
  readonly sessions: { readonly view: DataView; readonly strideBytes: number };
  /** nat_six_addresses: what the digests of sessions of IPv6 stand for. */
  readonly ipv6Addresses: Ipv6Addresses;
  /** nat_settings as the programs read them now. */
  readonly settings: SessionTable['settings'];
  /** By the clock of the programs. */
  nowTick(): number;
  /**
   * From now on TCP from before the tables opens no session by a packet in its midst: what was
   * killed would be back with its next one.
   */
  endPickup(): void;
}

export interface Ipv6Addresses {
  addressOf(digest: number): Ipv6Address | undefined;
  /** All that are known, some thousand at a time. */
  slices(): Iterable<readonly (readonly [digest: number, address: Ipv6Address])[]>;
}

/** Gives the tables that packets meet now; undefined without a NAT. It may change at any time. */
export type FindNatTables = () => NatTables | undefined;

/** Two milliseconds or less of the process, however full they are. */
const BUCKETS_PER_SLICE = 4_096;

export async function answerStates(
  findTables: FindNatTables,
  { filter, cursor, limit }: Extract<ControlRequest, { kind: 'get-states' }>,
): Promise<ControlReply> {
  const asked = parseFilter(filter);
  const tables = findTables();
  if (asked === undefined) return refusedFilter;
  if (tables === undefined) return withoutNat;
  const wanted = await sessionFilter(asked, { findTables, tables });
  if (wanted === undefined) return refusedCursor;
  const from = cursor === undefined ? 0 : parseCursor(tableOf(tables), cursor);
  if (from === undefined) return refusedCursor;
  const states: SessionSummary[] = [];
  const { end, table } = await walkSlices({ findTables, tables, from }, (slice) => {
    const { rows, ...end } = listSessions(slice.table, {
      filter: wanted,
      from: slice.from,
      bucketsMax: BUCKETS_PER_SLICE,
      limit: limit - states.length,
    });
    for (const row of rows) states.push(summaryOf(row));
    return { ...end, isDone: states.length === limit };
  });
  if (end === undefined) return refusedCursor;
  const { examinedCount, next } = end;
  const rest = next === undefined ? {} : { nextCursor: formatCursor(table, next) };
  return { kind: 'states', states, examinedCount, ...rest };
}

/**
 * Where the NAT is loaded anew meanwhile, the new table is looked at, too.
 *
 * @param log one line for the log
 */
export async function killStates(
  findTables: FindNatTables,
  { filter, author }: Extract<ControlRequest, { kind: 'kill-states' }>,
  log: (text: string) => void,
): Promise<ControlReply> {
  const asked = filter === 'all' ? {} : parseFilter(filter);
  if (asked === undefined) return refusedFilter;
  let tables = findTables();
  if (tables === undefined) return withoutNat;
  let killedCount = 0;
  for (let isWhole = false; tables !== undefined && !isWhole; tables = findTables()) {
    const wanted = await sessionFilter(asked, { findTables, tables });
    if (wanted === undefined) continue;
    tables.endPickup();
    const { end } = await walkSlices({ findTables, tables, from: 0 }, ({ table, from }) => {
      const slice = { filter: wanted, from, bucketsMax: BUCKETS_PER_SLICE };
      const { killedCount: count, ...end } = killSessions(table, slice);
      killedCount += count;
      return end;
    });
    isWhole = end !== undefined;
  }
  log(`${author} ended ${killedCount} sessions: ${JSON.stringify(filter)}`);
  return { kind: 'states-killed', killedCount };
}

/**
 * From a slot on, until a slice says that it is done or the table ends.
 *
 * @returns without an end when the table was replaced meanwhile
 */
async function walkSlices(
  { findTables, tables, from }: { findTables: FindNatTables; tables: NatTables; from: number },
  look: (slice: { table: SessionTable; from: number }) => SliceEnd & { readonly isDone?: boolean },
): Promise<{ readonly table: SessionTable; readonly end?: SliceEnd }> {
  let examinedCount = 0;
  for (let current = tables; ; ) {
    const table = tableOf(current);
    const { next, isDone = false, ...slice } = look({ table, from });
    examinedCount += slice.examinedCount;
    if (next === undefined) return { table, end: { examinedCount } };
    if (isDone) return { table, end: { examinedCount, next } };
    await nextTurn();
    const found = findTables();
    if (found?.sessions.view !== current.sessions.view) return { table };
    current = found;
    from = next;
  }
}

function tableOf(tables: NatTables): SessionTable {
  const { sessions, settings, ipv6Addresses } = tables;
  const { view, strideBytes } = sessions;
  const ipv6AddressOf = (digest: number) => ipv6Addresses.addressOf(digest);
  return { view, strideBytes, settings, nowTick: tables.nowTick(), ipv6AddressOf };
}

type ParsedFilter = Omit<StateFilter, 'device' | 'remote'> & {
  readonly device?: Prefix;
  readonly remote?: Prefix;
};

/** @returns undefined for addresses that are none */
function parseFilter({ device, remote, ...rest }: StateFilter): ParsedFilter | undefined {
  const prefixes: { device?: Prefix; remote?: Prefix } = {};
  for (const [end, text] of Object.entries({ device, remote })) {
    if (text === undefined) continue;
    const prefix = parsePrefix(text);
    if (prefix === undefined) return undefined;
    prefixes[end === 'device' ? 'device' : 'remote'] = prefix;
  }
  return { ...rest, ...prefixes };
}

interface Place {
  readonly findTables: FindNatTables;
  readonly tables: NatTables;
}

/** @returns undefined when the tables were replaced meanwhile */
async function sessionFilter(
  { device, remote, ...rest }: ParsedFilter,
  place: Place,
): Promise<SessionFilter | undefined> {
  const filter = {
    ...rest,
    ...(device === undefined ? {} : { device: await addressBlock(device, place) }),
    ...(remote === undefined ? {} : { remote: await addressBlock(remote, place) }),
  };
  return isInPlace(place) ? filter : undefined;
}

function isInPlace({ findTables, tables }: Place): boolean {
  return findTables()?.sessions.view === tables.sessions.view;
}

async function addressBlock(prefix: Prefix, place: Place): Promise<AddressBlock | DigestBlock> {
  if (prefix.family === 6) return { digests: await digestsIn(prefix, place) };
  const hostBits = lastAddressOf(prefix).bits - prefix.bits;
  return {
    prefix: ipv4Address(Number(prefix.bits)),
    mask: ipv4Address(~Number(hostBits)),
  };
}

/** Of one address always; of a network those whose addresses are known. */
async function digestsIn(prefix: Prefix, place: Place): Promise<ReadonlySet<number>> {
  const { settings, ipv6Addresses } = place.tables;
  const [first = 0n, second = 0n] = settings.hashKey;
  if (prefix.length === addressWidths[6]) {
    return new Set([digestOf([first, second], ipv6Address(prefix.bits)).digest]);
  }
  const { bits } = lastAddressOf(prefix);
  const digests = new Set<number>();
  for (const slice of ipv6Addresses.slices()) {
    for (const [digest, address] of slice) {
      if (address >= prefix.bits && address <= bits) digests.add(digest);
    }
    await nextTurn();
    // The others are gone with their tables.
    if (!isInPlace(place)) break;
  }
  return digests;
}

function summaryOf({ initiator, responder, ...row }: SessionRow): SessionSummary {
  return {
    ...row,
    initiator: endSummary(initiator),
    responder: endSummary(responder),
  };
}

function endSummary({ address, port, external }: SessionEnd): SessionSummary['initiator'] {
  const own = { address: addressText(address), port };
  if (external === undefined) return own;
  const outside = { address: addressText(external.address), port: external.port };
  return { ...own, external: outside };
}

/** `?` and the digest, where nobody knows the address any more (docs/nat.md, "IPv6"). */
function addressText(address: SessionEnd['address']): string {
  if (typeof address === 'number') return formatIpv4Address(address);
  if (address.address !== undefined) return formatIpv6Address(address.address);
  return `?${address.digest.toString(16).padStart(8, '0')}`;
}

const withoutNat = {
  kind: 'refused',
  code: 'failed',
  reason: 'there are no sessions: the NAT is not loaded',
} as const satisfies ControlReply;

const refusedFilter = {
  kind: 'refused',
  code: 'failed',
  reason: 'device and remote are an address or network each: 10.77.0.9 or 10.77.0.0/24',
} as const satisfies ControlReply;

const refusedCursor = {
  kind: 'refused',
  code: 'no-such-cursor',
  reason: 'the table of sessions is another one by now: ask for the list from its beginning',
} as const satisfies ControlReply;
