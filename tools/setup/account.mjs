/** The account of the processes that answer strangers. */
import { readFileSync } from 'node:fs';
import { lastLines, runCommand, SetUpError } from './command.mjs';

const ACCOUNT = 'gatehouse';

/**
 * Makes the system account that Gatehouse's unprivileged processes run as, if there is none:
 * without a password, a shell or a home.
 *
 * @param {{ say: (line: string) => void, passwordFile?: string }} options
 * @throws {SetUpError}
 */
export async function ensureAccount({ say, passwordFile = '/etc/passwd' }) {
  if (readFileSync(passwordFile, 'utf8').split('\n').some(isOurs)) return;
  say(`Making the account ${ACCOUNT}`);
  const flags = /** @type {const} */ (['--system', '--user-group', '--no-create-home']);
  const argv = /** @type {const} */ ([
    'useradd',
    ...flags,
    '--shell',
    '/usr/sbin/nologin',
    ACCOUNT,
  ]);
  const made = await runCommand(argv);
  if (made.code !== 0) {
    throw new SetUpError(`The account ${ACCOUNT} could not be made.\n${lastLines(made.output)}`);
  }
}

/** @param {string} line */
function isOurs(line) {
  return line.startsWith(`${ACCOUNT}:`);
}
