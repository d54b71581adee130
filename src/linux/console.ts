/** What a person at a terminal gives the program: files, standard input, a name. */
import { closeSync, fsyncSync, openSync, readSync, rmSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname } from 'node:path';
import { CONFIG_TEXT_LENGTH_MAX } from '../config/text-limits.ts';
import type { ActionResult } from '../gateway/action-result.ts';
import { flushFolder, writeFully } from './atomic-file.ts';
import { type ConfigFileResult, readConfigFile } from './core/config-file.ts';

/** UTF-8 takes up to three bytes for each of a text's units. */
const INPUT_BYTES_MAX = 3 * CONFIG_TEXT_LENGTH_MAX;

/** @param path `-` is standard input */
export function readTextFile(path: string): ConfigFileResult {
  return path === '-' ? readStandardInput() : readConfigFile(path);
}

function readStandardInput(): ConfigFileResult {
  try {
    const chunks: Buffer[] = [];
    let lengthBytes = 0;
    for (;;) {
      const chunk = Buffer.alloc(64 * 1024);
      const readBytes = readSync(0, chunk);
      if (readBytes === 0) break;
      chunks.push(chunk.subarray(0, readBytes));
      lengthBytes += readBytes;
      if (lengthBytes > INPUT_BYTES_MAX) throw new Error(`more than ${INPUT_BYTES_MAX} bytes`);
    }
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)) };
  } catch (cause) {
    const reason = `cannot read standard input: ${wordsOf(cause)}`;
    return { reason, absent: false };
  }
}

/** On disk when it returns; takes no other file's place. */
export function writeNewTextFile(path: string, text: string, mode: number): ActionResult {
  let fd: number;
  try {
    fd = openSync(path, 'wx', mode);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'EEXIST' ? 'it is there already' : wordsOf(cause);
    return { success: false, reason: `cannot write ${path}: ${why}` };
  }
  try {
    writeFully(fd, Buffer.from(text), 0);
    fsyncSync(fd);
    flushFolder(dirname(path));
    return { success: true, lines: [] };
  } catch (cause) {
    rmSync(path, { force: true });
    return { success: false, reason: `cannot write ${path}: ${wordsOf(cause)}` };
  } finally {
    closeSync(fd);
  }
}

/** Who asks, for history and log: the account behind sudo, where there is one. */
export function authorOf(environment: Readonly<Record<string, string | undefined>>): string {
  const candidates = [environment['SUDO_USER'], environment['LOGNAME'], ownAccount()];
  const isName = (name: string | undefined) => /^[^\p{C}\p{Zl}\p{Zp}]{1,64}$/u.test(name ?? '');
  return candidates.find(isName) ?? `user ${process.getuid?.()}`;
}

function ownAccount(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    // A user id without an account.
    return undefined;
  }
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
