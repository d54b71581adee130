/**
 * The text of a config file as a tree whose every node knows where it stands.
 *
 * The language is a part of YAML 1.2 in which a text means one thing only, and an edit of one value
 * touches one place: mappings, lists, and values on one line. Anchors, aliases, tags, directives,
 * merge and complex keys, block scalars and several documents are refused by name.
 */
import { Composer, type CST, isMap, isScalar, isSeq, Lexer, type ParsedNode, Parser } from 'yaml';
import { type ConfigPath, formatConfigPath } from './config-path.ts';
import { CONFIG_PROBLEMS_MAX, type ConfigProblem, printable, quoted } from './config-problem.ts';
import type { PlainValue } from './plain-value.ts';
import { CONFIG_KEY_LENGTH_MAX, findRefusedCharacter, TextLimits } from './text-limits.ts';

/** A stretch of the text: offsets in UTF-16 code units, the end not included. */
export interface TextRange {
  readonly start: number;
  readonly end: number;
}

export interface ScalarNode extends TextRange {
  readonly kind: 'scalar';
  readonly value: string | number | boolean | null;
  /** As it stands in the file, with its quotes. */
  readonly source: string;
}

export interface MappingNode extends TextRange {
  readonly kind: 'mapping';
  readonly entries: readonly MappingEntry[];
  /** In braces. */
  readonly isFlow: boolean;
}

export interface MappingEntry {
  readonly key: string;
  readonly keyRange: TextRange;
  readonly value: SourceNode;
}

export interface ListNode extends TextRange {
  readonly kind: 'list';
  readonly items: readonly SourceNode[];
  /** In brackets. */
  readonly isFlow: boolean;
}

export type SourceNode = ScalarNode | MappingNode | ListNode;

export interface SourceTree {
  readonly text: string;
  readonly fileName: string;
  readonly root: SourceNode;
  /** Line and column, both from 1, of an offset. */
  positionAt(offset: number): { readonly line: number; readonly column: number };
}

export type SourceTreeResult =
  | { readonly tree: SourceTree; readonly problems?: never }
  | { readonly problems: readonly ConfigProblem[]; readonly tree?: never };

/**
 * Reads a text into its tree; problems are those of the language, not of the config's meaning.
 *
 * @param fileName how problems call the file
 */
export function parseSourceTree(text: string, fileName: string): SourceTreeResult {
  const reader = new TreeReader(text, fileName);
  const root = reader.read();
  if (root === undefined || reader.problems.length > 0) {
    reader.problems.sort((a, b) => a.line - b.line || a.column - b.column);
    return { problems: reader.problems.slice(0, CONFIG_PROBLEMS_MAX) };
  }
  const positionAt = (offset: number) => reader.positionAt(offset);
  return { tree: { text, fileName, root, positionAt } };
}

/** The node at a path. @returns undefined where there is none */
export function nodeAt(root: SourceNode, path: ConfigPath): SourceNode | undefined {
  let node: SourceNode | undefined = root;
  for (const step of path) {
    if (node?.kind === 'mapping') node = entryOf(node, step)?.value;
    else node = node?.kind === 'list' && typeof step === 'number' ? node.items[step] : undefined;
  }
  return node;
}

export function entryOf(node: MappingNode, key: string | number): MappingEntry | undefined {
  return node.entries.find((entry) => entry.key === key);
}

/** The value without defaults or judgement; keys are own properties, whatever their names are. */
export function plainValueOf(node: SourceNode): PlainValue {
  if (node.kind === 'scalar') return node.value;
  if (node.kind === 'list') return node.items.map(plainValueOf);
  return Object.fromEntries(node.entries.map(({ key, value }) => [key, plainValueOf(value)]));
}

class TreeReader {
  readonly problems: ConfigProblem[] = [];
  private readonly text: string;
  private readonly fileName: string;
  private readonly lineStarts: readonly number[];

  constructor(text: string, fileName: string) {
    this.text = text;
    this.fileName = fileName;
    this.lineStarts = lineStartsOf(text);
  }

  read(): SourceNode | undefined {
    const refused = findRefusedCharacter(this.text);
    if (refused !== undefined) {
      this.add({ ...refused, path: [] });
      return undefined;
    }
    const composer = new Composer({ prettyErrors: false, uniqueKeys: false, stringKeys: true });
    const documents = [...composer.compose(this.tokens(), true, this.text.length)];
    if (this.problems.length > 0) return undefined;
    const mistakes = documents.flatMap(({ errors, warnings }) => [...errors, ...warnings]);
    for (const { message, pos } of mistakes) this.addMistake(pos[0], message);
    const contents = documents[0]?.contents ?? null;
    if (this.problems.length > 0) return undefined;
    return contents === null ? this.emptyScalar(this.text.length) : this.convert(contents, []);
  }

  positionAt(offset: number): { line: number; column: number } {
    let line = 0;
    for (let step = 2 ** 21; step >= 1; step /= 2) {
      const start = this.lineStarts[line + step];
      if (start !== undefined && start <= offset) line += step;
    }
    return { line: line + 1, column: offset - (this.lineStarts[line] ?? 0) + 1 };
  }

  /** The parser's tokens, as long as they stay within the language and its limits. */
  private *tokens(): Generator<CST.Token, void> {
    const parser = new Parser();
    const limits = new TextLimits();
    for (const lexeme of new Lexer().lex(this.text)) {
      const { offset } = parser;
      for (const token of parser.next(lexeme)) {
        yield token;
        // Outside of any document everything that follows is a mistake, too, but not the writer's.
        if (token.type === 'error') return;
      }
      let depth = 0;
      for (const token of parser.stack) if ('items' in token) depth++;
      const objection = limits.judge(lexeme, { offset, depth });
      if (objection !== undefined) {
        this.add({ ...objection, path: [] });
        return;
      }
    }
    yield* parser.end();
  }

  private convert(node: ParsedNode, path: ConfigPath): SourceNode {
    const [start, end] = node.range;
    if (isScalar(node)) {
      const source = this.text.slice(start, end);
      return { kind: 'scalar', value: scalarValueOf(node.value, source), source, start, end };
    }
    if (isSeq(node)) {
      const items = node.items.map((item, index) => this.convert(item, [...path, index]));
      return { kind: 'list', items, isFlow: node.flow === true, start, end };
    }
    if (!isMap(node)) throw new Error(`a node of an unknown kind at ${formatConfigPath(path)}`);
    const entries: MappingEntry[] = [];
    const firstLines = new Map<string, number>();
    for (const pair of node.items) {
      const key = String(isScalar(pair.key) ? pair.key.value : '');
      const [keyStart, keyEnd] = pair.key.range;
      if (key.length > CONFIG_KEY_LENGTH_MAX) {
        const expected = `keys of at most ${CONFIG_KEY_LENGTH_MAX} characters`;
        this.add({ offset: keyStart, path, expected, found: quoted(key) });
        continue;
      }
      const keyRange = { start: keyStart, end: keyEnd };
      const at = [...path, key];
      this.noteDuplicate(firstLines, { key, offset: keyStart, path: at });
      const value = pair.value === null ? this.emptyScalar(keyEnd) : this.convert(pair.value, at);
      entries.push({ key, keyRange, value });
    }
    return { kind: 'mapping', entries, isFlow: node.flow === true, start, end };
  }

  private noteDuplicate(
    firstLines: Map<string, number>,
    { key, offset, path }: { key: string; offset: number; path: ConfigPath },
  ): void {
    const first = firstLines.get(key);
    if (first === undefined) firstLines.set(key, this.positionAt(offset).line);
    else {
      const found = `${quoted(key)} again; it stands in line ${first} already`;
      this.add({ offset, path, expected: 'each key once', found });
    }
  }

  /** One for each line: the next ones of a line mostly follow from the first. */
  private addMistake(offset: number, message: string): void {
    const { line } = this.positionAt(offset);
    if (this.problems.some((problem) => problem.line === line)) return;
    const found = `a mistake: ${printable(message)}`;
    this.add({ offset, path: [], expected: 'YAML', found });
  }

  private emptyScalar(offset: number): ScalarNode {
    return { kind: 'scalar', value: null, source: '', start: offset, end: offset };
  }

  private add(problem: {
    readonly offset: number;
    readonly path: ConfigPath;
    readonly expected: string;
    readonly found: string;
  }): void {
    if (this.problems.length >= CONFIG_PROBLEMS_MAX) return;
    const { offset, path, expected, found } = problem;
    const { fileName } = this;
    const place = this.positionAt(offset);
    this.problems.push({ fileName, ...place, path: formatConfigPath(path), expected, found });
  }
}

/** What the core schema of YAML 1.2 makes of a scalar. */
function scalarValueOf(value: unknown, source: string): ScalarNode['value'] {
  if (value === null) return null;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
    return value;
  }
  throw new Error(`a scalar that is no plain value: ${quoted(source)}`);
}

function lineStartsOf(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}
