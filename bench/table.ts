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

/** Runs the contenders in turn, several rounds, so that a slow minute hits all of them. */
export async function medians<K extends string>(
  rounds: number,
  contenders: Readonly<Record<K, () => number | Promise<number>>>,
): Promise<Record<K, number>> {
  const results = new Map<K, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const name of Object.keys(contenders) as K[]) {
      const value = await contenders[name]();
      results.set(name, [...(results.get(name) ?? []), value]);
    }
  }
  return Object.fromEntries([...results].map(([name, values]) => [name, median(values)])) as Record<
    K,
    number
  >;
}
