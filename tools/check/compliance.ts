/**
 * What docs/compliance/ says is shown by tests: each word in the last column of its tables stands
 * in the title of a test. A word such as `rfc4787-req1` may be written "RFC 4787 REQ-1" there, and
 * `rfc6092-rec1` "RFC 6092 REC-1".
 */
import type { Check, Finding } from './check.ts';
import { type Block, blocksOf, codeSpansOf } from './markdown.ts';
import type { Repository } from './repository.ts';
import { sourceOf, type Token } from './source.ts';

const pages = /^docs\/compliance\/.*\.md$/;
const testFile = /\.test\.ts$/;
/** Their cases go through several tests, which take their titles from `name`. */
const caseFile = /^src\/testing\/[^/]+-cases\.ts$/;

export const complianceCheck: Check = {
  name: 'compliance',
  async run(repository) {
    const paths = repository.paths.filter((path) => pages.test(path));
    const known = paths.length === 0 ? new Set<string>() : wordsOfTitles(repository);
    return paths.flatMap((path) => {
      const rows = tableRows(blocksOf(repository.text(path)));
      return rows.flatMap((row) => findingsOf(row, known).map((finding) => ({ path, ...finding })));
    });
  },
};

/** Without the heads of tables and the lines beneath those. */
function tableRows(blocks: readonly Block[]): readonly Block[] {
  const isLine = (block: Block | undefined) =>
    block?.kind === 'row' && /^[\s|:-]+$/.test(block.text);
  return blocks.filter(
    (block, index) => block.kind === 'row' && !isLine(block) && !isLine(blocks[index + 1]),
  );
}

/** What is planned needs no test yet, and says so in its row. */
function findingsOf(row: Block, known: ReadonlySet<string>): Omit<Finding, 'path'>[] {
  const { line } = row;
  const words = codeSpansOf({ ...row, text: lastCell(row.text) }).map(({ text }) => text);
  const missing = words.filter((word) => !known.has(word.toLowerCase()));
  if (/\bplanned\b/i.test(row.text)) {
    if (words.length === 0 || missing.length > 0) return [];
    const message = `is called planned, but tests have ${words.join(', ')}: say what it is`;
    return [{ line, message }];
  }
  if (words.length === 0) {
    return [{ line, message: 'names no test in its last column (write "planned" if it will)' }];
  }
  return missing.map((word) => ({
    line,
    message: `names ${word}, which no test has in its title`,
  }));
}

function lastCell(row: string): string {
  const cells = row.trim().replace(/\|$/, '').split('|');
  return cells.at(-1) ?? '';
}

function wordsOfTitles(repository: Repository): Set<string> {
  const titles = repository.paths.flatMap((path) => {
    if (testFile.test(path)) return titlesIn(sourceOf(repository, path).tokens, isTest);
    if (caseFile.test(path)) return titlesIn(sourceOf(repository, path).tokens, isName);
    return [];
  });
  return new Set(titles.flatMap(wordsOf));
}

function wordsOf(title: string): string[] {
  return title
    .toLowerCase()
    .replaceAll(/\brfc (\d+) re([qc])-/g, 'rfc$1-re$2')
    .split(/[^a-z0-9.-]+/);
}

/** Literals whose two tokens before are a beginning of a title. */
function titlesIn(
  tokens: readonly Token[],
  isBeginning: (word: string | undefined, mark: string | undefined) => boolean,
): string[] {
  return tokens
    .filter(({ kind }, index) => {
      const isLiteral = kind === 'string' || kind === 'template';
      return isLiteral && isBeginning(tokens[index - 2]?.text, tokens[index - 1]?.text);
    })
    .map(({ text }) => text);
}

function isTest(word: string | undefined, mark: string | undefined): boolean {
  return word === 'test' && mark === '(';
}

function isName(word: string | undefined, mark: string | undefined): boolean {
  return word === 'name' && mark === ':';
}
