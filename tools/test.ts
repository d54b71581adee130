/**
 * Runs the tests: `tools/test.ts [unit] [file…] [--test-name-pattern PATTERN]`.
 *
 * `unit` needs neither root nor a compiler. Without it the privileged tests run too, on freshly
 * built BPF objects. A skipped test, a test to do, a file without tests and an empty run count as
 * failures, so that a green run means that everything was shown. At the end it prints how long the
 * slowest files took, and as the last line `N passed, N failed`; the exit code is 1 when anything
 * failed.
 */
import { globSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type EventData, run } from 'node:test';
import { spec, type TestEvent } from 'node:test/reporters';
import { parseArgs } from 'node:util';
import { BpfBuildError, buildBpf } from './build-bpf.ts';

const root = join(import.meta.dirname, '..');

const UNIT_TESTS = '{src,lab,tools}/**/*.test.ts';
const PRIVILEGED_TESTS = 'test/**/*.test.ts';

/** For one test: bounds a hang, and says nothing about how long a test should take. */
const TEST_TIMEOUT_MS = 300_000;

/**
 * A file that reports nothing for longer than any test may take is stuck outside of its tests, or
 * in code that never yields, where no timer of its own can end it.
 */
const SILENCE_MAX_MS = TEST_TIMEOUT_MS + 60_000;

/** What test processes get to clean up with after Ctrl-C before they are killed. */
const CLEANUP_TIMEOUT_MS = 20_000;

const UNIT_CONCURRENCY = 2;
/** Each makes only names of its own, and waits for what happens rather than for time. */
const PRIVILEGED_CONCURRENCY = 2;

/** So many of the files that took longest are told. */
const SLOWEST_COUNT = 10;

interface Batch {
  readonly files: readonly string[];
  readonly concurrency: number;
}

interface Tally {
  passed: number;
  /** One line for each failure. */
  readonly failures: string[];
  /** By file, from the start of its process to its end. */
  readonly fileDurationsMs: Map<string, number>;
}

async function main(argv: readonly string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { 'test-name-pattern': { type: 'string', multiple: true } },
  });
  const unitOnly = positionals[0] === 'unit';
  const batches = planBatches({ unitOnly, named: unitOnly ? positionals.slice(1) : positionals });
  // Each file is a process; what one has compiled of the program serves the others.
  process.env['NODE_COMPILE_CACHE'] ??= join(root, 'build/compile-cache');
  if (!unitOnly) await buildBpf();
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupt(abort));
  }
  const namePatterns = values['test-name-pattern'] ?? [];
  const tally: Tally = { passed: 0, failures: [], fileDurationsMs: new Map() };
  const events = tallied(runBatches(batches, namePatterns, abort.signal), tally, {
    filtered: namePatterns.length > 0,
  });
  await pipeline(Readable.from(events), new spec(), process.stdout, { end: false });
  if (abort.signal.aborted) tally.failures.push('interrupted before all tests had run');
  if (tally.passed + tally.failures.length === 0) tally.failures.push('no test was found');
  if (tally.failures.length > 0) console.log(`\n${tally.failures.join('\n')}`);
  for (const line of slowestFiles(tally.fileDurationsMs)) console.log(line);
  console.log(`${tally.passed} passed, ${tally.failures.length} failed`);
  process.exitCode = tally.failures.length > 0 ? 1 : 0;
}

/** Named files run where they belong by their folder; without names everything runs. */
function planBatches(options: { unitOnly: boolean; named: readonly string[] }): Batch[] {
  const named = options.named.map((file) => resolve(file));
  const isPrivileged = (file: string) => !relative(join(root, 'test'), file).startsWith('..');
  const find = (pattern: string) =>
    globSync(pattern, { cwd: root, exclude: ['**/node_modules'] })
      .sort()
      .map((file) => join(root, file));
  const unit = named.length > 0 ? named.filter((file) => !isPrivileged(file)) : find(UNIT_TESTS);
  const privileged = named.length > 0 ? named.filter(isPrivileged) : find(PRIVILEGED_TESTS);
  const batches: Batch[] = [{ files: unit, concurrency: UNIT_CONCURRENCY }];
  if (!options.unitOnly || named.length > 0) {
    batches.push({ files: privileged, concurrency: PRIVILEGED_CONCURRENCY });
  }
  return batches.filter(({ files }) => files.length > 0);
}

async function* runBatches(
  batches: readonly Batch[],
  testNamePatterns: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<TestEvent> {
  for (const { files, concurrency } of batches) {
    if (signal.aborted) return;
    const events = run({
      files,
      concurrency,
      signal,
      testNamePatterns,
      cwd: root,
      timeout: TEST_TIMEOUT_MS,
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    yield* endingSilence(events);
  }
}

/** Passes events on; kills the test processes when none has come for {@link SILENCE_MAX_MS}. */
async function* endingSilence(events: AsyncIterable<TestEvent>): AsyncGenerator<TestEvent> {
  const kill = () => {
    console.log(`No test has reported for ${SILENCE_MAX_MS / 1000} s: ending the test processes`);
    killChildren();
  };
  const timer = setTimeout(kill, SILENCE_MAX_MS);
  try {
    for await (const event of events) {
      timer.refresh();
      yield event;
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Passes on what a reader wants to see and counts it on the way. */
async function* tallied(
  events: AsyncIterable<TestEvent>,
  tally: Tally,
  options: { filtered: boolean },
): AsyncGenerator<TestEvent> {
  for await (const event of events) {
    if (event.type === 'test:summary') continue;
    // At once, where a passed or failed one waits for its turn in the order of the files.
    if (event.type === 'test:complete' && isWholeFile(event.data)) {
      tally.fileDurationsMs.set(event.data.name, event.data.details.duration_ms);
    }
    // The runner's own totals: one set for each batch, and with skipped tests as no failure.
    if (event.type === 'test:diagnostic' && isTotal(event.data)) continue;
    if (event.type === 'test:fail') tally.failures.push(...failuresOf(event.data));
    if (event.type === 'test:pass') {
      if (isWholeFile(event.data)) {
        if (!options.filtered) tally.failures.push(describe(event.data, 'holds no test'));
        continue;
      }
      const unproven = whyUnproven(event.data);
      if (unproven !== undefined) tally.failures.push(describe(event.data, unproven));
      else if (event.data.details.type !== 'suite') tally.passed += 1;
    }
    yield event;
  }
}

/** A suite or file that failed only because a test inside did is not one more failure. */
function failuresOf(data: EventData.TestFail): string[] {
  const error = data.details.error as Error & { failureType?: string };
  if (data.details.type === 'suite' && error.failureType === 'subtestsFailed') return [];
  return [describe(data, 'failed')];
}

function whyUnproven(data: EventData.TestPass): string | undefined {
  if (data.skip !== undefined) return 'was skipped';
  if (data.todo !== undefined) return 'is marked as to do';
  return undefined;
}

function slowestFiles(durationsMs: ReadonlyMap<string, number>): string[] {
  const slowest = [...durationsMs].sort(([, one], [, other]) => other - one);
  return slowest
    .slice(0, SLOWEST_COUNT)
    .map(([file, ms]) => `${(ms / 1000).toFixed(1).padStart(7)} s  ${relative(root, file)}`);
}

/**
 * The runner stands in with the file's path as a name: for the process, and as the only test that
 * passes where a file declared none.
 */
function isWholeFile(data: EventData.TestPass | EventData.TestComplete): boolean {
  return data.nesting === 0 && data.name === data.file;
}

function isTotal({ nesting, message }: EventData.TestDiagnostic): boolean {
  const totals = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) [\d.]+$/;
  return nesting === 0 && totals.test(message);
}

function describe(data: EventData.TestPass | EventData.TestFail, what: string): string {
  const file = data.file === undefined ? '' : `${relative(root, data.file)}: `;
  const name = data.name === data.file ? 'the file' : `“${data.name}”`;
  return `${file}${name} ${what}`;
}

/** Asks the test processes to clean up and end; those that cannot are killed after a while. */
function interrupt(abort: AbortController): void {
  if (abort.signal.aborted) return;
  setTimeout(killChildren, CLEANUP_TIMEOUT_MS).unref();
  abort.abort();
}

/** Ends what a SIGTERM does not: a process whose JavaScript never yields handles no signal. */
function killChildren(): void {
  for (const thread of readdirSync('/proc/self/task')) {
    const children = readFileSync(`/proc/self/task/${thread}/children`, 'utf8').trim();
    for (const child of children === '' ? [] : children.split(' ')) {
      try {
        process.kill(Number(child), 'SIGKILL');
      } catch {
        // It has ended in the meantime.
      }
    }
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof BpfBuildError)) throw error;
  console.error(error.message);
  console.log('0 passed, 1 failed');
  process.exitCode = 1;
}
