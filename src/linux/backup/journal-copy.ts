/** The journal of a state folder, copied while it may be written, and judged before it is used. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { makeMemoryFile } from '../memory-file.ts';
import { type JournalContent, readJournal } from '../store/journal.ts';
import { RecordsDatabase } from '../store/records-database.ts';
import { StorageError } from '../store/storage-error.ts';
import { BackupError, partBytesMax } from './backup-format.ts';

/** A journal that says the same on every machine: whole lines only. */
export interface JournalCopy {
  readonly bytes: Buffer;
  readonly schema: number;
  /** Transactions since the store was made. */
  readonly sequence: number;
}

/** Between two reads the program may take back a line that it could not acknowledge. */
const READ_ATTEMPTS = 3;
const LINE_FEED = 0x0a;

/**
 * What was acknowledged when this began is in the copy. A journal that is replaced meanwhile stays
 * what it was for us, since the file is open.
 *
 * @returns undefined when there is no journal
 * @throws BackupError when it is damaged or too large
 */
export function copyJournal(path: string): JournalCopy | undefined {
  let damage = '';
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt++) {
    const bytes = readAll(path);
    if (bytes === undefined) return undefined;
    const content = readContent(bytes, path);
    if ('damage' in content) {
      damage = content.damage;
      continue;
    }
    // A line that is being written has no end yet; one with an end was damaged.
    const rest = bytes.subarray(content.validBytes);
    if (!rest.includes(LINE_FEED)) {
      const { schema, sequence, validBytes } = content;
      return { bytes: bytes.subarray(0, validBytes), schema, sequence };
    }
    damage = `what follows transaction ${content.sequence} is not valid`;
  }
  const remedy = 'start Gatehouse, which repairs it from its database, and try again';
  throw new BackupError(`${path} is damaged (${damage}): ${remedy}`);
}

/**
 * Judges the journal of a backup, down to every record.
 *
 * @param options `schema`: the newest that this program knows
 * @throws BackupError
 */
export function requireUsableJournal(bytes: Buffer, options: { schema: number }): JournalContent {
  const content = readContent(bytes, 'its journal');
  if ('damage' in content) throw new BackupError(`has a damaged journal: it ${content.damage}`);
  const { schema, sequence } = content;
  if (content.invalidBytes > 0 || !isCount(schema) || !isCount(sequence)) {
    throw new BackupError('has a journal that Gatehouse did not write');
  }
  if (schema > options.schema) {
    const known = `and this Gatehouse knows up to ${options.schema}`;
    throw new BackupError(`holds state of schema ${schema}, ${known}: use the newer Gatehouse`);
  }
  const records = RecordsDatabase.inMemory();
  try {
    for (const change of content.changes()) {
      if (typeof change.collection !== 'string' || typeof change.key !== 'string') {
        throw new Error('a record has no name');
      }
      records.change(change);
    }
    records.setVersion(content);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new BackupError(`has a journal that no store takes: ${why}`, { cause });
  } finally {
    records.close();
  }
  return content;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Checksums protect against accidents only: whoever made the file can have made them fit. */
function readContent(bytes: Buffer, name: string): JournalContent | { damage: string } {
  const file = makeMemoryFile('journal', bytes);
  try {
    const content = readJournal(file.path);
    return content === 'absent' ? { damage: 'could not be read back' } : content;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.replaceAll(file.path, name) : String(cause);
    if (cause instanceof StorageError)
      throw new BackupError(`is of a newer one: ${why}`, { cause });
    throw new BackupError(`has a journal that Gatehouse did not write: ${why}`, { cause });
  } finally {
    file.close();
  }
}

/** Through one descriptor, up to the end as it is when the reading gets there. */
function readAll(path: string): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
  try {
    const sizeMax = partBytesMax.journal;
    let buffer = Buffer.alloc(Math.min(fstatSync(fd).size, sizeMax) + GROWTH_BYTES);
    let length = 0;
    for (;;) {
      const count = readSync(fd, buffer, length, buffer.length - length, length);
      if (count === 0) return buffer.subarray(0, length);
      length += count;
      if (length > sizeMax) throw new BackupError(`${path} is larger than a backup takes`);
      if (length === buffer.length) buffer = Buffer.concat([buffer, Buffer.alloc(GROWTH_BYTES)]);
    }
  } finally {
    closeSync(fd);
  }
}

/** Room for what is appended while we read. */
const GROWTH_BYTES = 1024 * 1024;
