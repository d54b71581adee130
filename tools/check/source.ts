/**
 * Reads TypeScript and JavaScript as tokens, so that a check never mistakes a comment or a string
 * for code. The scanner is TypeScript's own; its interface is called unstable, hence only this
 * file knows it and package.json pins the version.
 */
import { SyntaxKind } from 'typescript/unstable/ast';
import { createScanner } from 'typescript/unstable/ast/scanner';
import type { Repository } from './repository.ts';

export type TokenKind = 'word' | 'string' | 'template' | 'number' | 'regexp' | 'punctuation';

export interface Token {
  readonly kind: TokenKind;
  /** As written; a string without its quotes and with its escapes resolved. */
  readonly text: string;
  readonly line: number;
}

export interface Comment {
  /** With its `//` or its `/*` and closing. */
  readonly text: string;
  readonly line: number;
}

export interface Source {
  readonly tokens: readonly Token[];
  readonly comments: readonly Comment[];
}

export interface ImportReference {
  /** `undefined` when a dynamic import computes what it loads. */
  readonly specifier: string | undefined;
  readonly line: number;
  /** Names taken from the module by `import { a, b as c }`: here `a` and `b`. */
  readonly names: readonly string[];
}

/** True for the files that {@link readSource} understands. */
export function isScript(path: string): boolean {
  return /\.(ts|tsx|mts|cts|js|mjs|cjs)$/.test(path);
}

const sources = new WeakMap<Repository, Map<string, Source>>();

/** The tokens of one of the repository's files, read once. */
export function sourceOf(repository: Repository, path: string): Source {
  const known = sources.get(repository) ?? new Map<string, Source>();
  sources.set(repository, known);
  const source = known.get(path) ?? readSource(repository.text(path));
  known.set(path, source);
  return source;
}

export function readSource(text: string): Source {
  const scanner = createScanner(false, undefined, text);
  const tokens: Token[] = [];
  const comments: Comment[] = [];
  const openTemplates: number[] = [];
  let braceDepth = 0;
  let line = 1;
  for (let kind = scanner.scan(); kind !== SyntaxKind.EndOfFile; kind = scanner.scan()) {
    if (mayBeRegularExpression(kind, tokens.at(-1))) kind = scanner.reScanSlashToken();
    if (kind === SyntaxKind.TemplateHead) openTemplates.push(braceDepth);
    if (kind === SyntaxKind.OpenBraceToken) braceDepth++;
    if (kind === SyntaxKind.CloseBraceToken) {
      if (openTemplates.at(-1) === braceDepth) {
        kind = scanner.reScanTemplateToken(false);
        if (kind === SyntaxKind.TemplateTail) openTemplates.pop();
      } else {
        braceDepth--;
      }
    }
    const written = scanner.getTokenText();
    if (isComment(kind)) {
      comments.push({ text: written, line });
    } else if (!isWhiteSpace(kind)) {
      const tokenKind = kindOf(kind);
      const value = tokenKind === 'string' ? scanner.getTokenValue() : written;
      tokens.push({ kind: tokenKind, text: value, line });
    }
    line += written.split('\n').length - 1;
  }
  return { tokens, comments };
}

/**
 * Every module that a source names: `import`, `import type`, `export … from`, `import()` in code
 * and in types, `require()`, and `new URL('./worker.ts', import.meta.url)`.
 */
export function importsOf(source: Source): ImportReference[] {
  const { tokens } = source;
  const references: ImportReference[] = [];
  const textAt = (index: number) => tokens[index]?.text;
  for (const [index, token] of tokens.entries()) {
    if (token.kind !== 'word' || textAt(index - 1) === '.' || textAt(index - 1) === '?.') continue;
    if (token.text === 'URL' && textAt(index + 1) === '(' && isOwnUrl(tokens, index)) {
      references.push({ specifier: textAt(index + 2), line: token.line, names: [] });
    }
    if (token.text === 'import' || token.text === 'require') {
      if (textAt(index + 1) === '(') references.push(calledImport(tokens, index));
    }
    if (token.text === 'import' || token.text === 'export') {
      const found = declaredImport(tokens, index);
      if (found !== undefined) references.push(found);
    }
  }
  return references;
}

/** `import('x')`, `require('x')` at `index`. */
function calledImport(tokens: readonly Token[], index: number): ImportReference {
  const argument = tokens[index + 2];
  const after = tokens[index + 3]?.text;
  const literal = argument?.kind === 'string' && (after === ')' || after === ',');
  return {
    specifier: literal ? argument.text : undefined,
    line: tokens[index]?.line ?? 0,
    names: [],
  };
}

/** `import 'x'`, `import … from 'x'`, `export { … } from 'x'`, `export * from 'x'` at `index`. */
function declaredImport(tokens: readonly Token[], index: number): ImportReference | undefined {
  const start = tokens[index];
  const first = tokens[index + 1];
  if (start === undefined || first === undefined) return undefined;
  if (first.text === '.' || first.text === '(') return undefined;
  if (start.text === 'import' && first.kind === 'string') {
    return { specifier: first.text, line: start.line, names: [] };
  }
  const opening = first.text === 'type' ? tokens[index + 2]?.text : first.text;
  if (start.text === 'export' && opening !== '{' && opening !== '*') return undefined;
  const names: string[] = [];
  for (let at = index + 1; at < tokens.length; at++) {
    const token = tokens[at];
    if (token === undefined || [';', '(', '=', ':'].includes(token.text)) return undefined;
    if (token.text === 'from' && tokens[at + 1]?.kind === 'string') {
      return { specifier: tokens[at + 1]?.text, line: start.line, names };
    }
    if (token.text === '}' && tokens[at + 1]?.text !== 'from') return undefined;
    const renamed = tokens[at - 1]?.text === 'as';
    if (token.kind === 'word' && token.text !== 'as' && !renamed) names.push(token.text);
  }
  return undefined;
}

function isOwnUrl(tokens: readonly Token[], index: number): boolean {
  const written = tokens.slice(index + 2, index + 8).map(({ text }) => text);
  return /^\.{1,2}\/.*\.m?[tj]s$/.test(written[0] ?? '') && written[2] === 'import';
}

/** Words after which a slash begins a regular expression; after any other word it divides. */
const wordsBeforeExpression = new Set(
  'return typeof case in of delete void throw new else do await yield instanceof'.split(' '),
);

function mayBeRegularExpression(kind: SyntaxKind, previous: Token | undefined): boolean {
  if (kind !== SyntaxKind.SlashToken && kind !== SyntaxKind.SlashEqualsToken) return false;
  if (previous === undefined) return true;
  if (previous.kind === 'word') return wordsBeforeExpression.has(previous.text);
  return previous.kind === 'punctuation' && ![')', ']', '}', '++', '--'].includes(previous.text);
}

function isComment(kind: SyntaxKind): boolean {
  return kind === SyntaxKind.SingleLineCommentTrivia || kind === SyntaxKind.MultiLineCommentTrivia;
}

function isWhiteSpace(kind: SyntaxKind): boolean {
  return kind === SyntaxKind.WhitespaceTrivia || kind === SyntaxKind.NewLineTrivia;
}

function kindOf(kind: SyntaxKind): TokenKind {
  if (kind === SyntaxKind.StringLiteral || kind === SyntaxKind.NoSubstitutionTemplateLiteral) {
    return 'string';
  }
  if (kind >= SyntaxKind.FirstTemplateToken && kind <= SyntaxKind.LastTemplateToken) {
    return 'template';
  }
  if (kind === SyntaxKind.NumericLiteral || kind === SyntaxKind.BigIntLiteral) return 'number';
  if (kind === SyntaxKind.RegularExpressionLiteral) return 'regexp';
  return kind >= SyntaxKind.Identifier ? 'word' : 'punctuation';
}
