/** Stands between the product and node:fs, for every call that changes something. */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const names = [
  'chmodSync',
  'fchmodSync',
  'fdatasyncSync',
  'fsyncSync',
  'ftruncateSync',
  'linkSync',
  'mkdirSync',
  'openSync',
  'renameSync',
  'rmSync',
  'writeSync',
] as const;

/**
 * Runs `action` with `before` called ahead of every such call; what it throws is thrown to the
 * caller instead of making the call. SQLite makes its own calls, which are not seen here.
 */
export function watchFileCalls(before: (name: string) => void, action: () => void): void {
  const table = fs as unknown as Record<string, (...input: unknown[]) => unknown>;
  const originals = names.map((name) => [name, table[name]] as const);
  let isInside = false;
  try {
    for (const [name, original] of originals) {
      table[name] = (...input) => {
        if (!isInside && changes(name, input)) {
          isInside = true;
          try {
            before(name);
          } finally {
            isInside = false;
          }
        }
        return original?.(...input);
      };
    }
    syncBuiltinESMExports();
    action();
  } finally {
    for (const [name, original] of originals) if (original !== undefined) table[name] = original;
    syncBuiltinESMExports();
  }
}

/** Opening for reading changes nothing, and a folder is opened so to be flushed. */
function changes(name: string, input: readonly unknown[]): boolean {
  if (name !== 'openSync') return true;
  const flags = input[1] ?? 'r';
  return typeof flags === 'number' ? (flags & 0o3) !== 0 : flags !== 'r';
}

export function systemError(code: string, name: string): Error {
  return Object.assign(new Error(`${code}: injected, ${name}`), { code, syscall: name });
}
