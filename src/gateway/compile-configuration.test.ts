import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { arbitraryConfigText } from '../testing/config-texts.ts';
import { compileConfiguration } from './compile-configuration.ts';
import type { FirewallPlanOptions } from './firewall-plan.ts';

const fileName = 'gatehouse.yaml';

test('a config becomes the ruleset that it asks for, and keeps its text', () => {
  const text = [
    '# Ours.\nversion: 1\n',
    'networks:\n  lan: { interfaces: [lan0], address: 10.77.0.1/24 }\n',
    'firewall:\n  rules: [{ name: no_way, action: drop, from: lan }]\n',
  ].join('');
  const { compiled, problems } = compileConfiguration(text, { fileName });
  assert.ok(compiled !== undefined, problems ?? '');
  assert.equal(compiled.configText, text);
  assert.equal(compiled.config.networks['lan']?.address, '10.77.0.1/24');
  assert.match(compiled.rulesetText, /table inet gatehouse/);
  assert.match(compiled.rulesetText, /no_way/);
  assert.ok(compiled.ruleset.chains.some(({ rules }) => rules.length > 0));
  assert.ok(compiled.notInForce.some((sentence) => sentence.startsWith('networks: ')));
});

test('the ruleset is for whoever forwards, as the caller says', () => {
  const rulesetText = (options: FirewallPlanOptions) =>
    compileConfiguration('version: 1\n', { fileName, ...options }).compiled?.rulesetText ?? '';
  assert.match(rulesetText({ forwardedTraffic: 'sessions' }), /chain forward_replies/);
  assert.doesNotMatch(rulesetText({}), /forward_replies/);
});

test('problems are told one a line, each with the place in the file', () => {
  const text = 'version: 1\nwans: {}\nnetworks: { lan: { address: x } }\n';
  const { problems, compiled } = compileConfiguration(text, { fileName });
  assert.equal(compiled, undefined);
  const lines = problems?.split('\n') ?? [];
  assert.ok(lines.length >= 2, problems);
  for (const line of lines) assert.match(line, /^gatehouse\.yaml:[23]:\d+: /);
});

test('a text that is no config, or of another version, is a problem', () => {
  for (const text of ['', '{', '[]', 'version: 99\n', 'version: x\n', '\0', '\ud800']) {
    const { problems } = compileConfiguration(text, { fileName });
    assert.match(problems ?? '', /^gatehouse\.yaml/, JSON.stringify(text));
  }
});

test('the same text gives the same ruleset', () => {
  fc.assert(
    fc.property(arbitraryConfigText(), (text) => {
      const [one, two] = [text, text].map((each) => compileConfiguration(each, { fileName }));
      assert.deepEqual(one, two);
      assert.equal(one?.compiled === undefined, (one?.problems ?? '') !== '');
      assert.ok(one?.compiled === undefined || one.compiled.notInForce.length <= 64);
    }),
    { numRuns: 10 },
  );
});

test('whatever the text is, it compiles or has problems', () => {
  const cut = fc.tuple(arbitraryConfigText(), fc.nat(500)).map(([text, at]) => text.slice(0, at));
  fc.assert(
    fc.property(fc.oneof(anyText(), cut), (text) => {
      const { compiled, problems } = compileConfiguration(text, { fileName });
      assert.notEqual(compiled === undefined, problems === undefined);
      assert.notEqual(problems, '');
    }),
    { numRuns: 25 },
  );
});
