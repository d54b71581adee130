import assert from 'node:assert/strict';
import { test } from 'node:test';
import { homeModel, modelWithRules, ruleNames } from '../testing/firewall-models.ts';
import { compileRuleset, type NftDocument } from './nft-document.ts';
import { expectedTable, parseListing } from './nft-table.ts';
import { planRuleset } from './plan-ruleset.ts';
import { tableDiffers } from './table-difference.ts';

const document = compileRuleset(planRuleset(modelWithRules(['one', 'two'])), {
  replacing: 'table',
});

/** What nft would list, with handles and counts, changed by `edit`. */
function listing(edit: (objects: Listed[]) => void = () => {}, source: NftDocument = document) {
  const added = source.nftables.flatMap((command) => ('add' in command ? [command.add] : []));
  const objects = structuredClone(added) as unknown as Listed[];
  for (const [handle, object] of objects.entries()) {
    for (const body of Object.values(object)) body['handle'] = handle + 1;
  }
  const rules = objects.flatMap(({ rule }) => (rule === undefined ? [] : [rule]));
  for (const [index, rule] of rules.entries()) {
    for (const expression of rule['expr'] as Record<string, object>[]) {
      if ('counter' in expression) expression['counter'] = { packets: index, bytes: 60 * index };
    }
  }
  edit(objects);
  const metainfo = { version: '1.0.6', release_name: 'any', json_schema_version: 1 };
  return parseListing(JSON.stringify({ nftables: [{ metainfo }, ...objects] }));
}

interface Listed {
  [kind: string]: Record<string, unknown>;
}

const expected = expectedTable(document);

function changes(edit: (objects: Listed[]) => void): readonly string[] | undefined {
  return tableDiffers(expected, listing(edit))?.changes;
}

function ruleAt(objects: Listed[], comment: string): number {
  return objects.findIndex(({ rule }) => rule?.['comment'] === comment);
}

test('handles, counts and the order inside sets are no difference', () => {
  const reverse = (objects: Listed[]) => {
    for (const { rule } of objects) {
      for (const { match } of (rule?.['expr'] ?? []) as Listed[]) {
        const { set } = Object(match?.['right']) as { set?: unknown[] };
        set?.reverse();
      }
    }
  };
  assert.equal(tableDiffers(expected, listing()), undefined);
  assert.equal(tableDiffers(expected, listing(reverse)), undefined);
});

test('survive-111 each way in which somebody else changes the table is told', () => {
  assert.deepEqual(tableDiffers(expected, undefined)?.changes, ['the table is gone']);
  assert.deepEqual(
    changes((objects) => objects.splice(ruleAt(objects, 'rule one'), 1)),
    ['the rule "rule one" was removed from forward'],
  );
  const theirs = { family: 'inet', table: 'gatehouse', chain: 'input', expr: [{ accept: null }] };
  assert.deepEqual(
    changes((objects) => objects.push({ rule: theirs })),
    ['a rule without comment ([{"accept":null}]) was added to input'],
  );
  assert.deepEqual(
    changes((objects) => {
      const rule = objects[ruleAt(objects, 'rule two')]?.['rule'] ?? {};
      rule['expr'] = [{ accept: null }];
    }),
    ['the rule "rule two" was removed from forward', 'the rule "rule two" was added to forward'],
  );
  assert.deepEqual(
    changes((objects) => {
      const at = ruleAt(objects, 'rule one');
      objects.splice(at, 2, ...objects.slice(at, at + 2).reverse());
    }),
    ['the rule "rule one" of forward stands in another place'],
  );
  const chainOf = (objects: Listed[], name: string) =>
    objects.find(({ chain }) => chain?.['name'] === name)?.['chain'] ?? {};
  assert.deepEqual(
    changes((objects) => {
      chainOf(objects, 'forward')['policy'] = 'accept';
    }),
    [
      "the chain forward became 'type filter hook forward priority 0; policy accept', " +
        "not 'type filter hook forward priority 0; policy drop'",
    ],
  );
  const set = { family: 'inet', table: 'gatehouse', name: 'friends', type: 'ipv4_addr' };
  assert.deepEqual(
    changes((objects) => objects.push({ set })),
    ['the set friends was added'],
  );
  assert.deepEqual(
    changes((objects) => {
      for (const { table } of objects) if (table !== undefined) table['flags'] = 'dormant';
    }),
    ['the table got flags, perhaps dormant'],
  );
});

const withTables = compileRuleset(planRuleset(homeModel('sessions')), { replacing: 'table' });

/** What somebody does to the sets of a home. */
function setChanges(edit: (sets: Map<string, Listed>, objects: Listed[]) => void) {
  const listed = listing((objects) => {
    const sets = objects.flatMap(({ set }) => (set === undefined ? [] : [set]));
    edit(new Map(sets.map((set) => [String(set['name']), { set }])), objects);
  }, withTables);
  return tableDiffers(expectedTable(withTables), listed)?.changes;
}

test('survive-111 each way in which somebody else changes the set of a table is told', () => {
  const elements = (objects: Listed[]) =>
    objects.flatMap(({ element }) => (element?.['name'] === 'trouble_4' ? [element] : []))[0] ?? {};
  assert.equal(
    setChanges((_, objects) => {
      const element = elements(objects);
      element['elem'] = (element['elem'] as unknown[]).toReversed();
    }),
    undefined,
  );
  assert.deepEqual(
    setChanges((_, objects) => {
      const added = { prefix: { addr: '10.0.0.0', len: 8 } };
      const expiring = { elem: { val: '10.1.0.0', timeout: 3 } };
      elements(objects)['elem'] = ['192.0.2.9', added, expiring];
    }),
    [
      '198.51.100.0/24 was removed from the set trouble_4',
      '203.0.113.0/25 was removed from the set trouble_4',
      '10.0.0.0/8 was added to the set trouble_4',
      '{"elem":{"timeout":3,"val":"10.1.0.0"}} was added to the set trouble_4',
    ],
  );
  assert.deepEqual(
    setChanges((sets) => Object.assign(sets.get('friends_6')?.['set'] ?? {}, { timeout: 60 })),
    ['the set friends_6 became {"flags":["interval"],"timeout":60,"type":"ipv6_addr"}'],
  );
  assert.deepEqual(
    setChanges((sets, objects) => {
      objects.splice(
        objects.findIndex(({ set }) => set === sets.get('friends_4')?.['set']),
        1,
      );
    }),
    ['the set friends_4 was removed'],
  );
});

test('the set of a table that the config has no more is no difference, since no rule names it', () => {
  const left = { family: 'inet', table: 'gatehouse', name: 'gone_4', type: 'ipv4_addr' };
  assert.equal(
    changes((objects) => objects.push({ set: { ...left, elem: ['192.0.2.1'] } })),
    undefined,
  );
});

test('a chain more is told, unless it is neither hooked up nor has a rule', () => {
  const place = { family: 'inet', table: 'gatehouse' };
  const hook = { type: 'filter', hook: 'input', prio: 0, policy: 'accept' };
  const rule = { ...place, chain: 'more', expr: [{ accept: null }] };
  const add = (chain: object, ...rules: Listed[]) =>
    changes((objects) => objects.push({ chain: { ...place, name: 'more', ...chain } }, ...rules));
  assert.equal(add({}), undefined);
  assert.deepEqual(add(hook), ['the chain more was added']);
  assert.deepEqual(add({}, { rule }), ['the chain more was added']);
});

test("other owners' tables are no difference", () => {
  const chain = { family: 'ip', table: 'gatehouse', name: 'forward' };
  assert.equal(
    changes((objects) => objects.push({ chain })),
    undefined,
  );
});

test('of many changes the first twenty are told, and how many more there are', () => {
  const many = compileRuleset(planRuleset(modelWithRules(ruleNames(100))), { replacing: 'table' });
  const difference = tableDiffers(expectedTable(many), listing(undefined, many));
  assert.equal(difference, undefined);
  const told = tableDiffers(expectedTable(many), listing());
  assert.equal(told?.changes.length, 20);
  assert.equal(told?.untoldCount, 100 + 2 - 20);
});

test('what is no listing is an error, not an empty table', () => {
  for (const text of ['', '{}', '[]', 'null', '{"nftables":{}}', 'table inet gatehouse {']) {
    assert.throws(() => parseListing(text), SyntaxError, text);
  }
});
