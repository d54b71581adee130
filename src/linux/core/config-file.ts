/** The config file of the running instance: read strictly, replaced durably, nothing in it lost. */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CONFIG_TEXT_LENGTH_MAX } from '../../config/text-limits.ts';
import { writeFileDurably } from '../atomic-file.ts';

/** UTF-8 takes up to three bytes for each of a text's units. */
const FILE_BYTES_MAX = 3 * CONFIG_TEXT_LENGTH_MAX;
/** Kept texts of rolled-back edits; beyond, the oldest goes. */
const KEPT_FILES_MAX = 20;

export type ConfigFileResult =
  | { readonly text: string; readonly reason?: never }
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
 * Makes the file have this text, on disk when it returns.
 *
 * @throws StorageError
 */
export function writeConfigFile(path: string, text: string): void {
  if (readConfigFile(path).text === text) return;
  writeFileDurably(path, text, { mode: 0o600 });
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
  const held = readConfigFile(path).text;
  if (held === text) return;
  if (held !== undefined) {
    writeFileDurably(`${path}${KEPT_SUFFIX}${label}`, held);
    forgetOldest(path);
  }
  writeFileDurably(path, text, { mode: 0o600 });
}

const KEPT_SUFFIX = '.rolled-back-';

function forgetOldest(path: string): void {
  const folder = dirname(path);
  const prefix = `${basename(path)}${KEPT_SUFFIX}`;
  const kept = readdirSync(folder).filter((name) => name.startsWith(prefix));
  if (kept.length <= KEPT_FILES_MAX) return;
  const byAge = kept.map((name) => ({ name, changedAt: changedAt(join(folder, name)) }));
  byAge.sort((a, b) => a.changedAt - b.changedAt);
  for (const { name } of byAge.slice(0, kept.length - KEPT_FILES_MAX)) {
    rmSync(join(folder, name), { force: true });
  }
}

function changedAt(path: string): number {
  return withFile(path, (fd) => fstatSync(fd).mtimeMs);
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
