/** docs/decisions/: numbered without gaps, all of one form, all in the index. */
import { basename } from 'node:path';
import type { Check, Finding } from './check.ts';
import { blocksOf, linksOf } from './markdown.ts';
import type { Repository } from './repository.ts';

const folder = 'docs/decisions/';
const index = `${folder}README.md`;
const headings = ['Status', 'Context', 'Decision', 'Consequences', 'Not chosen'];
/** A page: what does not fit belongs into the document that the decision is about. */
const LINES_MAX = 60;
const statusLine = /^(Accepted\b|Proposed\b|Superseded by \[\d{4}\]\(\d{4}-[a-z0-9-]+\.md\))/;
const fileName = /^(\d{4})-[a-z0-9-]+\.md$/;

export const decisionsCheck: Check = {
  name: 'decisions',
  async run(repository) {
    const paths = repository.paths.filter((path) => path.startsWith(folder) && path !== index);
    return [
      ...paths.flatMap((path, position) => findingsOf(path, repository.text(path), position + 1)),
      ...indexFindings(repository, paths),
    ];
  },
};

function findingsOf(path: string, text: string, expected: number): Finding[] {
  const number = fileName.exec(basename(path))?.[1];
  if (number === undefined) return [{ path, message: 'is not named NNNN-title.md' }];
  const messages: string[] = [];
  if (Number(number) !== expected) {
    const wanted = String(expected).padStart(4, '0');
    messages.push(
      `has number ${number} where ${wanted} follows: decisions are numbered without gaps`,
    );
  }
  const blocks = blocksOf(text);
  if (!text.startsWith(`# ${Number(number)}. `)) {
    messages.push(`does not start with the title "# ${Number(number)}. …"`);
  }
  const found = blocks.filter(({ kind, section }) => kind === 'heading' && section.length === 2);
  if (found.map((heading) => heading.text).join() !== headings.join()) {
    messages.push(`does not have the headings ${headings.join(', ')} in this order`);
  }
  const status = blocks.find(({ kind, section }) => kind === 'text' && section[1] === 'Status');
  if (status !== undefined && !statusLine.test(status.text)) {
    messages.push('has a status that is not Accepted, Proposed or Superseded by [NNNN](…)');
  }
  const lineCount = text.split('\n').length - 1;
  if (lineCount > LINES_MAX) messages.push(`has ${lineCount} lines, over a page of ${LINES_MAX}`);
  return messages.map((message) => ({ path, message }));
}

function indexFindings(repository: Repository, paths: readonly string[]): Finding[] {
  if (paths.length === 0) return [];
  if (!repository.has(index)) return [{ path: index, message: 'is missing: it is the index' }];
  const listed = linksOf(blocksOf(repository.text(index))).map(({ target }) => target);
  return paths
    .map((path) => basename(path))
    .filter((name) => fileName.test(name) && !listed.includes(name))
    .map((name) => ({ path: index, message: `does not list ${name}` }));
}
