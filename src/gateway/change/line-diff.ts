/**
 * The difference of two texts by lines, in the unified form that everybody reads: Myers' greedy
 * algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986), which finds a shortest one.
 */

/**
 * Insertions and deletions up to which a shortest difference is looked for. The search remembers
 * this number squared of positions; texts that differ in more share little, and what lies between
 * their common beginning and end is then shown as replaced.
 */
export const EDIT_COUNT_MAX = 1000;

/** Unchanged lines shown around a change. */
const CONTEXT_LINES = 3;

interface Edit {
  readonly sign: ' ' | '-' | '+';
  readonly line: string;
}

/** @returns hunks with `@@` heads, without file names; empty when the texts have the same lines */
export function diffLines(texts: { before: string; after: string }): string {
  const before = linesOf(texts.before);
  const after = linesOf(texts.after);
  let head = 0;
  while (head < Math.min(before.length, after.length) && before[head] === after[head]) head++;
  let tail = 0;
  const tailMax = Math.min(before.length, after.length) - head;
  while (tail < tailMax && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
  const keep = (line: string): Edit => ({ sign: ' ', line });
  return formatHunks([
    ...before.slice(0, head).map(keep),
    ...editsBetween(
      before.slice(head, before.length - tail),
      after.slice(head, after.length - tail),
    ),
    ...before.slice(before.length - tail).map(keep),
  ]);
}

function linesOf(text: string): string[] {
  if (text === '') return [];
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
}

function editsBetween(before: readonly string[], after: readonly string[]): Edit[] {
  const rounds = searchRounds(before, after);
  if (rounds === undefined) {
    return [
      ...before.map((line): Edit => ({ sign: '-', line })),
      ...after.map((line): Edit => ({ sign: '+', line })),
    ];
  }
  return walkBack(before, after, rounds);
}

/**
 * For each number of edits, how far into `before` each diagonal (position before − position after)
 * is reached. `[round][round + diagonal]`; undefined when there are more than the limit.
 */
function searchRounds(
  before: readonly string[],
  after: readonly string[],
): Int32Array[] | undefined {
  const rounds: Int32Array[] = [];
  for (let round = 0; round <= EDIT_COUNT_MAX; round++) {
    const reached = new Int32Array(2 * round + 1);
    for (let diagonal = -round; diagonal <= round; diagonal += 2) {
      let x = startOf(rounds, round, diagonal).x;
      while (
        x < before.length &&
        x - diagonal < after.length &&
        before[x] === after[x - diagonal]
      ) {
        x++;
      }
      reached[round + diagonal] = x;
      if (x >= before.length && x - diagonal >= after.length) {
        rounds.push(reached);
        return rounds;
      }
    }
    rounds.push(reached);
  }
  return undefined;
}

/** Where a round begins on a diagonal: one edit away from the further of its two neighbours. */
function startOf(
  rounds: readonly Int32Array[],
  round: number,
  diagonal: number,
): { x: number; from: number } {
  const previous = rounds[round - 1];
  if (previous === undefined) return { x: 0, from: 0 };
  const at = (neighbour: number) => previous[round - 1 + neighbour] ?? -1;
  const isInsertion =
    diagonal === -round || (diagonal !== round && at(diagonal - 1) < at(diagonal + 1));
  return isInsertion
    ? { x: at(diagonal + 1), from: diagonal + 1 }
    : { x: at(diagonal - 1) + 1, from: diagonal - 1 };
}

function walkBack(
  before: readonly string[],
  after: readonly string[],
  rounds: readonly Int32Array[],
): Edit[] {
  const edits: Edit[] = [];
  let x = before.length;
  let diagonal = before.length - after.length;
  for (let round = rounds.length - 1; round >= 0; round--) {
    const { x: start, from } = startOf(rounds, round, diagonal);
    while (x > start) {
      x--;
      edits.push({ sign: ' ', line: before[x] ?? '' });
    }
    if (round === 0) break;
    if (from > diagonal) edits.push({ sign: '+', line: after[x - diagonal - 1] ?? '' });
    else edits.push({ sign: '-', line: before[--x] ?? '' });
    diagonal = from;
  }
  return edits.reverse();
}

function formatHunks(edits: readonly Edit[]): string {
  const shown = edits.map((_, index) =>
    edits
      .slice(Math.max(0, index - CONTEXT_LINES), index + CONTEXT_LINES + 1)
      .some(({ sign }) => sign !== ' '),
  );
  let out = '';
  let lineBefore = 1;
  let lineAfter = 1;
  for (let index = 0; index < edits.length; ) {
    if (!shown[index]) {
      index++;
      lineBefore++;
      lineAfter++;
      continue;
    }
    const end = shown.indexOf(false, index);
    const hunk = edits.slice(index, end < 0 ? edits.length : end);
    const beforeCount = hunk.filter(({ sign }) => sign !== '+').length;
    const afterCount = hunk.filter(({ sign }) => sign !== '-').length;
    out += `@@ -${range(lineBefore, beforeCount)} +${range(lineAfter, afterCount)} @@\n`;
    for (const { sign, line } of hunk) out += `${sign}${line}\n`;
    index += hunk.length;
    lineBefore += beforeCount;
    lineAfter += afterCount;
  }
  return out;
}

/** As diff(1) has it: an empty range names the line before it. */
function range(first: number, count: number): string {
  return `${count === 0 ? first - 1 : first},${count}`;
}
