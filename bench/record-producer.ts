/** The thread that makes the records of the bridge's benchmark, at a given pace. */
import { parentPort, workerData } from 'node:worker_threads';
import { StreamRequest } from '../src/abi/layouts.generated.ts';
import { BpfProgram } from '../src/linux/bpf-program.ts';

export interface RecordProducer {
  readonly programFd: number;
  readonly recordsPerSecond: number;
  readonly recordCount: number;
}

export interface RecordProducerReport {
  readonly lost: number;
  readonly seconds: number;
}

/** Some milliseconds of the pace: far below what the ring holds. */
const RECORDS_PER_CALL_MAX = 20_000;

function produce(task: RecordProducer): void {
  const program = new BpfProgram('emit_records', task.programFd);
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const startedAt = performance.now();
  let made = 0;
  let lost = 0;
  while (made < task.recordCount) {
    const elapsedSeconds = (performance.now() - startedAt) / 1_000;
    const due = Math.min(task.recordCount, Math.floor(elapsedSeconds * task.recordsPerSecond));
    Atomics.wait(sleeper, 0, 0, 1);
    if (due === made) continue;
    const recordCount = Math.min(due - made, RECORDS_PER_CALL_MAX);
    const context = new Uint8Array(StreamRequest.sizeBytes);
    StreamRequest.encode(
      { firstSequence: BigInt(made), recordCount, lostCount: 0, discardEvery: 0 },
      new DataView(context.buffer),
      0,
    );
    const result = program.testRun({ context });
    lost += StreamRequest.decode(new DataView(result.context.buffer), 0).lostCount;
    made += recordCount;
  }
  const report: RecordProducerReport = { lost, seconds: (performance.now() - startedAt) / 1_000 };
  parentPort?.postMessage(report);
}

produce(workerData as RecordProducer);
