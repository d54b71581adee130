/**
 * What address tables have besides what the config says: entries that come and go while the program
 * runs, some of them for a time. Pure: says how nft's sets change, and somebody else changes them.
 */
import type { Prefix } from '../net/prefix.ts';
import type { Ruleset } from './ruleset.ts';
import { keyOf, outermostPrefixes, PrefixSet } from './table-prefixes.ts';

export interface TableEntry {
  readonly prefix: Prefix;
  /** By the clock of `now`, in milliseconds. Absent: it stays until it is removed. */
  readonly expiresAt?: number;
}

/** What becomes of one set of nft. */
export interface SetChange {
  readonly table: string;
  readonly family: 4 | 6;
  /** In the set before, and not afterwards. */
  readonly removed: readonly Prefix[];
  readonly added: readonly Prefix[];
}

export interface ExpiredEntry {
  readonly table: string;
  readonly prefix: Prefix;
}

/** Of all tables: each costs a record in the store and half a kilobyte of memory. */
export const ENTRIES_MAX = 65_536;

export class TableEntries {
  readonly #tables = new Map<string, Table>();
  #count = 0;

  /** Of all tables. */
  get count(): number {
    return this.#count;
  }

  countOf(table: string): number {
    return this.#tables.get(table)?.entries.size ?? 0;
  }

  /** In the order in which they came. */
  entriesOf(table: string): readonly TableEntry[] {
    return [...(this.#tables.get(table)?.entries.values() ?? [])];
  }

  has({ table, prefix }: ExpiredEntry): boolean {
    return this.#tables.get(table)?.entries.has(keyOf(prefix)) === true;
  }

  /** The tables that have entries. */
  get tables(): readonly string[] {
    return [...this.#tables].filter(([, { entries }]) => entries.size > 0).map(([name]) => name);
  }

  /**
   * A ruleset with the entries of its tables. What changes from now on are its sets; those of the
   * last one are forgotten.
   */
  follow(ruleset: Ruleset): Ruleset {
    for (const table of this.#tables.values()) table.fixed.clear();
    for (const { table, prefixes } of ruleset.sets ?? []) {
      const { fixed } = this.#table(table);
      for (const prefix of prefixes) fixed.set(keyOf(prefix), prefix);
    }
    for (const [name, table] of this.#tables) {
      table.all = new PrefixSet([
        ...table.fixed.values(),
        ...[...table.entries.values()].map(({ prefix }) => prefix),
      ]);
      if (table.all.size === 0) this.#tables.delete(name);
    }
    const sets = (ruleset.sets ?? []).map((set) => {
      const entries = this.entriesOf(set.table).map(({ prefix }) => prefix);
      const own = entries.filter(({ family }) => family === set.family);
      if (own.length === 0) return set;
      return { ...set, prefixes: outermostPrefixes([...set.prefixes, ...own]) };
    });
    return { ...ruleset, sets };
  }

  /** An entry that is there already gets the new time. */
  add(table: string, entry: TableEntry): SetChange[] {
    const state = this.#table(table);
    const key = keyOf(entry.prefix);
    if (!state.entries.has(key)) this.#count++;
    state.entries.set(key, entry);
    const changes = new SetChanges();
    appear(table, { state, prefix: entry.prefix, changes });
    return changes.list();
  }

  /** @returns undefined when there is no such entry */
  remove(table: string, prefix: Prefix): SetChange[] | undefined {
    const changes = new SetChanges();
    return this.#remove(table, prefix, changes) ? changes.list() : undefined;
  }

  /** Removes what has had its time. */
  expire(now: number): { readonly expired: ExpiredEntry[]; readonly changes: SetChange[] } {
    const changes = new SetChanges();
    const expired = [...this.#tables].flatMap(([table, { entries }]) =>
      [...entries.values()]
        .filter(({ expiresAt = Number.POSITIVE_INFINITY }) => expiresAt <= now)
        .map(({ prefix }) => ({ table, prefix })),
    );
    for (const { table, prefix } of expired) this.#remove(table, prefix, changes);
    return { expired, changes: changes.list() };
  }

  /** When the next entry has had its time. */
  nextExpiry(): number | undefined {
    let next: number | undefined;
    for (const { entries } of this.#tables.values()) {
      for (const { expiresAt } of entries.values()) {
        if (expiresAt !== undefined && expiresAt < (next ?? Number.POSITIVE_INFINITY)) {
          next = expiresAt;
        }
      }
    }
    return next;
  }

  /** The shortest prefix of the table that the prefix lies in, itself included. */
  coverOf(table: string, prefix: Prefix): Prefix | undefined {
    const all = this.#tables.get(table)?.all;
    return all?.coverOf(prefix) ?? (all?.has(prefix) === true ? prefix : undefined);
  }

  #table(name: string): Table {
    const there = this.#tables.get(name);
    if (there !== undefined) return there;
    const made: Table = { fixed: new Map(), entries: new Map(), all: new PrefixSet() };
    this.#tables.set(name, made);
    return made;
  }

  #remove(table: string, prefix: Prefix, changes: SetChanges): boolean {
    const state = this.#tables.get(table);
    if (state?.entries.delete(keyOf(prefix)) !== true) return false;
    this.#count--;
    disappear(table, { state, prefix, changes });
    return true;
  }
}

interface Table {
  /** Of the config. */
  readonly fixed: Map<string, Prefix>;
  readonly entries: Map<string, TableEntry>;
  /** Both. */
  all: PrefixSet;
}

interface Step {
  readonly state: Table;
  readonly prefix: Prefix;
  readonly changes: SetChanges;
}

function appear(table: string, { state: { all }, prefix, changes }: Step): void {
  if (all.has(prefix)) return;
  if (!all.covers(prefix)) {
    for (const inner of all.within(prefix)) {
      if (!all.covers(inner)) changes.remove(table, inner);
    }
    changes.add(table, prefix);
  }
  all.add(prefix);
}

function disappear(table: string, { state: { all, fixed }, prefix, changes }: Step): void {
  if (fixed.has(keyOf(prefix))) return;
  all.delete(prefix);
  if (all.covers(prefix)) return;
  changes.remove(table, prefix);
  for (const inner of all.within(prefix)) {
    if (!all.covers(inner)) changes.add(table, inner);
  }
}

/** Several steps as one: what comes and goes again is no change. */
class SetChanges {
  readonly #bySet = new Map<string, SetParts>();

  add(table: string, prefix: Prefix): void {
    const { added, removed } = this.#of(table, prefix);
    if (!removed.delete(keyOf(prefix))) added.set(keyOf(prefix), prefix);
  }

  remove(table: string, prefix: Prefix): void {
    const { added, removed } = this.#of(table, prefix);
    if (!added.delete(keyOf(prefix))) removed.set(keyOf(prefix), prefix);
  }

  list(): SetChange[] {
    return [...this.#bySet.values()]
      .filter(({ added, removed }) => added.size + removed.size > 0)
      .map(({ table, family, added, removed }) => ({
        table,
        family,
        removed: [...removed.values()],
        added: [...added.values()],
      }));
  }

  #of(table: string, { family }: Prefix): SetParts {
    const key = `${family} ${table}`;
    const there = this.#bySet.get(key);
    if (there !== undefined) return there;
    const made = { table, family, added: new Map(), removed: new Map() };
    this.#bySet.set(key, made);
    return made;
  }
}

interface SetParts {
  readonly table: string;
  readonly family: 4 | 6;
  readonly added: Map<string, Prefix>;
  readonly removed: Map<string, Prefix>;
}
