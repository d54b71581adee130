/** `gatehouse check`: the problems of a config, without changing anything. */
import type { NftFailure } from '../firewall/nft.ts';
import { compileRuleset, rulesOf } from '../firewall/nft-document.ts';
import type { CommandOf } from './arguments.ts';
import { exitCodes } from './exit-codes.ts';
import { done, fail, failed, type Outcome } from './outcome.ts';
import { notesOn, readConfig } from './read-config.ts';
import type { CliWorld } from './world.ts';

export async function check({ file }: CommandOf<'check'>, world: CliWorld): Promise<Outcome> {
  const { compiled, name, failure } = readConfig(file, world);
  if (compiled === undefined) return failure;
  // As a table of its own: what the kernel has now is not what is judged.
  const document = compileRuleset(compiled.ruleset, { replacing: 'table' });
  const ruleCount = rulesOf(document).length;
  const result = await world.checkRuleset(document);
  const isAsked = result?.success === true;
  if (result?.success === false && result.reason !== 'missing') {
    return refusedByKernel(name, result);
  }
  const why =
    result?.success === false ? result.message : 'nft, or the right to ask it, is missing';
  const kernel = isAsked ? 'takes the ruleset' : `was not asked: ${why}; see gatehouse doctor`;
  return done(
    [`${name}: no problems, ${ruleCount} rules`, `the kernel ${kernel}`, ...notesOn(compiled)],
    { file: name, ruleCount, kernel: isAsked ? 'taken' : 'not-asked', notes: compiled.notInForce },
  );
}

function refusedByKernel(name: string, { reason, message, rule }: NftFailure): Outcome {
  if (reason !== 'refused') return failed(`the ruleset of ${name} was not checked: ${message}`);
  return fail({
    exitCode: exitCodes.configProblems,
    code: 'ruleset-refused',
    message: `the kernel refuses the ruleset of ${name}: ${message}`,
    details: rule === undefined ? {} : { rule },
  });
}
