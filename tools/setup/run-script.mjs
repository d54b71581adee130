/** Handing over to the pinned Node. */
import { spawn } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { exitCodeOf } from './command.mjs';

/** @type {readonly NodeJS.Signals[]} */
const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'];

/**
 * One Ctrl-C arrives several times, from the terminal and from npm, which passes it on. This tells
 * it from a person who insists.
 */
const SAME_SIGNAL_MS = 1000;

/**
 * Runs a script to its end. It gets every signal that this process gets, once, and as much time to
 * clean up as it takes; if this process is killed, the script gets a SIGTERM.
 *
 * @param {object} options
 * @param {string} options.node
 * @param {string} options.script
 * @param {readonly string[]} options.scriptArguments
 * @param {string} options.cwd
 * @returns {Promise<{ code: number, interrupted: boolean }>} `interrupted` by SIGINT
 */
export function runScript({ node, script, scriptArguments, cwd }) {
  const nodeArguments = ['--disable-warning=ExperimentalWarning', script, ...scriptArguments];
  // A session of its own: what the terminal sends to all processes comes only through here.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', node, ...nodeArguments], {
    cwd,
    detached: true,
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: `${dirname(node)}${delimiter}${process.env['PATH'] ?? ''}`,
    },
  });
  let interrupted = false;
  for (const signal of forwarded) {
    let last = Number.NEGATIVE_INFINITY;
    process.on(signal, () => {
      const now = performance.now();
      if (now - last > SAME_SIGNAL_MS) child.kill(signal);
      last = now;
      if (signal === 'SIGINT') interrupted = true;
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve({ code: exitCodeOf(code, signal), interrupted }));
  });
}
