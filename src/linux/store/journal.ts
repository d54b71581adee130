/**
 * The journal: every change of the state in the order in which it was acknowledged, as lines of
 * text that a person can read.
 *
 *     a94f1e27 {"format":1,"schema":3,"sequence":41,"records":2}          what follows
 *     5b20c7d1 ["leases","02:00:00:00:00:01",{"address":"10.77.0.100"}]   `records` lines: the
 *     77c0a2ee ["leases","02:00:00:00:00:02",{"address":"10.77.0.101"}]   state at `sequence`
 *     0e4d9b13 [["leases","02:00:00:00:00:01"],["audit","0042",{…}]]      transaction 42
 *
 * The number in front is the CRC-32 of all JSON of the file up to the end of its line, so a line
 * counts only when every one before it does: whatever happened to the file, what is read is a
 * prefix of what was written. The CRC protects against accidents. Whoever may write to the folder
 * can forge it, and owns the gateway anyway.
 *
 * A transaction is a list of puts `[collection, key, value]` and deletes `[collection, key]`.
 */
import { closeSync, fdatasyncSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { beginReplacement, type Replacement, writeFully } from '../atomic-file.ts';
import { StorageError } from './storage-error.ts';

const FORMAT = 1;

/** One transaction as JSON. Some 100,000 leases, little enough to build in memory. */
export const TRANSACTION_CHARACTERS_MAX = 16 * 1024 * 1024;

/** What is written at once when a journal is begun. */
const CHUNK_BYTES = 1024 * 1024;

/** `text` is the value's JSON; without it, the record is deleted. */
export interface RecordChange {
  readonly collection: string;
  readonly key: string;
  readonly text?: string;
}

export interface StoredRecord extends RecordChange {
  readonly text: string;
}

export interface StateVersion {
  /** Number of migrations behind the records. */
  readonly schema: number;
  /** Transactions since the store was made. */
  readonly sequence: number;
}

/** A journal's longest valid prefix. */
export interface JournalContent extends StateVersion {
  readonly validBytes: number;
  /** More than none: an append that was interrupted, or damage. */
  readonly invalidBytes: number;
  readonly crc: number;
  /** The last transaction; empty when there is none after the snapshot. */
  readonly lastTransaction: readonly RecordChange[];
  /** The snapshot's records and then the changes of every transaction. */
  changes(): Iterable<RecordChange>;
}

/**
 * @returns `absent`, or why the snapshot at the head cannot be used, or the content
 * @throws StorageError `schema-newer` when a newer Gatehouse wrote it in another form
 */
export function readJournal(path: string): JournalContent | 'absent' | { damage: string } {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return 'absent';
    return { damage: `cannot be read: ${(cause as Error).message}` };
  }
  const lines = new ValidLines(bytes);
  const first = lines.next();
  if (first === undefined) return { damage: 'its first line is not valid' };
  const header = JSON.parse(bytes.toString('utf8', first.start, first.end)) as JournalHeader;
  if (header.format > FORMAT) {
    const message = `${path} has format ${header.format}, and this Gatehouse knows ${FORMAT}`;
    throw new StorageError('schema-newer', `${message}: use the newer Gatehouse that wrote it`);
  }
  const snapshotStart = lines.validBytes;
  for (let count = 0; count < header.records; count++) {
    if (lines.next() === undefined) {
      return { damage: `only ${count} of the ${header.records} records at its head are valid` };
    }
  }
  return readTransactions({ bytes, lines, header, snapshotStart });
}

interface JournalHeader extends StateVersion {
  readonly format: number;
  readonly records: number;
}

function readTransactions(read: {
  bytes: Buffer;
  lines: ValidLines;
  header: JournalHeader;
  snapshotStart: number;
}): JournalContent {
  const { bytes, lines, header, snapshotStart } = read;
  let sequence = header.sequence;
  let last: Line | undefined;
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    sequence++;
    last = line;
  }
  const { validBytes, crc } = lines;
  return {
    schema: header.schema,
    sequence,
    validBytes,
    invalidBytes: bytes.length - validBytes,
    crc,
    lastTransaction: last === undefined ? [] : [...decodeTransaction(bytes, last)],
    *changes() {
      const again = new ValidLines(bytes.subarray(snapshotStart, validBytes), 'already checked');
      for (let index = 0; ; index++) {
        const line = again.next();
        if (line === undefined) return;
        const section = bytes.subarray(snapshotStart);
        if (index < header.records) yield decodeChange(parseLine(section, line));
        else yield* decodeTransaction(section, line);
      }
    },
  };
}

function* decodeTransaction(bytes: Buffer, line: Line): Iterable<RecordChange> {
  for (const entry of parseLine(bytes, line) as unknown[]) yield decodeChange(entry);
}

function parseLine(bytes: Buffer, { start, end }: Line): unknown {
  return JSON.parse(bytes.toString('utf8', start, end));
}

/** The checksum says that we wrote it, so its form is known. */
function decodeChange(entry: unknown): RecordChange {
  const [collection, key, value] = entry as [string, string, unknown?];
  if (value === undefined) return { collection, key };
  return { collection, key, text: JSON.stringify(value) };
}

/** Where a line's JSON lies. */
interface Line {
  readonly start: number;
  readonly end: number;
}

const CRC_CHARACTERS = 8;
const LINE_FEED = 0x0a;

class ValidLines {
  validBytes = 0;
  crc = 0;
  readonly #bytes: Buffer;
  readonly #checks: boolean;

  constructor(bytes: Buffer, trust?: 'already checked') {
    this.#bytes = bytes;
    this.#checks = trust === undefined;
  }

  next(): Line | undefined {
    const end = this.#bytes.indexOf(LINE_FEED, this.validBytes);
    const start = this.validBytes + CRC_CHARACTERS + 1;
    if (end < start) return undefined;
    if (this.#checks) {
      const crc = crc32(this.#bytes.subarray(start, end), this.crc);
      const head = this.#bytes.toString('latin1', this.validBytes, start);
      if (head !== `${formatCrc(crc)} `) return undefined;
      this.crc = crc;
    }
    this.validBytes = end + 1;
    return { start, end };
  }
}

function formatCrc(crc: number): string {
  return crc.toString(16).padStart(CRC_CHARACTERS, '0');
}

/** A journal open for appending. */
export class Journal {
  /** Length of the head, which is what writing this journal anew would at least take. */
  readonly snapshotBytes: number;
  readonly #fd: number;
  #bytes: number;
  #crc: number;
  #beforeLast: { readonly bytes: number; readonly crc: number };
  #isSound = true;

  constructor(fd: number, state: { bytes: number; crc: number }) {
    this.#fd = fd;
    this.#bytes = state.bytes;
    this.#crc = state.crc;
    this.#beforeLast = state;
    this.snapshotBytes = state.bytes;
  }

  /** Opens a journal that was read, and cuts off what is not valid. @throws Error of node:fs */
  static reopen(path: string, content: JournalContent): Journal {
    const fd = openSync(path, 'r+');
    try {
      if (content.invalidBytes > 0) {
        ftruncateSync(fd, content.validBytes);
        fdatasyncSync(fd);
      }
    } catch (cause) {
      closeSync(fd);
      throw cause;
    }
    return new Journal(fd, { bytes: content.validBytes, crc: content.crc });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False when what the file holds on disk is not known any more: it has to be written anew. */
  get isSound(): boolean {
    return this.#isSound;
  }

  /**
   * Returns when the transaction is on disk.
   *
   * @throws Error of node:fs; the transaction is taken back as far as that works, see `isSound`
   */
  append(transaction: string): void {
    const json = Buffer.from(transaction);
    const crc = crc32(json, this.#crc);
    const line = Buffer.concat([Buffer.from(`${formatCrc(crc)} `), json, Buffer.of(LINE_FEED)]);
    try {
      writeFully(this.#fd, line, this.#bytes);
    } catch (cause) {
      this.#cut();
      throw cause;
    }
    try {
      fdatasyncSync(this.#fd);
    } catch (cause) {
      // After a failed flush the kernel may call the pages clean that never reached the disk, so
      // flushing again would prove nothing.
      this.#isSound = false;
      throw cause;
    }
    this.#beforeLast = { bytes: this.#bytes, crc: this.#crc };
    this.#bytes += line.length;
    this.#crc = crc;
  }

  /** Removes the transaction that was appended last. Never throws, see `isSound`. */
  takeBack(): void {
    this.#bytes = this.#beforeLast.bytes;
    this.#crc = this.#beforeLast.crc;
    this.#cut();
  }

  close(): void {
    closeSync(this.#fd);
  }

  #cut(): void {
    try {
      ftruncateSync(this.#fd, this.#bytes);
      fdatasyncSync(this.#fd);
    } catch {
      this.#isSound = false;
    }
  }
}

/** A journal that is written but does not have its name yet. */
export interface NewJournal {
  /** @throws Error of node:fs; which of the two journals a restart finds is then not known */
  install(): Journal;
  abandon(): void;
}

/** Writes the journal of a whole state beside the one at `path`. @throws Error of node:fs */
export function beginJournal(
  path: string,
  version: StateVersion,
  state: { recordCount: number; records: Iterable<StoredRecord> },
): NewJournal {
  const replacement = beginReplacement(path);
  try {
    const written = writeSnapshot(replacement, version, state);
    // Before it gets its name, so that only renaming is left to fail.
    fdatasyncSync(replacement.fd);
    return {
      install: () => {
        replacement.install();
        return new Journal(replacement.fd, written);
      },
      abandon: () => closeSync(replacement.fd),
    };
  } catch (cause) {
    closeSync(replacement.fd);
    throw cause;
  }
}

function writeSnapshot(
  { fd }: Replacement,
  version: StateVersion,
  state: { recordCount: number; records: Iterable<StoredRecord> },
): { bytes: number; crc: number } {
  const { schema, sequence } = version;
  const header: JournalHeader = { format: FORMAT, schema, sequence, records: state.recordCount };
  let crc = 0;
  let bytes = 0;
  let chunk: string[] = [];
  let chunkCharacters = 0;
  const flush = () => {
    const encoded = Buffer.from(chunk.join(''));
    writeFully(fd, encoded, bytes);
    bytes += encoded.length;
    chunk = [];
    chunkCharacters = 0;
  };
  const add = (json: string) => {
    crc = crc32(json, crc);
    chunk.push(`${formatCrc(crc)} ${json}\n`);
    chunkCharacters += json.length;
    if (chunkCharacters >= CHUNK_BYTES) flush();
  };
  add(JSON.stringify(header));
  for (const record of state.records) add(encodeChange(record));
  flush();
  return { bytes, crc };
}

export function encodeTransaction(changes: readonly RecordChange[]): string {
  return `[${changes.map(encodeChange).join(',')}]`;
}

function encodeChange({ collection, key, text }: RecordChange): string {
  const name = `${JSON.stringify(collection)},${JSON.stringify(key)}`;
  return text === undefined ? `[${name}]` : `[${name},${text}]`;
}
