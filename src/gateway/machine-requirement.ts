/** One row of the table of requirements, and what its judgement is made of. */
import type { Attempt, MachineFacts, Probed } from './machine-facts.ts';

export interface Requirement {
  /** Stable, for scripts. */
  readonly name: string;
  /** As a phrase: "Linux 6.1 or newer". */
  readonly requirement: string;
  /** The verdict where it is not met: the program does not run, or runs without something. */
  readonly otherwise: 'missing' | 'limited';
  judge(facts: MachineFacts): Judgement;
}

export type Judgement =
  | { readonly isMet: true; readonly detail: string }
  | {
      readonly isMet: false;
      readonly detail: string;
      readonly remedy: string;
      /** Nothing speaks against it, and only the trial was not possible. */
      readonly isUntried?: true;
    };

export function met(detail: string): Judgement {
  return { isMet: true, detail };
}

export function unmet(detail: string, remedy: string): Judgement {
  return { isMet: false, detail: onOneLine(detail), remedy };
}

export function untried(detail: string, remedy: string): Judgement {
  return { isMet: false, detail: onOneLine(detail), remedy, isUntried: true };
}

/** What could not be found out counts as not met: nobody showed that it is. */
export function judgeProbed<T>(
  probed: Probed<T>,
  judge: (value: T) => Judgement,
  remedy = 'Put that right, and run gatehouse doctor again as root.',
): Judgement {
  if ('failure' in probed) return unmet(`could not be found out: ${probed.failure}`, remedy);
  return judge(probed.value);
}

/** For steps that were not reached, since one before them failed. */
export function judgeAttempt(
  attempt: Attempt | undefined,
  judge: {
    readonly detail: string;
    readonly reached: string;
    remedy(failure: Extract<Attempt, { success: false }>): string;
  },
): Judgement {
  if (attempt === undefined) {
    return unmet(`not tried, since ${judge.reached} comes first`, `First meet ${judge.reached}.`);
  }
  return attempt.success ? met(judge.detail) : unmet(attempt.reason, judge.remedy(attempt));
}

/** Words of programs have line breaks, and a finding is a row of a table. */
function onOneLine(words: string): string {
  return words.trim().replace(/\s*\n\s*/g, '; ');
}

/** `apt-get install X`, as Debian has it. */
export function installing(debianPackage: string): string {
  return `apt-get install ${debianPackage}`;
}
