/**
 * Changes single values of a config file and leaves everything else as a person wrote it: comments,
 * order, quotes, blank lines, line ends.
 *
 * An edit replaces stretches of the text, never the whole. A value takes the quotes of the one that
 * it replaces; a comment behind a removed value goes with it, comments above stay.
 */
import { type ConfigPath, formatConfigPath } from './config-path.ts';
import type { ConfigProblem } from './config-problem.ts';
import { isSameValue, type PlainValue, withValueAt } from './plain-value.ts';
import { renderKey } from './render-value.ts';
import { entryOf, nodeAt, parseSourceTree, plainValueOf, type SourceTree } from './source-tree.ts';
import { applySplices, TreeSplicer } from './tree-splicer.ts';

export type ConfigEdit =
  /** Sets the value at the path; keys on the way that are missing are made. */
  | { readonly path: ConfigPath; readonly value: PlainValue }
  /** Removes the key or the list's item. */
  | { readonly path: ConfigPath; readonly delete: true }
  /** Gives the key at the end of the path another name and leaves its value alone. */
  | { readonly path: ConfigPath; readonly rename: string };

export type EditResult =
  | { readonly text: string; readonly problems?: never }
  | { readonly problems: readonly ConfigProblem[]; readonly text?: never };

/**
 * The edits are made one after the other. Their result is not judged: parse-config.ts does that.
 *
 * @param options.fileName how problems call the file
 * @returns the new text; or problems: a text that cannot be read, an edit of what is not there
 */
export function editConfig(
  text: string,
  edits: readonly ConfigEdit[],
  options: { readonly fileName: string },
): EditResult {
  let current = text;
  for (const edit of edits) {
    const { tree, problems } = parseSourceTree(current, options.fileName);
    if (tree === undefined) return { problems };
    const wanted = wantedValue(tree, edit);
    if (wanted === undefined) return { problems: [describeRefusal(tree, edit)] };
    current = editTree(tree, edit, wanted);
    const after = parseSourceTree(current, options.fileName).tree;
    if (after === undefined || !isSameValue(plainValueOf(after.root), wanted)) {
      throw new Error(`the edit of ${formatConfigPath(edit.path)} would not say what it should`);
    }
  }
  return { text: current };
}

function editTree(tree: SourceTree, edit: ConfigEdit, wanted: PlainValue): string {
  if ('rename' in edit) {
    const parent = nodeAt(tree.root, edit.path.slice(0, -1));
    const key = edit.path.at(-1);
    const entry =
      parent?.kind === 'mapping' && key !== undefined ? entryOf(parent, key) : undefined;
    const splice = entry === undefined ? [] : [{ ...entry.keyRange, text: renderKey(edit.rename) }];
    return applySplices(tree.text, splice);
  }
  const splicer = new TreeSplicer(tree);
  splicer.replaceRoot(wanted);
  return applySplices(tree.text, splicer.splices);
}

/** What the whole file says after the edit. @returns undefined where the edit cannot be made */
function wantedValue(tree: SourceTree, edit: ConfigEdit): PlainValue | undefined {
  const whole = plainValueOf(tree.root);
  if ('value' in edit) return withValueAt(whole, edit.path, edit.value);
  if ('delete' in edit)
    return edit.path.length === 0 ? {} : withValueAt(whole, edit.path, undefined);
  const parent = nodeAt(tree.root, edit.path.slice(0, -1));
  const key = edit.path.at(-1);
  if (parent?.kind !== 'mapping' || typeof key !== 'string') return undefined;
  const entry = entryOf(parent, key);
  const isTaken = edit.rename !== key && entryOf(parent, edit.rename) !== undefined;
  if (entry === undefined || isTaken) return undefined;
  const without = withValueAt(whole, edit.path, undefined) ?? {};
  const to = [...edit.path.slice(0, -1), edit.rename];
  return withValueAt(without, to, plainValueOf(entry.value));
}

function describeRefusal(tree: SourceTree, edit: ConfigEdit): ConfigProblem {
  let offset = tree.root.start;
  for (let length = edit.path.length; length > 0; length--) {
    const node = nodeAt(tree.root, edit.path.slice(0, length));
    if (node === undefined) continue;
    offset = node.start;
    break;
  }
  const { fileName } = tree;
  const path = formatConfigPath(edit.path);
  const expected =
    'value' in edit
      ? 'a mapping or list that the value can be put into'
      : 'delete' in edit
        ? 'a value to remove'
        : `a key to rename to \`${edit.rename}\``;
  return { fileName, ...tree.positionAt(offset), path, expected, found: 'none' };
}
