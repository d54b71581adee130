/**
 * The records in SQLite, for queries. SQLite checks its write-ahead log but not the pages of the
 * main file, so every record bears a CRC-32 of its own, and one row holds the sum of them all.
 *
 * The lock is exclusive from the first access on. That keeps a second process out, needs no shared
 * memory file (which a full disk would turn into a signal), and lets the page cache stay valid.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { crc32 } from 'node:zlib';
import type { RecordChange, StateVersion, StoredRecord } from './journal.ts';
import { StorageError, storageErrorFrom } from './storage-error.ts';

/** Of the tables in the file; the records' own version is `schema`. */
const LAYOUT = 1;

/** The whole state of a home is in memory after opening, so reads go on when the disk fails. */
const CACHE_KIB = 64 * 1024;

/** What the write-ahead log is cut down to after it was copied into the main file. */
const LOG_BYTES_KEPT = 4 * 1024 * 1024;

/** The content is not what was written. */
export class DamageError extends Error {
  override readonly name = 'DamageError';
}

/** What is true of the records as a whole. Kept by every put and delete. */
interface Totals extends StateVersion {
  /** Sum of the records' CRCs, modulo 2^48. */
  digest: number;
  /** Length of names and values in characters. */
  characters: number;
  sequence: number;
  schema: number;
}

interface Row {
  readonly collection: string;
  readonly key: string;
  readonly value: string;
  readonly crc: number;
}

const DIGEST_MODULUS = 2 ** 48;

const CREATE = `
  PRAGMA user_version = ${LAYOUT};
  CREATE TABLE records (
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (collection, key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    schema INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    characters INTEGER NOT NULL
  ) STRICT;
  INSERT INTO totals VALUES (1, 0, 0, 0, 0);`;

export class RecordsDatabase {
  readonly #database: DatabaseSync;
  readonly #statements: ReturnType<typeof prepareStatements>;
  #totals: Totals;
  #counts: Map<string, number>;
  #beforeTransaction: { totals: Totals; counts: Map<string, number> } | undefined;

  private constructor(database: DatabaseSync) {
    this.#database = database;
    this.#statements = prepareStatements(database);
    const row = database.prepare('SELECT schema, sequence, digest, characters FROM totals').get();
    if (row === undefined) throw new DamageError('has no totals');
    this.#totals = row as unknown as Totals;
    this.#counts = new Map();
  }

  /**
   * Opens a database and checks every record.
   *
   * @returns undefined when there is no such file
   * @throws DamageError, StorageError (`storage-in-use`, `schema-newer`), Error of node:sqlite
   */
  static open(path: string): RecordsDatabase | undefined {
    if (!existsSync(path)) return undefined;
    const database = new DatabaseSync(path, { allowExtension: false, timeout: 0 });
    try {
      database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA cell_size_check = ON;');
      checkLayout(database, path);
      setUp(database);
      const records = new RecordsDatabase(database);
      records.#check();
      return records;
    } catch (cause) {
      closeQuietly(database);
      throw cause;
    }
  }

  static inMemory(): RecordsDatabase {
    const database = new DatabaseSync(':memory:', { allowExtension: false });
    database.exec(CREATE);
    return new RecordsDatabase(database);
  }

  /** Makes a file with all records of `source`, on disk when this returns. */
  static copyTo(path: string, source: RecordsDatabase): void {
    closeSync(openSync(path, 'wx', 0o600));
    const database = new DatabaseSync(path, { allowExtension: false });
    try {
      database.exec('PRAGMA synchronous = FULL; BEGIN');
      database.exec(CREATE);
      const copy = new RecordsDatabase(database);
      copy.fillFrom(source);
      database.exec('COMMIT');
      database.close();
    } catch (cause) {
      closeQuietly(database);
      throw cause;
    }
  }

  get version(): StateVersion {
    const { schema, sequence } = this.#totals;
    return { schema, sequence };
  }

  get characters(): number {
    return this.#totals.characters;
  }

  get recordCount(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Records of one collection. */
  count(collection: string): number {
    return this.#counts.get(collection) ?? 0;
  }

  /** The value's JSON. @throws DamageError, Error of node:sqlite */
  get(collection: string, key: string): string | undefined {
    const row = this.#statements.get.get(collection, key);
    return row === undefined ? undefined : checked(row as unknown as Row).value;
  }

  /** By key in the order of its UTF-8, beyond `after`, or below it when backwards. */
  list(
    collection: string,
    range: { after: string | undefined; limit: number; backwards: boolean },
  ): StoredRecord[] {
    const { after, limit, backwards } = range;
    const { first, next, last, previous } = this.#statements;
    const [whole, from] = backwards ? [last, previous] : [first, next];
    const rows =
      after === undefined ? whole.all(collection, limit) : from.all(collection, after, limit);
    return rows.map((row) => toRecord(checked(row as unknown as Row)));
  }

  /** Every record, checked one by one; the sum is checked after the last. */
  *records(): Iterable<StoredRecord> {
    let digest = 0;
    for (const row of this.#statements.all.iterate()) {
      const { collection, key, value, crc } = checked(row as unknown as Row);
      digest = (digest + crc) % DIGEST_MODULUS;
      yield { collection, key, text: value };
    }
    if (digest !== this.#totals.digest) throw new DamageError('records are missing or too many');
  }

  begin(): void {
    this.#database.exec('BEGIN IMMEDIATE');
    this.#beforeTransaction = { totals: { ...this.#totals }, counts: new Map(this.#counts) };
  }

  /** Returns when the transaction is on disk; it still runs when this throws. */
  commit(version: StateVersion): void {
    Object.assign(this.#totals, version);
    this.#writeTotals();
    this.#database.exec('COMMIT');
    this.#beforeTransaction = undefined;
  }

  /** Never throws: SQLite ends a transaction by itself when the disk fails. */
  rollback(): void {
    try {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
    } catch {
      // What the file holds is judged anew when it is opened.
    }
    if (this.#beforeTransaction === undefined) return;
    this.#totals = this.#beforeTransaction.totals;
    this.#counts = this.#beforeTransaction.counts;
    this.#beforeTransaction = undefined;
  }

  change({ collection, key, text }: RecordChange): void {
    if (text === undefined) this.#delete(collection, key);
    else this.#put({ collection, key, text });
  }

  #put({ collection, key, text }: StoredRecord): void {
    const isNew = this.#forget(collection, key) === undefined;
    const crc = crcOf(collection, key, text);
    this.#statements.put.run(collection, key, text, crc);
    this.#totals.digest = (this.#totals.digest + crc) % DIGEST_MODULUS;
    this.#totals.characters += collection.length + key.length + text.length;
    if (isNew) this.#counts.set(collection, this.count(collection) + 1);
  }

  #delete(collection: string, key: string): void {
    if (this.#forget(collection, key) === undefined) return;
    this.#statements.delete.run(collection, key);
    this.#counts.set(collection, this.count(collection) - 1);
  }

  fillFrom(source: RecordsDatabase): void {
    for (const record of source.records()) this.change(record);
    this.setVersion(source.version);
  }

  setVersion(version: StateVersion): void {
    Object.assign(this.#totals, version);
    this.#writeTotals();
  }

  /** Never throws. */
  close(): void {
    closeQuietly(this.#database);
  }

  /** Takes a record that is about to change out of the totals. */
  #forget(collection: string, key: string): string | undefined {
    const row = this.#statements.get.get(collection, key);
    if (row === undefined) return undefined;
    const { crc, value } = checked(row as unknown as Row);
    this.#totals.digest = (this.#totals.digest - crc + DIGEST_MODULUS) % DIGEST_MODULUS;
    this.#totals.characters -= collection.length + key.length + value.length;
    return value;
  }

  #writeTotals(): void {
    const { schema, sequence, digest, characters } = this.#totals;
    this.#statements.totals.run(schema, sequence, digest, characters);
  }

  #check(): void {
    const faults = this.#database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
    if (faults !== 'ok') throw new DamageError(`is damaged: ${faults}`);
    let characters = 0;
    for (const { collection, key, text } of this.records()) {
      characters += collection.length + key.length + text.length;
      this.#counts.set(collection, this.count(collection) + 1);
    }
    if (characters !== this.#totals.characters) throw new DamageError('has wrong totals');
  }
}

function checkLayout(database: DatabaseSync, path: string): void {
  const layout = database.prepare('PRAGMA user_version').get()?.['user_version'];
  if (layout === LAYOUT) return;
  if (typeof layout === 'number' && layout > LAYOUT && layout < LAYOUT_PLAUSIBLE) {
    const message = `${path} has layout ${layout}, and this Gatehouse knows ${LAYOUT}`;
    throw new StorageError('schema-newer', `${message}: use the newer Gatehouse that wrote it`);
  }
  throw new DamageError(`has layout ${layout}`);
}

/** A larger number is no version of ours but a damaged one. */
const LAYOUT_PLAUSIBLE = 1000;

/** @throws StorageError when it cannot be opened for writing */
function setUp(database: DatabaseSync): void {
  const mode = database.prepare('PRAGMA journal_mode = WAL').get()?.['journal_mode'];
  if (mode !== 'wal') throw new DamageError(`cannot be switched to a write-ahead log: ${mode}`);
  database.exec(`
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -${CACHE_KIB};
    PRAGMA temp_store = MEMORY;
    PRAGMA journal_size_limit = ${LOG_BYTES_KEPT};
    PRAGMA trusted_schema = OFF;`);
  try {
    // The lock is taken by the first access; the write lock shows that the file can be written.
    database.exec('BEGIN IMMEDIATE; ROLLBACK');
  } catch (cause) {
    throw storageErrorFrom('lock the database', cause);
  }
}

function prepareStatements(database: DatabaseSync): Record<StatementName, StatementSync> {
  const columns = 'SELECT collection, key, value, crc FROM records';
  return {
    get: database.prepare(`${columns} WHERE collection = ? AND key = ?`),
    all: database.prepare(`${columns} ORDER BY collection, key`),
    first: database.prepare(`${columns} WHERE collection = ? ORDER BY key LIMIT ?`),
    next: database.prepare(`${columns} WHERE collection = ? AND key > ? ORDER BY key LIMIT ?`),
    last: database.prepare(`${columns} WHERE collection = ? ORDER BY key DESC LIMIT ?`),
    previous: database.prepare(
      `${columns} WHERE collection = ? AND key < ? ORDER BY key DESC LIMIT ?`,
    ),
    put: database.prepare(
      'INSERT OR REPLACE INTO records (collection, key, value, crc) VALUES (?, ?, ?, ?)',
    ),
    delete: database.prepare('DELETE FROM records WHERE collection = ? AND key = ?'),
    totals: database.prepare(
      'UPDATE totals SET schema = ?, sequence = ?, digest = ?, characters = ? WHERE id = 1',
    ),
  };
}

type StatementName =
  | 'get'
  | 'all'
  | 'first'
  | 'next'
  | 'last'
  | 'previous'
  | 'put'
  | 'delete'
  | 'totals';

function checked(row: Row): Row {
  if (crcOf(row.collection, row.key, row.value) === row.crc) return row;
  throw new DamageError(`the record ${row.collection}/${row.key} is not what was written`);
}

function crcOf(collection: string, key: string, text: string): number {
  return crc32(`${collection}\0${key}\0${text}`);
}

function toRecord({ collection, key, value }: Row): StoredRecord {
  return { collection, key, text: value };
}

function closeQuietly(database: DatabaseSync): void {
  try {
    database.close();
  } catch {
    // It could not be flushed into the main file; the log is read when it is opened again.
  }
}
