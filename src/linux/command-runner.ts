/**
 * The one place that starts other programs.
 *
 * A command is a list of arguments, never text for a shell. What the world does to a command (the
 * program is missing, fails, is killed, runs too long, talks too much) is a value in the result,
 * not an exception. Every child leads its own process group, so that ending it ends what it
 * started, as long as that stays in the group.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { inNetworkNamespace } from './libc.ts';

/** Program and arguments. */
export type Argv = readonly [string, ...string[]];

/** 1 MiB a stream: more than any command here prints, and little enough to hold in memory. */
const OUTPUT_BYTES_MAX = 1024 * 1024;

export interface StartOptions {
  /** Most bytes kept of stdout and of stderr, each. Default: 1 MiB. */
  readonly outputBytesMax?: number;
  /** File of the network namespace to run in, for example `/run/netns/gateway`. */
  readonly networkNamespace?: string;
  /** Added to this process's own environment, which is read with `LC_ALL=C`. */
  readonly env?: Readonly<Record<string, string>>;
  /** The kernel kills the child when this process ends, however it ends. Needs setpriv. */
  readonly killWithParent?: boolean;
  /** Called with the command before it starts, secrets masked. */
  readonly onCommand?: (argv: Argv) => void;
  /** Passwords and keys among the arguments, or within one: nothing that is logged shows them. */
  readonly secrets?: readonly string[];
}

/** Where every command is logged before it starts; nowhere, until somebody says so. */
let commandLog: (line: string) => void = () => {};

/** @param log called with `run: nft -j -f …`, one printable line, secrets masked */
export function logCommandsTo(log: (line: string) => void): void {
  commandLog = log;
}

export interface CommandOptions extends StartOptions {
  /** The command and its process group are killed after this time, and `timedOut` is set. */
  readonly timeoutMs: number;
  /** Written to the command's stdin, which is then closed. */
  readonly input?: string | Uint8Array;
  /** Kills the command when it is aborted. */
  readonly signal?: AbortSignal;
}

/** How a program ended. */
export interface ProcessExit {
  /** The exit code; null when a signal ended it or it never ran. */
  readonly code: number | null;
  /** The signal that ended it, for example `SIGKILL`. */
  readonly signal: string | null;
  /** Why it did not run, or was stopped by us: names the program. */
  readonly error?: string;
}

export interface CommandResult extends ProcessExit {
  /** The command ran, exited with 0, in time. */
  readonly success: boolean;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** stdout or stderr was longer than `outputBytesMax`; the beginnings are kept. */
  readonly truncated: boolean;
}

/**
 * Runs a command to its end. Never throws for what the command or the system does. A command whose
 * descendants keep its output open counts as running.
 */
export async function runCommand(argv: Argv, options: CommandOptions): Promise<CommandResult> {
  const limit = options.outputBytesMax ?? OUTPUT_BYTES_MAX;
  const started = startChild(argv, options);
  if ('error' in started) {
    const output = { stdout: '', stderr: '', timedOut: false, truncated: false };
    return { success: false, ...output, code: null, signal: null, error: started.error };
  }
  const { child, exit, closed } = started;
  const stdout = new OutputHead(child.stdout, limit);
  const stderr = new OutputHead(child.stderr, limit);
  let stopped: string | undefined;
  const stop = (reason: string) => {
    stopped ??= reason;
    endGroup(child);
  };
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    stop(`${argv[0]} ran longer than ${options.timeoutMs} ms`);
  }, options.timeoutMs);
  const abort = () => stop(`${argv[0]} was aborted`);
  options.signal?.addEventListener('abort', abort);
  if (options.signal?.aborted === true) abort();
  child.stdin?.end(options.input ?? '');
  await closed;
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', abort);

  const ended = await exit;
  const error = stopped ?? ended.error ?? missingProgram(argv, options, ended, stderr.text());
  return {
    success: ended.code === 0 && error === undefined,
    stdout: stdout.text(),
    stderr: stderr.text(),
    code: ended.code,
    signal: ended.signal,
    timedOut,
    truncated: stdout.truncated || stderr.truncated,
    ...(error === undefined ? {} : { error }),
  };
}

/** `ip link show x failed with code 1: Device "x" does not exist.` */
export function describeFailure(argv: Argv, result: CommandResult): string {
  const how =
    result.error ??
    (result.signal === null
      ? `failed with code ${result.code}`
      : `was ended by the signal ${result.signal}`);
  const words = (result.stderr.trim() || result.stdout.trim()).slice(-2000);
  return `${argv.join(' ')}: ${how}${words === '' ? '' : `: ${words}`}`;
}

/** A program that runs until it ends or is stopped. */
export interface RunningProcess {
  readonly argv: Argv;
  /** Undefined when it could not be started; `exited` tells why. */
  readonly pid: number | undefined;
  /** Resolves when the program has ended and its output is complete. Never rejects. */
  readonly exited: Promise<ProcessExit>;
  /** The last `outputBytesMax` bytes of stdout and of stderr. */
  output(): { stdout: string; stderr: string };
  /**
   * Waits until stdout or stderr matches, looking at what is kept of each, earlier output included.
   *
   * @throws Error on the time limit or when the program ends first; the message holds its output
   */
  waitForOutput(pattern: RegExp, timeoutMs: number): Promise<RegExpMatchArray>;
  /** Writes to the program's stdin; silently nothing when it is gone. */
  writeInput(text: string): void;
  closeInput(): void;
  /** SIGTERM, and SIGKILL after `graceMs` (default 1000), each to the whole process group. */
  stop(graceMs?: number): Promise<ProcessExit>;
}

/** Starts a program and returns at once; a program that cannot be started has `exited` at once. */
export function startProcess(argv: Argv, options: StartOptions = {}): RunningProcess {
  const limit = options.outputBytesMax ?? OUTPUT_BYTES_MAX;
  const started = startChild(argv, options);
  if ('error' in started) return neverStarted(argv, started.error);
  return new StartedProcess(argv, options, started, limit);
}

interface StartedChild {
  readonly child: ChildProcess;
  /** The program ended. */
  readonly exit: Promise<ProcessExit>;
  /** The program ended, and nobody writes to its output any more. */
  readonly closed: Promise<void>;
}

function startChild(argv: Argv, options: StartOptions): StartedChild | { error: string } {
  const told = masked(argv, options.secrets ?? []);
  commandLog(`run: ${told.map(asLogWord).join(' ')}`);
  options.onCommand?.(told);
  const [program, ...rest] =
    options.killWithParent === true ? ['setpriv', '--pdeathsig', 'KILL', '--', ...argv] : argv;
  const spawnOptions: SpawnOptions = {
    stdio: 'pipe',
    detached: true,
    env: { ...process.env, LC_ALL: 'C', ...options.env },
  };
  const start = () => spawn(program ?? '', rest, spawnOptions);
  try {
    const namespace = options.networkNamespace;
    const child = namespace === undefined ? start() : inNetworkNamespace(namespace, start);
    return watchChild(argv, child);
  } catch (cause) {
    return { error: `cannot run ${argv[0]}: ${cause instanceof Error ? cause.message : cause}` };
  }
}

const MASK = '***';

function masked([program, ...rest]: Argv, secrets: readonly string[]): Argv {
  // The longest first: one may be a part of another. An empty one is everywhere and hides nothing.
  const byLength = secrets.filter((secret) => secret !== '').sort((a, b) => b.length - a.length);
  const mask = (word: string) => byLength.reduce((text, one) => text.replaceAll(one, MASK), word);
  return [mask(program), ...rest.map(mask)];
}

/** Arguments may come from strangers: in a log they are quoted, escaped and cut. */
function asLogWord(word: string): string {
  const text = word.length > LOG_WORD_LENGTH_MAX ? `${word.slice(0, LOG_WORD_LENGTH_MAX)}…` : word;
  if (/^[\w./:=,@%+-]+$/.test(text)) return text;
  return JSON.stringify(text).replace(/[^\x20-\x7e…]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}

/** Longer arguments are texts, not words of a command. */
const LOG_WORD_LENGTH_MAX = 200;

function watchChild(argv: Argv, child: ChildProcess): StartedChild {
  const exit = Promise.withResolvers<ProcessExit>();
  const closed = Promise.withResolvers<void>();
  child.on('exit', (code, signal) => exit.resolve({ code, signal }));
  child.on('close', () => closed.resolve());
  child.on('error', (cause: NodeJS.ErrnoException) => {
    // 'error' is also emitted for a kill that failed; a child with a pid has been started.
    if (child.pid !== undefined) return;
    const reason = cause.code === 'ENOENT' ? 'no such program' : cause.message;
    exit.resolve({ code: null, signal: null, error: `cannot run ${argv[0]}: ${reason}` });
    closed.resolve();
  });
  // The program may close its stdin, or end, before it has read everything.
  child.stdin?.on('error', () => {});
  return { child, exit: exit.promise, closed: closed.promise };
}

/** Kills the group and stops listening: whoever left the group may hold the pipes for ever. */
function endGroup(child: ChildProcess): void {
  signalGroup(child, 'SIGKILL');
  child.stdin?.destroy();
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function signalGroup(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
}

/** setpriv reports a missing program itself, with the shell's code. */
function missingProgram(
  argv: Argv,
  options: StartOptions,
  ended: ProcessExit,
  stderr: string,
): string | undefined {
  if (options.killWithParent !== true || ended.code !== 127) return undefined;
  if (!stderr.startsWith('setpriv: failed to execute')) return undefined;
  return `cannot run ${argv[0]}: no such program`;
}

/** The first bytes of a stream; the rest is read and forgotten, so that the writer goes on. */
class OutputHead {
  truncated = false;
  readonly #chunks: Buffer[] = [];
  #roomBytes: number;

  constructor(stream: Readable | null, limitBytes: number) {
    this.#roomBytes = limitBytes;
    stream?.on('data', (chunk: Buffer) => {
      if (chunk.length > this.#roomBytes) this.truncated = true;
      const kept = chunk.subarray(0, this.#roomBytes);
      if (kept.length > 0) this.#chunks.push(kept);
      this.#roomBytes -= kept.length;
    });
  }

  text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** The last bytes of a stream. */
class OutputTail {
  readonly #limitBytes: number;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(stream: Readable | null, limitBytes: number, onData: () => void) {
    this.#limitBytes = limitBytes;
    stream?.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#bytes += chunk.length;
      this.#forget();
      onData();
    });
  }

  text(): string {
    const kept = Buffer.concat(this.#chunks);
    return kept.subarray(Math.max(0, kept.length - this.#limitBytes)).toString('utf8');
  }

  /** Whole chunks only, so that a chatty program costs no copying. */
  #forget(): void {
    for (;;) {
      const oldest = this.#chunks[0]?.length ?? 0;
      if (oldest === 0 || this.#bytes - oldest < this.#limitBytes) return;
      this.#chunks.shift();
      this.#bytes -= oldest;
    }
  }
}

/** Time that stop() gives a program between SIGTERM and SIGKILL. */
const STOP_GRACE_MS = 1000;

class StartedProcess implements RunningProcess {
  readonly argv: Argv;
  readonly pid: number | undefined;
  readonly exited: Promise<ProcessExit>;
  readonly #child: ChildProcess;
  readonly #stdout: OutputTail;
  readonly #stderr: OutputTail;
  readonly #onOutput = new Set<() => void>();
  #ended = false;

  constructor(argv: Argv, options: StartOptions, started: StartedChild, limitBytes: number) {
    this.argv = argv;
    this.pid = started.child.pid;
    this.#child = started.child;
    const notify = () => {
      for (const check of this.#onOutput) check();
    };
    this.#stdout = new OutputTail(started.child.stdout, limitBytes, notify);
    this.#stderr = new OutputTail(started.child.stderr, limitBytes, notify);
    this.exited = started.closed.then(async () => {
      const ended = await started.exit;
      this.#ended = true;
      notify();
      const error = missingProgram(argv, options, ended, this.#stderr.text());
      return error === undefined ? ended : { ...ended, error };
    });
  }

  output(): { stdout: string; stderr: string } {
    return { stdout: this.#stdout.text(), stderr: this.#stderr.text() };
  }

  async waitForOutput(pattern: RegExp, timeoutMs: number): Promise<RegExpMatchArray> {
    const { promise, resolve, reject } = Promise.withResolvers<RegExpMatchArray>();
    const fail = (why: string) => {
      const { stdout, stderr } = this.output();
      const words = `${stdout}${stderr}`.slice(-2000);
      reject(new Error(`${this.argv.join(' ')} ${why} without printing ${pattern}; got: ${words}`));
    };
    const check = () => {
      const { stdout, stderr } = this.output();
      const match = stdout.match(pattern) ?? stderr.match(pattern);
      if (match !== null) resolve(match);
      else if (this.#ended) fail('ended');
    };
    const timer = setTimeout(() => fail(`ran ${timeoutMs} ms`), timeoutMs);
    this.#onOutput.add(check);
    try {
      check();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#onOutput.delete(check);
    }
  }

  writeInput(text: string): void {
    this.#child.stdin?.write(text);
  }

  closeInput(): void {
    this.#child.stdin?.end();
  }

  async stop(graceMs = STOP_GRACE_MS): Promise<ProcessExit> {
    if (!this.#ended) signalGroup(this.#child, 'SIGTERM');
    const timer = setTimeout(() => endGroup(this.#child), graceMs);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

function neverStarted(argv: Argv, error: string): RunningProcess {
  return {
    argv,
    pid: undefined,
    exited: Promise.resolve({ code: null, signal: null, error }),
    output: () => ({ stdout: '', stderr: '' }),
    waitForOutput: () => Promise.reject(new Error(error)),
    writeInput: () => {},
    closeInput: () => {},
    stop: () => Promise.resolve({ code: null, signal: null, error }),
  };
}
