/** Somebody else's programs at tcx: two instructions that give every packet the same verdict. */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import type { InterfaceTarget, TcDirection } from '../../src/linux/attach.ts';
import { BpfProgram } from '../../src/linux/bpf-program.ts';
import { bpfSystemCall } from '../../src/linux/bpf-system-call.ts';
import { NativeStruct } from '../../src/linux/libbpf.ts';
import { inNetworkNamespace, interfaceIndex } from '../../src/linux/libc.ts';

/** `enum tcx_action_base` of linux/bpf.h. */
export const TCX_NEXT = -1;
export const TCX_DROP = 2;

/** Programs of one direction of an interface: the kernel's BPF_MPROG_MAX less one. */
export const TCX_PROGRAM_COUNT_MAX = 63;

const BPF_PROG_LOAD = 5;
const BPF_PROG_ATTACH = 8;
const BPF_PROG_DETACH = 9;
const BPF_PROG_TYPE_SCHED_CLS = 3;
const attachTypes = { ingress: 46, egress: 47 } as const;

/** The caller closes `fd`. @param name of at most 15 bytes, as the kernel shall know it */
export function loadVerdictProgram(name: string, verdict: number): BpfProgram {
  const instructions = new Uint8Array(16);
  const view = new DataView(instructions.buffer);
  // BPF_MOV of an immediate to register 0, and BPF_EXIT (RFC 9669, sections 4.1 and 4.3).
  view.setUint8(0, 0xb7);
  view.setInt32(4, verdict, true);
  view.setUint8(8, 0x95);
  const attributes = NativeStruct.zeroed(64)
    .setU32(0, BPF_PROG_TYPE_SCHED_CLS)
    .setU32(4, 2)
    .setPointer(8, instructions)
    .setPointer(16, new TextEncoder().encode('GPL\0'));
  // `prog_name`
  attributes.bytes.set(new TextEncoder().encode(name), 48);
  const fd = bpfSystemCall(BPF_PROG_LOAD, attributes);
  assert.ok(fd >= 0, `load ${name}: ${fd}`);
  return new BpfProgram(name, fd);
}

export interface Strangers extends Disposable {
  readonly ids: readonly number[];
}

/** Behind what is there. They go when it is disposed of. */
export function attachStrangers(
  { interface: name, networkNamespace }: Required<InterfaceTarget>,
  direction: TcDirection,
  options: { readonly verdict?: number; readonly count?: number; readonly name?: string } = {},
): Strangers {
  const { verdict = TCX_NEXT, count = 1, name: programName = 'stranger' } = options;
  const programs = Array.from({ length: count }, () => loadVerdictProgram(programName, verdict));
  const tell = (command: number): number[] =>
    inNetworkNamespace(networkNamespace, () => {
      const index = interfaceIndex(name);
      return programs.map(({ fd }) => {
        const attributes = NativeStruct.zeroed(32).setU32(0, index);
        attributes.setU32(4, fd).setU32(8, attachTypes[direction]);
        return bpfSystemCall(command, attributes);
      });
    });
  const dispose = (): number[] => {
    const results = tell(BPF_PROG_DETACH);
    for (const { fd } of programs) closeSync(fd);
    return results;
  };
  const results = tell(BPF_PROG_ATTACH);
  if (results.some((result) => result !== 0)) {
    dispose();
    assert.fail(`attach ${count} programs to ${name}: ${results}`);
  }
  return {
    ids: programs.map(({ id }) => id),
    [Symbol.dispose]: () => {
      const unexpected = dispose().filter((result) => result !== 0);
      // One that bears a name of ours may have been cleared.
      if (programName === 'stranger') assert.deepEqual(unexpected, []);
    },
  };
}
