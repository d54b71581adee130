/**
 * `npm run check [-- NAME …]`: every rule of the repository that a program can hold. Prints one
 * line for each check, then every finding with file, line and reason; exits with 1 if there is one.
 *
 * A new check is a file in tools/check/ that exports a {@link Check}, its test, and a line here.
 * tools/check/exceptions.ts says how a line is excused, with a reason.
 */
import { join } from 'node:path';
import { bannedCallsCheck } from './check/banned-calls.ts';
import type { Check } from './check/check.ts';
import { complianceCheck } from './check/compliance.ts';
import { decisionsCheck } from './check/decisions.ts';
import { dependenciesCheck } from './check/dependencies.ts';
import { docsCheck } from './check/docs.ts';
import { withExceptions } from './check/exceptions.ts';
import { generatedCheck } from './check/generated.ts';
import { layersCheck } from './check/layers.ts';
import { machinePathsCheck } from './check/machine-paths.ts';
import { cFormatCheck, formatAndLintCheck, typesCheck } from './check/programs.ts';
import { openRepository } from './check/repository.ts';
import { runChecks } from './check/run-checks.ts';
import { testsCheck } from './check/tests.ts';
import { tidyCheck } from './check/tidy.ts';

const checks: readonly Check[] = [
  formatAndLintCheck,
  typesCheck,
  cFormatCheck,
  generatedCheck(),
  layersCheck,
  bannedCallsCheck,
  tidyCheck,
  testsCheck,
  docsCheck,
  complianceCheck,
  decisionsCheck,
  dependenciesCheck,
  machinePathsCheck,
].map(withExceptions);

process.exitCode = await main(process.argv.slice(2));

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.filter((name) => !checks.some((check) => check.name === name));
  if (unknown.length > 0) {
    const known = checks.map(({ name }) => name).join(', ');
    console.error(`There is no check named ${unknown.join(', ')}. There are: ${known}.`);
    return 2;
  }
  const chosen = checks.filter(({ name }) => names.length === 0 || names.includes(name));
  const repository = openRepository(join(import.meta.dirname, '..'));
  const findingCount = await runChecks(chosen, repository, (line) => console.log(line));
  return findingCount === 0 ? 0 : 1;
}
