/** One set-up at a time in a checkout. */
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { SetUpError } from './command.mjs';

/** A set-up with nothing to do is over before this. */
const SAY_AFTER_MS = 1000;

/**
 * Waits for every other set-up in this folder. The kernel holds the lock for a helper process that
 * lives as long as this one at most, so a set-up that was killed leaves no lock behind.
 *
 * @param {string} root the repository
 * @param {{ say: (line: string) => void }} options
 * @returns {Promise<() => void>} gives the lock back
 * @throws {SetUpError} when the lock cannot be taken at all
 */
export function takeSetUpLock(root, { say }) {
  const folder = join(root, 'build');
  mkdirSync(folder, { recursive: true });
  // flock runs cat once it has the lock; the echo of a line tells so. cat ends with its stdin.
  const holder = spawn('flock', [join(folder, 'set-up.lock'), 'cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const notice = setTimeout(() => {
    say('Waiting for another set-up in this folder to finish');
  }, SAY_AFTER_MS);
  return new Promise((resolve, reject) => {
    const fail = (/** @type {string} */ reason) => {
      clearTimeout(notice);
      reject(new SetUpError(`The set-up could not lock ${folder}: ${reason}.`));
    };
    holder.on('error', (error) => fail(error.message));
    holder.on('exit', (code, signal) => fail(`flock ended with ${signal ?? code}`));
    holder.stdin.on('error', () => {});
    holder.stdout.once('data', () => {
      clearTimeout(notice);
      holder.removeAllListeners('exit').unref();
      resolve(() => holder.stdin.end());
    });
    holder.stdin.write('locked\n');
  });
}
