/**
 * nft as a program against libnftables in this process: what an apply, and one that changes
 * nothing, cost both ways. The choice, with what else speaks for it, is
 * docs/decisions/0016-nft-as-a-program-or-library.md.
 */
import { Lab } from '../lab/lab.ts';
import { compileRuleset, formatNftDocument } from '../src/firewall/nft-document.ts';
import { planRuleset } from '../src/firewall/plan-ruleset.ts';
import { openNativeLibrary, readString } from '../src/linux/ffi.ts';
import { inNetworkNamespace } from '../src/linux/libc.ts';
import { openNft } from '../src/linux/nft.ts';
import { NftGeneration } from '../src/linux/nft-generation.ts';
import { modelWithRules, ruleNames } from '../src/testing/firewall-models.ts';
import { type BenchRow, medians } from './table.ts';

/** Rules → rounds; an odd number, and no longer than a minute in all. */
const sizes = [
  { ruleCount: 10, rounds: 21 },
  { ruleCount: 1_000, rounds: 9 },
  { ruleCount: 10_000, rounds: 3 },
];

export async function benchNft(): Promise<readonly BenchRow[]> {
  await using lab = await Lab.start({ hosts: { gateway: {} } }, { name: 'bench' });
  const networkNamespace = lab.host('gateway').namespacePath;
  const nft = openNft({ networkNamespace });
  using library = openLibrary(networkNamespace);
  const rows: BenchRow[] = [];
  for (const { ruleCount, rounds } of sizes) {
    const ruleset = planRuleset(modelWithRules(ruleNames(ruleCount)));
    const document = compileRuleset(ruleset, { replacing: 'rules' });
    const { program, inProcess } = await medians(rounds, {
      program: () => milliseconds(async () => requireSuccess(await nft.apply(document))),
      inProcess: () => milliseconds(() => library.run(formatNftDocument(document))),
    });
    rows.push(row(`apply ${ruleCount} rules`, program, inProcess));
  }
  const nothing = { nftables: [] };
  const { program, inProcess } = await medians(21, {
    program: () => milliseconds(async () => requireSuccess(await nft.apply(nothing))),
    inProcess: () => milliseconds(() => library.run(formatNftDocument(nothing))),
  });
  rows.push(row('a document without commands', program, inProcess));
  return [...rows, await watchRow(networkNamespace)];
}

function row(what: string, programMs: number, inProcessMs: number): BenchRow {
  return {
    what: `nft as a program: ${what}`,
    figure: `${programMs.toFixed(1)} ms`,
    peer: `libnftables in process: ${inProcessMs.toFixed(1)} ms`,
    ratio: inProcessMs / programMs,
  };
}

/** Asking whether anything changed, against listing 10,000 rules to see. */
async function watchRow(networkNamespace: string): Promise<BenchRow> {
  const nft = openNft({ networkNamespace });
  using generation = new NftGeneration(networkNamespace);
  const { asked, listed } = await medians(3, {
    asked: () => milliseconds(() => generation.read()),
    listed: () => milliseconds(async () => requireSuccess(await nft.list())),
  });
  return {
    what: 'look whether somebody changed the rules',
    figure: `${(asked * 1_000).toFixed(0)} µs`,
    peer: `list 10,000 rules: ${listed.toFixed(0)} ms`,
    ratio: listed / asked,
  };
}

async function milliseconds(action: () => unknown): Promise<number> {
  const startedAt = performance.now();
  await action();
  return performance.now() - startedAt;
}

function requireSuccess(result: { success: true } | { success: false; message: string }): void {
  if (!result.success) throw new Error(result.message);
}

const NFT_CTX_OUTPUT_JSON = 1 << 4;

/** What the product would do, had it chosen so. The socket stays in the namespace. */
function openLibrary(networkNamespace: string): Disposable & { run(text: string): void } {
  const { functions: nft } = openNativeLibrary(
    'libnftables.so.1',
    {
      nft_ctx_new: { arguments: ['u32'], return: 'pointer' },
      nft_ctx_free: { arguments: ['pointer'], return: 'void' },
      nft_ctx_buffer_output: { arguments: ['pointer'], return: 'i32' },
      nft_ctx_buffer_error: { arguments: ['pointer'], return: 'i32' },
      nft_ctx_get_error_buffer: { arguments: ['pointer'], return: 'pointer' },
      nft_ctx_output_set_flags: { arguments: ['pointer', 'u32'], return: 'void' },
      nft_run_cmd_from_buffer: { arguments: ['pointer', 'string'], return: 'i32' },
    },
    'libnftables1',
  );
  const context = inNetworkNamespace(networkNamespace, () => nft.nft_ctx_new(0));
  nft.nft_ctx_buffer_output(context);
  nft.nft_ctx_buffer_error(context);
  nft.nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON);
  return {
    run: (text) => {
      if (nft.nft_run_cmd_from_buffer(context, text) === 0) return;
      throw new Error(readString(nft.nft_ctx_get_error_buffer(context)).slice(0, 500));
    },
    [Symbol.dispose]: () => nft.nft_ctx_free(context),
  };
}
