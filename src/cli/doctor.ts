/** `gatehouse doctor`: what the program needs of this machine, and what is missing. */
import type { CommandOf } from './arguments.ts';
import { exitCodes } from './exit-codes.ts';
import { locateInstance } from './locate-instance.ts';
import { done, type Outcome } from './outcome.ts';
import { alignColumns } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function doctor(command: CommandOf<'doctor'>, world: CliWorld): Promise<Outcome> {
  const { state, runtime } = locateInstance(command, world);
  const findings = await world.examineMachine({ state, runtime });
  const count = (verdict: string) => findings.filter((one) => one.verdict === verdict).length;
  const missingCount = count('missing');
  const limitedCount = count('limited');
  const rows = findings.flatMap(({ verdict, requirement, detail, remedy }) => [
    [verdict, requirement, detail],
    ...(remedy === undefined ? [] : [['', '', `remedy: ${remedy}`]]),
  ]);
  const summary =
    missingCount === 0 && limitedCount === 0
      ? 'nothing is missing'
      : `${missingCount} missing, ${limitedCount} limited`;
  return done(
    [...alignColumns(rows), summary],
    { findings, missingCount, limitedCount },
    { exitCode: missingCount === 0 ? exitCodes.done : exitCodes.toTell },
  );
}
