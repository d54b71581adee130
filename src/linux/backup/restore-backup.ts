/**
 * Puts a backup in place, while no instance uses the state folder.
 *
 * Everything is verified before anything is touched. What is there is kept: the state's files in
 * `state.before-restore-TIME` of the state folder, other files beside themselves under the same
 * ending. Then files with secrets, state and config are replaced in this order, each in one step
 * that a crash leaves done or not done. After a crash some are new and some old, each whole, and
 * the same restore again completes it.
 *
 * The state is in that step the journal alone: its older copy and the database go before, while the
 * old journal still holds everything, so at no moment a database and a journal of different states
 * lie beside each other.
 */
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseConfig } from '../../config/parse-config.ts';
import { CONFIG_VERSION } from '../../config/schema.ts';
import { nodeAt, parseSourceTree } from '../../config/source-tree.ts';
import type { ActionResult } from '../../gateway/action-result.ts';
import type { BackupOptions } from '../../gateway/backup-options.ts';
import { beginReplacement, flushFolder, writeFileDurably, writeFully } from '../atomic-file.ts';
import { lockFolder } from '../core/instance-lock.ts';
import { StateFiles, type StorageAlarm } from '../store/state-files.ts';
import { type BackupContent, BackupError, decodeBackup, partBytesMax } from './backup-format.ts';
import { readBoundedFile } from './bounded-file.ts';
import { requireUsableJournal } from './journal-copy.ts';
import type { BackupProgram } from './make-backup.ts';
import { namedSecrets } from './secret-files.ts';

/** What a backup of the largest parts may have, should nothing in them be compressible. */
const BACKUP_BYTES_MAX = partBytesMax.journal + 64 * 1024 * 1024;

/** Never throws. */
export async function restoreBackup(
  options: BackupOptions,
  program: BackupProgram,
): Promise<ActionResult> {
  const { file, stateFolder } = options;
  let plan: RestorePlan;
  try {
    plan = planRestore(options, program);
  } catch (cause) {
    return { success: false, reason: `cannot restore ${file}: it ${wordsOf(cause)}` };
  }
  try {
    const lock = lockFolder(stateFolder);
    if (lock.release === undefined) {
      const who = lock.holderPid === undefined ? 'another process' : `process ${lock.holderPid}`;
      const reason = `cannot restore to ${stateFolder}: ${who} uses it; stop that first`;
      return { success: false, reason };
    }
    try {
      return { success: true, lines: carryOut(plan, options, program) };
    } finally {
      releaseQuietly(lock.release);
    }
  } catch (cause) {
    const reason =
      `the restore of ${file} is not complete: ${wordsOf(cause)}. Run it again when that is ` +
      'solved; what was there before is kept with .before-restore- in its name';
    return { success: false, reason };
  }
}

/** A lock that cannot be given up ends with this process, and the restore is what it is. */
function releaseQuietly(release: () => void): void {
  try {
    release();
  } catch {
    // Its file stays, which says nothing without the lock.
  }
}

interface RestorePlan {
  readonly config: Buffer;
  readonly journal: Buffer | undefined;
  readonly secrets: readonly { readonly path: string; readonly bytes: Buffer }[];
  readonly lines: readonly string[];
}

/** @throws BackupError whose message begins with a verb, Error of node:fs */
function planRestore(options: BackupOptions, { schema }: BackupProgram): RestorePlan {
  const { file, passphrase } = options;
  const bytes = readBoundedFile(file, BACKUP_BYTES_MAX);
  if (bytes === undefined) throw new BackupError('is not there');
  const content = decodeBackup(bytes, passphrase === undefined ? {} : { passphrase });
  const config = partOf(content, 'config');
  if (config === undefined) throw new BackupError('holds no config');
  const { text, lines } = judgeConfig(config);
  const { inside } = namedSecrets(text);
  const secrets = content.parts.flatMap(({ path, bytes: secret }) =>
    path === undefined ? [] : [{ path, bytes: Buffer.from(secret) }],
  );
  for (const { path } of secrets) {
    if (inside.includes(path)) continue;
    throw new BackupError(`holds the file ${path}, which its config does not name`);
  }
  const journal = partOf(content, 'journal');
  const made = `made by Gatehouse ${content.program} at ${content.madeAt}`;
  if (journal === undefined) {
    const stays = 'it holds no state: that of this machine stays';
    return { config, journal, secrets, lines: [made, stays, ...lines] };
  }
  const { sequence } = requireUsableJournal(journal, { schema });
  const state = `the state after ${sequence} transactions`;
  return { config, journal, secrets, lines: [made, state, ...lines] };
}

function partOf({ parts }: BackupContent, kind: 'config' | 'journal'): Buffer | undefined {
  const part = parts.find((one) => one.kind === kind);
  return part === undefined ? undefined : Buffer.from(part.bytes);
}

/** A config with problems was in the same use before, and comes back as it was. */
function judgeConfig(config: Buffer): { text: string; lines: string[] } {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(config);
  } catch {
    throw new BackupError('holds a config that is not UTF-8');
  }
  const { tree } = parseSourceTree(text, 'config');
  const node = tree === undefined ? undefined : nodeAt(tree.root, ['version']);
  const version = node?.kind === 'scalar' ? node.value : undefined;
  if (typeof version === 'number' && version > CONFIG_VERSION) {
    const known = `and this Gatehouse knows up to ${CONFIG_VERSION}`;
    throw new BackupError(
      `holds a config of version ${version}, ${known}: use the newer Gatehouse`,
    );
  }
  const { problems = [] } = parseConfig(text, { fileName: 'config' });
  const told = `the config has ${problems.length} problems: run gatehouse check`;
  return { text, lines: problems.length === 0 ? [] : [told] };
}

/** @throws StorageError, Error of node:fs */
function carryOut(plan: RestorePlan, options: BackupOptions, program: BackupProgram): string[] {
  const { configFile, stateFolder } = options;
  const ending = `.before-restore-${program.now().toISOString().replaceAll(':', '-')}`;
  const configFolder = dirname(configFile);
  const lines = [...plan.lines];
  for (const { path, bytes } of plan.secrets) {
    lines.push(...replaceFile({ path: join(configFolder, path), bytes, ending }));
  }
  if (plan.journal !== undefined) {
    lines.push(...replaceState({ stateFolder, journal: plan.journal, ending }));
  }
  lines.push(...replaceFile({ path: configFile, bytes: plan.config, ending }));
  if (plan.journal !== undefined) lines.push(...rebuildDatabase(stateFolder, program.schema));
  return lines;
}

function replaceFile(options: {
  readonly path: string;
  readonly bytes: Buffer;
  readonly ending: string;
}): string[] {
  const { path, bytes, ending } = options;
  const made = mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  if (made !== undefined) flushFolder(dirname(made));
  if (!existsSync(path)) {
    writeFileDurably(path, bytes, { mode: 0o600 });
    return [`${path} is new`];
  }
  if (holds(path, bytes)) return [`${path} is the same`];
  // A symbolic link stays one, and what it points to is replaced and kept there.
  const target = realpathSync(path);
  const aside = freeName(`${target}${ending}`);
  linkSync(target, aside);
  flushFolder(dirname(aside));
  writeFileDurably(path, bytes);
  return [`${path} is replaced; the one before is ${aside}`];
}

function holds(path: string, bytes: Buffer): boolean {
  if (statSync(path).size !== bytes.length) return false;
  return readBoundedFile(path, bytes.length)?.equals(bytes) === true;
}

const stateFileNames = [
  'state.journal',
  'state.journal.previous',
  'state.sqlite',
  'state.sqlite-wal',
];

function replaceState(options: {
  readonly stateFolder: string;
  readonly journal: Buffer;
  readonly ending: string;
}): string[] {
  const { stateFolder, journal, ending } = options;
  const present = stateFileNames.filter((name) => existsSync(join(stateFolder, name)));
  const aside = freeName(join(stateFolder, `state${ending}`));
  if (present.length > 0) {
    mkdirSync(aside, { mode: 0o700 });
    for (const name of present) linkSync(join(stateFolder, name), join(aside, name));
    flushFolder(aside);
    flushFolder(stateFolder);
  }
  const replacement = beginReplacement(join(stateFolder, 'state.journal'));
  try {
    writeFully(replacement.fd, journal, 0);
    for (const name of ['state.sqlite', 'state.sqlite-wal', 'state.journal.previous']) {
      rmSync(join(stateFolder, name), { force: true });
    }
    // Before the new journal has its name: a database that came back would be taken for the newer.
    flushFolder(stateFolder);
    replacement.install();
  } finally {
    closeSync(replacement.fd);
  }
  const kept = present.length === 0 ? '' : `; the one before is in ${aside}`;
  return [`the state in ${stateFolder} is replaced${kept}`];
}

/**
 * The store would do so at its next start, with an alarm about a database that is missing. Its
 * records stay as they are; migrations are the store's own.
 */
function rebuildDatabase(stateFolder: string, schema: number): string[] {
  const alarms: StorageAlarm[] = [];
  const files = new StateFiles(stateFolder, (alarm) => alarms.push(alarm));
  const { database, journal } = files.open({ schema });
  database.close();
  journal?.close();
  const isExpected = (alarm: StorageAlarm) => alarm.kind === 'file-damaged';
  return alarms.filter((alarm) => !isExpected(alarm)).map((alarm) => `alarm: ${alarm.kind}`);
}

/** Two restores within the same millisecond are a test's or a wrong clock's. */
function freeName(wanted: string): string {
  let name = wanted;
  for (let number = 2; existsSync(name); number++) name = `${wanted}-${number}`;
  return name;
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
