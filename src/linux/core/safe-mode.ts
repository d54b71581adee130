/**
 * Whether the minimal ruleset is in force instead of the config's. A file of its own, not a record
 * of the store: the panic button works without the program and without a sound database, and
 * survives a reboot.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import Type, { type Static } from 'typebox';
import { Value } from 'typebox/value';
import { flushFolder, writeFileDurably } from '../atomic-file.ts';
import { readConfigFile } from './config-file.ts';

const safeModeSchema = Type.Object({
  /** Milliseconds since 1970. */
  sinceMs: Type.Number(),
  author: Type.String({ maxLength: 64 }),
});
export type SafeMode = Static<typeof safeModeSchema>;

/** In the state folder. */
const FILE_NAME = 'safe-mode.json';

/** @returns undefined while it is off. A file that cannot be understood means on: doubt is safe */
export function readSafeMode(stateFolder: string): SafeMode | undefined {
  const file = readConfigFile(join(stateFolder, FILE_NAME));
  if (file.text === undefined) {
    return file.absent ? undefined : { sinceMs: 0, author: 'unknown' };
  }
  try {
    const value: unknown = JSON.parse(file.text);
    if (Value.Check(safeModeSchema, value)) {
      const { sinceMs, author } = value;
      return { sinceMs, author };
    }
  } catch {
    // Not JSON.
  }
  return { sinceMs: 0, author: 'unknown' };
}

/** @throws StorageError */
export function switchSafeModeOn(stateFolder: string, safeMode: SafeMode): void {
  writeFileDurably(join(stateFolder, FILE_NAME), `${JSON.stringify(safeMode)}\n`);
}

/** @throws Error of node:fs */
export function switchSafeModeOff(stateFolder: string): void {
  rmSync(join(stateFolder, FILE_NAME), { force: true });
  flushFolder(stateFolder);
}
