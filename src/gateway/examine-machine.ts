/** What a machine has and lacks for the program: one finding for each requirement, always all. */
import { kernelRequirements } from './kernel-requirements.ts';
import type { MachineFacts } from './machine-facts.ts';
import type { MachineFinding } from './machine-finding.ts';
import { systemRequirements } from './system-requirements.ts';

export const machineRequirements = [...kernelRequirements, ...systemRequirements];

/** Findings in the order in which a person would put things right: what comes first, first. */
export function judgeMachine(facts: MachineFacts): MachineFinding[] {
  return machineRequirements.map(({ name, requirement, otherwise, judge }) => {
    const judgement = judge(facts);
    const { detail } = judgement;
    if (judgement.isMet) return { name, requirement, verdict: 'met', detail };
    const verdict = judgement.isUntried === true ? 'limited' : otherwise;
    return { name, requirement, verdict, detail, remedy: judgement.remedy };
  });
}
