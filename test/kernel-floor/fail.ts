/** Runs inside the virtual machine and ends in the way that the host asks for. */
import { writeFileSync } from 'node:fs';
import type { Guest } from '../../lab/virtual-machine-protocol.ts';

/** The ways to fail. */
export type Failure = 'throw' | 'crash-kernel';

export function run(guest: Guest): void {
  guest.report('before the failure');
  const failure = guest.input as Failure;
  if (failure === 'throw') throw new RangeError('thrown inside the machine');
  // Documentation/admin-guide/sysrq.rst: "c" makes the kernel dereference NULL.
  writeFileSync('/proc/sysrq-trigger', 'c');
}
