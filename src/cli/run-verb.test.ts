import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ControlQuestion, CoreStatus } from '../messages/control-messages.ts';
import { completionScripts } from './completion.ts';
import { exitCodes, exitCodeTable } from './exit-codes.ts';
import {
  type ControlReply,
  documentOf,
  homeConfig,
  SimulatedWorld,
  typed,
} from './simulated-world.ts';
import { verbs } from './verbs.ts';

const hostile = 'x\u001b]0;owned\u0007\u202e\u2028y';
const obeyed = /[^\P{C}\n\t]|[\p{Zl}\p{Zp}]/u;
const configFile = '/etc/gatehouse/gatehouse.yaml';

/** A core that puts hostile text wherever its answers may hold any. */
function hostileCore(question: ControlQuestion): ControlReply {
  const summary = { revision: 1, author: hostile, recordedAt: 0, linesAdded: 1, linesRemoved: 0 };
  const texts = { configText: `# ${hostile}\n`, rulesetText: `table ${hostile}\n` };
  switch (question.kind) {
    case 'get-status':
      return { kind: 'status', status: hostileStatus };
    case 'get-running':
      return { kind: 'running', configFile: hostile, forwardedTraffic: 'sessions', ...texts };
    case 'get-revisions':
      return { kind: 'revisions', revisions: [summary] };
    case 'get-revision':
      return { kind: 'revision', summary, configDiff: `+# ${hostile}\n`, ...texts };
    default:
      return { kind: 'refused', code: 'config-problems', reason: `${hostile}\n${hostile}` };
  }
}

const hostileStatus: CoreStatus = {
  version: hostile,
  pid: 1,
  uptimeMs: 0,
  configFile: hostile,
  stateFolder: hostile,
  healthy: false,
  problems: [hostile],
  alarms: [{ atMs: 0, text: `${hostile}\nsecond line` }],
  ruleset: 'unknown',
  ruleCount: 0,
  forwarding: false,
  safeMode: { sinceMs: 0, author: hostile },
  roles: [{ role: hostile, phase: 'stopped', restartCount: 0, lastExit: hostile, forMs: 0 }],
  interfaces: [{ name: hostile, state: 'failed' }],
  nat: {
    state: 'off',
    reason: hostile,
    interfaces: [{ name: hostile, state: 'failed' }],
    overlappingNetworks: [hostile],
    externalAddresses: [hostile],
    counters: [{ name: hostile, count: 1 }],
  },
  apiAddresses: [hostile],
  notInForce: [hostile],
};

function hostileWorld(): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set(configFile, homeConfig);
  world.files.set(hostile, `# ${hostile}\nversion: ${hostile}\n`);
  world.core = hostileCore;
  world.author = hostile;
  world.proposal = { success: true, lines: [hostile], text: `# ${hostile}\n` };
  world.action = { success: false, reason: hostile };
  world.kernel = { success: false, reason: 'refused', message: hostile, rulesInPlace: 'unchanged' };
  world.findings = [
    { name: 'x', requirement: hostile, verdict: 'missing', detail: hostile, remedy: hostile },
  ];
  return world;
}

for (const words of [
  ['status'],
  ['rules'],
  ['diff'],
  ['apply'],
  ['confirm'],
  ['rollback'],
  ['history'],
  ['history', '1'],
  ['check'],
  ['check', hostile],
  ['check', `${hostile}.gone`],
  ['init', '--output', '-'],
  ['init', '--output', 'new.yaml'],
  ['init', '--output', hostile],
  ['safe'],
  ['safe', '--off'],
  ['states'],
  ['states', '--device', hostile],
  ['states', '--kill', '--all'],
  ['table', hostile],
  ['table', 'add', hostile, '192.0.2.1'],
  ['table', 'remove', 'bad', hostile],
  ['doctor'],
  ['backup', 'a'],
  ['restore', 'a'],
  ['backup', 'a', '--passphrase-file', `${hostile}.gone`],
  [hostile],
  ['apply', `--${hostile}`],
  ['apply', '--access', hostile],
  ['help', hostile],
]) {
  test(`hostile text reaches no terminal: gatehouse ${JSON.stringify(words.join(' '))}`, async () => {
    const world = hostileWorld();
    await typed(world, ...words);
    const said = `${world.stdout}${world.stderr}`;
    assert.doesNotMatch(said, obeyed);
    assert.match(said, /\\u001b/);
    const inJson = hostileWorld();
    await typed(inJson, ...words, '--json');
    assert.doesNotMatch(inJson.stdout, obeyed);
    assert.ok(documentOf(inJson));
  });
}

/** One good path of each verb that prints a document. */
const goodPaths: readonly (readonly [string, ...string[]])[] = [
  ['status'],
  ['doctor'],
  ['init', '--output', 'new.yaml'],
  ['check'],
  ['diff'],
  ['rules'],
  ['apply'],
  ['confirm'],
  ['rollback', '--to', '1'],
  ['history'],
  ['history', '1'],
  ['safe'],
  ['states'],
  ['states', '--kill', '--all'],
  ['table', 'show'],
  ['table', 'show', 'bad'],
  ['table', 'add', 'bad', '192.0.2.1', '--for', '1h'],
  ['backup', 'a'],
  ['restore', 'a'],
  ['completion', 'bash'],
  ['version'],
  ['help'],
];

test('every verb with --json prints one document with the keys that its help names', async () => {
  const documented = verbs.filter(({ document }) => document !== undefined);
  const reached = new Map(documented.map(({ name }) => [name as string, new Set<string>()]));
  for (const [verb, ...words] of goodPaths) {
    const world = hostileWorld();
    world.kernel = { success: true };
    world.action = { success: true, lines: [] };
    world.core = (question) => {
      if (question.kind === 'set-safe-mode') return { kind: 'safe-mode', on: question.on };
      if (question.kind === 'get-states') return { kind: 'states', states: [], examinedCount: 0 };
      if (question.kind === 'kill-states') return { kind: 'states-killed', killedCount: 0 };
      if (question.kind === 'get-tables') return { kind: 'tables', tables: [] };
      if (question.kind === 'get-table') return { kind: 'table', table: 'bad', entries: [] };
      if (question.kind === 'add-table-entry') {
        const entry = { table: 'bad', prefix: '192.0.2.1', isKept: true } as const;
        const cover = { coveredBy: '192.0.2.0/24', expiresInMs: 3_600_000 };
        return { kind: 'table-entry', outcome: 'added', ...entry, ...cover };
      }
      const isChange = ['apply', 'apply-revision', 'confirm', 'rollback'].includes(question.kind);
      const change = { changeId: 'c3', outcome: 'applied', rollbackInMs: 1, revision: 2 } as const;
      return isChange ? { kind: 'change', ...change } : hostileCore(question);
    };
    const code = await typed(world, verb, ...words, '--json');
    assert.ok(code === exitCodes.done || code === exitCodes.toTell, `${verb}: ${world.stdout}`);
    for (const key of Object.keys(documentOf(world))) reached.get(verb)?.add(key);
  }
  for (const { name, document } of documented) {
    assert.deepEqual([...(reached.get(name) ?? [])].sort(), [...(document ?? [])].sort(), name);
  }
});

test('JSON is indented for a terminal, and one line for a program', async () => {
  const world = new SimulatedWorld();
  await typed(world, 'version', '--json');
  assert.equal(world.stdout, '{"version":"1.2.3"}\n');
  const shown = new SimulatedWorld();
  shown.isTerminal = true;
  await typed(shown, 'version', '--json');
  assert.equal(shown.stdout, '{\n  "version": "1.2.3"\n}\n');
});

test('wrong words end with 2, on standard error or as a document', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world, 'aply'), exitCodes.usage);
  assert.equal(
    world.stderr,
    'gatehouse: there is no verb `aply`; did you mean apply?\nsee: gatehouse help\n',
  );
  assert.equal(world.stdout, '');
  const inJson = new SimulatedWorld();
  assert.equal(await typed(inJson, 'apply', '--x', '--json'), exitCodes.usage);
  const message = 'apply takes no `--x`';
  assert.deepEqual(documentOf(inJson), { error: { code: 'usage', exitCode: 2, message } });
});

test('a world that throws all the same is a failure with its reason', async () => {
  const world = new SimulatedWorld();
  world.examineMachine = () => Promise.reject(new Error('out of memory'));
  assert.equal(await typed(world, 'doctor'), exitCodes.failed);
  assert.equal(world.stderr, 'gatehouse: doctor: out of memory\n');
});

test('help names every verb and every exit code', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world), exitCodes.done);
  for (const { name } of verbs) assert.match(world.stdout, new RegExp(`^  ${name} +\\S`, 'm'));
  for (const { code } of exitCodeTable) assert.match(world.stdout, new RegExp(`^  ${code}  `, 'm'));
});

test('the help of a verb names its options and fits a terminal of 80 columns', async () => {
  for (const { name, options } of verbs) {
    const world = new SimulatedWorld();
    assert.equal(await typed(world, 'help', name), exitCodes.done);
    for (const option of options) assert.ok(world.stdout.includes(`--${option.name}`), option.name);
    for (const line of world.stdout.split('\n')) assert.ok([...line].length <= 82, line);
  }
});

test('completion prints the script of the shell as it is', async () => {
  for (const shell of ['bash', 'zsh', 'fish'] as const) {
    const world = new SimulatedWorld();
    assert.equal(await typed(world, 'completion', shell), exitCodes.done);
    assert.equal(world.stdout, completionScripts[shell]());
    for (const { name } of verbs) assert.match(world.stdout, new RegExp(`\\b${name}\\b`));
  }
});
