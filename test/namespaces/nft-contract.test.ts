/** The nft program against the contract that the fake one keeps, too, in a namespace of its own. */
import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import type { NftFailure } from '../../src/firewall/nft.ts';
import { compileRuleset, type NftDocument } from '../../src/firewall/nft-document.ts';
import { expectedTable } from '../../src/firewall/nft-table.ts';
import { planRuleset } from '../../src/firewall/plan-ruleset.ts';
import { tableDiffers } from '../../src/firewall/table-difference.ts';
import { openNft } from '../../src/linux/nft.ts';
import { modelWithRules, ruleNames } from '../../src/testing/firewall-models.ts';
import { testNftContract } from '../../src/testing/nft-contract.ts';

const TIMEOUT_MS = 20_000;
/** How long a hanging nft may hang here. */
const HANG_MS = 300;

/** Programs that fail as nft has been seen to fail, and as it might. */
const failingPrograms = {
  crashed: '#!/bin/sh\nkill -SEGV $$\n',
  hung: '#!/bin/sh\nexec sleep 1000\n',
  'too much output': '#!/bin/sh\nexec head -c 40000000 /dev/zero\n',
};

let lab: Lab;
let gateway: LabHost;

before(async () => {
  lab = await Lab.start({ hosts: { gateway: {} } }, { name: 'nftcontract' });
  gateway = lab.host('gateway');
  for (const [fault, script] of Object.entries(failingPrograms)) {
    const path = programPath(fault);
    writeFileSync(path, script);
    chmodSync(path, 0o700);
  }
});

after(() => lab.stop());

function programPath(fault: string): string {
  return `${lab.directory}/nft-${fault.replaceAll(' ', '-')}`;
}

async function nftOutput(...argv: string[]): Promise<string> {
  const result = await gateway.run(['nft', ...argv], { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `nft ${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

async function openEmpty() {
  await nftOutput('flush', 'ruleset');
  const networkNamespace = gateway.namespacePath;
  return {
    nft: openNft({ networkNamespace }),
    failing: (fault: NftFailure['reason']) => {
      const timeoutMs = fault === 'hung' ? HANG_MS : TIMEOUT_MS;
      return openNft({ networkNamespace, program: programPath(fault), timeoutMs });
    },
    addForeignTable: async ({ family, name }: { family: string; name: string }) => {
      await nftOutput('add', 'table', family, name);
      await nftOutput('add', 'chain', family, name, 'theirs');
      await nftOutput('add', 'rule', family, name, 'theirs', 'counter', 'accept');
    },
    foreignTables: async () => {
      const texts: string[] = [];
      for (const line of (await nftOutput('list', 'tables')).trim().split('\n')) {
        const [, family = '', name = ''] = line.split(' ');
        if (family === 'inet' && name === 'gatehouse') continue;
        texts.push(await nftOutput('-a', 'list', 'table', family, name));
      }
      return texts.join('\n');
    },
  };
}

testNftContract('nft', openEmpty);

const good = compileRuleset(planRuleset(modelWithRules(['good'])), { replacing: 'rules' });

/** Each ends nft 1.0.6 by a signal; a later nft may refuse it in words. */
const crashers = {
  'an assertion': { jump: { target: '' } },
  'a null pointer': {
    match: {
      op: '==',
      left: { map: { key: { meta: { key: 'mark' } }, data: { set: [[1, 2]] } } },
      right: 5,
    },
  },
  'a broken stack': { log: { prefix: 'x'.repeat(200) } },
};

for (const [what, expression] of Object.entries(crashers)) {
  test(`survive-108 when nft itself dies of ${what}, the last good rules stay`, async () => {
    const { nft } = await openEmpty();
    assert.deepEqual(await nft.apply(good), { success: true });
    const family = 'inet';
    const table = 'gatehouse';
    const rule = { family, table, chain: 'input', comment: 'rule bad', expr: [expression] };
    const bad: NftDocument = { nftables: [...good.nftables, { add: { rule } }] };
    const result = await nft.apply(bad);
    assert.ok(!result.success);
    assert.ok(['crashed', 'refused'].includes(result.reason), result.message);
    const listing = await nft.list();
    const listed = listing.success ? listing.table : undefined;
    assert.equal(tableDiffers(expectedTable(good), listed), undefined);
  });
}

test('survive-108 an nft of a missing namespace is a failure like any other', async () => {
  const nft = openNft({ networkNamespace: '/run/netns/gatehouse-none' });
  const result = await nft.apply(good);
  assert.ok(!result.success);
  assert.equal(result.reason, 'missing');
  assert.match(result.message, /gatehouse-none/);
});

test('survive-107 one bad rule among 2,000 is found by halving, and the log shows how', async () => {
  await openEmpty();
  const commands: string[] = [];
  const nft = openNft({
    networkNamespace: gateway.namespacePath,
    onCommand: (argv) => commands.push(argv.slice(0, 3).join(' ')),
  });
  const ruleset = planRuleset(modelWithRules(ruleNames(2_000)));
  const compiled = compileRuleset(ruleset, { replacing: 'rules' });
  const bad = JSON.parse(
    JSON.stringify(compiled).replace(
      '"comment":"rule r1500","expr":[',
      '"comment":"rule r1500","expr":[{"goto":{"target":"absent"}},',
    ),
  ) as NftDocument;
  const result = await nft.apply(bad);
  assert.ok(!result.success);
  assert.equal(result.rule, 'r1500');
  assert.equal(commands[0], 'nft -j -f');
  assert.ok(commands.length <= 1 + 16);
  assert.ok(commands.slice(1).every((command) => command === 'nft -j -c'));
});
