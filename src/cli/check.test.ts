import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NftFailure } from '../firewall/nft.ts';
import { rulesOf } from '../firewall/nft-document.ts';
import { exitCodes } from './exit-codes.ts';
import { documentOf, homeConfig, SimulatedWorld, typed } from './simulated-world.ts';

function worldWith(text: string): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set('new.yaml', text);
  return world;
}

const refusal: NftFailure = {
  success: false,
  reason: 'refused',
  message: 'nft refuses rule no_mail: no such thing',
  rulesInPlace: 'unchanged',
  rule: 'no_mail',
};

test('a sound config is told to be sound, with what is not in force yet', async () => {
  const world = worldWith(homeConfig);
  assert.equal(await typed(world, 'check', 'new.yaml'), exitCodes.done);
  const [first, second, ...notes] = world.stdout.trimEnd().split('\n');
  assert.match(first ?? '', /^new\.yaml: no problems, \d+ rules$/);
  assert.equal(second, 'the kernel takes the ruleset');
  assert.match(notes[0] ?? '', /^note: wan\.address: /);
  assert.equal(world.stderr, '');
});

test('the kernel is asked about the whole ruleset', async () => {
  const world = worldWith(homeConfig);
  await typed(world, 'check', 'new.yaml', '--json');
  const [asked] = world.checked;
  assert.ok(asked);
  const rules = rulesOf(asked);
  assert.ok(rules.some(({ comment }) => comment.startsWith('rule no_mail')));
  const { ruleCount, kernel, file } = documentOf(world);
  assert.deepEqual(
    { ruleCount, kernel, file },
    { ruleCount: rules.length, kernel: 'taken', file: 'new.yaml' },
  );
});

test('problems come one a line, as compilers print them', async () => {
  const world = worldWith('version: 1\nwam: {}\nnetworks: 7\n');
  assert.equal(await typed(world, 'check', 'new.yaml'), exitCodes.configProblems);
  const lines = world.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? '', /^new\.yaml:2:1: wam: expected .*; did you mean `wan`\?$/);
  assert.match(lines[1] ?? '', /^new\.yaml:3:11: networks: expected /);
  assert.equal(world.stdout, '');
  assert.deepEqual(world.checked, []);
});

test('problems are in the JSON of the error', async () => {
  const world = worldWith('version: 1\nwam: {}\n');
  assert.equal(await typed(world, 'check', 'new.yaml', '--json'), exitCodes.configProblems);
  const { error } = documentOf(world) as { error: { code: string; problems: string[] } };
  assert.equal(error.code, 'config-problems');
  assert.equal(error.problems.length, 1);
});

test('a file that is not there is a failure that names it', async () => {
  const world = new SimulatedWorld();
  assert.equal(await typed(world, 'check', '/nowhere.yaml'), exitCodes.failed);
  assert.equal(world.stderr, 'gatehouse: cannot read /nowhere.yaml: there is no such file\n');
});

test('standard input is called so', async () => {
  const world = new SimulatedWorld();
  world.files.set('-', 'version: 2\n');
  assert.equal(await typed(world, 'check', '-'), exitCodes.configProblems);
  assert.match(world.stderr, /^standard input:1:10: version: /);
});

test('a ruleset that the kernel refuses is a problem of the config, and the rule is named', async () => {
  const world = worldWith(homeConfig);
  world.kernel = refusal;
  assert.equal(await typed(world, 'check', 'new.yaml', '--json'), exitCodes.configProblems);
  const { error } = documentOf(world) as { error: { code: string; rule: string } };
  assert.deepEqual([error.code, error.rule], ['ruleset-refused', 'no_mail']);
});

test('where nobody may ask the kernel that is said, and the config is sound all the same', async () => {
  for (const kernel of [undefined, { ...refusal, reason: 'missing' as const }]) {
    const world = worldWith(homeConfig);
    world.kernel = kernel;
    assert.equal(await typed(world, 'check', 'new.yaml'), exitCodes.done);
    assert.match(world.stdout, /^the kernel was not asked: .*; see gatehouse doctor$/m);
  }
});

test('an nft that hangs or crashes is a failure, not a problem of the config', async () => {
  for (const reason of ['hung', 'crashed', 'too much output'] as const) {
    const world = worldWith(homeConfig);
    world.kernel = { ...refusal, reason };
    assert.equal(await typed(world, 'check', 'new.yaml'), exitCodes.failed, reason);
  }
});
