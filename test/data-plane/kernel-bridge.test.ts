/** The bridge of src/linux/ against the running kernel. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { u32 } from '../../src/abi/layout.ts';
import { StreamRecord, StreamRequest } from '../../src/abi/layouts.generated.ts';
import { protocolCountersObject } from '../../src/abi/protocol-counters.generated.ts';
import { recordStreamObject } from '../../src/abi/record-stream.generated.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import type { BpfProgram } from '../../src/linux/bpf-program.ts';
import { describeFailure, runCommand } from '../../src/linux/command-runner.ts';
import { LinuxError } from '../../src/linux/ffi.ts';
import { mapsOfProgram } from '../../src/linux/kernel-objects.ts';
import { possibleCpuCount } from '../../src/linux/libbpf.ts';
import { udpFrame } from '../../src/testing/packet-builder.ts';
import { buildBpf } from '../../tools/build-bpf.ts';

type RecordStream = BpfObject<typeof recordStreamObject>;

function request(
  program: BpfProgram,
  firstSequence: number,
  recordCount: number,
  discardEvery = 0,
): number {
  const context = new Uint8Array(StreamRequest.sizeBytes);
  StreamRequest.encode(
    { firstSequence: BigInt(firstSequence), recordCount, lostCount: 0, discardEvery },
    new DataView(context.buffer),
    0,
  );
  const result = program.testRun({ context });
  return StreamRequest.decode(new DataView(result.context.buffer), 0).lostCount;
}

function emit(object: RecordStream, firstSequence: number, recordCount: number): number {
  return request(object.programs.emitRecords, firstSequence, recordCount);
}

function drainSequences(object: RecordStream, recordsMax?: number): number[] {
  const sequences: number[] = [];
  object.maps.streamRecords.drain((view, at, lengthBytes) => {
    assert.equal(lengthBytes, StreamRecord.sizeBytes);
    sequences.push(Number(StreamRecord.decode(view, at).sequence));
  }, recordsMax);
  return sequences;
}

async function run(...argv: [string, ...string[]]): Promise<void> {
  const result = await runCommand(argv, { timeoutMs: 20_000 });
  assert.ok(result.success, describeFailure(argv, result));
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}

test('records of the ring arrive whole and in order, also across its end many times', () => {
  // 64 KiB hold 1,638 records of 32 bytes with their headers; 100 rounds go round it 36 times.
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamRecords: 65_536 } });
  for (let round = 0; round < 100; round++) {
    const first = round * 600;
    assert.equal(emit(object, first, 600), 0);
    assert.deepEqual(drainSequences(object), range(first, 600));
  }
});

test('a record is read where the kernel wrote it, with every field', () => {
  using object = loadBpfObject(recordStreamObject);
  emit(object, 70_000, 1);
  const records: StreamRecord[] = [];
  object.maps.streamRecords.drain((view, at) => records.push(StreamRecord.decode(view, at)));
  const { timeNs, ...rest } = records[0] ?? assert.fail();
  assert.deepEqual(rest, {
    sequence: 70_000n,
    sourceAddress: 0x0a4d0000 + (70_000 % 65_536),
    destinationAddress: 0xc0000201,
    sourcePort: 1024 + (70_000 % 60_000),
    destinationPort: 443,
    lengthBytes: 60 + (70_000 % 1455),
  });
  assert.ok(timeNs > 0n);
});

test('a full ring loses the newest, says how many, and goes on when it is read', () => {
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamRecords: 4_096 } });
  const capacity = 4_096 / (StreamRecord.sizeBytes + 8);
  const lost = emit(object, 0, 500);
  const held = drainSequences(object);
  assert.deepEqual(held, range(0, 500 - lost));
  assert.ok(held.length <= capacity && held.length >= Math.floor(capacity) - 1, `${held.length}`);
  assert.equal(emit(object, 1_000, 10), 0);
  assert.deepEqual(drainSequences(object), range(1_000, 10));
});

test('a reader that stops in the middle goes on there', () => {
  using object = loadBpfObject(recordStreamObject);
  emit(object, 0, 10);
  assert.deepEqual(drainSequences(object, 4), range(0, 4));
  assert.deepEqual(drainSequences(object), range(4, 6));
});

test('a reader that throws has read the record that it threw at, and no more', () => {
  using object = loadBpfObject(recordStreamObject);
  emit(object, 0, 3);
  assert.throws(() => {
    object.maps.streamRecords.drain(() => {
      throw new Error('a bad record');
    });
  }, /a bad record/);
  assert.deepEqual(drainSequences(object), [1, 2]);
});

test('the event loop is woken for records, and promises settle after each turn', async () => {
  using object = loadBpfObject(recordStreamObject);
  for (let round = 0; round < 20; round++) {
    const { promise, resolve } = Promise.withResolvers<bigint>();
    const reading = object.maps.streamRecords.start((view, at) => {
      resolve(StreamRecord.decode(view, at).sequence);
    });
    assert.equal(emit(object, round, 1), 0);
    assert.equal(await promise, BigInt(round));
    reading.stop();
  }
});

test('records that the kernel program gave up are passed over', () => {
  using object = loadBpfObject(recordStreamObject);
  assert.equal(request(object.programs.emitRecords, 0, 1_000, 3), 0);
  const kept = range(0, 1_000).filter((sequence) => sequence % 3 !== 0);
  assert.deepEqual(drainSequences(object), kept);
  assert.equal(request(object.programs.emitRecords, 0, 1_000, 1), 0);
  assert.deepEqual(drainSequences(object), []);
  emit(object, 7, 1);
  assert.deepEqual(drainSequences(object), [7]);
});

test('a reader gives the kernel its space back while it reads', () => {
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamRecords: 65_536 } });
  assert.equal(emit(object, 0, 1_600), 0);
  let read = 0;
  let lost: number | undefined;
  object.maps.streamRecords.drain(() => {
    read++;
    if (read === 1_500) lost = emit(object, 1_600, 1_000);
  });
  assert.equal(lost, 0);
  assert.equal(read, 2_600);
});

test('a reader may close the ring, and then gets nothing more', () => {
  const object = loadBpfObject(recordStreamObject);
  emit(object, 0, 10);
  let read = 0;
  object.maps.streamRecords.drain(() => {
    read++;
    object.close();
  });
  assert.equal(read, 1);
});

test('a reader may stop the reading, and then gets nothing more', async () => {
  using object = loadBpfObject(recordStreamObject);
  const { promise, resolve } = Promise.withResolvers<void>();
  let read = 0;
  const reading = object.maps.streamRecords.start(() => {
    read++;
    reading.stop();
    resolve();
  });
  emit(object, 0, 5_000);
  await promise;
  assert.equal(read, 1);
  assert.deepEqual(drainSequences(object), range(1, 4_999));
});

test('a reader cannot drain the ring that it is reading', () => {
  using object = loadBpfObject(recordStreamObject);
  emit(object, 0, 3);
  const sequences: number[] = [];
  object.maps.streamRecords.drain((view, at) => {
    sequences.push(Number(StreamRecord.decode(view, at).sequence));
    assert.throws(() => drainSequences(object), /being read already/);
  });
  assert.deepEqual(sequences, [0, 1, 2]);
});

test('after its object is closed, nothing reaches a stranger by an old descriptor', () => {
  const object = loadBpfObject(recordStreamObject);
  const memory = object.maps.streamSlots.mapMemory();
  object.close();
  object.close();
  assert.throws(() => object.maps.streamTable.lookup(1n), /map stream_table is closed/);
  assert.throws(() => object.programs.emitRecords.id, /emit_records is not loaded/);
  memory.unmap();
  memory.unmap();
  assert.throws(() => memory.view.getUint8(0), TypeError);
});

test('loading again and again holds no descriptors and no mappings', () => {
  const held = () => [
    readdirSync('/proc/self/fd').length,
    readFileSync('/proc/self/maps', 'utf8').match(/bpf-map/g)?.length ?? 0,
  ];
  const stale = { ...recordStreamObject.maps.streamTable, value: u32 };
  const refused = { ...recordStreamObject, maps: { ...recordStreamObject.maps, stale } };
  const round = () => {
    loadBpfObject(recordStreamObject).close();
    assert.throws(() => loadBpfObject(refused), /a value has 16 bytes/);
  };
  round();
  const before = held();
  for (let count = 0; count < 50; count++) round();
  assert.deepEqual(held(), before);
});

test('a closed ring refuses to be read', () => {
  const object = loadBpfObject(recordStreamObject);
  object.close();
  assert.throws(() => object.maps.streamRecords.drain(() => {}), /closed/);
});

test('an array mapped as memory shows what the kernel writes, and takes what we write', () => {
  using object = loadBpfObject(recordStreamObject);
  const array = object.maps.streamSlots.mapMemory();
  const slots = new BigUint64Array(array.buffer, 0, 1024);
  emit(object, 5_000, 3);
  assert.deepEqual(
    [...slots.subarray(5_000 % 1024, (5_000 % 1024) + 4)],
    [5000n, 5001n, 5002n, 0n],
  );
  slots[7] = 77n;
  assert.equal(object.maps.streamSlots.lookup(7), 77n);
  array.unmap();
});

test('single look-up, update and delete tell whether the key was there', () => {
  using object = loadBpfObject(recordStreamObject);
  const table = object.maps.streamTable;
  const value = { frames: 1n, bytes: 2n };
  assert.equal(table.lookup(9n), undefined);
  assert.equal(table.update(9n, value, 'replace'), false);
  assert.equal(table.update(9n, value, 'create'), true);
  assert.equal(table.update(9n, { frames: 3n, bytes: 4n }, 'create'), false);
  assert.deepEqual(table.lookup(9n), value);
  assert.equal(table.delete(9n), true);
  assert.equal(table.delete(9n), false);
});

test('a full map refuses the next key by name', () => {
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamTable: 2 } });
  const table = object.maps.streamTable;
  const value = { frames: 0n, bytes: 0n };
  table.update(1n, value);
  table.update(2n, value);
  assert.throws(() => table.update(3n, value), /update map stream_table: E2BIG/);
});

test('batches tell every entry of a large map once, whatever their size', () => {
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamTable: 100_000 } });
  assert.equal(request(object.programs.fillTable, 0, 100_000), 0);
  for (const entriesPerBatch of [1, 1_000, 100_000, 1_000_000]) {
    const seen = new Set<bigint>();
    let count = 0;
    for (const batch of object.maps.streamTable.batches(entriesPerBatch)) {
      count += batch.count;
      for (let index = 0; index < batch.count; index++) {
        const key = batch.keys.getBigUint64(index * 8, true);
        assert.equal(batch.values.getBigUint64(index * 16 + 8, true), key * 3n);
        seen.add(key);
      }
    }
    assert.equal(count, 100_000, `batches of ${entriesPerBatch}`);
    assert.equal(seen.size, 100_000);
  }
});

test('batches of no entries are refused, since they would never end', () => {
  using object = loadBpfObject(recordStreamObject);
  assert.throws(() => [...object.maps.streamTable.batches(0)], /batches of 0 entries/);
});

test('batches read empty maps, arrays and per-CPU maps', () => {
  using object = loadBpfObject(recordStreamObject);
  assert.deepEqual([...object.maps.streamTable.entries()], []);
  emit(object, 3, 1);
  const slots = [...object.maps.streamSlots.entries()];
  assert.equal(slots.length, 1_024);
  assert.deepEqual(slots[3], [3, 3n]);
  using counters = loadBpfObject(protocolCountersObject);
  const uncounted = [...counters.maps.uncountedPackets.entries()];
  assert.deepEqual(uncounted, [[0, Array.from({ length: possibleCpuCount }, () => 0n)]]);
});

test('a batch update and delete act on every key, missing ones among them', () => {
  using object = loadBpfObject(recordStreamObject);
  const table = object.maps.streamTable;
  const entries = range(0, 500).map(
    (index) => [BigInt(index), { frames: BigInt(index), bytes: 1n }] as const,
  );
  table.updateBatch(entries);
  assert.equal([...table.entries()].length, 500);
  assert.deepEqual(table.lookup(499n), { frames: 499n, bytes: 1n });
  const keys = [10n, 999n, 11n, 998n, 997n, 12n, 12n, 996n];
  assert.equal(table.deleteBatch(keys), 3);
  assert.equal([...table.entries()].length, 497);
  assert.equal(table.lookup(11n), undefined);
  assert.equal(table.deleteBatch([]), 0);
});

test('a batch update that does not fit says how much of it was written', () => {
  using object = loadBpfObject(recordStreamObject, { maxEntries: { streamTable: 3 } });
  const entries = range(0, 5).map((index) => [BigInt(index), { frames: 0n, bytes: 0n }] as const);
  assert.throws(() => object.maps.streamTable.updateBatch(entries), /E2BIG: 3 were written/);
});

test('pinned maps are taken over with their content by the next load', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-bpffs-'));
  await run('mount', '-t', 'bpf', 'none', folder);
  try {
    const frame = udpFrame({
      source: '192.0.2.1',
      destination: '192.0.2.2',
      sourcePort: 1,
      destinationPort: 2,
    });
    for (const expected of [1n, 2n, 3n]) {
      using object = loadBpfObject(protocolCountersObject, { pinFolder: folder });
      object.programs.countProtocolsXdp.testRun({ data: frame });
      const [[, perCpu]] = [...object.maps.protocolCounters.entries()] as [[unknown, unknown]];
      const counters = perCpu as readonly { packets: bigint }[];
      assert.equal(
        counters.reduce((sum, counter) => sum + counter.packets, 0n),
        expected,
      );
    }
    assert.throws(
      () =>
        loadBpfObject(protocolCountersObject, {
          pinFolder: folder,
          maxEntries: { protocolCounters: 5 },
        }),
      /protocol_counters.*pinned/s,
      'a pinned map of another size is not taken over silently',
    );
  } finally {
    await run('umount', folder);
    rmSync(folder, { recursive: true });
  }
});

test('a pinned program stays in the kernel until its pin is removed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-bpffs-'));
  await run('mount', '-t', 'bpf', 'none', folder);
  try {
    const object = loadBpfObject(protocolCountersObject);
    const { countProtocolsXdp } = object.programs;
    const { id } = countProtocolsXdp;
    countProtocolsXdp.pin(join(folder, 'counter'));
    assert.throws(() => countProtocolsXdp.pin(join(folder, 'counter')), /EEXIST/);
    object.close();
    const names = mapsOfProgram(id).map(({ fd, name }) => {
      closeSync(fd);
      return name;
    });
    assert.deepEqual(names.sort(), ['protocol_counte', 'uncounted_packe']);
  } finally {
    await run('umount', folder);
    rmSync(folder, { recursive: true });
  }
});

test("a refused program shows the end of the verifier's log", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-refused-'));
  try {
    await buildBpf({
      sourceFolder: join(import.meta.dirname, 'refused'),
      objectFolder: folder,
    });
    const spec = {
      name: 'reads-past-the-end',
      maps: {},
      programs: { readPastTheEnd: 'read_past_the_end' },
    };
    assert.throws(
      () => loadBpfObject(spec, { folder }),
      (error) => {
        assert.ok(error instanceof LinuxError);
        assert.equal(error.code, 'EACCES');
        assert.match(error.message, /load .*reads-past-the-end\.o/);
        assert.match(error.message, /invalid access to packet/);
        assert.ok(error.message.split('\n').length < 60, 'the log is cut to its end');
        return true;
      },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a missing object and a missing program are named', () => {
  const spec = { name: 'no-such-object', maps: {}, programs: {} };
  assert.throws(() => loadBpfObject(spec), /open .*no-such-object\.o: ENOENT/);
  const wrong = { ...protocolCountersObject, programs: { nothing: 'no_such_program' } };
  assert.throws(() => loadBpfObject(wrong), /find program no_such_program: ENOENT/);
});

test('an object whose layouts are not the generated ones is refused', () => {
  const { protocolCounters } = protocolCountersObject.maps;
  const key = { ...protocolCounters.key, sizeBytes: 12 };
  const stale = {
    ...protocolCountersObject,
    maps: { protocolCounters: { ...protocolCounters, key } },
  };
  assert.throws(() => loadBpfObject(stale), /a key has 8 bytes in the object and 12/);
});

test('only the programs that were asked for are loaded', () => {
  using object = loadBpfObject(protocolCountersObject, { only: ['countProtocolsXdp'] });
  assert.ok(object.programs.countProtocolsXdp.id > 0);
  const { countProtocolsTcEgress } = object.programs;
  assert.throws(() => countProtocolsTcEgress.fd, /count_protocols_tc_egress is not loaded/);
});
