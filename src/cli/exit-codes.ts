/** How a verb ends, for scripts. The one table behind code, help and docs/command-line.md. */

const rows = {
  done: [0, 'done; healthy; no difference'],
  failed: [1, 'it failed; the message says why'],
  usage: [2, 'the words cannot be understood'],
  configProblems: [3, 'the config has problems, or the kernel refuses its ruleset'],
  notRunning: [4, 'no running instance, or none that answers, or no right to speak to it'],
  refused: [5, 'refused, and nothing has changed: busy, cuts your own access, no such change, …'],
  toTell: [6, 'done, and there is something to tell: differences, not healthy, something missing'],
} as const satisfies Record<string, readonly [code: number, meaning: string]>;

export type ExitCode = (typeof rows)[keyof typeof rows][0];

export const exitCodes = {
  done: rows.done[0],
  failed: rows.failed[0],
  usage: rows.usage[0],
  configProblems: rows.configProblems[0],
  notRunning: rows.notRunning[0],
  refused: rows.refused[0],
  toTell: rows.toTell[0],
} as const satisfies { readonly [Name in keyof typeof rows]: (typeof rows)[Name][0] };

export const exitCodeTable: readonly { readonly code: ExitCode; readonly meaning: string }[] =
  Object.values(rows).map(([code, meaning]) => ({ code, meaning }));
