import { judgeMachine } from '../gateway/examine-machine.ts';
import type { MachineFinding } from '../gateway/machine-finding.ts';
import { gatherMachineFacts, type MachinePaths } from './machine-facts.ts';

/** Each requirement of kernel, packages and rights. Changes nothing, and never throws. */
export async function examineMachine(paths: MachinePaths): Promise<MachineFinding[]> {
  return judgeMachine(await gatherMachineFacts(paths));
}
