import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { runInVirtualMachine, type VirtualMachineRun } from '../../lab/virtual-machine.ts';
import { buildBpf } from '../../tools/build-bpf.ts';
import type { KernelReport, LoadTask, ObjectReport } from './load-objects.ts';

const objectFolder = 'build/bpf';
const objectNames = readdirSync(join(import.meta.dirname, '../..', objectFolder))
  .filter((entry) => entry.endsWith('.o'))
  .map((entry) => basename(entry, '.o'));
const refusedName = 'call-under-lock';
const refusedFolder = 'build/kernel-floor-refused';

describe("Debian 12's own kernel", () => {
  let machine: VirtualMachineRun;
  let reports: Map<string, ObjectReport>;

  before(async () => {
    const input: LoadTask = {
      objects: [
        ...objectNames.map((name) => ({ folder: objectFolder, name })),
        { folder: refusedFolder, name: refusedName },
      ],
    };
    machine = await runInVirtualMachine({
      kernel: 'debian-12-cloud',
      script: 'test/kernel-floor/load-objects.ts',
      files: [objectFolder],
      extraFiles: { [`${refusedFolder}/${refusedName}.o`]: await compileRefused() },
      input,
    });
    const objects = machine.messages.slice(1) as ObjectReport[];
    reports = new Map(objects.map((report) => [report.name, report]));
  });

  test('is 6.1 and describes its types', () => {
    assert.match(machine.release, /^6\.1\.\d+-\d+-cloud-amd64$/);
    assert.deepEqual(machine.messages[0], { hasBtf: true } satisfies KernelReport);
  });

  test('is given at least one object to load', () => {
    assert.notDeepEqual(objectNames, []);
  });

  for (const name of objectNames) {
    test(`loads ${objectFolder}/${name}.o`, () => {
      assert.deepEqual(reports.get(name), { name });
    });
  }

  test("refuses what only later kernels take, with the end of the verifier's log", () => {
    const refusal = reports.get(refusedName)?.refusal ?? 'it was loaded';
    assert.match(refusal, /cannot load .*call-under-lock\.o: EINVAL/);
    assert.match(refusal, /function calls are not allowed while holding a lock/);
  });
});

async function compileRefused(): Promise<Uint8Array> {
  const folder = mkdtempSync(join(tmpdir(), 'gatehouse-kernel-floor-'));
  try {
    await buildBpf({ sourceFolder: import.meta.dirname, objectFolder: folder });
    return readFileSync(join(folder, `${refusedName}.o`));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
