import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { homeModel, modelWithRules } from '../testing/firewall-models.ts';
import { type FirewallModel, findModelFaults } from './firewall-model.ts';
import { formatRuleset } from './format-ruleset.ts';
import { compileRuleset, formatNftDocument, rulesOf, type SetsInPlace } from './nft-document.ts';
import { expectedTable } from './nft-table.ts';
import { planRuleset } from './plan-ruleset.ts';
import { formatRuleComment, isCommentText, parseRuleComment } from './rule-comment.ts';

test('survive-111 a document names our table alone and flushes no ruleset', () => {
  for (const replacing of ['rules', 'table'] as const) {
    const document = compileRuleset(planRuleset(homeModel('sessions')), { replacing });
    for (const command of document.nftables) {
      const [[action, object] = ['', {}]] = Object.entries(command);
      const [[kind, body] = ['', {}]] = Object.entries(object as Record<string, object>);
      const { family, table, name } = body as Record<string, unknown>;
      assert.equal(family, 'inet');
      assert.equal(kind === 'table' ? name : table, 'gatehouse');
      assert.ok(action === 'add' || kind === 'table' || kind === 'set', `${action} ${kind}`);
    }
  }
});

test('a document that replaces the rules removes no chain; one that replaces the table makes all', () => {
  const ruleset = planRuleset(modelWithRules([]));
  const actions = (replacing: 'rules' | 'table') =>
    compileRuleset(ruleset, { replacing })
      .nftables.map((command) => Object.entries(command)[0])
      .map(([action, object] = ['', {}]) => `${action} ${Object.keys(object)[0]}`)
      .filter((action) => action !== 'add rule');
  const chains = ruleset.chains.map(() => 'add chain');
  assert.deepEqual(actions('rules'), ['add table', ...chains, 'flush table']);
  assert.deepEqual(actions('table'), ['add table', 'delete table', 'add table', ...chains]);
});

test('sets keep their elements while they stay as they are, and those that are not wanted go', () => {
  const ruleset = planRuleset(homeModel('sessions'));
  const actions = (setsInPlace: SetsInPlace) =>
    compileRuleset(ruleset, { replacing: 'rules', setsInPlace }).nftables.flatMap((command) => {
      const [[action, object] = ['', {}]] = Object.entries(command);
      const [[kind, body] = ['', {}]] = Object.entries(object as Record<string, { name: string }>);
      const isAbout = (kind === 'set' || kind === 'element') && 'name' in body;
      return isAbout ? [`${action} ${kind} ${body.name}`] : [];
    });
  const names = ['trouble_4', 'trouble_6', 'friends_4', 'friends_6'];
  const added = names.map((name) => `add set ${name}`);
  const trouble4 = new Set(['192.0.2.9', '198.51.100.0/24', '203.0.113.0/25']);
  const inPlace: SetsInPlace = new Map([
    ['trouble_4', { family: 4, elements: trouble4 }],
    ['trouble_6', { family: 6, elements: new Set(['2001:db8:e::/48']) }],
    ['friends_4', { family: 4, elements: new Set() }],
    ['old_6', { family: 6, elements: new Set(['::1']) }],
  ]);
  assert.deepEqual(actions(inPlace), [
    ...added,
    ...['add set old_6', 'delete set old_6'],
    ...['flush set trouble_6', 'add element trouble_6', 'flush set friends_6'],
  ]);
  assert.deepEqual(actions(new Map()), [
    ...added,
    ...['flush set trouble_4', 'add element trouble_4'],
    ...['flush set trouble_6', 'add element trouble_6'],
    ...['flush set friends_4', 'flush set friends_6'],
  ]);
});

test('every chain that refuses ends with a rule that drops, whatever its policy does meanwhile', () => {
  for (const traffic of ['conntrack', 'sessions'] as const) {
    for (const { hook, name, rules } of planRuleset(homeModel(traffic)).chains) {
      if (hook?.policy === 'accept') continue;
      const last = rules.at(-1);
      assert.deepEqual(last?.matches, [], name);
      assert.ok(last?.statement.kind === 'drop' || last?.statement.kind === 'goto', name);
    }
  }
});

/** Words that would change a ruleset if they were ever read as nft's language or JSON. */
const hostile = fc.oneof(
  fc.constantFrom(
    ...['" accept comment "', '"}; flush ruleset; {"', '\\" accept', '} chain x {', '# accept'],
    ...['$(reboot)', '`reboot`', '; reboot', '{"accept":null}', '\\u0022', "' || '", '%s%n', '*/'],
    ...['\n\t\taccept', '\r', '\0', '\u202e\u2066', '\u2028', 'ü'.repeat(40), '🙂'.repeat(16)],
  ),
  anyText({ maxLength: 70 }),
  fc.string({ unit: 'grapheme', maxLength: 70 }),
);

function modelWithComment(comment: string): FirewallModel {
  const model = modelWithRules(['quiet', 'loud']);
  return {
    ...model,
    rules: model.rules.map((rule, index) => (index === 0 ? { ...rule, comment } : rule)),
  };
}

test('a comment becomes a comment and nothing else, or a fault', () => {
  const plain = rulesOf(
    compileRuleset(planRuleset(modelWithRules(['quiet', 'loud'])), { replacing: 'rules' }),
  );
  let accepted = 0;
  fc.assert(
    fc.property(hostile, (comment) => {
      const model = modelWithComment(comment);
      if (findModelFaults(model).length > 0) {
        assert.equal(isCommentText(comment), false);
        return;
      }
      accepted++;
      const ruleset = planRuleset(model);
      const text = formatNftDocument(compileRuleset(ruleset, { replacing: 'rules' }));
      const rules = rulesOf(JSON.parse(text));
      assert.deepEqual(
        rules.map(({ comment: _, ...rule }) => rule),
        plain.map(({ comment: _, ...rule }) => rule),
      );
      const origins = rules.map((rule) => parseRuleComment(rule.comment));
      const own = origins.filter((origin) => origin?.text !== undefined);
      assert.deepEqual(own, [{ kind: 'rule', name: 'quiet', text: comment }]);
      const lines = formatRuleset(ruleset).split('\n');
      assert.equal(
        lines.length,
        formatRuleset(planRuleset(modelWithRules(['quiet', 'loud']))).split('\n').length,
      );
    }),
    { numRuns: 2_000 },
  );
  assert.ok(accepted > 100, `only ${accepted} comments were accepted`);
});

test('the origin of a rule is read back from its comment', () => {
  const origin = fc.record(
    {
      kind: fc.constantFrom('rule' as const, 'service' as const, 'built-in' as const),
      name: fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,31}$/),
      part: fc.stringMatching(/^[a-z0-9-]{1,16}$/),
      text: hostile.filter(isCommentText),
    },
    { requiredKeys: ['kind', 'name'] },
  );
  fc.assert(
    fc.property(origin, (value) => {
      const comment = formatRuleComment(value);
      assert.deepEqual(parseRuleComment(comment), { ...value });
      assert.ok(new TextEncoder().encode(comment).length <= 127, comment);
    }),
  );
});

test("somebody else's comment has no origin", () => {
  for (const comment of ['', 'rule', 'rule 1a', 'rules x', 'rule x: a"b', 'rule x/UP', ' rule x']) {
    assert.equal(parseRuleComment(comment), undefined, comment);
  }
});

test('each rule of the config is found again by its name', () => {
  const model = homeModel('sessions');
  const document = compileRuleset(planRuleset(model), { replacing: 'rules' });
  const names = new Set(rulesOf(document).map(({ comment }) => parseRuleComment(comment)?.name));
  for (const { name } of model.rules) assert.ok(names.has(name), name);
  assert.equal(expectedTable(document).rules.length, rulesOf(document).length);
});
