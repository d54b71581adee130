/** One measured figure beside its peer's. */
export interface BenchRow {
  readonly what: string;
  /** With its unit. */
  readonly figure: string;
  /** What it is compared with, and that one's figure in the same run. */
  readonly peer: string;
  /** How many times better than the peer, above 1 where we win. */
  readonly ratio: number;
}

export function formatTable(rows: readonly BenchRow[]): string {
  const cells = [
    ['what', 'figure', 'peer in the same run', 'ratio'],
    ['---', '---', '---', '--:'],
    ...rows.map((row) => [row.what, row.figure, row.peer, row.ratio.toFixed(2)]),
  ];
  return `${cells.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n`;
}

/** The middle one of an odd number of measurements. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new RangeError('no measurements');
  return middle;
}

type Contenders<K extends string> = Readonly<Record<K, () => number | Promise<number>>>;

/**
 * Runs the contenders in turn, several rounds, each the other way round than the one before, so
 * that a slow minute hits all of them.
 *
 * @returns what each reached, a figure a round
 */
export async function roundsOf<K extends string>(
  rounds: number,
  contenders: Contenders<K>,
): Promise<Record<K, number[]>> {
  const names = Object.keys(contenders) as K[];
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<
    K,
    number[]
  >;
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      results[name].push(await contenders[name]());
    }
  }
  return results;
}

/** Of {@link roundsOf}. */
export async function medians<K extends string>(
  rounds: number,
  contenders: Contenders<K>,
): Promise<Record<K, number>> {
  const results = Object.entries<number[]>(await roundsOf(rounds, contenders));
  return Object.fromEntries(results.map(([name, values]) => [name, median(values)])) as Record<
    K,
    number
  >;
}

/** The middle one of the ratios of each round: what drifts from round to round does not count. */
export function medianRatio(figures: readonly number[], peers: readonly number[]): number {
  return median(figures.map((figure, round) => figure / (peers[round] ?? Number.NaN)));
}
