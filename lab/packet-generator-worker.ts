/** The thread that a packet generator blocks while the kernel sends its frames. */
import { readdirSync, readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { u32 } from '../src/abi/layout.ts';
import { FrameCounter } from '../src/abi/layouts.generated.ts';
import { packetGeneratorObject } from '../src/abi/packet-generator.generated.ts';
import { BpfMap, perCpu } from '../src/linux/bpf-map.ts';
import { BpfProgram } from '../src/linux/bpf-program.ts';
import { errno, LinuxError, openNativeLibrary } from '../src/linux/ffi.ts';
import { inNetworkNamespace } from '../src/linux/libc.ts';
import { frameCount } from './frame-count.ts';

export interface GeneratorRun {
  readonly programFd: number;
  readonly counterFd: number;
  readonly networkNamespace: string;
  readonly template: Uint8Array<ArrayBuffer>;
  readonly framesPerSecond: number | undefined;
  readonly framesMax: number | undefined;
  readonly durationMsMax: number;
  readonly framesPerCall: number | undefined;
  readonly cpu: number | undefined;
  /** Set to 1 by the other thread to end the run. */
  readonly stopFlag: Int32Array<SharedArrayBuffer>;
}

export interface GeneratorTimes {
  readonly seconds: number;
  /** Of them, while others had the CPU that the generator wanted. */
  readonly waitedSeconds: number;
}

/** The kernel's own unit: frames redirected before the receiving queue is served. */
const FRAMES_PER_BATCH = 64;
/** A call costs some 20 ms before its first frame, so it lasts many times that when it can. */
const CALL_MS = 300;
const FRAMES_PER_CALL_MIN = 8_192;
const PACE_INTERVAL_MS = 1;

function generate(run: GeneratorRun): void {
  const program = new BpfProgram('generate_frame', run.programFd);
  const generatedFrames = framesGenerated(run.counterFd);
  const secondsWaited = waitingClock(run.cpu);
  const waitedBefore = secondsWaited();
  const startedAt = performance.now();
  for (;;) {
    const elapsedMs = performance.now() - startedAt;
    if (elapsedMs >= run.durationMsMax || Atomics.load(run.stopFlag, 0) !== 0) break;
    // Asked of the program, since a signal may have cut the last call short.
    const frames = generatedFrames();
    if (run.framesMax !== undefined && frames >= run.framesMax) break;
    const due = framesDue(run, elapsedMs) - frames;
    const perCall = run.framesPerCall ?? framesInTime(CALL_MS, { frames, elapsedMs });
    if (due > 0) sendFrames(program, run.template, Math.min(due, perCall));
    else Atomics.wait(run.stopFlag, 0, 0, PACE_INTERVAL_MS);
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  const times: GeneratorTimes = {
    seconds,
    waitedSeconds: Math.max(0, secondsWaited() - waitedBefore),
  };
  parentPort?.postMessage(times);
}

/**
 * How long this thread was ready and others had its CPU, by the scheduler's own account. The
 * kernel's thread that takes over when there is much to receive works on our frames, so its time is
 * not lost.
 */
function waitingClock(cpu: number | undefined): () => number {
  const waited = () => schedulerSeconds('/proc/thread-self/schedstat').waited;
  const receiver = cpu === undefined ? undefined : findProcess(`ksoftirqd/${cpu}`);
  if (receiver === undefined) return waited;
  return () => waited() - schedulerSeconds(`/proc/${receiver}/schedstat`).ran;
}

/** On a CPU, and ready without one. */
function schedulerSeconds(path: string): { ran: number; waited: number } {
  const [ran, waited] = readFileSync(path, 'utf8').split(' ');
  return { ran: Number(ran) / 1e9, waited: Number(waited) / 1e9 };
}

/** @returns undefined in a container that does not see it */
function findProcess(name: string): string | undefined {
  return readdirSync('/proc').find((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/comm`, 'utf8') === `${name}\n`;
    } catch {
      // It has ended meanwhile.
      return false;
    }
  });
}

function framesGenerated(fd: number): () => number {
  const { name, type, flags, maxEntries } = packetGeneratorObject.maps.generatedFrames;
  const value = perCpu(FrameCounter);
  const map = new BpfMap({ name, fd, type, flags, maxEntries, key: u32, value });
  return () => frameCount(map.lookup(0)).frames;
}

function framesDue(run: GeneratorRun, elapsedMs: number): number {
  const byTime =
    run.framesPerSecond === undefined
      ? Number.POSITIVE_INFINITY
      : Math.floor((elapsedMs / 1_000) * run.framesPerSecond);
  return Math.min(byTime, run.framesMax ?? Number.POSITIVE_INFINITY);
}

function framesInTime(
  callMs: number,
  { frames, elapsedMs }: { frames: number; elapsedMs: number },
): number {
  return Math.max(FRAMES_PER_CALL_MIN, Math.round((frames / elapsedMs) * callMs) || 0);
}

function sendFrames(program: BpfProgram, data: Uint8Array<ArrayBuffer>, repeat: number): void {
  const batchSize = Math.min(FRAMES_PER_BATCH, repeat);
  try {
    program.testRun({ data, repeat, liveFrames: { batchSize } });
  } catch (error) {
    // A signal: what is missing is sent by the next call.
    if (!(error instanceof LinuxError) || error.code !== 'EINTR') throw error;
  }
}

/** What the calling thread makes, and what the kernel does in its name, happens on this CPU. */
function stayOnCpu(cpu: number): void {
  const { functions: libc } = openNativeLibrary(null, {
    sched_setaffinity: { arguments: ['i32', 'u64', 'buffer'], return: 'i32' },
  });
  const cpus = new Uint8Array(Math.ceil((cpu + 1) / 64) * 8);
  cpus[cpu >>> 3] = 1 << (cpu & 7);
  if (libc.sched_setaffinity(0, BigInt(cpus.length), cpus) !== 0) {
    throw new LinuxError(`keep the packet generator on CPU ${cpu}`, errno());
  }
}

const run = workerData as GeneratorRun;
if (run.cpu !== undefined) stayOnCpu(run.cpu);
inNetworkNamespace(run.networkNamespace, () => generate(run));
