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
import {
  type AddressBlock,
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
import { formatIpv4Address, ipv4Address } from '../../net/ipv4-address.ts';
import { lastAddressOf, parsePrefix } from '../../net/prefix.ts';

/** What the NAT in the kernel has, as long as it is loaded. */
export interface NatTables {
  /** nat_sessions. */
  readonly sessions: { readonly view: DataView; readonly strideBytes: number };
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

/** Gives the tables that packets meet now; undefined without a NAT. It may change at any time. */
export type FindNatTables = () => NatTables | undefined;

/** Two milliseconds or less of the process, however full they are. */
const BUCKETS_PER_SLICE = 4_096;

export async function answerStates(
  findTables: FindNatTables,
  { filter, cursor, limit }: Extract<ControlRequest, { kind: 'get-states' }>,
): Promise<ControlReply> {
  const wanted = sessionFilter(filter);
  const tables = findTables();
  if (wanted === undefined) return refusedFilter;
  if (tables === undefined) return withoutNat;
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
  const wanted = filter === 'all' ? {} : sessionFilter(filter);
  if (wanted === undefined) return refusedFilter;
  let tables = findTables();
  if (tables === undefined) return withoutNat;
  let killedCount = 0;
  for (let isWhole = false; tables !== undefined && !isWhole; tables = findTables()) {
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
  const { sessions, settings } = tables;
  const { view, strideBytes } = sessions;
  return { view, strideBytes, settings, nowTick: tables.nowTick() };
}

/** @returns undefined for addresses that are none */
function sessionFilter(filter: StateFilter): SessionFilter | undefined {
  const { device, remote, ...rest } = filter;
  const blocks = { device: addressBlock(device), remote: addressBlock(remote) };
  if (device !== undefined && blocks.device === undefined) return undefined;
  if (remote !== undefined && blocks.remote === undefined) return undefined;
  return {
    ...rest,
    ...(blocks.device === undefined ? {} : { device: blocks.device }),
    ...(blocks.remote === undefined ? {} : { remote: blocks.remote }),
  };
}

function addressBlock(text: string | undefined): AddressBlock | undefined {
  const prefix = text === undefined ? undefined : parsePrefix(text);
  if (prefix === undefined || prefix.family !== 4) return undefined;
  const hostBits = lastAddressOf(prefix).bits - prefix.bits;
  return {
    prefix: ipv4Address(Number(prefix.bits)),
    mask: ipv4Address(~Number(hostBits)),
  };
}

function summaryOf({ initiator, responder, ...row }: SessionRow): SessionSummary {
  return {
    ...row,
    initiator: endSummary(initiator),
    responder: endSummary(responder),
  };
}

function endSummary({ address, port, external }: SessionEnd): SessionSummary['initiator'] {
  const own = { address: formatIpv4Address(address), port };
  if (external === undefined) return own;
  const outside = { address: formatIpv4Address(external.address), port: external.port };
  return { ...own, external: outside };
}

const withoutNat = {
  kind: 'refused',
  code: 'failed',
  reason: 'there are no sessions: the NAT is not loaded',
} as const satisfies ControlReply;

const refusedFilter = {
  kind: 'refused',
  code: 'failed',
  reason: 'device and remote are an IPv4 address or network each: 10.77.0.9 or 10.77.0.0/24',
} as const satisfies ControlReply;

const refusedCursor = {
  kind: 'refused',
  code: 'no-such-cursor',
  reason: 'the table of sessions is another one by now: ask for the list from its beginning',
} as const satisfies ControlReply;
