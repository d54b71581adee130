/** What a verb has to say: one value, told as text or as JSON by src/cli/run-verb.ts. */
import type { ActionResult } from '../gateway/action-result.ts';
import { type ExitCode, exitCodes } from './exit-codes.ts';
import { linesOf } from './terminal-text.ts';

export interface Outcome {
  readonly exitCode: ExitCode;
  /** For people, on standard output. One line each: a line feed in one is shown, not obeyed. */
  readonly lines: readonly string[];
  /** For people, on standard error: why not, or what to mind. */
  readonly complaints: readonly string[];
  /** With `--json`, instead of all lines. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** `code` is for scripts; a failure's document is `{"error": {"code", "message", …}}`. */
export interface Failure {
  readonly exitCode: ExitCode;
  readonly code: string;
  /** A sentence without a full stop. It may have lines. */
  readonly message: string;
  /** Instead of the message, for people. */
  readonly complaints?: readonly string[];
  /** Further members of the error's document. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export function done(
  lines: readonly string[],
  document: Outcome['document'],
  options: { readonly exitCode?: ExitCode; readonly complaints?: readonly string[] } = {},
): Outcome {
  const { exitCode = exitCodes.done, complaints = [] } = options;
  return { exitCode, lines, complaints, document };
}

export function fail({ exitCode, code, message, complaints, details }: Failure): Outcome {
  return {
    exitCode,
    lines: [],
    complaints: complaints ?? linesOf(`gatehouse: ${message}`),
    document: { error: { code, exitCode, message, ...details } },
  };
}

/** @param reason what was tried, on what, and why it was not done */
export function failed(reason: string): Outcome {
  return fail({ exitCode: exitCodes.failed, code: 'failed', message: reason });
}

/** @param problems one a line, as FILE:LINE:COLUMN: … */
export function configProblems(problems: string): Outcome {
  const lines = problems.split('\n');
  const message = lines.length === 1 ? (lines[0] ?? '') : `${lines.length} problems`;
  return fail({
    exitCode: exitCodes.configProblems,
    code: 'config-problems',
    message,
    complaints: lines,
    details: { problems: lines },
  });
}

/** What the world did for a verb, with its lines as notes. */
export function outcomeOf(result: ActionResult, document: Outcome['document']): Outcome {
  if (!result.success) return failed(result.reason);
  const notes = result.lines.flatMap(linesOf);
  return done(notes, { ...document, notes });
}
