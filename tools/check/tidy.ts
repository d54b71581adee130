/** Names and shape of files. */
import { basename } from 'node:path';
import type { Check, Finding } from './check.ts';

/** A longer file has more than one subject. */
const LINES_MAX = 600;
/** The width that Biome and clang-format break code at; this holds comments and text to it too. */
const COLUMNS_MAX = 100;
const TAB_COLUMNS = 8;

/** Names that say nothing about what is inside, so that anything ends up there. */
const emptyNames = ['util', 'utils', 'helper', 'helpers', 'common', 'misc', 'types', 'manager'];

/** Names that tools and readers expect as they are. */
const customaryNames = /^(README|ARCHITECTURE|CHANGELOG|LICENSE|NOTICE|CONTRIBUTING)(\.md)?$/;

const kebabCase = /^\.?[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)*$/;
const textFile = /(\.(ts|tsx|mjs|js|json|md|c|h|sh|css|html|yaml|yml|svg)|\/run|ignore)$/;
const codeFile = /\.(ts|tsx|mjs|js|c|h|sh|css)$/;
const cFile = /\.[ch]$/;

export const tidyCheck: Check = {
  name: 'tidy',
  async run(repository) {
    return repository.paths.flatMap((path) => {
      const named = nameFindings(path);
      if (!textFile.test(path)) return named;
      return [...named, ...textFindings(path, repository.text(path))];
    });
  },
};

function nameFindings(path: string): Finding[] {
  const findings: Finding[] = [];
  for (const segment of path.split('/')) {
    const [stem = ''] = segment.replace(/^\./, '').split('.');
    if (emptyNames.includes(stem.split('-').at(-1) ?? '')) {
      const message = `"${stem}" says nothing about what is inside: name the main export`;
      findings.push({ path, message });
    }
    if (!kebabCase.test(segment) && !customaryNames.test(segment)) {
      const message = `"${segment}" is not in kebab-case: one spelling makes every path guessable`;
      findings.push({ path, message });
    }
  }
  return findings;
}

function textFindings(path: string, text: string): Finding[] {
  const lines = text.split('\n');
  const generated = path.includes('.generated.') || basename(path) === 'package-lock.json';
  const findings: Finding[] = lines.flatMap((line, index) =>
    lineObjections(path, line, generated).map((message) => ({ path, line: index + 1, message })),
  );
  if (text !== '' && (!text.endsWith('\n') || text.endsWith('\n\n'))) {
    findings.push({ path, line: lines.length, message: 'does not end with exactly one line feed' });
  }
  if (codeFile.test(path) && !generated && lines.length - 1 > LINES_MAX) {
    const message = `has ${lines.length - 1} lines, over ${LINES_MAX}: one subject a file`;
    findings.push({ path, message });
  }
  if (path.endsWith('.h') && !/^#pragma once$/m.test(text)) {
    findings.push({ path, message: 'lacks "#pragma once": two includes would define it twice' });
  }
  return findings;
}

function lineObjections(path: string, line: string, generated: boolean): string[] {
  const objections: string[] = [];
  if (/\r$/.test(line)) objections.push('ends with a carriage return');
  if (/[ \t]+\r?$/.test(line)) objections.push('ends with white space, which shows as a change');
  if (line.includes('\t') && !cFile.test(path)) {
    objections.push('holds a tab: only C is indented by tabs here');
  }
  if (codeFile.test(path) && !generated && isTooLong(line)) {
    objections.push(`is ${columnsOf(line)} columns wide, over ${COLUMNS_MAX}`);
  }
  return objections;
}

/** Biome keeps a test's title and the head of its function on one line. */
const testHead = /^\s*(test|it|describe)\(/;

/** What cannot be broken may be longer: an address, or one word such as a line of hex. */
function isTooLong(line: string): boolean {
  if (testHead.test(line)) return false;
  const breakable = line
    .trim()
    .replace(/^(\/\/|\*|#)\s*/, '')
    .includes(' ');
  return columnsOf(line) > COLUMNS_MAX && breakable && !line.includes('://');
}

function columnsOf(line: string): number {
  let columns = 0;
  for (const character of line) {
    columns += character === '\t' ? TAB_COLUMNS - (columns % TAB_COLUMNS) : 1;
  }
  return columns;
}
