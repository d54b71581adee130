import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileConfiguration } from '../gateway/compile-configuration.ts';
import { exitCodes } from './exit-codes.ts';
import { documentOf, homeConfig, SimulatedWorld, typed } from './simulated-world.ts';

const { rulesetText } =
  compileConfiguration(homeConfig, { fileName: 'x', forwardedTraffic: 'sessions' }).compiled ??
  assert.fail();
const withoutRule = homeConfig.replace(/^ {2}rules:\n.*\n/m, '  rules: []\n');

/** `homeConfig` is in force. */
function worldWith(text: string): SimulatedWorld {
  const world = new SimulatedWorld();
  world.files.set('/etc/gatehouse/gatehouse.yaml', homeConfig);
  world.files.set('new.yaml', text);
  world.core = () => ({
    kind: 'running',
    configFile: 'f',
    configText: homeConfig,
    rulesetText,
    forwardedTraffic: 'sessions',
  });
  return world;
}

test('no difference to what is in force', async () => {
  const world = worldWith(homeConfig);
  assert.equal(await typed(world, 'diff', 'new.yaml'), exitCodes.done);
  assert.equal(world.stdout, 'new.yaml is what is in force\n');
  assert.deepEqual(world.connectedTo, ['/srv/gate/runtime']);
  assert.equal(world.openConnections, 0);
});

test('a difference in text and ruleset is shown in both, and tells by its code', async () => {
  const world = worldWith(withoutRule);
  assert.equal(await typed(world, 'diff', 'new.yaml'), exitCodes.toTell);
  const [config = '', ruleset = ''] = world.stdout.split('--- ruleset in force\n');
  assert.match(config, /^--- in force\n\+\+\+ new\.yaml\n@@ -4,6 \+4,5 @@\n/);
  assert.match(config, /^-.*no_mail/m);
  assert.match(config, /^\+ {2}rules: \[\]$/m);
  assert.match(ruleset, /^\+\+\+ ruleset of new\.yaml\n@@ /);
  assert.match(ruleset, /^-.*comment "rule no_mail/m);
});

test('a comment is a difference of the text alone', async () => {
  const world = worldWith(homeConfig.replace('# Of a home.', '# Für Zuhause 家.'));
  assert.equal(await typed(world, 'diff', 'new.yaml', '--json'), exitCodes.toTell);
  const { different, configDiff, rulesetDiff } = documentOf(world);
  assert.equal(different, true);
  assert.match(String(configDiff), /^\+# Für Zuhause 家\.$/m);
  assert.equal(rulesetDiff, '');
});

test('the config file itself is compared when no file is named', async () => {
  const world = worldWith('');
  assert.equal(await typed(world, 'diff'), exitCodes.done);
});

test('a config with problems is not compared', async () => {
  const world = worldWith('version: x\n');
  assert.equal(await typed(world, 'diff', 'new.yaml'), exitCodes.configProblems);
  assert.deepEqual(world.questions, []);
});

test('without a running instance there is nothing to compare with', async () => {
  const world = worldWith(homeConfig);
  world.core = undefined;
  assert.equal(await typed(world, 'diff', 'new.yaml'), exitCodes.notRunning);
  assert.match(world.stderr, /\/srv\/gate\/runtime\/control\.sock/);
});

test('rules prints the ruleset in force, tabs and all', async () => {
  const world = worldWith('');
  assert.equal(await typed(world, 'rules'), exitCodes.done);
  assert.equal(world.stdout, rulesetText);
});

test('rules --planned prints that of a file, and asks nobody', async () => {
  const world = worldWith(withoutRule);
  assert.equal(await typed(world, 'rules', '--planned', 'new.yaml', '--json'), exitCodes.done);
  const options = { fileName: 'x', forwardedTraffic: 'sessions' } as const;
  const { compiled } = compileConfiguration(withoutRule, options);
  assert.deepEqual(documentOf(world), { rulesetText: compiled?.rulesetText });
  assert.deepEqual(world.connectedTo, []);
});
