/**
 * The files of a state folder, and what is made of them when the program starts.
 *
 * A transaction is acknowledged when both `state.journal` and `state.sqlite` have it on disk, the
 * journal first. So either alone holds everything, and damage to one is repaired from the other.
 * `state.journal.previous` ends where `state.journal` begins. What is damaged gets a further name,
 * `….damaged-1`, before it is replaced, and is never deleted.
 */
import { chmodSync, existsSync, linkSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { flushFolder } from '../atomic-file.ts';
import { beginJournal, Journal, type JournalContent, readJournal } from './journal.ts';
import { DamageError, RecordsDatabase } from './records-database.ts';
import { StorageError, storageErrorFrom } from './storage-error.ts';

/** What a person should know. */
export type StorageAlarm =
  /** The file was made anew from another copy; what was there is kept as `keptAs`. */
  | {
      readonly kind: 'file-damaged';
      readonly file: string;
      readonly reason: string;
      readonly keptAs?: string;
    }
  /** Transactions that were acknowledged are gone, or may be. */
  | { readonly kind: 'state-truncated'; readonly reason: string }
  /** Writes are refused until `writing-resumed`; reads go on. */
  | { readonly kind: 'writing-failed'; readonly error: StorageError }
  | { readonly kind: 'writing-resumed' };

export type RaiseAlarm = (alarm: StorageAlarm) => void;

/** Without a journal, the records are in memory, since the disk does not take them. */
export interface OpenState {
  readonly database: RecordsDatabase;
  readonly journal: Journal | undefined;
}

/** A journal was being replaced, and which of the two a restart would find is not known. */
export class ReplaceError extends Error {
  override readonly name = 'ReplaceError';
}

export class StateFiles {
  readonly #folder: string;
  readonly #journal: string;
  readonly #previous: string;
  readonly #database: string;
  readonly #alarm: RaiseAlarm;
  /** Why a file has to be kept under another name before it is replaced. */
  readonly #damaged = new Map<string, string>();

  constructor(folder: string, alarm: RaiseAlarm) {
    this.#folder = folder;
    this.#journal = join(folder, 'state.journal');
    this.#previous = `${this.#journal}.previous`;
    this.#database = join(folder, 'state.sqlite');
    this.#alarm = alarm;
  }

  /**
   * Never fails for what the files hold or the disk does: at worst, the records are in memory.
   *
   * @param options `schema`: the newest that the program knows
   * @throws StorageError `storage-in-use`, `schema-newer`; the files are then as they were
   */
  open(options: { schema: number }): OpenState {
    const database = this.#openDatabase();
    const sound = database instanceof RecordsDatabase ? database : undefined;
    let judgement: Judgement;
    try {
      judgement = this.#judge(database);
      if (judgement.source !== undefined) refuseNewer(judgement.source, options.schema);
    } catch (cause) {
      sound?.close();
      throw cause;
    }
    const { source, damaged, truncated, inOrder } = judgement;
    for (const { file, reason } of damaged) this.#damaged.set(file, reason);
    if (truncated !== undefined) this.#alarm({ kind: 'state-truncated', reason: truncated });
    let failure: unknown;
    if (inOrder !== undefined) {
      try {
        return this.#settle(inOrder);
      } catch (cause) {
        failure = cause;
      }
    }
    const records = inMemory(source);
    sound?.close();
    try {
      if (failure !== undefined) throw failure;
      return this.rewrite(records);
    } catch (cause) {
      const error = storageErrorFrom(`put the files of ${this.#folder} in order`, cause);
      this.#alarm({ kind: 'writing-failed', error });
      return { database: records, journal: undefined };
    }
  }

  /**
   * Writes both files anew and opens them.
   *
   * @throws StorageError when the disk does not take them
   */
  rewrite(records: RecordsDatabase): OpenState {
    let journal: Journal | undefined;
    try {
      this.#makeFolder();
      journal = this.replaceJournal(records);
      this.#replaceDatabase(records);
      const database = RecordsDatabase.open(this.#database);
      if (database === undefined) throw new DamageError(`${this.#database} has gone`);
      return { database, journal };
    } catch (cause) {
      journal?.close();
      throw storageErrorFrom(`write the state to ${this.#folder}`, cause);
    }
  }

  /**
   * Begins a journal with all records. The one before stays as `state.journal.previous`, and when
   * a migration replaces it also under its schema's number, for a downgrade.
   *
   * @throws ReplaceError; any other error leaves the old one in place and in use
   */
  replaceJournal(records: RecordsDatabase, options: { oldSchema?: number } = {}): Journal {
    const fresh = beginJournal(this.#journal, records.version, {
      recordCount: records.recordCount,
      records: records.records(),
    });
    try {
      this.#keepDamaged(this.#journal, ['']);
      if (existsSync(this.#journal)) {
        const { oldSchema } = options;
        if (oldSchema !== undefined) relink(this.#journal, `${this.#journal}.schema-${oldSchema}`);
        relink(this.#journal, this.#previous);
      }
    } catch (cause) {
      fresh.abandon();
      throw cause;
    }
    try {
      return fresh.install();
    } catch (cause) {
      fresh.abandon();
      const error = storageErrorFrom(`put ${this.#journal} in place`, cause);
      throw new ReplaceError(error.message, { cause: error });
    }
  }

  #makeFolder(): void {
    const made = mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    chmodSync(this.#folder, 0o700);
    if (made !== undefined) flushFolder(dirname(made));
  }

  #openDatabase(): RecordsDatabase | Unusable {
    try {
      return RecordsDatabase.open(this.#database) ?? { reason: 'is missing', isDamaged: true };
    } catch (cause) {
      const error = storageErrorFrom(`open ${this.#database}`, cause);
      if (error.code === 'storage-in-use' || error.code === 'schema-newer') throw error;
      return { reason: (cause as Error).message, isDamaged: error.code === 'storage-failed' };
    }
  }

  #judge(database: RecordsDatabase | Unusable): Judgement {
    const journal = readJournal(this.#journal);
    const journalFault = (reason: string) => ({ file: this.#journal, reason });
    const databaseFault = (reason: string) => ({ file: this.#database, reason });
    if (database instanceof RecordsDatabase) {
      const { sequence, schema } = database.version;
      if (journal === 'absent' && sequence === 0) return { source: database, damaged: [] };
      if (!isContent(journal)) {
        const reason = journal === 'absent' ? 'is missing' : journal.damage;
        return { source: database, damaged: [journalFault(reason)] };
      }
      const ahead = journal.sequence - sequence;
      if (ahead < 0) {
        const damaged = [journalFault(`lacks ${-ahead} transactions that the database has`)];
        return { source: database, damaged };
      }
      // The next append begins only after the database has the last one, so a crash leaves either
      // one transaction too many or an unfinished line, and never both.
      const isCrash = ahead === 1 && journal.invalidBytes === 0;
      if (ahead === 0 || (isCrash && journal.schema === schema)) {
        return { source: journal, damaged: [], inOrder: { database, journal } };
      }
      if (isCrash) return { source: journal, damaged: [] };
      const damaged = [databaseFault(`lacks ${ahead} transactions that the journal has`)];
      return judgeJournalAlone(journal, damaged, journalFault);
    }
    if (isContent(journal)) {
      const damaged = database.isDamaged ? [databaseFault(database.reason)] : [];
      return judgeJournalAlone(journal, damaged, journalFault);
    }
    const isFresh = journal === 'absent' && !existsSync(this.#database);
    const previous = readJournal(this.#previous);
    if (isFresh && previous === 'absent') return { source: undefined, damaged: [] };
    const reason = journal === 'absent' ? 'is missing' : journal.damage;
    const damaged = [journalFault(reason), databaseFault(database.reason)];
    const isSaved = isContent(previous);
    const truncated = isSaved
      ? `only ${this.#previous} can be read: all transactions after it are lost`
      : 'no copy of the state can be read: it begins empty';
    return { source: isSaved ? previous : undefined, damaged, truncated };
  }

  /** Goes on with files that hold the same, or the journal the last transaction more. */
  #settle({
    database,
    journal,
  }: {
    database: RecordsDatabase;
    journal: JournalContent;
  }): OpenState {
    chmodSync(this.#folder, 0o700);
    const reopened = Journal.reopen(this.#journal, journal);
    try {
      if (journal.sequence > database.version.sequence) {
        database.begin();
        for (const change of journal.lastTransaction) database.change(change);
        database.commit(journal);
      }
      return { database, journal: reopened };
    } catch (cause) {
      database.rollback();
      reopened.close();
      throw cause;
    }
  }

  #replaceDatabase(records: RecordsDatabase): void {
    const fresh = `${this.#database}.new`;
    for (const suffix of ['', '-wal', '-journal']) rmSync(`${fresh}${suffix}`, { force: true });
    RecordsDatabase.copyTo(fresh, records);
    this.#keepDamaged(this.#database, ['', '-wal']);
    // SQLite would apply an old log to the new file.
    rmSync(`${this.#database}-wal`, { force: true });
    flushFolder(this.#folder);
    renameSync(fresh, this.#database);
    flushFolder(this.#folder);
  }

  #keepDamaged(path: string, suffixes: readonly string[]): void {
    const reason = this.#damaged.get(path);
    if (reason === undefined) return;
    let number = 1;
    while (suffixes.some((suffix) => existsSync(`${path}.damaged-${number}${suffix}`))) number++;
    const kept = suffixes.filter((suffix) => existsSync(`${path}${suffix}`));
    for (const suffix of kept) {
      linkSync(`${path}${suffix}`, `${path}.damaged-${number}${suffix}`);
    }
    this.#damaged.delete(path);
    const keptAs = kept.length === 0 ? {} : { keptAs: `${path}.damaged-${number}` };
    this.#alarm({ kind: 'file-damaged', file: path, reason, ...keptAs });
  }
}

/** A file that cannot be opened, for what it holds or for another reason. */
interface Unusable {
  readonly reason: string;
  readonly isDamaged: boolean;
}

interface Fault {
  readonly file: string;
  readonly reason: string;
}

interface Judgement {
  /** The copy that reaches furthest; without one, the state is empty. */
  readonly source: RecordsDatabase | JournalContent | undefined;
  readonly damaged: readonly Fault[];
  /** Why something acknowledged is, or may be, missing from `source`. */
  readonly truncated?: string;
  /** Nothing has to be written anew. */
  readonly inOrder?: { readonly database: RecordsDatabase; readonly journal: JournalContent };
}

/** The database does not vouch for the journal's end, so an unfinished line may be damage. */
function judgeJournalAlone(
  journal: JournalContent,
  damaged: readonly Fault[],
  journalFault: (reason: string) => Fault,
): Judgement {
  if (journal.invalidBytes === 0) return { source: journal, damaged };
  const reason = `ends in ${journal.invalidBytes} bytes that are not valid`;
  const truncated = `the journal ${reason}: the transactions in them are lost`;
  return { source: journal, damaged: [...damaged, journalFault(reason)], truncated };
}

function refuseNewer(source: RecordsDatabase | JournalContent, known: number): void {
  const { schema } = isContent(source) ? source : source.version;
  if (schema <= known) return;
  const message = `the state has schema ${schema}, and this Gatehouse knows up to ${known}`;
  throw new StorageError('schema-newer', `${message}: use the newer Gatehouse that wrote it`);
}

function inMemory(source: RecordsDatabase | JournalContent | undefined): RecordsDatabase {
  const records = RecordsDatabase.inMemory();
  if (source instanceof RecordsDatabase) {
    records.fillFrom(source);
  } else if (source !== undefined) {
    for (const change of source.changes()) records.change(change);
    records.setVersion(source);
  }
  return records;
}

function isContent(
  journal: RecordsDatabase | JournalContent | 'absent' | { damage: string },
): journal is JournalContent {
  return typeof journal === 'object' && 'changes' in journal;
}

/** Gives a file a further name, whatever had that before. */
function relink(path: string, name: string): void {
  rmSync(name, { force: true });
  linkSync(path, name);
}
