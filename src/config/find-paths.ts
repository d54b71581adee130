/** Where an instance keeps its things, also when its config has problems elsewhere. */
import { type Config, configSchema } from './schema.ts';
import { nodeAt, parseSourceTree, type SourceTree } from './source-tree.ts';

/**
 * The folders that a config file names, and the defaults where it names none or cannot be read:
 * whoever has to repair a file must still reach the running instance.
 */
export function findPaths(text: string): Config['paths'] {
  const tree = parsedIn(text) ?? sectionIn(text);
  const { properties } = configSchema.properties.paths;
  const folder = (name: 'state' | 'runtime'): string => {
    const node = tree === undefined ? undefined : nodeAt(tree.root, ['paths', name]);
    const value = node?.kind === 'scalar' ? node.value : undefined;
    const isFolder = typeof value === 'string' && value.startsWith('/');
    return isFolder ? value : `${(properties[name] as { default?: string }).default}`;
  };
  return { state: folder('state'), runtime: folder('runtime') };
}

function parsedIn(text: string): SourceTree | undefined {
  return parseSourceTree(text, 'the config').tree;
}

/** More than the two folders and what people write about them. */
const SECTION_LINES_MAX = 32;

/**
 * A mistake somewhere makes all of a file unreadable. Then the section of the folders is looked at
 * alone, as far as it can be read.
 */
function sectionIn(text: string): SourceTree | undefined {
  const lines = text.split(/\r?\n/);
  const start = lines.findLastIndex((line) => /^paths[ \t]*:/.test(line));
  if (start < 0) return undefined;
  const length = lines.slice(start + 1).findIndex((line) => /^[^\s#]/.test(line));
  const end = length < 0 ? lines.length : start + 1 + length;
  for (let last = Math.min(end, start + SECTION_LINES_MAX); last > start; last--) {
    const tree = parsedIn(lines.slice(start, last).join('\n'));
    if (tree !== undefined) return tree;
  }
  return undefined;
}
