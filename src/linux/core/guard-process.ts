/** The process of a rollback guard, which waits most of its life and loads nothing for that. */
import { text } from 'node:stream/consumers';
import { DONE, type GuardedInstance } from './rollback-guard.ts';

/** Resolves when there is nothing to guard any more. */
export async function guardChange(
  instance: GuardedInstance,
  report: (text: string) => void,
): Promise<void> {
  for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
  if ((await text(process.stdin)) === DONE) return;
  const { endChangeInTime } = await import('./end-change.ts');
  await endChangeInTime(instance, report);
}
