/** What is wrong with a config file, where, and what would be right. */

export interface ConfigProblem {
  readonly fileName: string;
  /** Counts from 1. */
  readonly line: number;
  /** Counts characters (UTF-16 code units) from 1. */
  readonly column: number;
  /** As `networks.lan.dhcp.range`; empty for the file as a whole. */
  readonly path: string;
  /** What would be right, as a phrase: "a duration such as `12h`". */
  readonly expected: string;
  /** What stands there, as a phrase, shortened and with everything unusual escaped. */
  readonly found: string;
  /** A key or value that exists and looks like the one that was found. */
  readonly suggestion?: string;
}

/** More than this nobody reads; the first mistakes of a file often cause the others. */
export const CONFIG_PROBLEMS_MAX = 100;
/** Longer values are cut in messages. */
const FOUND_LENGTH_MAX = 80;

/** One line, as compilers write it: `FILE:LINE:COLUMN: PATH: expected …, found …`. */
export function formatConfigProblem(problem: ConfigProblem): string {
  const { fileName, line, column, path, expected, found, suggestion } = problem;
  const where = [`${fileName}:${line}:${column}`, ...(path === '' ? [] : [path])].join(': ');
  const hint = suggestion === undefined ? '' : `; did you mean \`${suggestion}\`?`;
  return `${where}: expected ${expected}, found ${found}${hint}`;
}

/** One line for each, and one more where others were left out. */
export function formatConfigProblems(problems: readonly ConfigProblem[]): string {
  const lines = problems.map(formatConfigProblem);
  if (problems.length >= CONFIG_PROBLEMS_MAX) {
    lines.push(`only the first ${CONFIG_PROBLEMS_MAX} problems are shown`);
  }
  return lines.join('\n');
}

/** A value as a phrase of a problem. */
export function quoted(text: string): string {
  return `\`${printable(JSON.stringify(cut(text)).slice(1, -1))}\``;
}

/**
 * Whatever is not printable ASCII is escaped, so that letters that look alike are seen to differ,
 * and nothing reaches a terminal that it would obey.
 */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e…]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

function cut(text: string): string {
  return text.length > FOUND_LENGTH_MAX ? `${text.slice(0, FOUND_LENGTH_MAX)}…` : text;
}
