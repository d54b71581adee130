/** What nft and the kernel behind it can do, and whose rules are there besides ours. */
import { readFile } from 'node:fs/promises';
import { compileRuleset } from '../firewall/nft-document.ts';
import { defaultPosture } from '../firewall/plan-ruleset.ts';
import { type RulesetRule, TABLE_FAMILY, TABLE_NAME } from '../firewall/ruleset.ts';
import type { NftFeature, NftRulesetFacts, OtherFirewall } from '../gateway/machine-facts.ts';
import { type Argv, describeFailure, runCommand } from './command-runner.ts';
import { openNft } from './nft.ts';

const TIMEOUT_MS = 10_000;
/** Chains without rules; a machine with a thousand containers has some hundred kilobytes. */
const LISTING_BYTES_MAX = 16 * 1024 * 1024;

/** @returns `1.0.6` @throws Error when nft is missing or says no version */
export async function askNftVersion(): Promise<string> {
  const text = await run(['nft', '--version']);
  const version = /v(\d+(\.\d+)*)/.exec(text)?.[1];
  if (version === undefined) throw new Error(`nft says no version: ${text.slice(0, 100)}`);
  return version;
}

/** Never throws for what nft does. */
export async function checkNftRuleset(): Promise<NftRulesetFacts> {
  const nft = openNft({ timeoutMs: TIMEOUT_MS });
  const whole = await nft.check(compileRuleset(defaultPosture(), { replacing: 'table' }));
  if (whole.success) return { check: { success: true }, lacking: [] };
  const check = { success: false, reason: whole.message } as const;
  const accepts = async (rules: readonly RulesetRule[]) => {
    const chains = [{ name: 'trial', hook: trialHook, rules }];
    return (await nft.check(compileRuleset({ chains }, { replacing: 'table' }))).success;
  };
  // Where not even an empty table is taken, no feature is at fault.
  if (whole.reason !== 'refused' || !(await accepts([]))) return { check, lacking: [] };
  const lacking: NftFeature[] = [];
  for (const [feature, rule] of trials) if (!(await accepts([rule]))) lacking.push(feature);
  return { check, lacking };
}

const trialHook = { name: 'input', priority: 'filter', policy: 'accept' } as const;
const origin = { kind: 'built-in', name: 'trial' } as const;

/** One rule for each of what the default posture and others are made of. */
const trials: readonly (readonly [NftFeature, RulesetRule])[] = [
  [
    'conntrack',
    {
      origin,
      matches: [{ kind: 'connection', states: ['established'] }],
      statement: { kind: 'accept' },
    },
  ],
  [
    'fib',
    {
      origin,
      matches: [{ kind: 'to-this-host', negated: false }],
      statement: { kind: 'accept' },
    },
  ],
  ['reject', { origin, matches: [], statement: { kind: 'reject', with: 'admin-prohibited' } }],
];

/** Tables of others with chains that packets meet, in this network namespace. */
export async function findOtherFirewalls(): Promise<OtherFirewall[]> {
  const listing = await run(['nft', '-j', 'list', 'chains']);
  return [...otherFirewallsOf(listing), ...(await findLegacyFirewalls())];
}

/** Tables of the older iptables, which do not show in nft's listings. */
export async function findLegacyFirewalls(): Promise<OtherFirewall[]> {
  const tables = await Promise.all([
    legacyTables('/proc/net/ip_tables_names', 'iptables'),
    legacyTables('/proc/net/ip6_tables_names', 'ip6tables'),
  ]);
  return tables.flat();
}

/** @param listing of `nft -j list chains` @throws Error when it is no such listing */
export function otherFirewallsOf(listing: string): OtherFirewall[] {
  const { nftables } = JSON.parse(listing) as { nftables: readonly { chain?: ListedChain }[] };
  const byTable = new Map<string, ListedChain[]>();
  for (const { chain } of nftables) {
    if (chain === undefined) continue;
    if (chain.family === TABLE_FAMILY && chain.table === TABLE_NAME) continue;
    const table = `${chain.family} ${chain.table}`;
    byTable.set(table, [...(byTable.get(table) ?? []), chain]);
  }
  return [...byTable]
    .filter(([, chains]) => chains.some(({ hook }) => hook !== undefined))
    .map(([table, chains]) => {
      const names = [...chains.map(({ name }) => name), table.split(' ')[1] ?? ''];
      const owner = owners.find(([form]) => names.some((name) => form.test(name)))?.[1];
      const seesForwarded = chains.some(({ hook }) => hook !== undefined && !ownHooks.has(hook));
      return { ...(owner === undefined ? {} : { owner }), table, seesForwarded };
    })
    .sort((a, b) => (a.table < b.table ? -1 : 1));
}

/** Where only packets to and from the machine itself pass. */
const ownHooks: ReadonlySet<string> = new Set(['input', 'output']);

interface ListedChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
}

/** Names of chains and tables that tell whose they are; the first that matches counts. */
const owners: readonly (readonly [RegExp, string])[] = [
  [/^ufw6?-/, 'ufw'],
  [/^firewalld(_|$)/, 'firewalld'],
  [/^DOCKER/, 'docker'],
  [/^(docker-bridges|docker)$/, 'docker'],
  [/^LIBVIRT_|^libvirt_network$/, 'libvirt'],
  [/^f2b-/, 'fail2ban'],
  [/^(KUBE|CNI|cali)-/, 'kubernetes'],
];

async function legacyTables(path: string, owner: string): Promise<OtherFirewall[]> {
  try {
    const names = (await readFile(path, 'utf8')).split('\n').filter((name) => name !== '');
    return names.map((name) => ({ owner, table: `${name} (legacy)`, seesForwarded: true }));
  } catch {
    // The kernel has none, or shows it to root only.
    return [];
  }
}

async function run(argv: Argv): Promise<string> {
  const limits = { timeoutMs: TIMEOUT_MS, outputBytesMax: LISTING_BYTES_MAX };
  const result = await runCommand(argv, limits);
  if (!result.success) throw new Error(describeFailure(argv, result));
  if (result.truncated) throw new Error(`${argv.join(' ')} printed more than ${LISTING_BYTES_MAX}`);
  return result.stdout;
}
