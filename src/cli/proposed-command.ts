/** Commands that a message proposes, to be typed as they are printed. */
import type { Instance } from './arguments.ts';

/** For the same instance as the command that was typed. */
export function proposedCommand({ instanceWords }: Instance, ...words: string[]): string {
  return ['gatehouse', ...instanceWords, ...words].map(shellWord).join(' ');
}

/** A word that a shell reads as it is meant. */
function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
