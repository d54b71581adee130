/** What somebody else does to our table is noticed; what we do, or they to theirs, is not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { Nft, NftFailure } from '../../src/firewall/nft.ts';
import { compileRuleset } from '../../src/firewall/nft-document.ts';
import { expectedTable } from '../../src/firewall/nft-table.ts';
import { planRuleset } from '../../src/firewall/plan-ruleset.ts';
import type { TableDifference } from '../../src/firewall/table-difference.ts';
import { openNft } from '../../src/linux/nft.ts';
import { NftGeneration } from '../../src/linux/nft-generation.ts';
import { NftWatch } from '../../src/linux/nft-watch.ts';
import { modelWithRules } from '../../src/testing/firewall-models.ts';

const TIMEOUT_MS = 20_000;
/** What the product promises: a change is noticed within this time. */
const NOTICED_WITHIN_MS = 5_000;

let lab: Lab;
let gateway: LabHost;
let nft: Nft;

before(async () => {
  lab = await Lab.start({ hosts: { gateway: {} } }, { name: 'nftwatch' });
  gateway = lab.host('gateway');
  nft = openNft({ networkNamespace: gateway.namespacePath });
});

after(() => lab.stop());

async function somebodyElse(...argv: string[]): Promise<void> {
  const result = await gateway.run(['nft', ...argv], { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `nft ${argv.join(' ')}: ${result.stderr}`);
}

const document = compileRuleset(planRuleset(modelWithRules(['one', 'two'])), {
  replacing: 'table',
});

test('the generation moves with every change, and only with a change', async () => {
  using generation = new NftGeneration(gateway.namespacePath);
  const before = generation.read();
  await nft.check(document);
  await nft.list();
  assert.equal(generation.read(), before);
  await nft.apply(document);
  assert.notEqual(generation.read(), before);
});

test('survive-111 what somebody else does to our table is noticed, what to theirs is not', async () => {
  const noticed: TableDifference[] = [];
  const failures: NftFailure[] = [];
  const watch = new NftWatch({
    nft,
    networkNamespace: gateway.namespacePath,
    onDifference: (difference) => noticed.push(difference),
    onFailure: (failure) => failures.push(failure),
  });
  const table = ['inet', 'gatehouse'] as const;
  const damages = [
    { argv: ['flush', 'ruleset'], change: 'the table is gone' },
    { argv: ['flush', 'chain', ...table, 'input'], change: /"built-in loopback" was removed/ },
    {
      argv: ['insert', 'rule', ...table, 'forward', 'accept'],
      change: 'a rule without comment ([{"accept":null}]) was added to forward',
    },
    {
      argv: ['add', 'chain', ...table, 'forward', '{ policy accept; }'],
      change: /the chain forward became .*policy accept/,
    },
    {
      argv: ['add', 'table', ...table, '{ flags dormant; }'],
      change: 'the table got flags, perhaps dormant',
    },
    {
      argv: ['add', 'set', ...table, 'friends', '{ type ipv4_addr; }'],
      change: 'the set friends was added',
    },
  ];
  for (const { argv, change } of damages) {
    watch.expect(undefined);
    noticed.length = 0;
    assert.deepEqual(await nft.apply(document), { success: true });
    watch.expect(expectedTable(document));
    await somebodyElse('add', 'table', 'ip', `theirs${noticed.length}`);
    assert.equal(noticed.length, 0);
    await somebodyElse(...argv);
    const difference = await waitFor(`notice of nft ${argv.join(' ')}`, () => noticed[0], {
      timeoutMs: NOTICED_WITHIN_MS,
    });
    const [first = ''] = difference.changes;
    if (typeof change === 'string') assert.equal(first, change);
    else assert.match(first, change);
  }
  await watch.stop();
  assert.deepEqual(failures, []);
  assert.equal(noticed.length, 1);
});

test('a failure of nft is told, and the next look finds what is different', async () => {
  const noticed: TableDifference[] = [];
  const failures: NftFailure[] = [];
  let current: Nft = openNft({ program: '/nonexistent/nft' });
  await nft.apply(document);
  const watch = new NftWatch({
    nft: { ...nft, list: () => current.list() },
    networkNamespace: gateway.namespacePath,
    intervalMs: 20,
    onDifference: (difference) => noticed.push(difference),
    onFailure: (failure) => failures.push(failure),
  });
  watch.expect(expectedTable(document));
  await somebodyElse('delete', 'table', 'inet', 'gatehouse');
  await waitFor('a failure', () => failures.length > 1, { timeoutMs: TIMEOUT_MS, until: Boolean });
  assert.equal(failures[0]?.reason, 'missing');
  assert.equal(noticed.length, 0);
  current = nft;
  await waitFor('the difference', () => noticed[0], { timeoutMs: TIMEOUT_MS });
  await watch.stop();
  assert.deepEqual(noticed, [{ changes: ['the table is gone'], untoldCount: 0 }]);
});
