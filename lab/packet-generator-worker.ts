/** The thread that a packet generator blocks while the kernel sends its frames. */
import { parentPort, workerData } from 'node:worker_threads';
import { BpfProgram } from '../src/linux/bpf-program.ts';
import { LinuxError } from '../src/linux/ffi.ts';
import { inNetworkNamespace } from '../src/linux/libc.ts';

export interface GeneratorRun {
  readonly programFd: number;
  readonly namespacePath: string;
  readonly template: Uint8Array<ArrayBuffer>;
  readonly framesPerSecond: number | undefined;
  readonly framesMax: number | undefined;
  readonly durationMsMax: number;
  /** Set to 1 by the other thread to end the run. */
  readonly stopFlag: Int32Array<SharedArrayBuffer>;
}

/** The kernel's own unit: frames redirected before the receiving queue is served. */
const FRAMES_PER_BATCH = 64;
/** Short enough to stop and to pace within some milliseconds, long enough to cost nothing. */
const FRAMES_PER_CALL_MAX = 8_192;
const PACE_INTERVAL_MS = 1;

function generate(run: GeneratorRun): void {
  const program = new BpfProgram('generate_frame', run.programFd);
  const startedAt = performance.now();
  let requested = 0;
  for (;;) {
    const elapsedMs = performance.now() - startedAt;
    if (elapsedMs >= run.durationMsMax || Atomics.load(run.stopFlag, 0) !== 0) break;
    const due = framesDue(run, elapsedMs) - requested;
    if (due <= 0) {
      if (run.framesMax !== undefined && requested >= run.framesMax) break;
      Atomics.wait(run.stopFlag, 0, 0, PACE_INTERVAL_MS);
      continue;
    }
    const frames = Math.min(due, FRAMES_PER_CALL_MAX);
    sendFrames(program, run.template, frames);
    requested += frames;
  }
  parentPort?.postMessage({ seconds: (performance.now() - startedAt) / 1_000 });
}

function framesDue(run: GeneratorRun, elapsedMs: number): number {
  const byTime =
    run.framesPerSecond === undefined
      ? Number.POSITIVE_INFINITY
      : Math.floor((elapsedMs / 1_000) * run.framesPerSecond);
  return Math.min(byTime, run.framesMax ?? Number.POSITIVE_INFINITY);
}

function sendFrames(program: BpfProgram, data: Uint8Array<ArrayBuffer>, repeat: number): void {
  const batchSize = Math.min(FRAMES_PER_BATCH, repeat);
  try {
    program.testRun({ data, repeat, liveFrames: { batchSize } });
  } catch (error) {
    // A signal cut the call short; the program's own counter says what was sent.
    if (!(error instanceof LinuxError) || error.code !== 'EINTR') throw error;
  }
}

const run = workerData as GeneratorRun;
inNetworkNamespace(run.namespacePath, () => generate(run));
