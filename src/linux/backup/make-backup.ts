/** Makes a backup, also while the gateway runs: of the config, the state, and on demand secrets. */
import { dirname, join } from 'node:path';
import type { ActionResult } from '../../gateway/action-result.ts';
import type { BackupOptions } from '../../gateway/backup-options.ts';
import {
  type BackupContent,
  BackupError,
  type BackupPart,
  decodeBackup,
  encodeBackup,
  partBytesMax,
} from './backup-format.ts';
import { readBoundedFile, writeNewFile } from './bounded-file.ts';
import { copyJournal } from './journal-copy.ts';
import { namedSecrets } from './secret-files.ts';

/** What a backup needs to know of the program. */
export interface BackupProgram {
  readonly version: string;
  /** The newest schema of the store that it knows: the number of its migrations. */
  readonly schema: number;
  readonly now: () => Date;
}

/**
 * Writes `file`, which must not exist yet, with mode 0600. Never throws. Files with secrets that
 * the config names are included when the backup is encrypted; else they are left out, and a line
 * says so.
 */
export async function makeBackup(
  options: BackupOptions,
  program: BackupProgram,
): Promise<ActionResult> {
  const { file, passphrase } = options;
  try {
    if (passphrase === '') throw new BackupError('the passphrase is empty');
    const { parts, lines } = collectParts(options);
    const { version, now } = program;
    const content: BackupContent = {
      program: version,
      madeAt: now().toISOString(),
      parts,
    };
    const sealing = passphrase === undefined ? {} : { passphrase };
    const bytes = encodeBackup(content, sealing);
    // Nobody else looks at it before the day on which it is needed.
    decodeBackup(bytes, sealing);
    writeNewFile(file, bytes);
    const how = passphrase === undefined ? 'not encrypted' : 'encrypted';
    return { success: true, lines: [`${file}: ${bytes.length} bytes, ${how}`, ...lines] };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return { success: false, reason: `cannot make the backup ${file}: ${why}` };
  }
}

function collectParts({ configFile, stateFolder, passphrase }: BackupOptions): {
  parts: BackupPart[];
  lines: string[];
} {
  const config = readBoundedFile(configFile, partBytesMax.config);
  if (config === undefined) throw new BackupError(`there is no config at ${configFile}`);
  const parts: BackupPart[] = [{ kind: 'config', bytes: config }];
  const lines = [`the config ${configFile}`];
  const journal = copyJournal(join(stateFolder, 'state.journal'));
  if (journal === undefined) {
    lines.push(`no state: there is none in ${stateFolder}`);
  } else {
    parts.push({ kind: 'journal', bytes: journal.bytes });
    lines.push(`the state in ${stateFolder}, after ${journal.sequence} transactions`);
  }
  const secrets = namedSecrets(config.toString('utf8'));
  for (const path of secrets.inside) {
    if (passphrase === undefined) {
      lines.push(`without ${path}, which holds secrets: only an encrypted backup takes it`);
      continue;
    }
    const bytes = readBoundedFile(join(dirname(configFile), path), partBytesMax.secret);
    if (bytes === undefined) {
      lines.push(`without ${path}, which is not there`);
      continue;
    }
    parts.push({ kind: 'secret', path, bytes });
    lines.push(`the secrets in ${path}`);
  }
  if (!secrets.areKnown) {
    lines.push('without files that the config may name, since it has problems: gatehouse check');
  }
  for (const path of secrets.outside) {
    lines.push(`without ${path}, which lies outside of the config's folder`);
  }
  return { parts, lines };
}
