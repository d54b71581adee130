/** The npm packages, the pinned Node among them. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { lastLines, runCommand, SetUpError, wasMissing } from './command.mjs';

/** Written last, so that an installation that was cut short is done again. */
const STAMP = 'node_modules/.gatehouse-set-up';

/** @param {string} root */
export function pinnedNodePath(root) {
  return join(root, 'node_modules/.bin/node');
}

/**
 * Makes node_modules what package-lock.json says, and the pinned Node run. When both are so
 * already it only runs that Node once.
 *
 * @param {string} root the repository
 * @param {{ say: (line: string) => void }} options
 * @throws {SetUpError} when npm is missing or fails, or the pinned Node does not run
 */
export async function installNodePackages(root, { say }) {
  if ((await whyUnusable(root)) === undefined) return;
  say('Installing npm packages');
  const npm = await npmCi(root);
  if (wasMissing(npm)) {
    throw new SetUpError(
      'npm is not on the PATH; it comes with Node and is needed for the set-up.',
    );
  }
  if (npm.code !== 0) {
    throw new SetUpError(
      `The npm packages could not be installed, as npm ci ended with code ${npm.code}; run this ` +
        `again once the reason is solved.${lastLines(withoutNoise(npm.output))}`,
    );
  }
  writeStamp(root);
  const reason = await whyUnusable(root);
  if (reason === undefined) return;
  throw new SetUpError(
    `npm ended well, but ${reason}. Most likely the download of ${pinnedPackage()} failed, which ` +
      'npm does not report: check the network and run this again.',
  );
}

/**
 * @param {string} root
 * @returns {Promise<string | undefined>} undefined when node_modules can be used as it is
 */
async function whyUnusable(root) {
  const { version, lock } = readPinned(root);
  const lost = Object.keys(lock.packages).find(
    (path) =>
      lock.packages[path]?.optional !== true && !existsSync(join(root, path, 'package.json')),
  );
  if (lost !== undefined) return `${lost} is missing`;
  const node = pinnedNodePath(root);
  if (!existsSync(node)) return 'node_modules/.bin/node is missing';
  if (readStamp(root) !== stampFor(root)) return `node_modules was not installed completely`;
  const run = await runCommand([node, '--version']);
  if (run.code === 0 && run.stdout.trim() === `v${version}`) return undefined;
  return `node_modules/.bin/node does not run as Node ${version}`;
}

/**
 * npm itself must not run on the Node inside node_modules, which it deletes on the way; and it
 * must not go on when this process is killed, or it would disturb the next set-up.
 *
 * @param {string} root
 */
function npmCi(root) {
  const path = (process.env['PATH'] ?? '')
    .split(delimiter)
    .filter((folder) => !folder.startsWith(join(root, 'node_modules')))
    .join(delimiter);
  const options = [
    // NODE_ENV=production would leave out what the set-up's own next steps need.
    ...['--include=dev', '--include=optional', '--ignore-scripts', '--prefer-offline'],
    ...['--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=warn'],
    ...['--fetch-retry-mintimeout=2000', '--fetch-retry-maxtimeout=10000'],
  ];
  return runCommand(['setpriv', '--pdeathsig', 'KILL', '--', 'npm', 'ci', ...options], {
    cwd: root,
    env: { ...process.env, PATH: path },
  });
}

/**
 * What the installation depends on, and the size of the binary, which shows a file cut short.
 *
 * @param {string} root
 */
function stampFor(root) {
  const hash = createHash('sha256');
  hash.update(readFileSync(join(root, 'package-lock.json')));
  hash.update(`${readPinned(root).version} ${process.arch}`);
  return `${hash.digest('hex')} ${statSync(pinnedNodePath(root)).size}\n`;
}

/** @param {string} root */
function writeStamp(root) {
  if (existsSync(pinnedNodePath(root))) writeFileSync(join(root, STAMP), stampFor(root));
}

/** @param {string} root */
function readStamp(root) {
  try {
    return readFileSync(join(root, STAMP), 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * @param {string} root
 * @returns {{ version: string, lock: { packages: Record<string, { optional?: boolean }> } }}
 */
function readPinned(root) {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  return { version: manifest.optionalDependencies[pinnedPackage()], lock };
}

function pinnedPackage() {
  return `node-linux-${process.arch}`;
}

/**
 * npm says the reason first, then shows its own stack, where its log lies, and advice.
 *
 * @param {string} output
 */
function withoutNoise(output) {
  const noise = /^npm (warn|error|ERR!)\s*($|at |\w+: |[{}]|A complete log|Unknown user config)/;
  return output
    .split('\n')
    .filter((line) => !noise.test(line))
    .join('\n');
}
