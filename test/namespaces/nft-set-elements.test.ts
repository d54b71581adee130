/** Elements of sets that go by netlink are as those of the nft program, and cost no listing. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { compileRuleset } from '../../src/firewall/nft-document.ts';
import { expectedTable, type NftTable } from '../../src/firewall/nft-table.ts';
import { planRuleset } from '../../src/firewall/plan-ruleset.ts';
import type { Ruleset } from '../../src/firewall/ruleset.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import { type SetChange, TableEntries } from '../../src/firewall/table-entries.ts';
import { openNft } from '../../src/linux/nft.ts';
import { NftSetElements } from '../../src/linux/nft-set-elements.ts';
import { NftWatch } from '../../src/linux/nft-watch.ts';
import { prefixOf, requirePrefix } from '../../src/net/prefix.ts';
import { modelWithRules } from '../../src/testing/firewall-models.ts';

const TIMEOUT_MS = 20_000;

let lab: Lab;
let gateway: LabHost;
let elements: NftSetElements;

before(async () => {
  lab = await Lab.start({ hosts: { gateway: {} } }, { name: 'nftelements' });
  gateway = lab.host('gateway');
  elements = new NftSetElements(gateway.namespacePath);
});

after(async () => {
  elements.close();
  await lab.stop();
});

const tables = [{ name: 'bad', addresses: ['192.0.2.0/24', '2001:db8::/32'] }];
const rules = [{ name: 'no_bad', action: 'drop', source: ['@bad'] } as const];
const ruleset = planRuleset({ ...modelWithRules([]), tables, rules });

function openOurs() {
  return openNft({ networkNamespace: gateway.namespacePath });
}

function expectedOf(some: Ruleset): NftTable {
  return expectedTable(compileRuleset(some, { replacing: 'table' }));
}

beforeEach(async () => {
  const document = compileRuleset(ruleset, { replacing: 'table' });
  assert.deepEqual(await openOurs().apply(document), { success: true });
});

async function assertListed(some: Ruleset): Promise<void> {
  const listing = await openOurs().list();
  assert.ok(listing.success);
  assert.equal(tableDiffers(expectedOf(some), listing.table), undefined);
}

const added = (...texts: string[]): SetChange => {
  const prefixes = texts.map(requirePrefix);
  return { table: 'bad', family: prefixes[0]?.family ?? 4, removed: [], added: prefixes };
};

test('what is added and removed is listed as if nft itself had done it', async () => {
  const entries = new TableEntries();
  entries.follow(ruleset);
  const steps = [
    ...['10.0.0.1', '10.0.0.2', '10.0.0.0/30', '0.0.0.0/8', '224.0.0.0/3', '255.255.255.255'],
    ...['::', '::1', '::/96', '::1.2.3.4', 'ff00::/8', '::ffff:192.0.2.1', '2001:db8::1'],
    ...['0.0.0.0/0', '::/0'],
  ];
  for (const text of steps) {
    elements.change(entries.add('bad', { prefix: requirePrefix(text) }));
    await assertListed(entries.follow(ruleset));
  }
  for (const text of steps.toReversed()) {
    elements.change(entries.remove('bad', requirePrefix(text)) ?? assert.fail(text));
    await assertListed(entries.follow(ruleset));
  }
});

const prefix = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(0xff), fc.integer({ min: 22, max: 32 }))
  .map(([family, bits, length]) => prefixOf({ family, bits: BigInt(bits) }, length));

test('random entries, many of which lie in others, are listed as they should be', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(prefix, fc.boolean()), { minLength: 20 }), async (steps) => {
      const entries = new TableEntries();
      const first = compileRuleset(entries.follow(ruleset), { replacing: 'table' });
      assert.deepEqual(await openOurs().apply(first), { success: true });
      for (const [one, isAdded] of steps) {
        const changes = isAdded
          ? entries.add('bad', { prefix: one })
          : (entries.remove('bad', one) ?? []);
        if (changes.length > 0) elements.change(changes);
      }
      await assertListed(entries.follow(ruleset));
    }),
    { numRuns: 15 },
  );
});

test('a thousand go at once, and come back as one entry', async () => {
  const many = Array.from({ length: 500 }, (_, index) => `10.1.${index >> 8}.${index & 255}`);
  const six = many.map((_, index) => `2001:db9::${index.toString(16)}`);
  const changes = [added(...many), added(...six)];
  elements.change(changes);
  const listing = await openOurs().list();
  assert.ok(listing.success);
  assert.deepEqual(
    listing.table?.sets.map(({ elements: found }) => found.size),
    [many.length + 1, six.length + 1],
  );
  elements.change(changes.map((one) => ({ ...one, removed: one.added, added: [] })));
  await assertListed(ruleset);
});

test('what the kernel refuses changes nothing, and names the set', async () => {
  const good = added('10.0.0.1');
  for (const [bad, code] of [
    [{ ...added('10.9.9.9'), removed: [requirePrefix('10.0.0.9')] }, 'ENOENT'],
    [added('192.0.2.7'), 'EEXIST'],
    [added('192.0.0.0/16'), 'EEXIST'],
    [{ ...good, table: 'none' }, 'ENOENT'],
  ] as const) {
    const refused = (error: Error) => {
      assert.match(error.message, new RegExp(`the set ${bad.table}_4: ${code}$`));
      return true;
    };
    assert.throws(() => elements.change([good, bad]), refused);
    await assertListed(ruleset);
  }
  // The socket goes on.
  elements.change([good]);
});

test('our own changes cost no listing, and somebody else among them is noticed', async () => {
  const ours = openOurs();
  let listings = 0;
  const noticed: string[][] = [];
  let agreements = 0;
  const watch = new NftWatch({
    nft: {
      ...ours,
      list: () => {
        listings++;
        return ours.list();
      },
    },
    networkNamespace: gateway.namespacePath,
    intervalMs: 10,
    onDifference: ({ changes }) => noticed.push([...changes]),
    onAgreement: () => agreements++,
    onFailure: ({ message }) => assert.fail(message),
  });
  try {
    const entries = new TableEntries();
    watch.expect(expectedOf(entries.follow(ruleset)));
    await waitFor('the first look', () => agreements, {
      timeoutMs: TIMEOUT_MS,
      until: (count) => count > 0,
    });
    const looked = listings;
    for (let number = 0; number < 50; number++) {
      const changes = entries.add('bad', { prefix: requirePrefix(`10.3.0.${2 * number}`) });
      watch.change(expectedOf(entries.follow(ruleset)), () => elements.change(changes));
      await new Promise(setImmediate);
    }
    assert.equal(listings, looked);
    const their = ['nft', 'add', 'element', 'inet', 'gatehouse', 'bad_4', '{ 10.4.0.1 }'] as const;
    const result = await gateway.run(their, { timeoutMs: TIMEOUT_MS });
    assert.ok(result.success, result.stderr);
    const changes = entries.add('bad', { prefix: requirePrefix('10.3.1.1') });
    watch.change(expectedOf(entries.follow(ruleset)), () => elements.change(changes));
    await waitFor('the change of another', () => noticed.length, {
      timeoutMs: TIMEOUT_MS,
      until: (count) => count > 0,
    });
    assert.deepEqual(noticed[0], ['10.4.0.1 was added to the set bad_4']);
  } finally {
    await watch.stop();
  }
});
