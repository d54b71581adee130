/** What every {@link Nft} does, whoever carries it out: the program or the one in memory. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Nft, NftResult } from '../firewall/nft.ts';
import { compileRuleset, type NftCommand, type NftDocument } from '../firewall/nft-document.ts';
import { expectedTable, type NftTable } from '../firewall/nft-table.ts';
import { planRuleset, safeRuleset } from '../firewall/plan-ruleset.ts';
import { TABLE_FAMILY, TABLE_NAME } from '../firewall/ruleset.ts';
import { tableDiffers } from '../firewall/table-difference.ts';
import { homeModel, modelWithRules } from './firewall-models.ts';

/** One kernel, real or not, and the ways to reach it. */
export interface NftUnderTest {
  readonly nft: Nft;
  /** The same kernel through an nft that always fails so. */
  failing(fault: 'missing' | 'crashed' | 'hung' | 'too much output'): Nft;
  /** Makes somebody else's table, with the given family and name, and one chain in it. */
  addForeignTable(table: { family: string; name: string }): Promise<void>;
  /** All that is not ours, as a text that stays the same while nobody changes it. */
  foreignTables(): Promise<string>;
}

/** @param open a kernel without tables, for each test anew */
export function testNftContract(name: string, open: () => Promise<NftUnderTest>): void {
  const first = compileRuleset(planRuleset(modelWithRules(['one', 'two'])), { replacing: 'rules' });
  const second = compileRuleset(planRuleset(modelWithRules(['three'])), { replacing: 'rules' });

  test(`${name}: a table that is not there is listed as absent`, async () => {
    const { nft } = await open();
    assert.deepEqual(await nft.list(), { success: true, table: undefined });
  });

  test(`${name}: what was applied is what is listed, for both ways of replacing`, async () => {
    const { nft } = await open();
    for (const replacing of ['rules', 'table', 'rules'] as const) {
      for (const ruleset of [
        planRuleset(modelWithRules(['one', 'two'])),
        planRuleset(homeModel('sessions')),
        safeRuleset(modelWithRules([])),
      ]) {
        const document = compileRuleset(ruleset, { replacing });
        assert.deepEqual(await nft.apply(document), { success: true });
        assert.equal(tableDiffers(expectedTable(document), await listed(nft)), undefined);
      }
    }
  });

  test(`${name}: the next ruleset replaces all of the last`, async () => {
    const { nft } = await open();
    await succeed(nft.apply(first));
    await succeed(nft.apply(second));
    assert.equal(tableDiffers(expectedTable(second), await listed(nft)), undefined);
    const difference = tableDiffers(expectedTable(first), await listed(nft));
    assert.deepEqual(difference?.changes, [
      'the rule "rule one" was removed from forward',
      'the rule "rule two" was removed from forward',
      'the rule "rule three" was added to forward',
    ]);
  });

  test(`${name}: a check changes nothing`, async () => {
    const { nft } = await open();
    assert.deepEqual(await nft.check(first), { success: true });
    assert.equal(await listed(nft), undefined);
    await succeed(nft.apply(first));
    assert.deepEqual(await nft.check(second), { success: true });
    assert.equal(tableDiffers(expectedTable(first), await listed(nft)), undefined);
  });

  for (const { what, expression } of [
    { what: 'a word that nft does not know', expression: { frobnicate: null } },
    { what: 'what the kernel refuses', expression: { jump: { target: 'nowhere' } } },
  ]) {
    test(`${name}: survive-107 ${what} changes nothing, and the rule is named`, async () => {
      const { nft } = await open();
      await succeed(nft.apply(first));
      const many = planRuleset(
        modelWithRules(Array.from({ length: 40 }, (_, index) => `r${index}`)),
      );
      const compiled = compileRuleset(many, { replacing: 'rules' });
      const bad = withBrokenRule(compiled, { comment: 'rule r29', expression });
      for (const request of [nft.check(bad), nft.apply(bad)]) {
        const result = await request;
        assert.ok(!result.success);
        assert.equal(result.reason, 'refused');
        assert.equal(result.rule, 'r29');
        assert.equal(result.comment, 'rule r29');
        assert.equal(result.rulesInPlace, 'unchanged');
        assert.equal(tableDiffers(expectedTable(first), await listed(nft)), undefined);
      }
    });
  }

  test(`${name}: survive-107 a refusal that is no rule's fault names none`, async () => {
    const { nft } = await open();
    await succeed(nft.apply(first));
    const moved = first.nftables.map((command): NftCommand => {
      if (!('add' in command && 'chain' in command.add)) return command;
      return { add: { chain: { ...command.add.chain, prio: 17 } } };
    });
    const result = await nft.apply({ nftables: moved });
    assert.ok(!result.success);
    assert.equal(result.reason, 'refused');
    assert.equal(result.rule, undefined);
    assert.equal(tableDiffers(expectedTable(first), await listed(nft)), undefined);
  });

  for (const fault of ['missing', 'crashed', 'hung', 'too much output'] as const) {
    test(`${name}: survive-108 with nft ${fault}, the last good rules stay`, async () => {
      const { nft, failing } = await open();
      await succeed(nft.apply(first));
      const broken = failing(fault);
      for (const request of [broken.apply(second), broken.check(second), broken.list()]) {
        const result = await request;
        assert.ok(!result.success);
        assert.equal(result.reason, fault);
        assert.match(result.message, /nft/);
        assert.ok(result.message.length <= 500);
      }
      assert.equal(tableDiffers(expectedTable(first), await listed(nft)), undefined);
    });
  }

  test(`${name}: survive-111 other owners' tables stay as they are`, async () => {
    const { nft, addForeignTable, foreignTables } = await open();
    await addForeignTable({ family: 'ip', name: TABLE_NAME });
    await addForeignTable({ family: TABLE_FAMILY, name: 'docker' });
    const before = await foreignTables();
    assert.match(before, /docker/);
    for (const replacing of ['rules', 'table'] as const) {
      await succeed(nft.apply(compileRuleset(planRuleset(modelWithRules(['one'])), { replacing })));
    }
    assert.equal((await nft.apply(withBrokenRule(first))).success, false);
    assert.equal(await foreignTables(), before);
  });
}

async function listed(nft: Nft): Promise<NftTable | undefined> {
  const result = await nft.list();
  assert.ok(result.success, result.success ? '' : result.message);
  return result.table;
}

async function succeed(request: Promise<NftResult>): Promise<void> {
  assert.deepEqual(await request, { success: true });
}

/** The document with one expression more in one rule. */
function withBrokenRule(
  document: NftDocument,
  {
    comment,
    expression,
  }: { comment: string; expression: Readonly<Record<string, never>> | object } = {
    comment: 'rule one',
    expression: { frobnicate: null },
  },
): NftDocument {
  return {
    nftables: document.nftables.map((command): NftCommand => {
      if (!('add' in command && 'rule' in command.add)) return command;
      const { rule } = command.add;
      if (rule.comment !== comment) return command;
      const broken = JSON.parse(JSON.stringify(expression));
      return { add: { rule: { ...rule, expr: [...rule.expr.slice(0, -1), broken] } } };
    }),
  };
}
