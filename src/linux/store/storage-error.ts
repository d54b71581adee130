/** What can go wrong with files, sorted by what a caller can do about it. */

export type StorageErrorCode =
  /** No room: blocks, inodes or quota. Try again later. */
  | 'storage-full'
  /** The file system is mounted read-only, or our user may not write there. */
  | 'storage-read-only'
  /** The device fails, or the system refuses for another reason: EIO, EMFILE. */
  | 'storage-failed'
  /** One of our own limits; the same write will never succeed. */
  | 'storage-limit'
  /** Another process has the store open. */
  | 'storage-in-use'
  /** Written by a newer Gatehouse. */
  | 'schema-newer'
  /** A migration threw; nothing was changed. */
  | 'migration-failed';

/** The message names the action, and the cause is kept. */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly code: StorageErrorCode;

  constructor(code: StorageErrorCode, message: string, options?: { cause: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** @param action what was tried, with its object: `write /var/lib/gatehouse/state.journal` */
export function storageErrorFrom(action: string, cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause;
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new StorageError(codeOf(cause), `cannot ${action}: ${reason}`, { cause });
}

const systemCodes: Readonly<Record<string, StorageErrorCode>> = {
  ENOSPC: 'storage-full',
  EDQUOT: 'storage-full',
  EFBIG: 'storage-full',
  EROFS: 'storage-read-only',
  EACCES: 'storage-read-only',
  EPERM: 'storage-read-only',
};

/** Primary result codes, https://sqlite.org/rescode.html */
const sqliteCodes: Readonly<Record<number, StorageErrorCode>> = {
  3: 'storage-read-only',
  5: 'storage-in-use',
  6: 'storage-in-use',
  8: 'storage-read-only',
  13: 'storage-full',
};

function codeOf(cause: unknown): StorageErrorCode {
  const sqlite = sqliteCode(cause);
  if (sqlite !== undefined) return sqliteCodes[sqlite] ?? 'storage-failed';
  return systemCodes[(cause as NodeJS.ErrnoException)?.code ?? ''] ?? 'storage-failed';
}

function sqliteCode(cause: unknown): number | undefined {
  const { code, errcode } = (cause ?? {}) as { code?: unknown; errcode?: unknown };
  if (code !== 'ERR_SQLITE_ERROR' || typeof errcode !== 'number') return undefined;
  return errcode & 0xff;
}
