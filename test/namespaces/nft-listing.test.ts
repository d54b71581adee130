/** nft lists what we print and expect: text and JSON, whole rulesets and random ones. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { type FirewallModel, findModelFaults } from '../../src/firewall/firewall-model.ts';
import { formatRuleset } from '../../src/firewall/format-ruleset.ts';
import type { Nft } from '../../src/firewall/nft.ts';
import { compileRuleset } from '../../src/firewall/nft-document.ts';
import { expectedTable, setsInPlace } from '../../src/firewall/nft-table.ts';
import { defaultPosture, planRuleset, safeRuleset } from '../../src/firewall/plan-ruleset.ts';
import type { Ruleset } from '../../src/firewall/ruleset.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import { formatTablePrefix } from '../../src/firewall/table-prefixes.ts';
import { openNft } from '../../src/linux/nft.ts';
import { parseInterfaceAddress, requirePrefix } from '../../src/net/prefix.ts';
import { homeModel, modelWithRules } from '../../src/testing/firewall-models.ts';

let lab: Lab;
let gateway: LabHost;
let nft: Nft;

before(async () => {
  lab = await Lab.start({ hosts: { gateway: {} } }, { name: 'nftlisting' });
  gateway = lab.host('gateway');
  nft = openNft({ networkNamespace: gateway.namespacePath });
});

after(() => lab.stop());

async function assertListedAsExpected(ruleset: Ruleset): Promise<void> {
  const document = compileRuleset(ruleset, { replacing: 'table' });
  assert.deepEqual(await nft.apply(document), { success: true });
  const argv = ['nft', '--stateless', 'list', 'table', 'inet', 'gatehouse'] as const;
  const text = await gateway.run(argv, { timeoutMs: 20_000 });
  assert.equal(text.stdout, formatRuleset(ruleset));
  const listing = await nft.list();
  assert.ok(listing.success);
  assert.equal(tableDiffers(expectedTable(document), listing.table), undefined);
}

for (const [title, ruleset] of [
  ['the default posture', defaultPosture()],
  ['a home followed by conntrack', planRuleset(homeModel('conntrack'))],
  ['a home followed by sessions', planRuleset(homeModel('sessions'))],
  ['the safe ruleset', safeRuleset(homeModel('conntrack'))],
  ['the safe ruleset with sessions', safeRuleset(homeModel('sessions'))],
] as const) {
  test(`${title} is listed by nft as it is printed, and as it was applied`, async () => {
    await assertListedAsExpected(ruleset);
  });
}

const address = fc.oneof(
  fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 20, max: 32 }))
    .map(([host, length]) => `192.0.2.${host}/${length}`),
  fc
    .tuple(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 100, max: 128 }))
    .map(([host, length]) => `2001:db8::${host.toString(16)}/${length}`),
  fc.constantFrom(
    '0.0.0.0/0',
    '::/0',
    '10.0.0.0/8',
    '::ffff:192.0.2.1',
    '::1.2.3.4',
    '64:ff9b::/96',
  ),
);
const addressOrTable = fc.oneof(
  { weight: 4, arbitrary: address },
  { weight: 1, arbitrary: fc.constantFrom('@trouble', '@friends') },
);
const addresses = fc.array(addressOrTable, { minLength: 1, maxLength: 6 });
const ports = fc.array(
  fc
    .tuple(fc.integer({ min: 0, max: 90 }), fc.integer({ min: 0, max: 9 }))
    .map(([first, size]) => ({ first, last: first + size })),
  { minLength: 1, maxLength: 5 },
);
const someOf = <T>(...values: T[]) => fc.subarray(values, { minLength: 1 });
const rule = fc.record(
  {
    name: fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,31}$/),
    action: fc.constantFrom('accept' as const, 'drop' as const, 'reject' as const),
    from: fc.constantFrom('lan', 'guests', 'dmz', 'wan', 'any'),
    to: fc.constantFrom('lan', 'guests', 'dmz', 'wan', 'any', 'gateway'),
    source: addresses,
    destination: addresses,
    protocols: fc.oneof(
      someOf('tcp' as const, 'udp' as const, 'sctp' as const),
      someOf('icmp' as const, 'icmpv6' as const, 'esp' as const, 'ah' as const, 'gre' as const),
    ),
    ports,
    log: fc.boolean(),
    comment: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
  },
  { requiredKeys: ['name', 'action'] },
);

test('random rules are listed as they were applied', async () => {
  const rules = fc.uniqueArray(rule, { maxLength: 30, selector: ({ name }) => name });
  const traffic = fc.constantFrom('conntrack' as const, 'sessions' as const);
  await fc.assert(
    fc.asyncProperty(rules, traffic, async (candidates, forwardedTraffic) => {
      const home = homeModel(forwardedTraffic);
      // One fault spoils a model, so each rule is judged alone.
      const sound = candidates.filter(
        (one) => findModelFaults({ ...home, rules: [one] }).length === 0,
      );
      await assertListedAsExpected(planRuleset({ ...home, rules: sound }));
    }),
    { numRuns: 40 },
  );
});

test('random tables are listed as they were applied, also in place of others', async () => {
  // A table has whole prefixes alone.
  const prefix = address.map((text) => {
    const parsed = parseInterfaceAddress(text)?.prefix ?? requirePrefix(text);
    return formatTablePrefix(parsed);
  });
  const table = fc.record({
    name: fc.constantFrom('trouble', 'friends', 'other', 'a_4'),
    addresses: fc.array(prefix, { maxLength: 40 }),
  });
  const tables = fc.uniqueArray(table, { maxLength: 4, selector: ({ name }) => name });
  let before = planRuleset(modelWithRules([]));
  await fc.assert(
    fc.asyncProperty(tables, async (some) => {
      const rules = some.map(({ name }) => ({
        name,
        action: 'drop' as const,
        source: [`@${name}`],
      }));
      const ruleset = planRuleset({ ...modelWithRules([]), tables: some, rules });
      await assertListedAsExpected(before);
      const inPlace = expectedTable(compileRuleset(before, { replacing: 'table' }));
      const document = compileRuleset(ruleset, {
        replacing: 'rules',
        setsInPlace: setsInPlace(inPlace),
      });
      assert.deepEqual(await nft.apply(document), { success: true });
      const listing = await nft.list();
      assert.ok(listing.success);
      const expected = expectedTable(compileRuleset(ruleset, { replacing: 'table' }));
      assert.equal(tableDiffers(expected, listing.table), undefined);
      assert.equal(listing.table?.sets.length, 2 * some.length);
      before = ruleset;
    }),
    { numRuns: 20 },
  );
});

test('comments that try to be more come back as they were written', async () => {
  const comments = [
    ...['}; flush ruleset', '# accept', '$(reboot)', '; drop', "' || '", '*/ accept /*'],
    ...['{accept:null}', 'accept comment x', '%s%n%x', 'Grüße 🙂', 'a: b: c', '@set', '\u00a0'],
  ];
  const names = comments.map((_, index) => `r${index}`);
  const base = modelWithRules(names);
  const model: FirewallModel = {
    ...base,
    rules: base.rules.map((one, index) => ({ ...one, comment: comments[index] ?? 'none' })),
  };
  assert.deepEqual(findModelFaults(model), []);
  await assertListedAsExpected(planRuleset(model));
});

test('the longest names and comments fit into what nft keeps of a comment', async () => {
  const base = homeModel('sessions');
  const longest = {
    ...base.rules[0],
    name: 'n'.repeat(32),
    action: 'drop',
    comment: 'ü'.repeat(32),
  } as const;
  await assertListedAsExpected(planRuleset({ ...base, rules: [longest] }));
});
