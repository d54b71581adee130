/** Reads a config file: its language, its shape, and its meaning. */
import { CONFIG_PROBLEMS_MAX, type ConfigProblem, quoted } from './config-problem.ts';
import { gatewayFactsOf } from './gateway-facts.ts';
import { asJsonSchema } from './json-schema.ts';
import { judgeAccess } from './judge-access.ts';
import { judgeFirewall } from './judge-firewall.ts';
import { judgeNat } from './judge-nat.ts';
import { judgeNetworks } from './judge-networks.ts';
import { judgeShape } from './judge-shape.ts';
import { judgeShield } from './judge-shield.ts';
import { MeaningProblems, type SoundConfig } from './meaning.ts';
import { CONFIG_VERSION, type Config, configSchema } from './schema.ts';
import { nodeAt, parseSourceTree, type SourceTree } from './source-tree.ts';

export type ConfigResult =
  | { readonly config: Config; readonly problems?: never }
  | { readonly problems: readonly ConfigProblem[]; readonly config?: never };

/**
 * Never throws, whatever the text is.
 *
 * @param options.fileName how problems call the file
 * @returns the config with every default filled in; or all problems in the order of the file, at
 * most CONFIG_PROBLEMS_MAX
 */
export function parseConfig(text: string, options: { readonly fileName: string }): ConfigResult {
  const { tree, problems } = parseSourceTree(text, options.fileName);
  if (tree === undefined) return { problems };
  const version = findVersionProblem(tree);
  return version === undefined ? judgeTree(tree) : { problems: [version] };
}

function judgeTree(tree: SourceTree): ConfigResult {
  const { value, problems } = judgeShape(tree, asJsonSchema(configSchema));
  const meaning = new MeaningProblems(tree);
  if (value !== undefined) judgeMeaning(value as SoundConfig, tree, meaning);
  const all = [...problems, ...meaning.problems];
  if (all.length === 0) return { config: value as Config };
  all.sort((a, b) => a.line - b.line || a.column - b.column);
  return { problems: all.slice(0, CONFIG_PROBLEMS_MAX) };
}

function judgeMeaning(config: SoundConfig, tree: SourceTree, problems: MeaningProblems): void {
  const facts = gatewayFactsOf(config, tree);
  judgeNetworks(config, facts, problems);
  judgeAccess(config, facts, problems);
  judgeNat(config, facts, problems);
  judgeFirewall(config, facts, problems);
  judgeShield(config, problems);
}

/** A file of another version is not judged by this one's shape: that would only confuse. */
export function findVersionProblem(tree: SourceTree): ConfigProblem | undefined {
  const node = nodeAt(tree.root, ['version']);
  if (node?.kind !== 'scalar' || typeof node.value !== 'number') return undefined;
  if (!Number.isSafeInteger(node.value) || node.value < 1 || node.value === CONFIG_VERSION) {
    return undefined;
  }
  const isNewer = node.value > CONFIG_VERSION;
  const expected = isNewer
    ? `a file of version ${CONFIG_VERSION} or older: a newer Gatehouse wrote this one`
    : `a file of version ${CONFIG_VERSION}: this one has to be migrated first`;
  const { fileName } = tree;
  const place = tree.positionAt(node.start);
  return { fileName, ...place, path: 'version', expected, found: quoted(node.source) };
}
