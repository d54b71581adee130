/**
 * What the documents say about the repository is so: links lead somewhere, commands exist, paths
 * exist.
 *
 * A document may speak of what is not there yet: in a table row, a line of a code fence, a
 * paragraph or list item that holds the word "planned", or under a heading that does. A table row
 * or fence line that still says so once all its paths exist is a finding too.
 */
import { matchesGlob, posix } from 'node:path';
import type { Check, Finding } from './check.ts';
import { anchorsOf, type Block, blocksOf, codeSpansOf, linksOf } from './markdown.ts';
import type { Repository } from './repository.ts';
import { sourceOf } from './source.ts';

export const docsCheck: Check = {
  name: 'docs',
  async run(repository) {
    const pages = repository.paths.filter((path) => path.endsWith('.md'));
    const checked = pages.flatMap((path) => {
      const blocks = blocksOf(repository.text(path));
      return [
        ...brokenLinks(repository, path, blocks),
        ...blocks.flatMap((block) => blockFindings(repository, block)).map(at(path)),
      ];
    });
    return [...checked, ...brokenScripts(repository)];
  },
};

type FindingHere = Omit<Finding, 'path'>;

function at(path: string): (finding: FindingHere) => Finding {
  return (finding) => ({ path, ...finding });
}

function brokenLinks(repository: Repository, page: string, blocks: readonly Block[]): Finding[] {
  return linksOf(blocks).flatMap(({ target, line }) => {
    if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return [];
    const [file = '', anchor] = decodeURIComponent(target).split('#');
    const path = file === '' ? page : posix.join(posix.dirname(page), file);
    if (file.startsWith('/') || (path !== '.' && !repository.has(path))) {
      return [{ path: page, line, message: `links to ${target}, which does not exist` }];
    }
    if (anchor === undefined || !path.endsWith('.md')) return [];
    if (anchorsOf(blocksOf(repository.text(path))).has(anchor)) return [];
    return [{ path: page, line, message: `links to ${target}, but ${path} has no such heading` }];
  });
}

function blockFindings(repository: Repository, block: Block): FindingHere[] {
  const planned = /\bplanned\b/i.test([block.text, ...block.section].join('\n'));
  const code =
    block.kind === 'fence' ? [{ text: block.text, line: block.line }] : codeSpansOf(block);
  const paths = code.flatMap(({ text, line }) =>
    pathsIn(text, block.kind).map((path) => ({ path, line })),
  );
  const missing = paths.filter(({ path }) => !pathExists(repository, path));
  if (planned) {
    const single = block.kind === 'row' || block.kind === 'fence';
    const isSaidHere = single && /\bplanned\b/i.test(block.text);
    if (!isSaidHere || paths.length === 0 || missing.length > 0) return [];
    const names = paths.map(({ path }) => path).join(', ');
    return [{ line: block.line, message: `calls ${names} planned, but it exists: say what it is` }];
  }
  return [
    ...missing.map(({ path, line }) => ({
      line,
      message: `names ${path}, which does not exist (write "planned" in the line if it will)`,
    })),
    ...code.flatMap(({ text, line }) =>
      commandObjections(repository, text).map((message) => ({ line, message })),
    ),
  ];
}

/** Folders whose names at the head of a path mean this repository. */
const ownPath = /^(src|bpf|lab|tools|test|docs|bench|web|bin|\.ci)\/[^\s`'"()]*$/;

/** In prose a whole code span is a path; in a code fence a word is, or the start of a line. */
function pathsIn(code: string, kind: Block['kind']): string[] {
  const words = kind === 'fence' ? code.trim().split(/\s+/) : code.split(/\s+/);
  return words
    .map((word) => word.replace(/[:,;.]+$/, '').replace(/(:\d+)+$/, ''))
    .map((word) => word.replace(/^\.\//, ''))
    .filter((word) => ownPath.test(word) && !isPlaceholder(word));
}

/** `test/NAME.ts`, `docs/decisions/NNNN-title.md`, `src/<feature>/`, `src/…`. */
function isPlaceholder(path: string): boolean {
  return /[<>…$]|\.\.\./.test(path) || /(^|[/-])[A-Z]{2,}[A-Z0-9_]*(?=[./-]|$)/.test(path);
}

function pathExists(repository: Repository, path: string): boolean {
  if (!/[*{]/.test(path)) return repository.has(path);
  const pattern = path.replace(/\/$/, '/**');
  return expandBraces(pattern).every((expanded) =>
    expanded.includes('*')
      ? repository.paths.some((existing) => matchesGlob(existing, expanded))
      : repository.has(expanded),
  );
}

function expandBraces(pattern: string): string[] {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/.exec(pattern);
  if (match === null) return [pattern];
  const [, head = '', choices = '', tail = ''] = match;
  return choices.split(',').flatMap((choice) => expandBraces(`${head}${choice.trim()}${tail}`));
}

/** npm's own commands that need no entry in `scripts`. */
const npmCommands = ['ci', 'install', 'run', 'exec', 'outdated', 'audit', 'view', 'update', 'ls'];

function commandObjections(repository: Repository, code: string): string[] {
  const objections: string[] = [];
  for (const [, run, name = ''] of code.matchAll(/\bnpm (run )?([a-z][a-z0-9:-]*)/g)) {
    if (run === undefined && npmCommands.includes(name)) continue;
    if (scriptsOf(repository).has(name)) continue;
    objections.push(`names \`npm ${run ?? ''}${name}\`, which package.json does not have`);
  }
  const benches = /\bnpm run bench -- ([a-z][a-z0-9-]*)/g;
  for (const [, name = ''] of code.matchAll(benches)) {
    if (repository.has(`bench/${name}.ts`) || repository.has(`bench/${name}`)) continue;
    objections.push(`names the benchmark ${name}, but there is no bench/${name}.ts`);
  }
  for (const [, verb = ''] of code.matchAll(/(?:^|[\s$/])gatehouse ([a-z][a-z-]*)(?=\s|$)/gm)) {
    if (!isCommandLine(code) || isVerb(repository, verb)) continue;
    objections.push(`names the command gatehouse ${verb}, which src/cli/ does not know`);
  }
  return objections;
}

/** `inet gatehouse` is a table and `user gatehouse` an account; a command begins with its name. */
function isCommandLine(code: string): boolean {
  return /^\s*(\$ |# |sudo )*(\S*\/)?gatehouse /.test(code);
}

/** A verb has its own file, or the command line compares with its name. */
function isVerb(repository: Repository, verb: string): boolean {
  if (repository.has(`src/cli/${verb}.ts`)) return true;
  const sources = repository.paths.filter((path) => /^src\/cli\/[^.]+\.ts$/.test(path));
  return sources.some((path) =>
    sourceOf(repository, path).tokens.some(({ kind, text }) => kind === 'string' && text === verb),
  );
}

function scriptsOf(repository: Repository): Map<string, string> {
  if (!repository.has('package.json')) return new Map();
  const { scripts = {} } = JSON.parse(repository.text('package.json')) as {
    scripts?: Record<string, string>;
  };
  return new Map(Object.entries(scripts));
}

/** The scripts of package.json name files that are there. */
function brokenScripts(repository: Repository): Finding[] {
  return [...scriptsOf(repository)].flatMap(([name, script]) => {
    const files = script.split(/\s+/).filter((word) => /^[\w./-]+\/[\w.-]+\.m?[jt]s$/.test(word));
    return files
      .filter((file) => !repository.has(file))
      .map((file) => ({
        path: 'package.json',
        message: `its script "${name}" names ${file}, which does not exist`,
      }));
  });
}
