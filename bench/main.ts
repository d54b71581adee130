/**
 * `npm run bench -- NAME`: measures on this machine, now, and prints a table in Markdown.
 *
 * Each row states a figure and its ratio to a peer measured in the same run, since absolute times
 * differ from machine to machine and from minute to minute. docs/performance.md keeps the tables.
 */
import { benchBridge } from './bridge.ts';
import { benchChange } from './change.ts';
import { benchLab } from './lab.ts';
import { benchNat } from './nat.ts';
import { benchNft } from './nft.ts';
import { type BenchRow, formatTable } from './table.ts';

const benches: Readonly<Record<string, () => Promise<readonly BenchRow[]>>> = {
  bridge: benchBridge,
  change: benchChange,
  lab: benchLab,
  nat: benchNat,
  nft: benchNft,
};

const [name = ''] = process.argv.slice(2);
const bench = benches[name];
if (bench === undefined) {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(benches).join('|')}\n`);
  process.exitCode = 2;
} else {
  process.stdout.write(formatTable(await bench()));
}
