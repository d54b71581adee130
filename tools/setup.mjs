/**
 * Brings a fresh checkout to where a script can run, and runs it:
 *
 *     node tools/setup.mjs <run | test | check | unit> -- <script.ts> [argument…]
 *
 * The purpose says what is needed: `run` and `test` need root, a kernel with BTF and Debian
 * packages, `check` only packages, `unit` neither. Plain JavaScript on any Node from 20 on, since
 * it runs before anything is installed; the script runs on the pinned Node. What is there already
 * is not touched, so the second time costs a fraction of a second. Every failure is one sentence
 * and exit code 1, and the next run starts over from wherever this one got to.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureAccount } from './setup/account.mjs';
import { runCommand, SetUpError } from './setup/command.mjs';
import { installDebianPackages } from './setup/debian-packages.mjs';
import { installNodePackages, pinnedNodePath } from './setup/node-packages.mjs';
import { missingRequirement, purposes, thisMachine } from './setup/requirements.mjs';
import { runScript } from './setup/run-script.mjs';
import { takeSetUpLock } from './setup/set-up-lock.mjs';

/** @typedef {import('./setup/requirements.mjs').Purpose} Purpose */

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

try {
  const { purpose, script, scriptArguments } = parseArguments(process.argv.slice(2));
  await setUp(purpose);
  const node = pinnedNodePath(root);
  const { code, interrupted } = await runScript({ node, script, scriptArguments, cwd: root });
  // Ctrl-C is how the main program is meant to end; npm would call any other code an error.
  const endedAsMeant = purpose === 'run' && interrupted && code === 130;
  process.exitCode = endedAsMeant ? 0 : code;
} catch (error) {
  if (!(error instanceof SetUpError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

/**
 * @param {readonly string[]} argv
 * @returns {{ purpose: Purpose, script: string, scriptArguments: readonly string[] }}
 */
function parseArguments(argv) {
  const purpose = purposes.find((name) => name === argv[0]);
  const script = argv[2];
  if (purpose === undefined || argv[1] !== '--' || script === undefined) {
    throw new SetUpError(
      `usage: node tools/setup.mjs <${purposes.join(' | ')}> -- <script.ts> [argument…]`,
    );
  }
  return { purpose, script, scriptArguments: argv.slice(3) };
}

/** @param {Purpose} purpose */
async function setUp(purpose) {
  const machine = thisMachine();
  const missing = missingRequirement(purpose, machine);
  if (missing !== undefined) throw new SetUpError(missing);
  const say = (/** @type {string} */ line) => console.error(line);
  const unlock = await takeSetUpLock(root, { say });
  try {
    await installDebianPackages(purpose, { userId: machine.userId, say });
    if (purpose === 'run' || purpose === 'test') await ensureAccount({ say });
    await installNodePackages(root, { say });
    if (purpose !== 'unit') await buildBpf();
  } finally {
    unlock();
  }
}

/** @throws {SetUpError} with all that the compiler said */
async function buildBpf() {
  const builder = join(root, 'tools/build-bpf.ts');
  const build = await runCommand([pinnedNodePath(root), builder]);
  if (build.code !== 0) {
    throw new SetUpError(`The BPF objects could not be built.\n${build.output.trimEnd()}`);
  }
  if (build.stdout !== '') console.error(build.stdout.trimEnd());
}
