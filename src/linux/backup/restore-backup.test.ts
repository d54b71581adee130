import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { systemError, watchFileCalls } from '../../../test/storage/file-calls.ts';
import type { ActionResult } from '../../gateway/action-result.ts';
import { lockFolder } from '../core/instance-lock.ts';
import { openChangeRecords } from '../store/change-records.ts';
import { openStore } from '../store/store.ts';
import { type BackupPart, encodeBackup } from './backup-format.ts';
import { type BackupProgram, makeBackup } from './make-backup.ts';
import { restoreBackup } from './restore-backup.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-backup-'));
after(() => rmSync(root, { recursive: true }));

const MADE_AT = '2026-03-01T12:00:00.000Z';
const program: BackupProgram = { version: '0.1.0', schema: 0, now: () => new Date(MADE_AT) };

const config = 'version: 1\n# a comment\n';
const shieldConfig = `version: 1
grantor:
  interface: eth0
  address: 203.0.113.20
  gatekeepers: [203.0.113.1]
  policy: policy.ts
  keys: keys/grantor.json
`;

interface Machine {
  readonly folder: string;
  readonly configFile: string;
  readonly stateFolder: string;
  readonly file: string;
}

let machineCount = 0;

function newMachine(): Machine {
  const folder = join(root, `machine-${++machineCount}`);
  mkdirSync(join(folder, 'etc'), { recursive: true });
  return {
    folder,
    configFile: join(folder, 'etc', 'gatehouse.yaml'),
    stateFolder: join(folder, 'state'),
    file: join(folder, 'gate.backup'),
  };
}

function machineWith(configText: string, authors: readonly string[]): Machine {
  const machine = newMachine();
  writeFileSync(machine.configFile, configText, { mode: 0o600 });
  for (const author of authors) addRevision(machine, author);
  return machine;
}

function addRevision({ stateFolder }: Machine, author: string): void {
  const store = openStore(stateFolder, { alarm: fail });
  recordRevision(store, author);
  store.close();
}

function recordRevision(store: ReturnType<typeof openStore>, author: string): void {
  const revision = { author, recordedAt: 1000, configText: config, rulesetText: author };
  openChangeRecords(store).recordRevision(revision);
}

function fail(alarm: unknown): never {
  assert.fail(`an alarm: ${JSON.stringify(alarm)}`);
}

/** The authors of the revisions, the oldest first; an alarm is a failure. */
function authorsIn({ stateFolder }: Machine, alarm: (alarm: unknown) => void = fail): string[] {
  const store = openStore(stateFolder, { alarm });
  const authors = openChangeRecords(store)
    .revisions.list()
    .map(([, { author }]) => author);
  store.close();
  return authors.toReversed();
}

function linesOf(result: ActionResult): string {
  assert.ok(result.success, result.success ? '' : result.reason);
  return result.lines.join('\n');
}

function reasonOf(result: ActionResult): string {
  assert.ok(!result.success, 'it succeeded');
  return result.reason;
}

function writeBackup(machine: Machine, parts: readonly BackupPart[]): void {
  writeFileSync(machine.file, encodeBackup({ program: '0.1.0', madeAt: MADE_AT, parts }));
}

async function backupOf(configText: string, authors: readonly string[]): Promise<Buffer> {
  const machine = machineWith(configText, authors);
  linesOf(await makeBackup(machine, program));
  return readFileSync(machine.file);
}

test('a backup brings config and revisions to a machine that has neither', async () => {
  const from = machineWith(config, ['init', 'admin']);
  const made = linesOf(await makeBackup(from, program));
  assert.match(made, /not encrypted\nthe config .*\nthe state in .*, after 2 transactions$/);
  assert.equal(statSync(from.file).mode & 0o777, 0o600);
  const to = newMachine();
  const restored = linesOf(await restoreBackup({ ...to, file: from.file }, program));
  assert.match(restored, /^made by Gatehouse 0.1.0 at 2026-03-01T12:00:00.000Z\n/);
  assert.equal(readFileSync(to.configFile, 'utf8'), config);
  assert.equal(statSync(to.configFile).mode & 0o777, 0o600);
  assert.deepEqual(authorsIn(to), ['init', 'admin']);
  addRevision(to, 'later');
  assert.deepEqual(authorsIn(to), ['init', 'admin', 'later']);
});

test('what was there before a restore is kept under other names', async () => {
  const backup = await backupOf(config, ['new']);
  const to = machineWith('version: 1\n# old\n', ['old', 'older']);
  writeFileSync(to.file, backup);
  linesOf(await restoreBackup(to, program));
  assert.deepEqual(authorsIn(to), ['new']);
  const ending = '.before-restore-2026-03-01T12-00-00.000Z';
  assert.equal(readFileSync(`${to.configFile}${ending}`, 'utf8'), 'version: 1\n# old\n');
  const before = { ...to, stateFolder: join(to.stateFolder, `state${ending}`) };
  assert.deepEqual(authorsIn(before), ['old', 'older']);
  assert.equal(statSync(before.stateFolder).mode & 0o777, 0o700);
  // Once more within the same millisecond.
  addRevision(to, 'newer');
  linesOf(await restoreBackup(to, program));
  const again = { ...to, stateFolder: `${before.stateFolder}-2` };
  assert.deepEqual(authorsIn(again), ['new', 'newer']);
});

test('a config that is a symbolic link stays one, with the mode of its file', async () => {
  const to = newMachine();
  const target = join(to.folder, 'real.yaml');
  writeFileSync(target, 'version: 1\n');
  chmodSync(target, 0o640);
  symlinkSync(target, to.configFile);
  writeFileSync(to.file, await backupOf(config, []));
  linesOf(await restoreBackup(to, program));
  assert.equal(readFileSync(target, 'utf8'), config);
  assert.equal(statSync(target).mode & 0o777, 0o640);
  const kept = readdirSync(to.folder).filter((name) => name.startsWith('real.yaml.before'));
  assert.equal(readFileSync(join(to.folder, kept[0] ?? ''), 'utf8'), 'version: 1\n');
});

test('a backup without state leaves the state of the machine alone', async () => {
  const to = machineWith('version: 1\n', ['stays']);
  writeFileSync(to.file, await backupOf(config, []));
  assert.match(linesOf(await restoreBackup(to, program)), /holds no state: that of this machine/);
  assert.deepEqual(authorsIn(to), ['stays']);
});

test('a backup never takes the place of a file', async () => {
  const machine = machineWith(config, []);
  writeFileSync(machine.file, 'precious');
  assert.match(reasonOf(await makeBackup(machine, program)), /exists already: a backup never/);
  assert.equal(readFileSync(machine.file, 'utf8'), 'precious');
});

test('a backup that cannot be written leaves nothing behind', async () => {
  const { folder, ...machine } = machineWith(config, ['a']);
  const before = readdirSync(folder);
  for (const call of ['writeSync', 'fsyncSync', 'renameSync']) {
    let result: Promise<ActionResult> | undefined;
    const refuse = (name: string) => {
      if (name === call) throw systemError('ENOSPC', name);
    };
    watchFileCalls(refuse, () => {
      result = makeBackup(machine, program);
    });
    assert.match(reasonOf(await (result ?? assert.fail())), /ENOSPC/);
    assert.deepEqual(readdirSync(folder), before, call);
  }
});

test('files with secrets are in encrypted backups only', async () => {
  const from = machineWith(shieldConfig, []);
  const keys = join(from.folder, 'etc', 'keys', 'grantor.json');
  assert.match(
    linesOf(await makeBackup({ ...from, passphrase: 'a', file: `${from.file}-1` }, program)),
    /without keys\/grantor.json, which is not there/,
  );
  mkdirSync(join(from.folder, 'etc', 'keys'));
  writeFileSync(keys, '{"secret":1}', { mode: 0o600 });
  const without = linesOf(await makeBackup(from, program));
  assert.match(without, /without keys\/grantor.json, which holds secrets: only an encrypted/);
  const secret = { ...from, file: `${from.file}-2`, passphrase: 'open sesame' };
  assert.match(linesOf(await makeBackup(secret, program)), /the secrets in keys\/grantor.json/);

  const to = newMachine();
  const restored = join(to.folder, 'etc', 'keys', 'grantor.json');
  linesOf(await restoreBackup({ ...to, file: from.file }, program));
  assert.equal(existsSync(restored), false);
  const options = { ...to, file: secret.file, passphrase: 'open sesame' };
  linesOf(await restoreBackup(options, program));
  assert.equal(readFileSync(restored, 'utf8'), '{"secret":1}');
  assert.equal(statSync(restored).mode & 0o777, 0o600);
});

test('secrets outside of the folder of the config are left out, and a line says so', async () => {
  const from = machineWith(shieldConfig.replace('keys/grantor.json', '/srv/keys.json'), []);
  const result = await makeBackup({ ...from, passphrase: 'a' }, program);
  assert.match(linesOf(result), /without \/srv\/keys.json, which lies outside of the config's/);
});

test('an empty passphrase encrypts nothing', async () => {
  const machine = machineWith(config, []);
  const result = await makeBackup({ ...machine, passphrase: '' }, program);
  assert.match(reasonOf(result), /the passphrase is empty/);
  assert.equal(existsSync(machine.file), false);
});

test('survive-125: nothing is restored while an instance holds the state folder', async () => {
  const to = machineWith('version: 1\n', ['old']);
  writeFileSync(to.file, await backupOf(config, ['new']));
  const lock = lockFolder(to.stateFolder);
  assert.ok(lock.release !== undefined);
  const reason = reasonOf(await restoreBackup(to, program));
  assert.ok(reason.includes(`process ${process.pid} uses it; stop that first`), reason);
  lock.release();
  assert.deepEqual(authorsIn(to), ['old']);
  linesOf(await restoreBackup(to, program));
  assert.deepEqual(authorsIn(to), ['new']);
});

test('a backup is made while an instance holds the state folder and writes', async () => {
  const from = machineWith(config, ['before']);
  const lock = lockFolder(from.stateFolder);
  const store = openStore(from.stateFolder, { alarm: fail });
  recordRevision(store, 'while');
  linesOf(await makeBackup(from, program));
  recordRevision(store, 'after');
  store.close();
  lock.release?.();
  const to = newMachine();
  linesOf(await restoreBackup({ ...to, file: from.file }, program));
  assert.deepEqual(authorsIn(to), ['before', 'while']);
});

test('a line of the journal that is just being written is not part of a backup', async () => {
  const from = machineWith(config, ['whole']);
  const journal = join(from.stateFolder, 'state.journal');
  writeFileSync(journal, '0000abcd [["lea', { flag: 'a' });
  linesOf(await makeBackup(from, program));
  const to = newMachine();
  linesOf(await restoreBackup({ ...to, file: from.file }, program));
  assert.deepEqual(authorsIn(to), ['whole']);
});

test('a damaged journal is not passed off as a backup', async () => {
  const from = machineWith(config, ['one', 'two', 'three']);
  const journal = join(from.stateFolder, 'state.journal');
  const text = readFileSync(journal, 'utf8');
  for (const damaged of [text.replace('"two"', '"TWO"'), 'nonsense', '']) {
    writeFileSync(journal, damaged);
    const reason = reasonOf(await makeBackup(from, program));
    assert.match(reason, /is damaged \(.*\): start Gatehouse, which repairs it/);
    assert.equal(existsSync(from.file), false);
  }
});

const unusable: readonly (readonly [string, readonly BackupPart[], RegExp])[] = [
  ['no config', [], /holds no config/],
  [
    'a config of a newer version',
    [{ kind: 'config', bytes: Buffer.from('version: 2\n') }],
    /a config of version 2, and this Gatehouse knows up to 1: use the newer Gatehouse/,
  ],
  [
    'a config that is not text',
    [{ kind: 'config', bytes: Buffer.of(0xff, 0xfe) }],
    /a config that is not UTF-8/,
  ],
  [
    'a file that its config does not name',
    [
      { kind: 'config', bytes: Buffer.from(config) },
      { kind: 'secret', path: 'authorized_keys', bytes: Buffer.from('x') },
    ],
    /holds the file authorized_keys, which its config does not name/,
  ],
  ...(
    [
      [
        'a journal of a newer schema',
        '{"format":1,"schema":1,"sequence":0,"records":0}',
        /schema 1/,
      ],
      ['a journal of a newer format', '{"format":2}', /has format 2/],
      [
        'a journal with a strange schema',
        '{"format":1,"schema":-1,"sequence":0,"records":0}',
        /did/,
      ],
      [
        'a journal that promises records',
        '{"format":1,"schema":0,"sequence":0,"records":9}',
        /of the/,
      ],
      ['a journal without a head', 'null', /journal/],
      ['a journal that is not JSON', '{', /journal/],
    ] as const
  ).map(([what, head, why]): readonly [string, readonly BackupPart[], RegExp] => [
    what,
    [
      { kind: 'config', bytes: Buffer.from(config) },
      { kind: 'journal', bytes: journalOf(head) },
    ],
    why,
  ]),
  [
    'a journal with a record that has no name',
    [
      { kind: 'config', bytes: Buffer.from(config) },
      {
        kind: 'journal',
        bytes: journalOf('{"format":1,"schema":0,"sequence":0,"records":1}', '[5,null,"x"]'),
      },
    ],
    /has a journal that no store takes: a record has no name/,
  ],
];

/** With right checksums. */
function journalOf(...lines: readonly string[]): Buffer {
  let crc = 0;
  const text = lines.map((line) => {
    crc = crc32(line, crc);
    return `${crc.toString(16).padStart(8, '0')} ${line}\n`;
  });
  return Buffer.from(text.join(''));
}

for (const [what, parts, why] of unusable) {
  test(`survive-103: a backup with ${what} is refused, and nothing is touched`, async () => {
    const to = machineWith('version: 1\n', ['old']);
    writeBackup(to, parts);
    const before = [readdirSync(to.folder), readdirSync(to.stateFolder)];
    assert.match(reasonOf(await restoreBackup(to, program)), why);
    assert.deepEqual([readdirSync(to.folder), readdirSync(to.stateFolder)], before);
    assert.equal(readFileSync(to.configFile, 'utf8'), 'version: 1\n');
    assert.deepEqual(authorsIn(to), ['old']);
  });
}

test('survive-103: a backup that is missing, a folder or a device is refused', async () => {
  const to = newMachine();
  assert.match(reasonOf(await restoreBackup(to, program)), /it is not there/);
  assert.match(reasonOf(await restoreBackup({ ...to, file: root }, program)), /is no file/);
  const device = { ...to, file: '/dev/zero' };
  assert.match(reasonOf(await restoreBackup(device, program)), /is no file/);
});

test('a config with problems comes back as it was, and a line says so', async () => {
  const to = newMachine();
  writeFileSync(to.file, await backupOf('version: 1\nwann: {}\n', []));
  const lines = linesOf(await restoreBackup(to, program));
  assert.match(lines, /the config has 1 problems: run gatehouse check/);
  assert.equal(readFileSync(to.configFile, 'utf8'), 'version: 1\nwann: {}\n');
});

function isLocked({ stateFolder }: Machine): boolean {
  const file = join(stateFolder, 'instance.lock');
  return existsSync(file) && readFileSync(file, 'utf8') !== '';
}

/** That a file was missing or damaged is what was done to it. */
function ignore(): void {}

test('survive-103: a disk that refuses any step leaves old or new, and the next try completes', async () => {
  const backup = await backupOf(config, ['new']);
  let refusedCount = 0;
  for (let refused = 0; ; refused++) {
    const to = machineWith('version: 1\n# old\n', ['old']);
    writeFileSync(to.file, backup);
    let callCount = 0;
    let result: Promise<ActionResult> | undefined;
    const refuse = (name: string) => {
      if (!isLocked(to)) return;
      if (callCount++ === refused) throw systemError('EIO', name);
    };
    watchFileCalls(refuse, () => {
      result = restoreBackup(to, program);
    });
    const ended = await (result ?? assert.fail());
    const what = `the disk fails at call ${refused}`;
    const held = readFileSync(to.configFile, 'utf8');
    assert.ok([config, 'version: 1\n# old\n'].includes(held), what);
    const [author = '', ...others] = authorsIn(to, ignore);
    assert.ok(['old', 'new'].includes(author) && others.length === 0, `${what}: ${author}`);
    if (callCount <= refused) {
      linesOf(ended);
      break;
    }
    refusedCount++;
    // What only the database's rebuilding met is put right by the next start.
    if (!ended.success) linesOf(await restoreBackup(to, program));
    assert.equal(readFileSync(to.configFile, 'utf8'), config, what);
    assert.deepEqual(authorsIn(to, ignore), ['new'], what);
  }
  assert.ok(refusedCount > 20, `${refusedCount} steps`);
});
