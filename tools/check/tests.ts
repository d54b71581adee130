/** Every test is one that the test run finds. */
import { matchesGlob } from 'node:path';
import type { Check, Finding } from './check.ts';
import type { Repository } from './repository.ts';
import { importsOf, isScript, sourceOf } from './source.ts';

/** Where the test run looks. */
const testGlobs = ['{src,lab,tools}/**/*.test.ts', 'test/**/*.test.ts'];

/** Other people's conventions, under which a file would look like a test and never run. */
const testLike = /([._-](spec|tests?)\.[a-z]+|(^|\/)(spec|tests?)[._-][^/]*\.[mc]?[jt]sx?)$/;

const declarations = ['test', 'it', 'describe', 'suite'];

export const testsCheck: Check = {
  name: 'tests',
  async run(repository) {
    return repository.paths.filter(isScript).flatMap((path) => findingsOf(repository, path));
  },
};

function findingsOf(repository: Repository, path: string): Finding[] {
  if (testGlobs.some((glob) => matchesGlob(path, glob))) return [];
  if (testLike.test(path)) {
    return [{ path, message: `looks like a test but never runs: only ${testGlobs.join(', ')} do` }];
  }
  return importsOf(sourceOf(repository, path)).flatMap(({ specifier, names, line }) => {
    const declares = names.some((name) => declarations.includes(name));
    if (specifier !== 'node:test' || !declares || isContract(path)) return [];
    const message = `declares tests but never runs: only ${testGlobs.join(', ')} do`;
    return [{ path, line, message }];
  });
}

/** A suite for several implementations is imported by the test of each. */
function isContract(path: string): boolean {
  return /(^src\/testing\/|^test\/|-contract\.ts$)/.test(path);
}
