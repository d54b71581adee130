/** `gatehouse completion`: what completes the words of the command line in a shell. */
import type { CommandOf, Shell } from './arguments.ts';
import { renderBashCompletion } from './completion-bash.ts';
import { renderFishCompletion } from './completion-fish.ts';
import { renderZshCompletion } from './completion-zsh.ts';
import { done, type Outcome } from './outcome.ts';
import { linesOf } from './terminal-text.ts';

export const completionScripts: { readonly [Name in Shell]: () => string } = {
  bash: renderBashCompletion,
  zsh: renderZshCompletion,
  fish: renderFishCompletion,
};

export function completion({ shellName }: CommandOf<'completion'>): Outcome {
  const script = completionScripts[shellName]();
  return done(linesOf(script), { shell: shellName, script });
}
