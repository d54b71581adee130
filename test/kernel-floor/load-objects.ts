/** Runs inside the virtual machine: loads BPF objects through the bridge and reports on each. */
import { existsSync } from 'node:fs';
import type { Guest } from '../../lab/virtual-machine-protocol.ts';
import { loadBpfObject } from '../../src/linux/bpf-object.ts';

/** What the host asks for. */
export interface LoadTask {
  /** Folders, relative to the repository, with the names of the objects in them. */
  readonly objects: readonly { readonly folder: string; readonly name: string }[];
}

/** The first report. */
export interface KernelReport {
  /** The kernel describes its own types, as the bridge needs it. */
  readonly hasBtf: boolean;
}

/** One for each object. */
export interface ObjectReport {
  readonly name: string;
  /** Why the kernel or libbpf refused it; absent when it was loaded. */
  readonly refusal?: string;
}

export function run(guest: Guest): void {
  const kernel: KernelReport = { hasBtf: existsSync('/sys/kernel/btf/vmlinux') };
  guest.report(kernel);
  const { objects } = guest.input as LoadTask;
  for (const { folder, name } of objects) guest.report(load(folder, name));
}

function load(folder: string, name: string): ObjectReport {
  try {
    loadBpfObject({ name, maps: {}, programs: {} }, { folder }).close();
    return { name };
  } catch (error) {
    return { name, refusal: error instanceof Error ? error.message : String(error) };
  }
}
