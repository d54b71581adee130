/** `gatehouse version`. */
import { done, type Outcome } from './outcome.ts';
import type { CliWorld } from './world.ts';

export function version({ version: text }: CliWorld): Outcome {
  return done([`gatehouse ${text}`], { version: text });
}
