/** Removes what killed labs left on this machine: `node lab/clean.ts`, as root. */
import { cleanLeftovers } from './ownership.ts';

const { removed, failed } = await cleanLeftovers();
for (const instance of removed) process.stdout.write(`removed ${instance}\n`);
for (const { instance, reason } of failed) {
  process.stderr.write(`cannot remove ${instance}: ${reason}\n`);
}
process.exitCode = failed.length === 0 ? 0 : 1;
