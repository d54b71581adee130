/**
 * Brings config files of older versions up to date, one version at a time. Each step is a list of
 * edits, so a person's comments and order survive it.
 */
import { formatConfigPath } from './config-path.ts';
import { type ConfigProblem, quoted } from './config-problem.ts';
import { type ConfigEdit, type EditResult, editConfig } from './edit-config.ts';
import type { PlainValue } from './plain-value.ts';
import { CONFIG_VERSION } from './schema.ts';
import { nodeAt, parseSourceTree, plainValueOf, type SourceTree } from './source-tree.ts';

/** One step, from a version to the next one. */
export interface ConfigMigration {
  readonly from: number;
  /** What changes, for the person whose file it is; a sentence. */
  readonly summary: string;
  /** @param config the values of the file, unjudged. The edit of `version` is made for it. */
  migrate(config: PlainValue): readonly ConfigEdit[];
}

/** Every step that there is, oldest first. Version 1 is the first, so nothing leads to it. */
export const configMigrations: readonly ConfigMigration[] = [];

export type MigrationResult =
  | {
      readonly text: string;
      readonly from: number;
      readonly to: number;
      /** The summaries of the steps that were made. */
      readonly changes: readonly string[];
      readonly problems?: never;
    }
  | { readonly problems: readonly ConfigProblem[]; readonly text?: never };

/**
 * @param options.fileName how problems call the file
 * @param options.migrations tests give a chain of their own
 * @returns the text in the newest version, as it was where it is that already. Its meaning is not
 * judged. A file without a version, or of a version that no step begins with, is a problem
 */
export function migrateConfig(
  text: string,
  options: { readonly fileName: string; readonly migrations?: readonly ConfigMigration[] },
): MigrationResult {
  const { fileName, migrations = configMigrations } = options;
  const to = (migrations.at(-1)?.from ?? CONFIG_VERSION - 1) + 1;
  const { tree, problems } = parseSourceTree(text, fileName);
  if (tree === undefined) return { problems };
  const from = versionOf(tree);
  const isKnown = from === to || migrations.some((migration) => migration.from === from);
  if (from === undefined || !isKnown) return { problems: [describeVersion(tree, to)] };
  const changes: string[] = [];
  let current = text;
  for (let version = from; version < to; version++) {
    const migration = migrations.find((one) => one.from === version);
    if (migration === undefined) throw new Error(`no migration leads on from version ${version}`);
    const stepped = step(current, migration, fileName);
    if (stepped.text === undefined) return { problems: stepped.problems };
    current = stepped.text;
    changes.push(migration.summary);
  }
  return { text: current, from, to, changes };
}

function step(text: string, migration: ConfigMigration, fileName: string): EditResult {
  const { tree, problems } = parseSourceTree(text, fileName);
  if (tree === undefined) return { problems };
  const edits = migration.migrate(plainValueOf(tree.root));
  const own = edits.find(({ path }) => formatConfigPath(path) === 'version');
  if (own !== undefined) throw new Error(`migration ${migration.from} edits the version itself`);
  const version: ConfigEdit = { path: ['version'], value: migration.from + 1 };
  return editConfig(text, [...edits, version], { fileName });
}

function versionOf(tree: SourceTree): number | undefined {
  const node = nodeAt(tree.root, ['version']);
  return node?.kind === 'scalar' && typeof node.value === 'number' ? node.value : undefined;
}

function describeVersion(tree: SourceTree, newest: number): ConfigProblem {
  const { fileName } = tree;
  const node = nodeAt(tree.root, ['version']);
  const version = versionOf(tree);
  const isNewer = version !== undefined && version > newest;
  const expected = isNewer
    ? `a file of version ${newest} or older: a newer Gatehouse wrote this one`
    : `the version of the file, such as \`version: ${newest}\``;
  const found = node === undefined ? 'none' : quoted(tree.text.slice(node.start, node.end));
  const place = tree.positionAt(node?.start ?? tree.root.start);
  return { fileName, ...place, path: 'version', expected, found };
}
