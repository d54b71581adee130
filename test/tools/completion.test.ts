import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { completionScripts } from '../../src/cli/completion.ts';
import { verbs } from '../../src/cli/verbs.ts';
import { type CommandResult, runCommand } from '../../src/linux/command-runner.ts';

const TIMEOUT_MS = 20_000;
const folder = mkdtempSync(join(tmpdir(), 'gatehouse-completion-'));
after(() => rmSync(folder, { recursive: true }));

const script = join(folder, 'gatehouse.bash');
writeFileSync(script, completionScripts.bash());
writeFileSync(join(folder, 'a file.yaml'), '');
mkdirSync(join(folder, 'a folder'));

/** Outside of a completion bash knows no compopt. */
const driver = join(folder, 'driver.bash');
writeFileSync(
  driver,
  `compopt() { :; }
source "$1"
cd "$2"
shift 2
COMP_WORDS=("$@")
COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
_gatehouse
printf '%s\\n' "\${COMPREPLY[@]}"
`,
);

function bash(...words: string[]): Promise<CommandResult> {
  return runCommand(['bash', '--noprofile', '--norc', ...words], { timeoutMs: TIMEOUT_MS });
}

/** What bash offers for the last word. */
async function offered(...words: string[]): Promise<string[]> {
  const result = await bash(driver, script, folder, 'gatehouse', ...words);
  assert.ok(result.success, result.stderr);
  return result.stdout.trim().split('\n').sort();
}

test('bash reads its completion script', async () => {
  const result = await bash('-n', script);
  assert.deepEqual([result.code, result.stderr], [0, '']);
});

test('bash offers the verbs, also behind an option with its value', async () => {
  const names = verbs.map(({ name }) => name).sort();
  assert.deepEqual(await offered(''), names);
  assert.deepEqual(await offered('--config', 'apply', ''), names);
  assert.deepEqual(await offered('ro'), ['rollback']);
});

test('bash offers the options of the verb, and values that are known', async () => {
  assert.deepEqual(await offered('apply', '--con'), ['--config', '--confirm']);
  assert.deepEqual(await offered('status', '--con'), ['--config']);
  assert.deepEqual(await offered('run', '--js'), ['']);
  assert.deepEqual(await offered('--js'), ['--json']);
  assert.deepEqual(await offered('apply', '--confirm', '6'), ['60s']);
  assert.deepEqual(await offered('completion', ''), ['bash', 'fish', 'zsh']);
  assert.deepEqual(await offered('help', 'saf'), ['safe']);
  assert.deepEqual(await offered('table', ''), ['add', 'remove', 'show']);
  assert.deepEqual(await offered('table', 'add', 'bad', '192.0.2.1', '--f'), ['--for']);
});

test('bash offers files and folders where a verb takes them', async () => {
  assert.deepEqual(await offered('check', 'a'), ['a file.yaml', 'a folder']);
  assert.deepEqual(await offered('--runtime', 'a'), ['a folder']);
  assert.deepEqual(await offered('status', 'a'), ['']);
});
