/** `gatehouse init`: a config for this machine, as a new file. */
import type { CommandOf } from './arguments.ts';
import { done, failed, type Outcome } from './outcome.ts';
import { linesOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

/** It tells what the network looks like, and only root runs what reads it. */
const FILE_MODE = 0o600;

export async function init({ output }: CommandOf<'init'>, world: CliWorld): Promise<Outcome> {
  const proposal = await world.proposeConfig();
  if (!proposal.success) return failed(proposal.reason);
  const { text } = proposal;
  const notes = proposal.lines.flatMap(linesOf);
  if (text === undefined) return failed('no config fits this machine; write one by hand');
  const document = { file: output, configText: text, notes };
  if (output === '-') return done(linesOf(text), document, { complaints: notes });
  const written = world.writeNewFile(output, text, FILE_MODE);
  if (!written.success) return failed(written.reason);
  return done(
    [...notes, ...written.lines.flatMap(linesOf), `wrote ${output}: look it over`],
    document,
  );
}
