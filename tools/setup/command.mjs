/** Running other programs during set-up: quiet when they succeed, telling when they fail. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/** Enough to see why a package manager gave up. */
const SHOWN_LINES_MAX = 12;

/** What is kept of a program's output; the end is what matters. */
const KEPT_CHARACTERS_MAX = 256 * 1024;

/**
 * The machine lacks something, or a step failed, and a person can do something about it. The
 * message is for them and is all that they see.
 */
export class SetUpError extends Error {
  /** @override */
  name = 'SetUpError';
}

/**
 * @typedef {object} CommandResult
 * @property {number} code exit code; 128 + number of the signal that ended it; 127 when missing
 * @property {string} stdout
 * @property {string} output stdout and stderr as they came
 */

/**
 * Runs a program to its end without stdin and keeps what it prints.
 *
 * @param {readonly [string, ...string[]]} argv
 * @param {{ env?: NodeJS.ProcessEnv, cwd?: string }} [options]
 * @returns {Promise<CommandResult>}
 */
export function runCommand(argv, options = {}) {
  const [program, ...programArguments] = argv;
  return new Promise((resolve) => {
    const child = spawn(program, programArguments, {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout = (stdout + text).slice(-KEPT_CHARACTERS_MAX);
      output = (output + text).slice(-KEPT_CHARACTERS_MAX);
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output = (output + text).slice(-KEPT_CHARACTERS_MAX);
    });
    child.on('error', (error) => resolve({ code: 127, stdout, output: error.message }));
    child.on('close', (code, signal) => {
      resolve({ code: exitCodeOf(code, signal), stdout, output });
    });
  });
}

/**
 * Whether there was no such program to run.
 *
 * @param {CommandResult} result
 */
export function wasMissing(result) {
  return result.code === 127;
}

/**
 * The end of a program's output, indented, to stand below the sentence that says what failed.
 *
 * @param {string} output
 */
export function lastLines(output) {
  const lines = output.split(/[\r\n]+/).filter((line) => line.trim() !== '');
  return lines
    .slice(-SHOWN_LINES_MAX)
    .map((line) => `\n  ${line}`)
    .join('');
}

/**
 * The shell's convention for a program that a signal ended.
 *
 * @param {number | null} code
 * @param {NodeJS.Signals | null} signal
 */
export function exitCodeOf(code, signal) {
  return signal === null ? (code ?? 1) : 128 + constants.signals[signal];
}
