/** Compares a tree with the schema: which keys there are, and what kind of value each has. */
import { type ConfigPath, formatConfigPath } from './config-path.ts';
import { CONFIG_PROBLEMS_MAX, type ConfigProblem, quoted } from './config-problem.ts';
import { type JsonSchema, schemaOfKey } from './json-schema.ts';
import { nameMeans, namePattern } from './schema-fields.ts';
import {
  entryOf,
  type MappingNode,
  type ScalarNode,
  type SourceNode,
  type SourceTree,
} from './source-tree.ts';
import { suggest } from './suggest.ts';
import { textFormatOf } from './text-formats.ts';

export interface ShapeJudgement {
  /**
   * The value with defaults filled in. What was objected to is missing, or undefined in a list, so
   * that the rest can still be judged.
   */
  readonly value: unknown;
  /** In the order in which they were found; at most CONFIG_PROBLEMS_MAX. */
  readonly problems: readonly ConfigProblem[];
}

export function judgeShape(tree: SourceTree, schema: JsonSchema): ShapeJudgement {
  const judge = new ShapeJudge(tree);
  const value = judge.judge(tree.root, schema, []);
  return { value, problems: judge.problems };
}

/** A value that stands where a file says nothing: the default, with the defaults inside of it. */
export function defaultOf(schema: JsonSchema): unknown {
  return schema.default === undefined ? undefined : withDefaults(schema.default, schema);
}

/** What a value of the schema looks like, as a phrase: "a duration …, such as `12h`". */
export function describeExpected(schema: JsonSchema): string {
  if (schema.anyOf !== undefined) return schema.anyOf.map(describeExpected).join(', or ');
  if (schema.enum !== undefined) return `one of ${schema.enum.map((w) => `\`${w}\``).join(', ')}`;
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.type === 'object') return 'a mapping (`key: value`)';
  if (schema.type === 'array') return 'a list';
  if (schema.type === 'boolean') return '`true` or `false`';
  if (schema.type === 'integer') {
    return `a whole number from ${schema.minimum} to ${schema.maximum}`;
  }
  return describeText(schema);
}

function describeText(schema: JsonSchema): string {
  const format = textFormatOf(schema.format);
  if (format === undefined) return schema.means ?? 'a text';
  const { formatMinimum, formatMaximum } = schema;
  const limits =
    formatMinimum === undefined ? '' : `, from ${formatMinimum} to ${formatMaximum ?? 'any'}`;
  return `${format.means}, such as \`${format.example}\`${limits}`;
}

/** Words that other YAML readers, or people, take as truth values. */
const truthWords: Readonly<Record<string, string>> = {
  yes: 'true',
  on: 'true',
  y: 'true',
  no: 'false',
  off: 'false',
  n: 'false',
};

class ShapeJudge {
  readonly problems: ConfigProblem[] = [];
  private readonly tree: SourceTree;

  constructor(tree: SourceTree) {
    this.tree = tree;
  }

  judge(node: SourceNode, schema: JsonSchema, path: ConfigPath): unknown {
    if (schema.type === 'object') return this.judgeMapping(node, schema, path);
    if (schema.type === 'array') return this.judgeList(node, schema, path);
    if (node.kind === 'scalar' && isScalarOf(node, schema)) return node.value;
    const expected = describeExpected(schema);
    const suggestion = node.kind === 'scalar' ? suggestionFor(node, schema) : undefined;
    this.add({ offset: node.start, path, expected, found: describeFound(node), suggestion });
    return undefined;
  }

  private judgeMapping(node: SourceNode, schema: JsonSchema, path: ConfigPath): unknown {
    if (node.kind !== 'mapping') {
      this.add({
        offset: node.start,
        path,
        expected: describeExpected(schema),
        found: describeFound(node),
      });
      return undefined;
    }
    const entries: [string, unknown][] = [];
    const misspelt = new Set<string>();
    for (const { key, keyRange, value } of node.entries) {
      const at = [...path, key];
      const inner = schemaOfKey(schema, key);
      if (inner === undefined) {
        const meant = this.addUnknownKey(key, { schema, offset: keyRange.start, at });
        if (meant !== undefined) misspelt.add(meant);
      } else if (schema.patternProperties !== undefined && key in Object.prototype) {
        const expected = 'a name that the language of the program does not use itself';
        this.add({ offset: keyRange.start, path: at, expected, found: quoted(key) });
      } else entries.push([key, this.judge(value, inner, at)]);
    }
    this.judgeCount(node, { path, count: node.entries.length, max: schema.maxProperties });
    this.addMissing(node, { schema, path, misspelt });
    return withDefaults(Object.fromEntries(entries), schema);
  }

  private judgeList(node: SourceNode, schema: JsonSchema, path: ConfigPath): unknown {
    if (node.kind !== 'list') {
      this.add({
        offset: node.start,
        path,
        expected: describeExpected(schema),
        found: describeFound(node),
      });
      return undefined;
    }
    const { items = {}, minItems, maxItems } = schema;
    const count = node.items.length;
    this.judgeCount(node, { path, count, min: minItems, max: maxItems });
    return node.items.map((item, index) => this.judge(item, items, [...path, index]));
  }

  private judgeCount(
    node: SourceNode,
    { path, count, min = 0, max = Number.POSITIVE_INFINITY }: CountLimits,
  ): void {
    if (count >= min && count <= max) return;
    const expected = count < min ? `at least ${min} entries` : `at most ${max} entries`;
    this.add({ offset: node.start, path, expected, found: `${count}` });
  }

  /** @param misspelt keys that were objected to under another name already */
  private addMissing(
    node: MappingNode,
    { schema, path, misspelt }: { schema: JsonSchema; path: ConfigPath; misspelt: Set<string> },
  ): void {
    for (const key of schema.required ?? []) {
      const inner = schemaOfKey(schema, key) ?? {};
      if (inner.default !== undefined || entryOf(node, key) !== undefined) continue;
      if (misspelt.has(key)) continue;
      const expected = `the key \`${key}\`: ${describeExpected(inner)}`;
      this.add({ offset: node.start, path: [...path, key], expected, found: 'nothing' });
    }
  }

  /** @returns the key that was probably meant */
  private addUnknownKey(
    key: string,
    { schema, offset, at }: { schema: JsonSchema; offset: number; at: ConfigPath },
  ): string | undefined {
    if (this.problems.length >= CONFIG_PROBLEMS_MAX) return undefined;
    const [pattern] = Object.keys(schema.patternProperties ?? {});
    const known = Object.keys(schema.properties ?? {});
    const named = pattern === namePattern ? nameMeans : 'the name of an interface';
    const expected =
      pattern === undefined ? `one of the keys ${known.map((k) => `\`${k}\``).join(', ')}` : named;
    const found = pattern === undefined ? `the unknown key ${quoted(key)}` : quoted(key);
    const suggestion = suggest(key, known);
    this.add({ offset, path: at, expected, found, suggestion });
    return suggestion;
  }

  private add(problem: NewProblem): void {
    if (this.problems.length >= CONFIG_PROBLEMS_MAX) return;
    const { offset, path, expected, found, suggestion } = problem;
    this.problems.push({
      fileName: this.tree.fileName,
      ...this.tree.positionAt(offset),
      path: formatConfigPath(path),
      expected,
      found,
      ...(suggestion === undefined ? {} : { suggestion }),
    });
  }
}

interface CountLimits {
  readonly path: ConfigPath;
  readonly count: number;
  readonly min?: number | undefined;
  readonly max?: number | undefined;
}

interface NewProblem {
  readonly offset: number;
  readonly path: ConfigPath;
  readonly expected: string;
  readonly found: string;
  readonly suggestion?: string | undefined;
}

function isScalarOf(node: ScalarNode, schema: JsonSchema): boolean {
  const { value, source } = node;
  if (schema.anyOf !== undefined) return schema.anyOf.some((one) => isScalarOf(node, one));
  if (schema.const !== undefined) return value === schema.const && isPlainNumberOrText(node);
  if (schema.enum !== undefined) return typeof value === 'string' && schema.enum.includes(value);
  if (schema.type === 'boolean') return typeof value === 'boolean' && /^(true|false)$/.test(source);
  if (schema.type === 'string') return typeof value === 'string' && isTextOf(value, schema);
  if (typeof value !== 'number' || !isPlainNumberOrText(node)) return false;
  return value >= (schema.minimum ?? value) && value <= (schema.maximum ?? value);
}

/** `010`, `0x50`, `1e3` and `80.0` are numbers to YAML, but people differ about which. */
function isPlainNumberOrText({ value, source }: ScalarNode): boolean {
  return typeof value !== 'number' || /^(0|-?[1-9][0-9]{0,14})$/.test(source);
}

function isTextOf(value: string, schema: JsonSchema): boolean {
  if (value.length > (schema.maxLength ?? value.length)) return false;
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(value)) return false;
  const format = textFormatOf(schema.format);
  if (format === undefined) return true;
  if (format.parse(value) === undefined) return false;
  const size = format.measure?.(value);
  const { formatMinimum, formatMaximum } = schema;
  const least = formatMinimum === undefined ? undefined : format.measure?.(formatMinimum);
  const most = formatMaximum === undefined ? undefined : format.measure?.(formatMaximum);
  return size === undefined || (size >= (least ?? size) && size <= (most ?? size));
}

function describeFound(node: SourceNode): string {
  if (node.kind === 'mapping') return 'a mapping';
  if (node.kind === 'list') return 'a list';
  if (node.source === '') return 'nothing';
  const kinds = { string: 'the text', number: 'the number', boolean: 'the truth value' } as const;
  const kind = kinds[typeof node.value as keyof typeof kinds];
  if (kind === undefined) return 'nothing (null)';
  return `${kind} ${quoted(typeof node.value === 'string' ? node.value : node.source)}`;
}

function suggestionFor({ value }: ScalarNode, schema: JsonSchema): string | undefined {
  if (typeof value !== 'string') return undefined;
  if (schema.type === 'boolean') {
    const word = value.toLowerCase();
    return Object.hasOwn(truthWords, word) ? truthWords[word] : suggest(word, ['true', 'false']);
  }
  const choices = (schema.anyOf ?? [schema]).flatMap((one) => [
    ...(one.enum ?? []),
    ...(typeof one.const === 'string' ? [one.const] : []),
  ]);
  return suggest(value, choices);
}

/**
 * Fills in what a value of an object leaves out; lists and scalars are whole as they are. A key
 * whose value was refused stays without one: its default would only cause more objections.
 */
function withDefaults(value: unknown, schema: JsonSchema): unknown {
  if (schema.type !== 'object' || typeof value !== 'object' || value === null) return value;
  const given = value as Readonly<Record<string, unknown>>;
  const entries = Object.entries(given);
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    if (!Object.hasOwn(given, key)) entries.push([key, defaultOf(inner)]);
  }
  return Object.fromEntries(entries.filter(([, filled]) => filled !== undefined));
}
