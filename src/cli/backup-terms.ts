/** What a backup or its return is made by. A passphrase comes from a file, never from the words. */
import type { BackupOptions } from '../gateway/backup-options.ts';
import type { CommandOf } from './arguments.ts';
import { locateInstance } from './locate-instance.ts';
import type { CliWorld } from './world.ts';

/** Characters. More is a file that was named by mistake. */
const PASSPHRASE_LENGTH_MAX = 1_024;

export type BackupTerms =
  | { readonly options: BackupOptions; readonly reason?: never }
  | { readonly options?: never; readonly reason: string };

export function readBackupOptions(
  command: CommandOf<'backup' | 'restore'>,
  world: CliWorld,
): BackupTerms {
  const { file, config: configFile, passphraseFile } = command;
  const { state: stateFolder } = locateInstance(command, world);
  const options = { file, configFile, stateFolder };
  if (passphraseFile === undefined) return { options };
  const read = world.readFile(passphraseFile);
  if (read.text === undefined) return { reason: `no passphrase: ${read.reason}` };
  const [passphrase = ''] = read.text.split(/\r?\n/, 1);
  if (passphrase !== '' && passphrase.length <= PASSPHRASE_LENGTH_MAX) {
    return { options: { ...options, passphrase } };
  }
  const found = passphrase === '' ? 'is empty' : `has ${passphrase.length} characters`;
  const right = `a passphrase of 1 to ${PASSPHRASE_LENGTH_MAX} characters`;
  return { reason: `the first line of ${passphraseFile} ${found}: it has to be ${right}` };
}
