import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileRuleset } from '../firewall/nft-document.ts';
import { expectedTable } from '../firewall/nft-table.ts';
import { planRuleset } from '../firewall/plan-ruleset.ts';
import { tableDiffers } from '../firewall/table-difference.ts';
import { FakeNft } from './fake-nft.ts';
import { modelWithRules } from './firewall-models.ts';
import { testNftContract } from './nft-contract.ts';

testNftContract('fake nft', async () => {
  const nft = new FakeNft();
  return {
    nft,
    failing: (kind) => {
      const failNow = () => nft.failWith({ kind });
      const whileFailing = <T>(action: () => Promise<T>) => {
        failNow();
        return action().finally(() => nft.failWith(undefined));
      };
      return {
        check: (document) => whileFailing(() => nft.check(document)),
        apply: (document) => whileFailing(() => nft.apply(document)),
        list: () => whileFailing(() => nft.list()),
      };
    },
    addForeignTable: async (table) => {
      const chain = { family: table.family, table: table.name, name: 'theirs' };
      nft.changeFromOutside([{ add: { table } }, { add: { chain } }]);
    },
    foreignTables: async () => nft.otherTables(),
  };
});

test('a fake that refuses a rule names it, and keeps what was there', async () => {
  const nft = new FakeNft();
  const document = compileRuleset(planRuleset(modelWithRules(['one', 'two'])), {
    replacing: 'rules',
  });
  nft.failWith({ kind: 'refused', rule: 'two' });
  const refused = await nft.apply(document);
  assert.equal(refused.success ? undefined : refused.rule, 'two');
  assert.deepEqual(await nft.list(), { success: true, table: undefined });
});

test('a fake that crashes after the change has changed, as the real one may', async () => {
  const nft = new FakeNft();
  const document = compileRuleset(planRuleset(modelWithRules(['one'])), { replacing: 'rules' });
  nft.failWith({ kind: 'crashed after the change' });
  const result = await nft.apply(document);
  assert.equal(result.success ? undefined : result.rulesInPlace, 'unknown');
  nft.failWith(undefined);
  const listing = await nft.list();
  const table = listing.success ? listing.table : undefined;
  assert.equal(tableDiffers(expectedTable(document), table), undefined);
});

test('survive-111 a fake whose ruleset somebody flushes shows that the table is gone', async () => {
  const nft = new FakeNft();
  const document = compileRuleset(planRuleset(modelWithRules([])), { replacing: 'rules' });
  await nft.apply(document);
  nft.flushEverything();
  assert.deepEqual(await nft.list(), { success: true, table: undefined });
  assert.deepEqual(tableDiffers(expectedTable(document), undefined), {
    changes: ['the table is gone'],
    untoldCount: 0,
  });
});
