/** Whether somebody else changed our table: what was applied against what nft lists. */
import type { NftTable, NftTableRule, NftTableSet } from './nft-table.ts';

export interface TableDifference {
  /** What is not as it was applied: `a rule was added to forward`. For people, in order. */
  readonly changes: readonly string[];
  /** So many more changes were found than are told. */
  readonly untoldCount: number;
}

/** A person reads a few; who wants all of them compares two listings. */
export const TOLD_CHANGES_MAX = 20;

/**
 * @param listed undefined: the table is not there
 * @returns undefined when nothing differs. Counters and handles do not count, and neither does an
 *   empty chain that is not hooked up: it decides nothing, and a ruleset that replaces the rules of
 *   another one leaves behind the chains that it does not have. Nor does a set of an address table
 *   that is not expected: no rule can look into it
 */
export function tableDiffers(
  expected: NftTable,
  listed: NftTable | undefined,
): TableDifference | undefined {
  const all = listed === undefined ? ['the table is gone'] : changesOf(expected, listed);
  if (all.length === 0) return undefined;
  const changes = all.slice(0, TOLD_CHANGES_MAX);
  return { changes, untoldCount: all.length - changes.length };
}

function changesOf(expected: NftTable, listed: NftTable): string[] {
  const names = new Set([...expected.chains, ...listed.chains].map(({ name }) => name));
  return [
    ...(listed.hasFlags && !expected.hasFlags ? ['the table got flags, perhaps dormant'] : []),
    ...listed.otherObjects
      .filter((object) => !expected.otherObjects.includes(object))
      .map((object) => `the ${object} was added`),
    ...setChanges(expected.sets, listed.sets),
    ...[...names].flatMap((name) => chainChanges(name, expected, listed)),
  ];
}

const TABLE_SET_NAME = /_[46]$/;

function setChanges(before: readonly NftTableSet[], now: readonly NftTableSet[]): string[] {
  const isExpected = ({ name }: NftTableSet) => before.some((set) => set.name === name);
  const added = now.filter((set) => !isExpected(set) && !TABLE_SET_NAME.test(set.name));
  return [
    ...added.map(({ name }) => `the set ${name} was added`),
    ...before.flatMap((set) => {
      const listed = now.find(({ name }) => name === set.name);
      if (listed === undefined) return [`the set ${set.name} was removed`];
      if (listed.kind !== set.kind) return [`the set ${set.name} became ${listed.kind}`];
      return [
        ...[...set.elements.difference(listed.elements)].map(
          (element) => `${element} was removed from the set ${set.name}`,
        ),
        ...[...listed.elements.difference(set.elements)].map(
          (element) => `${element.slice(0, 200)} was added to the set ${set.name}`,
        ),
      ];
    }),
  ];
}

function chainChanges(name: string, expected: NftTable, listed: NftTable): string[] {
  const before = expected.chains.find((chain) => chain.name === name);
  const now = listed.chains.find((chain) => chain.name === name);
  if (now === undefined) return [`the chain ${name} was removed`];
  if (before === undefined) {
    const isIdle = now.hook === '' && rulesIn(listed, name).length === 0;
    return isIdle ? [] : [`the chain ${name} was added`];
  }
  const rules = ruleChanges(name, rulesIn(expected, name), rulesIn(listed, name));
  if (before.hook === now.hook) return rules;
  return [`the chain ${name} became '${now.hook}', not '${before.hook}'`, ...rules];
}

function rulesIn(table: NftTable, chain: string): NftTableRule[] {
  return table.rules.filter((rule) => rule.chain === chain);
}

function ruleChanges(
  chain: string,
  before: readonly NftTableRule[],
  now: readonly NftTableRule[],
): string[] {
  const lost = without(before, now).map((rule) => `${describe(rule)} was removed from ${chain}`);
  const added = without(now, before).map((rule) => `${describe(rule)} was added to ${chain}`);
  if (lost.length > 0 || added.length > 0) return [...lost, ...added];
  const moved = before.findIndex((rule, index) => identity(rule) !== identity(now[index] ?? rule));
  const first = before[moved];
  return first === undefined ? [] : [`${describe(first)} of ${chain} stands in another place`];
}

/** The rules of one list that the other lacks; of equal ones, as many as there are too many. */
function without(
  rules: readonly NftTableRule[],
  others: readonly NftTableRule[],
): readonly NftTableRule[] {
  const counts = new Map<string, number>();
  for (const rule of others) counts.set(identity(rule), (counts.get(identity(rule)) ?? 0) + 1);
  return rules.filter((rule) => {
    const count = counts.get(identity(rule)) ?? 0;
    counts.set(identity(rule), count - 1);
    return count <= 0;
  });
}

function identity({ comment, expression }: NftTableRule): string {
  return JSON.stringify([comment ?? null, expression]);
}

function describe({ comment, expression }: NftTableRule): string {
  if (comment === undefined) return `a rule without comment (${expression.slice(0, 200)})`;
  return `the rule ${JSON.stringify(comment.slice(0, 128))}`;
}
