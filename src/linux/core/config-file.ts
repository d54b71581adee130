/** The config file of the running instance: read strictly, replaced durably, nothing in it lost. */
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CONFIG_TEXT_LENGTH_MAX } from '../../config/text-limits.ts';
import { flushFolder, writeFileDurably } from '../atomic-file.ts';
import { storageErrorFrom } from '../store/storage-error.ts';

/** UTF-8 takes up to three bytes for each of a text's units. */
const FILE_BYTES_MAX = 3 * CONFIG_TEXT_LENGTH_MAX;
/** Kept edits; beyond, the oldest goes. */
const KEPT_FILES_MAX = 20;

export type ConfigFileResult =
  | { readonly text: string; readonly reason?: never; readonly absent?: never }
  /** Names the file. */
  | { readonly text?: never; readonly reason: string; readonly absent: boolean };

export function readConfigFile(path: string): ConfigFileResult {
  try {
    const bytes = readBounded(path);
    if (bytes === undefined) {
      const reason = `cannot read ${path}: it is no file of at most ${FILE_BYTES_MAX} bytes`;
      return { reason, absent: false };
    }
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'it is not UTF-8' : wordsOf(cause);
    return { reason: `cannot read ${path}: ${why}`, absent: code === 'ENOENT' };
  }
}

/**
 * Makes the file have this text, on disk when it returns. What it held is kept beside it as
 * `FILE.replaced-LABEL`, unless that is known.
 *
 * @param options.known a text that is recorded elsewhere
 * @throws StorageError
 */
export function writeConfigFile(options: {
  readonly path: string;
  readonly text: string;
  readonly known: string;
  readonly label: string;
}): void {
  const { path, text, known, label } = options;
  const { text: held, absent } = readConfigFile(path);
  if (held === text) return;
  if (held !== known && absent !== true) keepFile(path, `.replaced-${label}`);
  writeFileDurably(path, text, { mode: 0o600 });
  forgetOldest(path);
}

/**
 * Brings an earlier text back. What the file held, which a person may have written, is kept beside
 * it as `FILE.rolled-back-LABEL`.
 *
 * @throws StorageError
 */
export function restoreConfigFile(options: {
  readonly path: string;
  readonly text: string;
  readonly label: string;
}): void {
  const { path, text, label } = options;
  const { text: held, absent } = readConfigFile(path);
  if (held === text) return;
  if (absent !== true) keepFile(path, `.rolled-back-${label}`);
  writeFileDurably(path, text, { mode: 0o600 });
  forgetOldest(path);
}

/**
 * Whatever is in it, also what cannot be read as text. Something else than a file of bearable size,
 * a pipe for example, is moved there.
 *
 * @throws StorageError
 */
function keepFile(path: string, suffix: string): void {
  const kept = `${path}${suffix}`;
  try {
    const about = statSync(path);
    if (about.isFile() && about.size <= FILE_BYTES_MAX) {
      copyFileSync(path, kept);
      chmodSync(kept, 0o600);
      flushFile(kept);
    } else {
      renameSync(path, kept);
    }
    flushFolder(dirname(path));
  } catch (cause) {
    throw storageErrorFrom(`keep ${path} as ${kept}`, cause);
  }
}

function flushFile(path: string): void {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Never fails: a file too many is no reason to end a roll-back. */
function forgetOldest(path: string): void {
  try {
    const folder = dirname(path);
    const prefix = `${basename(path)}.`;
    const isKept = (name: string) =>
      name.startsWith(prefix) && /^(?:rolled-back|replaced)-/.test(name.slice(prefix.length));
    const kept = readdirSync(folder)
      .filter(isKept)
      .map((name) => ({ name, changedAt: lstatSync(join(folder, name)).mtimeMs }))
      .sort((a, b) => a.changedAt - b.changedAt);
    for (const { name } of kept.slice(0, Math.max(0, kept.length - KEPT_FILES_MAX))) {
      rmSync(join(folder, name), { force: true });
    }
  } catch {
    // They stay.
  }
}

function readBounded(path: string): Uint8Array | undefined {
  return withFile(path, (fd) => {
    const about = fstatSync(fd);
    if (!about.isFile() || about.size > FILE_BYTES_MAX) return undefined;
    const bytes = readFileSync(fd);
    return bytes.length > FILE_BYTES_MAX ? undefined : bytes;
  });
}

/** Opened without waiting: a pipe in the file's place would block for ever. */
function withFile<T>(path: string, use: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
