/** Runs checks side by side and prints what they found. */
import type { Check, Finding } from './check.ts';
import type { Repository } from './repository.ts';

/**
 * Prints one line for each check as it ends, then every finding in the order of the checks.
 *
 * @returns how many findings there are. A check that breaks counts as one, since what it would
 *   have found is unknown.
 */
export async function runChecks(
  checks: readonly Check[],
  repository: Repository,
  print: (line: string) => void,
): Promise<number> {
  const results = await Promise.all(checks.map((check) => runTimed(check, repository, print)));
  const findings = results.flat();
  for (const { path, line, message } of findings) {
    print(`${path}${line === undefined ? '' : `:${line}`}: ${message}`);
  }
  const count = findings.length === 0 ? 'nothing' : findings.length;
  print(`${checks.length} checks, ${count} found`);
  return findings.length;
}

async function runTimed(
  check: Check,
  repository: Repository,
  print: (line: string) => void,
): Promise<Finding[]> {
  const startedAt = performance.now();
  const findings = await runGuarded(check, repository);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const state = findings.length === 0 ? 'ok' : `failed (${findings.length})`;
  print(`${check.name.padEnd(16)} ${state.padEnd(12)} ${seconds.padStart(5)} s`);
  return findings;
}

async function runGuarded(check: Check, repository: Repository): Promise<Finding[]> {
  try {
    return await check.run(repository);
  } catch (error) {
    const reason = error instanceof Error ? error.stack : String(error);
    return [{ path: 'tools/check.ts', message: `the check ${check.name} broke: ${reason}` }];
  }
}
