/**
 * What the program learns, kept across crashes, losses of power and damaged files
 * (docs/decisions/0017-state-in-two-copies.md): leases, devices, tables, revisions, the pending
 * change, the audit log. state-files.ts says which files there are.
 *
 * Everything is synchronous and blocks for the flushes of a commit, about a millisecond. Who has
 * many things to write at once puts them into one transaction.
 */
import {
  encodeTransaction,
  type Journal,
  type RecordChange,
  TRANSACTION_CHARACTERS_MAX,
} from './journal.ts';
import { DamageError, RecordsDatabase } from './records-database.ts';
import { type OpenState, type RaiseAlarm, ReplaceError, StateFiles } from './state-files.ts';
import { StorageError, storageErrorFrom } from './storage-error.ts';

export type { RaiseAlarm, StorageAlarm } from './state-files.ts';

/** Between a value and what JSON can hold. `decode` gets what `encode` made. */
export interface Codec<T> {
  encode(value: T): unknown;
  decode(json: unknown): T;
}

/** For values that are JSON already. */
export function plainCodec<T>(): Codec<T> {
  return { encode: (value) => value, decode: (json) => json as T };
}

export interface CollectionOptions<T> {
  readonly name: string;
  readonly codec: Codec<T>;
  /** One more is refused (collections), or pushes the oldest out (logs). */
  readonly recordsMax: number;
}

/** Records by key. Writes outside of a transaction are one each, on disk when they return. */
export interface Collection<T> {
  /** @throws StorageError */
  get(key: string): T | undefined;
  /** @throws StorageError, `storage-limit` when the collection is full */
  put(key: string, value: T): void;
  /** @returns whether it was there @throws StorageError */
  delete(key: string): boolean;
  /** In the order of the keys' UTF-8, those beyond `after` first; up to `limit`. */
  list(range?: { after?: string; limit?: number }): (readonly [key: string, value: T])[];
  count(): number;
}

/** Records by number, which counts from 1 and is never used again. Nothing in it changes. */
export interface Log<T> {
  /** @returns the record's number @throws StorageError */
  append(value: T): number;
  get(number: number): T | undefined;
  /** The newest first, those below `before`; up to `limit`. */
  list(range?: { before?: number; limit?: number }): (readonly [number: number, value: T])[];
}

/** What a migration may do; values are JSON as the codecs made it. */
export interface MigratedRecords {
  list(collection: string): (readonly [key: string, json: unknown])[];
  put(collection: string, key: string, json: unknown): void;
  delete(collection: string, key: string): void;
}

/** A step from one schema to the next. It is never changed once released. */
export interface Migration {
  readonly name: string;
  migrate(records: MigratedRecords): void;
}

export interface StoreOptions {
  readonly alarm: RaiseAlarm;
  /** In order; their number is the schema. All that are due run in one transaction. */
  readonly migrations?: readonly Migration[];
}

/** Beyond, writes are refused: opening reads everything, and the disk needs three times as much. */
export const STATE_CHARACTERS_MAX = 256 * 1024 * 1024;

/** The journal is begun anew when it has grown by as much as its head, and at least by this. */
const JOURNAL_GROWTH_BYTES_MIN = 1024 * 1024;

/** Numbers as keys whose order is that of the numbers. */
const LOG_KEY_DIGITS = 16;

/**
 * Opens the store of a folder, and makes both when they are missing. Damage and a disk that takes
 * nothing are alarms; the caller's process must be the only one.
 *
 * @throws StorageError `storage-in-use`, `schema-newer`, `migration-failed`
 */
export function openStore(folder: string, options: StoreOptions): Store {
  return new Store(folder, options);
}

export class Store {
  readonly #files: StateFiles;
  readonly #alarm: RaiseAlarm;
  readonly #schema: number;
  #database: RecordsDatabase;
  /** Undefined while the records are in memory. */
  #journal: Journal | undefined;
  #failure: StorageError | undefined;
  /** Of the transaction that runs. */
  #changes: RecordChange[] | undefined;
  #isDoomed = false;
  #trouble: StorageError | undefined;
  #compactAtBytes = 0;
  #isClosed = false;

  constructor(folder: string, options: StoreOptions) {
    const { migrations = [] } = options;
    this.#alarm = (alarm) => {
      if (alarm.kind === 'writing-failed') this.#failure = alarm.error;
      options.alarm(alarm);
    };
    this.#schema = migrations.length;
    this.#files = new StateFiles(folder, this.#alarm);
    const state = this.#files.open({ schema: this.#schema });
    this.#database = state.database;
    this.#use(state);
    try {
      this.#migrate(migrations);
    } catch (cause) {
      this.close();
      throw cause;
    }
  }

  /** Why writes are refused at present; undefined when all is well. */
  get failure(): StorageError | undefined {
    return this.#failure;
  }

  /** Transactions since the store was made. */
  get sequence(): number {
    return this.#database.version.sequence;
  }

  collection<T>(options: CollectionOptions<T>): Collection<T> {
    const { name, codec, recordsMax } = options;
    return {
      get: (key) => {
        const text = this.#get(name, wellFormed(key));
        return text === undefined ? undefined : codec.decode(JSON.parse(text));
      },
      put: (key, value) => {
        const text = encode(codec, value);
        this.transaction(() => {
          const isNew = this.#get(name, wellFormed(key)) === undefined;
          if (isNew && this.#database.count(name) >= recordsMax) {
            const message = `cannot add ${key} to ${name}: it holds ${recordsMax} records already`;
            throw new StorageError('storage-limit', message);
          }
          this.#change({ collection: name, key, text });
        });
      },
      delete: (key) =>
        this.transaction(() => {
          const isThere = this.#get(name, wellFormed(key)) !== undefined;
          if (isThere) this.#change({ collection: name, key });
          return isThere;
        }),
      list: ({ after, limit = recordsMax } = {}) => {
        const range = { after, limit, backwards: false };
        return this.#list(name, range, codec);
      },
      count: () => this.#database.count(name),
    };
  }

  log<T>(options: CollectionOptions<T>): Log<T> {
    const { name, codec, recordsMax } = options;
    const keyOf = (number: number) => String(number).padStart(LOG_KEY_DIGITS, '0');
    return {
      append: (value) => {
        const text = encode(codec, value);
        return this.transaction(() => {
          const newest = { after: undefined, limit: 1, backwards: true };
          const number =
            Number(this.#read(() => this.#database.list(name, newest))[0]?.key ?? 0) + 1;
          const excess = this.#database.count(name) + 1 - recordsMax;
          const oldest = { after: undefined, limit: Math.max(0, excess), backwards: false };
          for (const { key } of this.#read(() => this.#database.list(name, oldest))) {
            this.#change({ collection: name, key });
          }
          this.#change({ collection: name, key: keyOf(number), text });
          return number;
        });
      },
      get: (number) => {
        const text = this.#get(name, keyOf(number));
        return text === undefined ? undefined : codec.decode(JSON.parse(text));
      },
      list: ({ before, limit = recordsMax } = {}) => {
        const after = before === undefined ? undefined : keyOf(before);
        const records = this.#list(name, { after, limit, backwards: true }, codec);
        return records.map(([key, value]) => [Number(key), value]);
      },
    };
  }

  /**
   * All writes of `fn` or none. They are on disk when this returns. Within, reads see the writes;
   * an inner transaction is part of the outer one, and when it throws, the outer one fails too.
   *
   * @param fn synchronous; what it throws comes out again, and nothing is written
   * @throws StorageError; nothing was written as far as anybody can read, but when the disk failed
   *   (`storage-failed`) a restart before the next successful write may show the transaction whole
   */
  transaction<T>(fn: () => T): T {
    if (this.#changes !== undefined) return this.#join(fn);
    const journal = this.#makeWritable();
    const changes: RecordChange[] = [];
    this.#changes = changes;
    try {
      this.#touch(() => this.#database.begin());
      const result = fn();
      if (result instanceof Promise) throw new TypeError('a transaction cannot wait for a promise');
      if (this.#isDoomed) throw new Error('a transaction within this one has failed');
      if (changes.length === 0) this.#database.rollback();
      else this.#commit(journal, changes);
      return result;
    } catch (cause) {
      this.#database.rollback();
      if (cause === this.#trouble) this.#meetTrouble(cause as StorageError);
      throw cause;
    } finally {
      this.#changes = undefined;
      this.#isDoomed = false;
      this.#trouble = undefined;
      this.#compactIfDue();
    }
  }

  /** Everything acknowledged is on disk already; this only gives the files back. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#database.close();
    this.#journal?.close();
  }

  #use({ database, journal }: OpenState): void {
    this.#database = database;
    this.#journal = journal;
    if (journal === undefined) return;
    const growth = Math.max(journal.snapshotBytes, JOURNAL_GROWTH_BYTES_MIN);
    this.#compactAtBytes = journal.snapshotBytes + growth;
  }

  /** @throws StorageError while the disk takes nothing */
  #makeWritable(): Journal {
    if (this.#isClosed) throw new Error('the store is closed');
    if (this.#journal !== undefined) return this.#journal;
    const records = this.#database;
    this.#use(this.#files.rewrite(records));
    records.close();
    if (this.#journal === undefined) throw new Error('rewriting opens a journal');
    return this.#journal;
  }

  #join<T>(fn: () => T): T {
    try {
      return fn();
    } catch (cause) {
      this.#isDoomed = true;
      throw cause;
    }
  }

  #change(change: RecordChange): void {
    const { collection, key, text = '' } = change;
    if (this.#database.characters + text.length > STATE_CHARACTERS_MAX) {
      const message = `cannot write ${collection}/${key}: the state has reached its full size`;
      throw new StorageError('storage-limit', message);
    }
    this.#touch(() => this.#database.change(change));
    this.#changes?.push(change);
  }

  #commit(journal: Journal, changes: readonly RecordChange[]): void {
    const text = encodeTransaction(changes);
    if (text.length > TRANSACTION_CHARACTERS_MAX) {
      const message = `cannot write a transaction of ${text.length} characters`;
      throw new StorageError('storage-limit', `${message}: at most ${TRANSACTION_CHARACTERS_MAX}`);
    }
    const { schema, sequence } = this.#database.version;
    this.#touch(() => journal.append(text));
    try {
      this.#touch(() => this.#database.commit({ schema, sequence: sequence + 1 }));
    } catch (cause) {
      journal.takeBack();
      throw cause;
    }
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#alarm({ kind: 'writing-resumed' });
  }

  #get(collection: string, key: string): string | undefined {
    return this.#read(() => this.#database.get(collection, key));
  }

  #list<T>(name: string, range: ListRange, codec: Codec<T>): (readonly [string, T])[] {
    const records = this.#read(() => this.#database.list(name, range));
    return records.map(({ key, text }) => [key, codec.decode(JSON.parse(text))]);
  }

  /** Outside of transactions, a database that turns out to be damaged is repaired at once. */
  #read<T>(action: () => T): T {
    try {
      return this.#touch(action);
    } catch (cause) {
      if (this.#changes !== undefined || this.#journal === undefined) throw cause;
      this.#trouble = undefined;
      this.#reload();
      return action();
    }
  }

  /** Remembers the failure of a file, to tell it from what a transaction's function may throw. */
  #touch<T>(action: () => T): T {
    try {
      return action();
    } catch (cause) {
      this.#trouble = storageErrorFrom('access the state', cause);
      throw this.#trouble;
    }
  }

  #meetTrouble(error: StorageError): void {
    if (error.cause instanceof DamageError) {
      this.#reload();
      return;
    }
    this.#reportFailure(error);
    const canGoOn = error.code === 'storage-full' && this.#journal?.isSound === true;
    if (!canGoOn) this.#leaveDisk();
  }

  #reportFailure(error: StorageError): void {
    if (this.#failure === undefined) this.#alarm({ kind: 'writing-failed', error });
  }

  /** Goes on in memory. The next write begins both files anew, wherever the path then leads. */
  #leaveDisk(): void {
    if (this.#journal === undefined) return;
    const records = RecordsDatabase.inMemory();
    try {
      records.fillFrom(this.#database);
    } catch {
      this.#reload();
      return;
    }
    this.#closeFiles();
    this.#use({ database: records, journal: undefined });
  }

  #reload(): void {
    this.#closeFiles();
    this.#use(this.#files.open({ schema: this.#schema }));
  }

  #closeFiles(): void {
    this.#database.close();
    this.#journal?.close();
    this.#journal = undefined;
  }

  /** Never fails: what was acknowledged stays so. */
  #compactIfDue(): void {
    const old = this.#journal;
    if (old === undefined || old.bytes < this.#compactAtBytes) return;
    try {
      this.#use({ database: this.#database, journal: this.#files.replaceJournal(this.#database) });
      old.close();
    } catch (cause) {
      if (cause instanceof ReplaceError) {
        this.#reportFailure(storageErrorFrom('begin the journal anew', cause.cause));
        this.#leaveDisk();
      } else if (cause instanceof DamageError) {
        this.#reload();
      } else {
        // The old one goes on; a full disk may have room for it later.
        this.#compactAtBytes = old.bytes + JOURNAL_GROWTH_BYTES_MIN;
      }
    }
  }

  /** @throws StorageError `migration-failed` */
  #migrate(migrations: readonly Migration[]): void {
    const before = this.#database.version;
    if (before.schema === migrations.length) return;
    this.#database.begin();
    let journal: Journal | undefined;
    try {
      runMigrations(this.#database, migrations);
      const after = { schema: migrations.length, sequence: before.sequence + 1 };
      this.#database.setVersion(after);
      if (this.#journal !== undefined) {
        const isNew = before.sequence === 0;
        const oldSchema = isNew ? {} : { oldSchema: before.schema };
        journal = this.#files.replaceJournal(this.#database, oldSchema);
      }
      this.#database.commit(after);
    } catch (cause) {
      this.#database.rollback();
      journal?.close();
      const hasFailed = cause instanceof StorageError && cause.code === 'migration-failed';
      if (hasFailed || this.#journal === undefined) throw cause;
      this.#reportFailure(storageErrorFrom('write the migrated state', cause));
      this.#leaveDisk();
      this.#migrate(migrations);
      return;
    }
    if (journal === undefined) return;
    this.#journal?.close();
    this.#use({ database: this.#database, journal });
  }
}

type ListRange = Parameters<RecordsDatabase['list']>[1];

function runMigrations(database: RecordsDatabase, migrations: readonly Migration[]): void {
  const all = { after: undefined, limit: Number.MAX_SAFE_INTEGER, backwards: false };
  const records: MigratedRecords = {
    list: (collection) =>
      database.list(collection, all).map(({ key, text }) => [key, JSON.parse(text)]),
    put: (collection, key, json) =>
      database.change({ collection, key: wellFormed(key), text: JSON.stringify(json) }),
    delete: (collection, key) => database.change({ collection, key }),
  };
  const first = database.version.schema;
  for (const [index, { name, migrate }] of migrations.entries()) {
    if (index < first) continue;
    try {
      migrate(records);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const message = `migration ${index + 1}, ${name}, failed, and nothing was changed: ${reason}`;
      throw new StorageError('migration-failed', message, { cause });
    }
  }
}

function encode<T>(codec: Codec<T>, value: T): string {
  const text = JSON.stringify(codec.encode(value));
  if (text === undefined) throw new TypeError('a codec must encode to JSON');
  return text;
}

/** SQLite stores UTF-8, so half a surrogate pair would come back as another key. */
function wellFormed(key: string): string {
  if (!key.isWellFormed() || key.includes('\0'))
    throw new TypeError(`not a key: ${JSON.stringify(key)}`);
  return key;
}
