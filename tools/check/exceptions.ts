/**
 * Exceptions from a check, stated where they are: a comment on the line itself or just above it,
 *
 *     // check-ignore NAME: the moment of the kill is what is varied
 *
 * where NAME is the check's. One without a reason, or that excuses nothing, is a finding.
 */
import type { Check, Finding } from './check.ts';
import type { Repository } from './repository.ts';

const exception = /check-ignore ([a-z-]+)(?:: *(.*?))? *(?:\*\/|-->)?$/;
const REASON_CHARACTERS_MIN = 10;

interface Exception {
  readonly path: string;
  readonly line: number;
  readonly reason: string;
}

/** A check whose findings are those that no exception excuses, and the faults of exceptions. */
export function withExceptions(check: Check): Check {
  return {
    name: check.name,
    async run(repository) {
      const exceptions = exceptionsFrom(repository, check.name);
      const findings = await check.run(repository);
      const open = findings.filter((found) => !exceptions.some((one) => excuses(one, found)));
      const faulty = exceptions.flatMap((one) => faultsOf(one, check.name, findings));
      return [...open, ...faulty];
    },
  };
}

function exceptionsFrom(repository: Repository, name: string): Exception[] {
  const texts = repository.paths.filter((path) => /\.(ts|mjs|c|h|md)$/.test(path));
  return texts.flatMap((path) => {
    const text = repository.text(path);
    if (!text.includes('check-ignore')) return [];
    return text.split('\n').flatMap((line, index) => {
      const [, checkName, reason = ''] = exception.exec(line) ?? [];
      return checkName === name ? [{ path, line: index + 1, reason }] : [];
    });
  });
}

function excuses({ path, line }: Exception, found: Finding): boolean {
  return found.path === path && (found.line === line || found.line === line + 1);
}

function faultsOf(one: Exception, name: string, findings: readonly Finding[]): Finding[] {
  const { path, line, reason } = one;
  if (reason.length < REASON_CHARACTERS_MIN) {
    return [{ path, line, message: `makes an exception from ${name} without saying why` }];
  }
  if (findings.some((found) => excuses(one, found))) return [];
  return [{ path, line, message: `makes an exception from ${name} that excuses nothing: drop it` }];
}
