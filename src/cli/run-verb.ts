/** Runs a verb and tells its outcome: the only place of the command line that prints. */
import type { CliCommand } from './arguments.ts';
import { type ExitCode, exitCodes } from './exit-codes.ts';
import { fail, failed, type Outcome } from './outcome.ts';
import { escapeJson, escapeLine, messageOf } from './terminal-text.ts';
import type { UsageError } from './usage-error.ts';
import type { CliWorld } from './world.ts';

/** Every verb but those that run until they are ended, which the composition root starts itself. */
export type VerbCommand = Exclude<CliCommand, { readonly verb: 'run' | 'demo' }>;

/** Never throws: what goes wrong is told, and the code says so. */
export async function runVerb(command: VerbCommand, world: CliWorld): Promise<ExitCode> {
  let outcome: Outcome;
  try {
    outcome = await outcomeOf(command, world);
  } catch (error) {
    outcome = failed(`${command.verb}: ${messageOf(error)}`);
  }
  return tell(outcome, command.json, world);
}

/** Where what goes wrong is told before there is a world. */
export type Telling = Pick<CliWorld, 'print' | 'complain' | 'isTerminal'>;

export function tellUsageError(error: UsageError, world: Telling): ExitCode {
  const { message, verb, wantsJson } = error;
  const help = verb === undefined ? 'gatehouse help' : `gatehouse help ${verb}`;
  const complaints = [`gatehouse: ${message}`, `see: ${help}`];
  const failure = { exitCode: exitCodes.usage, code: 'usage', message, complaints };
  return tell(fail(failure), wantsJson, world);
}

function tell(outcome: Outcome, asJson: boolean, world: Telling): ExitCode {
  const { lines, complaints, document, exitCode } = outcome;
  if (asJson) {
    world.print(`${escapeJson(document, { indented: world.isTerminal })}\n`);
    return exitCode;
  }
  const inLines = (texts: readonly string[]) =>
    texts.map((text) => `${escapeLine(text)}\n`).join('');
  if (lines.length > 0) world.print(inLines(lines));
  if (complaints.length > 0) world.complain(inLines(complaints));
  return exitCode;
}

/** Loads the verb that is wanted and no other: the panic button does not wait for the rest. */
async function outcomeOf(command: VerbCommand, world: CliWorld): Promise<Outcome> {
  switch (command.verb) {
    case 'init':
      return (await import('./init.ts')).init(command, world);
    case 'check':
      return (await import('./check.ts')).check(command, world);
    case 'diff':
      return (await import('./diff.ts')).diff(command, world);
    case 'apply':
      return (await import('./apply.ts')).apply(command, world);
    case 'confirm':
      return (await import('./confirm.ts')).confirm(command, world);
    case 'rollback':
      return (await import('./rollback.ts')).rollback(command, world);
    case 'history':
      return (await import('./history.ts')).history(command, world);
    case 'safe':
      return (await import('./safe.ts')).safe(command, world);
    case 'states':
      return (await import('./states.ts')).states(command, world);
    case 'table':
      return (await import('./table.ts')).table(command, world);
    case 'status':
      return (await import('./status.ts')).status(command, world);
    case 'doctor':
      return (await import('./doctor.ts')).doctor(command, world);
    case 'rules':
      return (await import('./rules.ts')).rules(command, world);
    case 'backup':
      return (await import('./backup.ts')).backup(command, world);
    case 'restore':
      return (await import('./restore.ts')).restore(command, world);
    case 'completion':
      return (await import('./completion.ts')).completion(command);
    case 'version':
      return (await import('./version.ts')).version(world);
    case 'help':
      return (await import('./help.ts')).help(command);
  }
}
