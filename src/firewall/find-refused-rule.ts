/**
 * Which rule nft refuses. nft names the place of an error only when it cannot read a command
 * (`Parsing command array at index 7 failed`); what the kernel or a later step refuses comes
 * without a place. Then the rules are halved again and again, each half checked on its own.
 */
import type { NftResult } from './nft.ts';
import { type NftCommand, type NftDocument, type NftRule, rulesOf } from './nft-document.ts';
import { TABLE_FAMILY, TABLE_NAME } from './ruleset.ts';

/** Enough to find one of 10,000 rules (2^14), with a look at the one that is left. */
export const CHECKS_MAX = 16;

/**
 * @param message what nft said about the whole document
 * @param check what nft says about a part of it, without applying it
 * @returns undefined where no single rule is at fault, or nft stopped answering
 */
export async function findRefusedRule(
  document: NftDocument,
  message: string,
  check: (part: NftDocument) => Promise<NftResult>,
): Promise<NftRule | undefined> {
  const named = commandNamedIn(message, document);
  if (named !== undefined) return ruleIn(named);
  const head = withoutRules(document);
  let suspects = rulesOf(document);
  for (let checks = 1; checks <= CHECKS_MAX && suspects.length > 0; checks++) {
    const half = suspects.slice(0, Math.ceil(suspects.length / 2));
    const result = await check({
      nftables: [...head, ...half.map((rule): NftCommand => ({ add: { rule } }))],
    });
    if (!result.success && result.reason !== 'refused') return undefined;
    if (suspects.length === 1) return result.success ? undefined : suspects[0];
    suspects = result.success ? suspects.slice(half.length) : half;
  }
  return undefined;
}

function commandNamedIn(message: string, document: NftDocument): NftCommand | undefined {
  const [, index] = /Parsing command array at index (\d+) failed/.exec(message) ?? [];
  return index === undefined ? undefined : document.nftables[Number(index)];
}

function ruleIn(command: NftCommand): NftRule | undefined {
  return 'add' in command && 'rule' in command.add ? command.add.rule : undefined;
}

/** A fresh table with the document's sets and chains, whatever the kernel has there now. */
function withoutRules(document: NftDocument): NftCommand[] {
  const table = { family: TABLE_FAMILY, name: TABLE_NAME };
  const places = document.nftables.filter(
    (command) => 'add' in command && ('chain' in command.add || 'set' in command.add),
  );
  return [{ add: { table } }, { delete: { table } }, { add: { table } }, ...places];
}
