/**
 * Address tables while the program runs: entries come and go by command and by time, reach nft at
 * once, and are kept in the store.
 *
 * The order of a change: nft commits it, its sessions are to be judged again, the store has it, and
 * only then it is answered. So nothing that arrives after the answer was judged by what was before.
 */
import type { Config } from '../../config/schema.ts';
import { TABLE_ADDRESSES_MAX } from '../../firewall/firewall-model.ts';
import type { Ruleset } from '../../firewall/ruleset.ts';
import {
  ENTRIES_MAX,
  type ExpiredEntry,
  type SetChange,
  TableEntries,
} from '../../firewall/table-entries.ts';
import { formatTablePrefix, keyOf } from '../../firewall/table-prefixes.ts';
import type { ControlReply, ControlRequest, RefusalCode } from '../../messages/control-messages.ts';
import { type Prefix, parsePrefix, requirePrefix } from '../../net/prefix.ts';
import type { EntryExpiry, EntryRecord, TableRecords } from '../store/table-records.ts';
import { bootId } from './boot-id.ts';
import { describeNftFailure } from './change-acts.ts';
import { bootTimeMs } from './change-driver.ts';
import type { ApplyResult } from './ruleset-keeper.ts';

type Request<Kind extends ControlRequest['kind']> = Extract<ControlRequest, { kind: Kind }>;

export interface AddressTablesOptions {
  readonly records: TableRecords;
  /** As {@link RulesetKeeper.changeSets}. */
  readonly changeSets: (makeChanges: () => readonly SetChange[]) => Promise<ApplyResult>;
  /** Those of the config that is in force. */
  readonly configured: () => Config['firewall']['tables'];
  /** One line for the log. */
  readonly log: (text: string) => void;
  readonly alarm: (text: string) => void;
  /** Milliseconds. Default: since the boot, suspend included. */
  readonly now?: () => number;
}

/** A timer's clock stands still in suspend, where that of an entry goes on. */
const TIMER_MS_MAX = 60_000;

export class AddressTables {
  readonly #options: AddressTablesOptions;
  readonly #entries: TableEntries;
  readonly #now: () => number;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #stopped = false;

  constructor(options: AddressTablesOptions) {
    this.#options = options;
    this.#now = options.now ?? bootTimeMs;
    const { entries, expired } = restoreEntries(options.records.list(), this.#now());
    this.#entries = entries;
    this.#forget(expired);
    this.#schedule(this.#entries.nextExpiry());
  }

  /** What the kernel should have of a ruleset; from now on its sets change with the tables. */
  withEntries(ruleset: Ruleset): Ruleset {
    return this.#entries.follow(ruleset);
  }

  /** Of these tables alone the entries stay: a config that went had the others. */
  forgetAllBut(names: readonly string[]): void {
    const gone = this.#entries.tables.filter((name) => !names.includes(name));
    const entries = gone.flatMap((table) =>
      this.#entries.entriesOf(table).map(({ prefix }) => ({ table, prefix })),
    );
    for (const { table, prefix } of entries) this.#entries.remove(table, prefix);
    this.#forget(entries);
  }

  list(): ControlReply {
    const tables = Object.entries(this.#options.configured()).map(([name, { addresses }]) => ({
      name,
      configuredCount: addresses.length,
      addedCount: this.#entries.countOf(name),
    }));
    return { kind: 'tables', tables };
  }

  show({ table }: Request<'get-table'>): ControlReply {
    if (!this.#isConfigured(table)) return noSuchTable(table);
    const now = this.#now();
    const added = this.#entries.entriesOf(table).map(({ prefix, expiresAt }) => ({
      prefix: formatTablePrefix(prefix),
      origin: 'added' as const,
      ...(expiresAt === undefined ? {} : { expiresInMs: Math.max(0, expiresAt - now) }),
    }));
    const fixed = this.#addressesOf(table).map((prefix) => ({
      prefix: formatTablePrefix(prefix),
      origin: 'config' as const,
    }));
    return { kind: 'table', table, entries: [...fixed, ...added] };
  }

  async add({ table, prefix: text, forMs, author }: Request<'add-table-entry'>) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) return refused('failed', `${text} is no prefix`);
    let refusal: ControlReply | undefined;
    let outcome: 'added' | 'renewed' = 'added';
    let expiresAt: number | undefined;
    const result = await this.#options.changeSets(() => {
      refusal = this.#refusalOf(table, prefix);
      if (refusal !== undefined) return [];
      if (this.#entries.has({ table, prefix })) outcome = 'renewed';
      expiresAt = forMs === undefined ? undefined : this.#now() + forMs;
      const expiry = expiresAt === undefined ? {} : { expiresAt };
      return this.#entries.add(table, { prefix, ...expiry });
    });
    if (refusal !== undefined) return refusal;
    const entry = formatTablePrefix(prefix);
    const time = forMs === undefined ? '' : ` for ${Math.round(forMs / 1_000)} s`;
    this.#options.log(`${author} adds ${entry} to the table ${table}${time}`);
    this.#schedule(expiresAt);
    const expiry =
      expiresAt === undefined || forMs === undefined ? undefined : expiryOf(expiresAt, forMs);
    const isKept = this.#store((records) => {
      records.put({ table, prefix: entry, ...(expiry === undefined ? {} : { expiry }) });
    });
    const expires = forMs === undefined ? {} : { expiresInMs: forMs };
    return this.#answer(result, { table, prefix, outcome, isKept, ...expires });
  }

  async remove({ table, prefix: text, author }: Request<'remove-table-entry'>) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) return refused('failed', `${text} is no prefix`);
    if (!this.#isConfigured(table)) return noSuchTable(table);
    let isThere = false;
    const result = await this.#options.changeSets(() => {
      const changes = this.#entries.remove(table, prefix);
      isThere = changes !== undefined;
      return changes ?? [];
    });
    if (!isThere) return this.#refuseToRemove(table, prefix);
    const entry = formatTablePrefix(prefix);
    this.#options.log(`${author} removes ${entry} from the table ${table}`);
    const isKept = this.#store((records) => records.delete([{ table, prefix: entry }]));
    return this.#answer(result, { table, prefix, outcome: 'removed', isKept });
  }

  /** The kernel keeps what it has; entries expire again when the next process has started. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #answer(
    result: ApplyResult,
    {
      prefix,
      ...entry
    }: Omit<Extract<ControlReply, { kind: 'table-entry' }>, 'kind' | 'prefix' | 'coveredBy'> & {
      readonly prefix: Prefix;
    },
  ): ControlReply {
    if (!result.success) {
      return refused('failed', `${describeNftFailure(result.failure)}; it is tried again`);
    }
    const cover = this.#entries.coverOf(entry.table, prefix);
    const isItself = cover !== undefined && keyOf(cover) === keyOf(prefix);
    const isTold = cover !== undefined && !(isItself && entry.outcome !== 'removed');
    return {
      kind: 'table-entry',
      ...entry,
      prefix: formatTablePrefix(prefix),
      ...(isTold ? { coveredBy: formatTablePrefix(cover) } : {}),
    };
  }

  #refusalOf(table: string, prefix: Prefix): ControlReply | undefined {
    if (!this.#isConfigured(table)) return noSuchTable(table);
    if (this.#entries.has({ table, prefix })) return undefined;
    const configured = this.#options.configured()[table]?.addresses ?? [];
    const count = configured.length + this.#entries.countOf(table);
    if (count >= TABLE_ADDRESSES_MAX) {
      return refused('table-full', `the table ${table} has ${count} entries; there is no room`);
    }
    if (this.#entries.count < ENTRIES_MAX) return undefined;
    return refused('table-full', `all tables have ${ENTRIES_MAX} entries; there is no room`);
  }

  #refuseToRemove(table: string, prefix: Prefix): ControlReply {
    const entry = formatTablePrefix(prefix);
    const isConfigured = this.#addressesOf(table).some((one) => keyOf(one) === keyOf(prefix));
    if (isConfigured) {
      return refused('no-such-entry', `${entry} is in the table ${table} by the config: edit that`);
    }
    const cover = this.#entries.coverOf(table, prefix);
    const why = cover === undefined ? '' : `; it lies in its ${formatTablePrefix(cover)}`;
    return refused('no-such-entry', `the table ${table} has no entry ${entry}${why}`);
  }

  #isConfigured(table: string): boolean {
    return Object.hasOwn(this.#options.configured(), table);
  }

  /** By the config. */
  #addressesOf(table: string): Prefix[] {
    return this.#options.configured()[table]?.addresses.map(requirePrefix) ?? [];
  }

  /** @param at when something may be due, by the clock since the boot */
  #schedule(at: number | undefined): void {
    if (at === undefined || at >= this.#timerAt || this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const inMs = Math.min(Math.max(1, Math.ceil(at - this.#now())), TIMER_MS_MAX);
    this.#timer = setTimeout(() => void this.#expire(), inMs);
    this.#timer.unref();
  }

  async #expire(): Promise<void> {
    this.#timerAt = Number.POSITIVE_INFINITY;
    let gone: ExpiredEntry[] = [];
    // What fails is tried again by whoever keeps the ruleset.
    await this.#options.changeSets(() => {
      const { expired, changes } = this.#entries.expire(this.#now());
      gone = expired;
      return changes;
    });
    this.#forget(gone);
    this.#schedule(this.#entries.nextExpiry());
  }

  #forget(entries: readonly ExpiredEntry[]): void {
    const records = entries.map(({ table, prefix }) => ({
      table,
      prefix: formatTablePrefix(prefix),
    }));
    this.#store((store) => store.delete(records));
  }

  /** A disk that takes nothing is no reason not to do it. */
  #store(write: (records: TableRecords) => void): boolean {
    try {
      write(this.#options.records);
      return true;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      this.#options.alarm(`a change of a table lasts only until gatehouse restarts: ${reason}`);
      return false;
    }
  }
}

/** Those that have had their time meanwhile are `expired`, and no entries any more. */
export function restoreEntries(
  records: readonly EntryRecord[],
  now = bootTimeMs(),
): { readonly entries: TableEntries; readonly expired: readonly ExpiredEntry[] } {
  const entries = new TableEntries();
  for (const { table, prefix: text, expiry } of records) {
    const prefix = parsePrefix(text);
    if (prefix === undefined) continue;
    const expires = expiry === undefined ? {} : { expiresAt: expiresAtOf(expiry, now) };
    entries.add(table, { prefix, ...expires });
  }
  return { entries, expired: entries.expire(now).expired };
}

/** By the clock since this boot. After another one the wall clock says what is left. */
function expiresAtOf({ bootId: bootOf, atMs, wallAtMs, forMs }: EntryExpiry, now: number): number {
  if (bootOf === bootId()) return atMs;
  return now + Math.min(Math.max(0, wallAtMs - Date.now()), forMs);
}

function expiryOf(atMs: number, forMs: number): EntryExpiry {
  return { bootId: bootId(), atMs, wallAtMs: Date.now() + forMs, forMs };
}

function noSuchTable(table: string): ControlReply {
  return refused('no-such-table', `the config in force has no table ${table}`);
}

function refused(code: RefusalCode, reason: string): ControlReply {
  return { kind: 'refused', code, reason };
}
