/** What the files that judge meaning share: the config as far as it is sound, and the list. */
import { type ConfigPath, formatConfigPath } from './config-path.ts';
import { CONFIG_PROBLEMS_MAX, type ConfigProblem } from './config-problem.ts';
import type { Config } from './schema.ts';
import { entryOf, nodeAt, type SourceTree } from './source-tree.ts';

/** Any part may be missing: the shape of what stood there was wrong already. */
export type Sound<Value> = Value extends readonly (infer Item)[]
  ? readonly (Sound<Item> | undefined)[]
  : Value extends object
    ? { readonly [Key in keyof Value]?: Sound<Value[Key]> }
    : Value;

export type SoundConfig = Sound<Config>;

export interface MeaningProblem {
  readonly path: ConfigPath;
  readonly expected: string;
  readonly found: string;
  readonly suggestion?: string | undefined;
  /** The key is wrong, not its value. */
  readonly atKey?: boolean;
}

/** Problems of meaning, each at the place in the file that its path names. */
export class MeaningProblems {
  readonly problems: ConfigProblem[] = [];
  private readonly tree: SourceTree;

  constructor(tree: SourceTree) {
    this.tree = tree;
  }

  add({ path, expected, found, suggestion, atKey = false }: MeaningProblem): void {
    if (this.problems.length >= CONFIG_PROBLEMS_MAX) return;
    this.problems.push({
      fileName: this.tree.fileName,
      ...this.tree.positionAt(this.offsetOf(path, atKey)),
      path: formatConfigPath(path),
      expected,
      found,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }

  /** Of the value, or of what it would stand in if it is missing. */
  private offsetOf(path: ConfigPath, atKey: boolean): number {
    const key = path.at(-1);
    const parent = nodeAt(this.tree.root, path.slice(0, -1));
    if (atKey && key !== undefined && parent?.kind === 'mapping') {
      const entry = entryOf(parent, key);
      if (entry !== undefined) return entry.keyRange.start;
    }
    for (let length = path.length; length > 0; length--) {
      const node = nodeAt(this.tree.root, path.slice(0, length));
      if (node !== undefined) return node.start;
    }
    return this.tree.root.start;
  }
}

/** A value with the place where it stands. */
export interface Placed<Value> {
  readonly path: ConfigPath;
  readonly value: Value;
}

/** The sound items of a list. */
export function itemsOf<Item>(
  list: readonly (Item | undefined)[] | undefined,
  path: ConfigPath,
): Placed<Item>[] {
  return (list ?? []).flatMap((value, index) =>
    value === undefined ? [] : [{ path: [...path, index], value }],
  );
}

/** The sound values of a mapping from names. */
export function namedOf<Value>(
  mapping: Readonly<Record<string, Value | undefined>> | undefined,
  path: ConfigPath,
): (Placed<Value> & { readonly name: string })[] {
  return Object.entries(mapping ?? {}).flatMap(([name, value]) =>
    value === undefined ? [] : [{ name, path: [...path, name], value }],
  );
}

/** @returns each pair of a later thing and the first before it that clashes with it */
export function clashesAmong<Thing>(
  things: readonly Thing[],
  clash: (earlier: Thing, later: Thing) => boolean,
): { readonly earlier: Thing; readonly later: Thing }[] {
  return things.flatMap((later, index) => {
    const earlier = things.slice(0, index).find((one) => clash(one, later));
    return earlier === undefined ? [] : [{ earlier, later }];
  });
}

/** As {@link clashesAmong} for things that clash when their keys are equal, in linear time. */
export function repetitionsAmong<Thing>(
  things: readonly Thing[],
  keyOf: (thing: Thing) => string,
): { readonly earlier: Thing; readonly later: Thing }[] {
  const firsts = new Map<string, Thing>();
  return things.flatMap((later) => {
    const earlier = firsts.get(keyOf(later));
    if (earlier === undefined) firsts.set(keyOf(later), later);
    return earlier === undefined ? [] : [{ earlier, later }];
  });
}
