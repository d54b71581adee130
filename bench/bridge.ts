/**
 * The bridge to the kernel: what a record of the ring, an entry of a batch and a native call cost,
 * against the obvious ways of doing the same.
 */
import { Worker } from 'node:worker_threads';
import { FrameCounter, StreamRecord, StreamRequest } from '../src/abi/layouts.generated.ts';
import { recordStreamObject } from '../src/abi/record-stream.generated.ts';
import { type BpfObject, loadBpfObject } from '../src/linux/bpf-object.ts';
import { describeFailure, runCommand } from '../src/linux/command-runner.ts';
import { openNativeLibrary } from '../src/linux/ffi.ts';
import type { RecordReader } from '../src/linux/ring-buffer.ts';
import type { RecordProducer, RecordProducerReport } from './record-producer.ts';
import { type BenchRow, medians } from './table.ts';

type RecordStream = BpfObject<typeof recordStreamObject>;

const ENTRY_COUNT = 1_000_000;
const RECORDS_PER_SECOND = 1_000_000;
const STREAM_SECONDS = 10;
const ROUNDS = 5;

export async function benchBridge(): Promise<readonly BenchRow[]> {
  // Producer and reader share one core, so that the figure is what one core does in all.
  await stayOnOneCore();
  using object = loadBpfObject(recordStreamObject, {
    maxEntries: { streamTable: ENTRY_COUNT },
  });
  const stream = await streamRow(object);
  return [stream, await drainRow(object), await batchRow(object), await callRow()];
}

async function stayOnOneCore(): Promise<void> {
  const argv = ['taskset', '--all-tasks', '--cpu-list', '--pid', '0', `${process.pid}`] as const;
  const result = await runCommand(argv, { timeoutMs: 5_000 });
  if (!result.success) throw new Error(describeFailure(argv, result));
}

/** A million records a second, made and read on one core. */
async function streamRow(object: RecordStream): Promise<BenchRow> {
  let received = 0;
  let expected = 0n;
  let missing = 0;
  const sequenceAt = StreamRecord.fields.sequence.offsetBytes;
  const read: RecordReader = (view, at) => {
    const sequence = view.getBigUint64(at + sequenceAt, true);
    if (sequence !== expected) missing += Number(sequence - expected);
    expected = sequence + 1n;
    received++;
  };
  const reading = object.maps.streamRecords.start(read);
  const producer: RecordProducer = {
    programFd: object.programs.emitRecords.fd,
    recordsPerSecond: RECORDS_PER_SECOND,
    recordCount: RECORDS_PER_SECOND * STREAM_SECONDS,
  };
  const cpuBefore = process.cpuUsage();
  const { lost, seconds } = await new Promise<RecordProducerReport>((resolve, reject) => {
    const worker = new Worker(new URL('./record-producer.ts', import.meta.url), {
      workerData: producer,
    });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  object.maps.streamRecords.drain(read);
  reading.stop();
  const cpu = process.cpuUsage(cpuBefore);
  const cpuShare = (cpu.user + cpu.system) / 1e6 / seconds;
  const rate = received / seconds;
  return {
    what: `ring buffer, ${STREAM_SECONDS} s of records made and read on one core`,
    figure: [
      `${(rate / 1e6).toFixed(2)} M records/s, ${lost + missing} lost`,
      `${(100 * cpuShare).toFixed(0)} % of the core for both sides`,
    ].join(', '),
    peer: 'the rate asked for, 1.00 M records/s',
    ratio: rate / RECORDS_PER_SECOND,
  };
}

const { functions: libbpf, library } = openNativeLibrary(
  'libbpf.so.1',
  {
    ring_buffer__new: { arguments: ['i32', 'pointer', 'pointer', 'pointer'], return: 'pointer' },
    ring_buffer__consume: { arguments: ['pointer'], return: 'i32' },
    ring_buffer__free: { arguments: ['pointer'], return: 'void' },
    bpf_map_get_next_key: { arguments: ['i32', 'pointer', 'buffer'], return: 'i32' },
    bpf_map_lookup_elem: { arguments: ['i32', 'buffer', 'buffer'], return: 'i32' },
  },
  'libbpf1',
);

/** Nanoseconds a record for reading in place and for libbpf's own reader with a callback. */
async function drainRow(object: RecordStream): Promise<BenchRow> {
  const recordCount = 200_000;
  let sum = 0;
  const callback = library.registerCallback(
    { arguments: ['pointer', 'pointer', 'u64'], return: 'i32' },
    (_context, data) => {
      sum += Number(data) & 1;
      return 0;
    },
  );
  const theirs = libbpf.ring_buffer__new(object.maps.streamRecords.fd, callback, 0n, 0n);
  const lengthAt = StreamRecord.fields.lengthBytes.offsetBytes;
  const { inPlace, byCallback } = await medians(ROUNDS, {
    inPlace: () =>
      nanosecondsPer(
        recordCount,
        () => {
          object.maps.streamRecords.drain((view, at) => {
            sum += view.getUint32(at + lengthAt, true);
          });
        },
        () => emit(object, recordCount),
      ),
    byCallback: () =>
      nanosecondsPer(
        recordCount,
        () => libbpf.ring_buffer__consume(theirs),
        () => emit(object, recordCount),
      ),
  });
  libbpf.ring_buffer__free(theirs);
  if (sum === 0) throw new Error('no record was looked at');
  return {
    what: 'reading one record of the ring',
    figure: `${inPlace.toFixed(0)} ns`,
    peer: `libbpf's ring_buffer__consume with a callback a record, ${byCallback.toFixed(0)} ns`,
    ratio: byCallback / inPlace,
  };
}

function emit(object: RecordStream, recordCount: number): void {
  runRequest(object, 'emitRecords', recordCount);
}

function runRequest(
  object: RecordStream,
  program: 'emitRecords' | 'fillTable',
  recordCount: number,
): void {
  const context = new Uint8Array(StreamRequest.sizeBytes);
  const view = new DataView(context.buffer);
  StreamRequest.encode({ firstSequence: 0n, recordCount, lostCount: 0, discardEvery: 0 }, view, 0);
  const result = object.programs[program].testRun({ context });
  const { lostCount } = StreamRequest.decode(new DataView(result.context.buffer), 0);
  if (lostCount !== 0) throw new Error(`${program} lost ${lostCount} of ${recordCount}`);
}

function nanosecondsPer(count: number, measured: () => void, prepare?: () => void): number {
  prepare?.();
  const startedAt = performance.now();
  measured();
  return ((performance.now() - startedAt) * 1e6) / count;
}

/** A whole table of a million entries by batches, and one key after the other. */
async function batchRow(object: RecordStream): Promise<BenchRow> {
  runRequest(object, 'fillTable', ENTRY_COUNT);
  const framesAt = FrameCounter.fields.frames.offsetBytes;
  const { batches, single } = await medians(3, {
    batches: () =>
      milliseconds(() => {
        let count = 0;
        let sum = 0;
        for (const batch of object.maps.streamTable.batches()) {
          for (let index = 0; index < batch.count; index++) {
            sum += batch.values.getUint32(index * FrameCounter.sizeBytes + framesAt, true);
          }
          count += batch.count;
        }
        if (count !== ENTRY_COUNT || sum === 0) throw new Error(`${count} entries in batches`);
      }),
    single: () => milliseconds(() => walkKeys(object.maps.streamTable.fd)),
  });
  return {
    what: `reading a hash map of ${ENTRY_COUNT.toLocaleString('en')} entries in batches`,
    figure: `${batches.toFixed(0)} ms`,
    peer: `next key and look-up for each entry, ${single.toFixed(0)} ms`,
    ratio: single / batches,
  };
}

function walkKeys(fd: number): void {
  const key = new Uint8Array(8);
  const next = new Uint8Array(8);
  const value = new Uint8Array(FrameCounter.sizeBytes);
  let count = 0;
  for (let first = true; ; first = false) {
    if (libbpf.bpf_map_get_next_key(fd, first ? null : key, next) !== 0) break;
    libbpf.bpf_map_lookup_elem(fd, next, value);
    key.set(next);
    count++;
  }
  if (count !== ENTRY_COUNT) throw new Error(`${count} entries one by one`);
}

function milliseconds(action: () => void): number {
  const startedAt = performance.now();
  action();
  return performance.now() - startedAt;
}

/** What crossing into native code costs at all. */
async function callRow(): Promise<BenchRow> {
  const { functions: libc } = openNativeLibrary(null, {
    abs: { arguments: ['i32'], return: 'i32' },
    getppid: { arguments: [], return: 'i32' },
  });
  const count = 1_000_000;
  let sum = 0;
  const { empty, systemCall } = await medians(ROUNDS, {
    empty: () =>
      nanosecondsPer(count, () => {
        for (let index = 0; index < count; index++) sum += libc.abs(index);
      }),
    systemCall: () =>
      nanosecondsPer(count, () => {
        for (let index = 0; index < count; index++) sum += libc.getppid();
      }),
  });
  if (sum === 0) throw new Error('nothing was called');
  return {
    what: 'a native call that does nothing',
    figure: `${empty.toFixed(0)} ns`,
    peer: `the cheapest system call by the same way, ${systemCall.toFixed(0)} ns`,
    ratio: systemCall / empty,
  };
}
