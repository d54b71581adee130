/**
 * nft in memory: our table and other owners' tables, atomic as the kernel, and able to fail in
 * every way in which the program fails. Held to the contract in src/testing/nft-contract.ts.
 */
import { findRefusedRule } from '../firewall/find-refused-rule.ts';
import type { Nft, NftFailure, NftListing, NftResult } from '../firewall/nft.ts';
import {
  type JsonObject,
  type JsonValue,
  type NftChain,
  type NftCommand,
  type NftDocument,
  type NftElements,
  type NftRule,
  type NftSet,
  type NftSetName,
  type NftTableName,
  prefixValue,
  rulesOf,
} from '../firewall/nft-document.ts';
import { expectedTable } from '../firewall/nft-table.ts';
import { parseRuleComment } from '../firewall/rule-comment.ts';
import { setNameOf, TABLE_FAMILY, TABLE_NAME } from '../firewall/ruleset.ts';
import type { SetChange } from '../firewall/table-entries.ts';

/** How the next requests fail. */
export type FakeNftFault =
  | { readonly kind: 'missing' | 'crashed' | 'hung' | 'too much output' }
  /** The change is made all the same; nft ends before it can say so. */
  | { readonly kind: 'crashed after the change' }
  /** Refuses documents with a rule of this name. */
  | { readonly kind: 'refused'; readonly rule: string };

interface Table {
  readonly name: NftTableName;
  readonly sets: ReadonlyMap<string, FakeSet>;
  readonly chains: ReadonlyMap<string, NftChain>;
  readonly rules: readonly NftRule[];
}

interface FakeSet {
  readonly set: NftSet;
  readonly elem: readonly JsonValue[];
}

type Tables = ReadonlyMap<string, Table>;

export class FakeNft implements Nft {
  #tables: Tables = new Map();
  #fault: FakeNftFault | undefined;
  /** Every document that was to be applied, in order, refused ones included. */
  readonly applied: NftDocument[] = [];

  /** Until it is called without a fault, every request fails so. */
  failWith(fault: FakeNftFault | undefined): void {
    this.#fault = fault;
  }

  /** What somebody else does: any tables, no objections but the kernel's own. */
  changeFromOutside(commands: readonly NftCommand[]): void {
    this.#tables = commands.reduce(performed, this.#tables);
  }

  /** What somebody else does to everybody: `nft flush ruleset`. */
  flushEverything(): void {
    this.#tables = new Map();
  }

  /** By netlink. @throws Error with the kernel's words where it refuses */
  changeSets(changes: readonly SetChange[]): void {
    const failed = this.#failed();
    if (failed !== undefined) throw new Error(failed.message);
    this.#tables = changes.reduce(withSetChange, this.#tables);
  }

  /** The tables that are not ours, as one text. */
  otherTables(): string {
    const others = [...this.#tables].filter(([key]) => key !== keyOf(ourTable));
    return JSON.stringify(others.map(([, table]) => documentOf(table)));
  }

  async check(document: NftDocument): Promise<NftResult> {
    const result = this.#try(document);
    return 'tables' in result ? { success: true } : explained(result, document, this.#try);
  }

  async apply(document: NftDocument): Promise<NftResult> {
    this.applied.push(document);
    const result = this.#try(document);
    if (!('tables' in result)) return explained(result, document, this.#try);
    this.#tables = result.tables;
    if (this.#fault?.kind !== 'crashed after the change') return { success: true };
    return failure('crashed', 'nft was ended by the signal SIGSEGV');
  }

  async list(): Promise<NftListing> {
    const failed = this.#failed();
    if (failed !== undefined) return { ...failed, rulesInPlace: 'unchanged' };
    const table = this.#tables.get(keyOf(ourTable));
    if (table === undefined) return { success: true, table: undefined };
    return { success: true, table: expectedTable(documentOf(table)) };
  }

  readonly #try = (document: NftDocument): { readonly tables: Tables } | NftFailure => {
    const failed = this.#failed();
    if (failed !== undefined) return failed;
    const fault = this.#fault;
    const refused =
      fault?.kind === 'refused' &&
      rulesOf(document).some(({ comment }) => parseRuleComment(comment)?.name === fault.rule);
    if (refused) return failure('refused', 'Error: Could not process rule: Invalid argument');
    try {
      return { tables: document.nftables.reduce(performed, this.#tables) };
    } catch (cause) {
      return failure('refused', `Error: ${cause instanceof Error ? cause.message : cause}`);
    }
  };

  #failed(): NftFailure | undefined {
    switch (this.#fault?.kind) {
      case 'missing':
        return failure('missing', 'cannot run nft: no such program');
      case 'crashed':
        return failure('crashed', 'nft was ended by the signal SIGSEGV');
      case 'hung':
        return failure('hung', 'nft ran longer than 30000 ms');
      case 'too much output':
        return failure('too much output', `nft failed with code 0: ${'x'.repeat(400)}`);
      default:
        return undefined;
    }
  }
}

const ourTable: NftTableName = { family: TABLE_FAMILY, name: TABLE_NAME };

async function explained(
  failed: NftFailure,
  document: NftDocument,
  attempt: (part: NftDocument) => object,
): Promise<NftFailure> {
  if (failed.reason !== 'refused') return failed;
  const refused = await findRefusedRule(document, failed.message, async (part) => {
    const result = attempt(part);
    return 'tables' in result ? { success: true } : failed;
  });
  if (refused === undefined) return failed;
  const { comment } = refused;
  return { ...failed, rule: parseRuleComment(comment)?.name ?? comment, comment };
}

function failure(reason: NftFailure['reason'], message: string): NftFailure {
  const isSure = reason === 'refused' || reason === 'missing';
  return { success: false, reason, message, rulesInPlace: isSure ? 'unchanged' : 'unknown' };
}

function documentOf({ name, sets, chains, rules }: Table): NftDocument {
  return {
    nftables: [
      { add: { table: name } },
      ...[...sets.values()].flatMap(({ set, elem }): NftCommand[] => [
        { add: { set } },
        { add: { element: { ...setNameIn(set), elem } } },
      ]),
      ...[...chains.values()].map((chain): NftCommand => ({ add: { chain } })),
      ...rules.map((rule): NftCommand => ({ add: { rule } })),
    ],
  };
}

function keyOf({ family, name }: NftTableName): string {
  return `${family} ${name}`;
}

/** @throws Error with the kernel's words where it refuses */
function performed(tables: Tables, command: NftCommand): Tables {
  const changed = new Map(tables);
  const object = Object.values(command)[0] as object;
  if ('set' in object || 'element' in object) return withSets(tables, command);
  if ('delete' in command && 'table' in command.delete) {
    if (!changed.delete(keyOf(command.delete.table))) throw new Error(NOT_THERE);
  } else if ('flush' in command && 'table' in command.flush) {
    changed.set(keyOf(command.flush.table), { ...found(tables, command.flush.table), rules: [] });
  } else if (!('add' in command)) {
    throw new Error(NOT_SUPPORTED);
  } else if ('table' in command.add) {
    const name = command.add.table;
    const empty: Table = { name, sets: new Map(), chains: new Map(), rules: [] };
    changed.set(keyOf(name), tables.get(keyOf(name)) ?? empty);
  } else if ('chain' in command.add) {
    const table = found(tables, tableOf(command.add.chain));
    changed.set(keyOf(table.name), withChain(table, command.add.chain));
  } else if ('rule' in command.add) {
    const { rule } = command.add;
    const table = found(tables, tableOf(rule));
    judgeRule(rule, table);
    changed.set(keyOf(table.name), { ...table, rules: [...table.rules, rule] });
  }
  return changed;
}

const NOT_THERE = 'Could not process rule: No such file or directory';
const EXISTS = 'Could not process rule: File exists';
const BUSY = 'Could not process rule: Device or resource busy';
const NOT_SUPPORTED = 'Could not process rule: Operation not supported';

function tableOf({ family, table }: { family: string; table: string }): NftTableName {
  return { family, name: table };
}

function found(tables: Tables, name: NftTableName): Table {
  const table = tables.get(keyOf(name));
  if (table === undefined) throw new Error(NOT_THERE);
  return table;
}

function withSets(tables: Tables, command: NftCommand): Tables {
  const [[action, object] = ['', {}]] = Object.entries(command);
  const [[kind, body] = ['', undefined]] = Object.entries(object as Record<string, NftSetName>);
  if (body === undefined) throw new Error(NOT_SUPPORTED);
  const table = found(tables, tableOf(body));
  const there = table.sets.get(body.name);
  const sets = new Map(table.sets);
  if (action === 'add' && kind === 'set') {
    const set = body as NftSet;
    if (there !== undefined && there.set.type !== set.type) throw new Error(EXISTS);
    sets.set(body.name, { set, elem: there?.elem ?? [] });
  } else if (there === undefined) {
    throw new Error(NOT_THERE);
  } else if (action === 'flush') {
    sets.set(body.name, { ...there, elem: [] });
  } else if (action === 'delete') {
    if (table.rules.some((rule) => setNamesIn(rule).includes(body.name))) throw new Error(BUSY);
    sets.delete(body.name);
  } else {
    const { elem } = body as NftElements;
    sets.set(body.name, { ...there, elem: [...there.elem, ...elem] });
  }
  return new Map([...tables, [keyOf(table.name), { ...table, sets }]]);
}

function withSetChange(tables: Tables, change: SetChange): Tables {
  const table = found(tables, ourTable);
  const name = setNameOf(change);
  const there = table.sets.get(name);
  if (there === undefined) throw new Error('ENOENT');
  const elements = new Map(there.elem.map((value) => [JSON.stringify(value), value]));
  for (const value of change.removed.map(prefixValue)) {
    if (!elements.delete(JSON.stringify(value))) throw new Error('ENOENT');
  }
  for (const value of change.added.map(prefixValue)) elements.set(JSON.stringify(value), value);
  const sets = new Map([...table.sets, [name, { ...there, elem: [...elements.values()] }]]);
  return new Map([...tables, [keyOf(table.name), { ...table, sets }]]);
}

function setNameIn({ family, table, name }: NftSet): NftSetName {
  return { family, table, name };
}

function setNamesIn({ expr }: NftRule): string[] {
  return [...JSON.stringify(expr).matchAll(/"right":"@([^"]+)"/g)].map(([, name = '']) => name);
}

/** A chain that is there already may get another policy, and nothing else. */
function withChain(table: Table, chain: NftChain): Table {
  const there = table.chains.get(chain.name);
  const place = ({ type, hook, prio }: NftChain) => JSON.stringify([type, hook, prio]);
  if (there !== undefined && place(there) !== place(chain)) throw new Error(NOT_SUPPORTED);
  return { ...table, chains: new Map([...table.chains, [chain.name, chain]]) };
}

const statements = [
  ...['match', 'counter', 'accept', 'drop', 'notrack', 'reject', 'limit', 'log', 'goto', 'jump'],
  'mangle',
];

function judgeRule(rule: NftRule, table: Table): void {
  if (!table.chains.has(rule.chain)) throw new Error(NOT_THERE);
  if (setNamesIn(rule).some((name) => !table.sets.has(name))) throw new Error(NOT_THERE);
  for (const statement of rule.expr) {
    const [word = ''] = Object.keys(statement);
    if (!statements.includes(word)) throw new Error(`Unknown statement object '${word}'.`);
    const target = targetOf(statement[word]);
    if (target !== undefined && !table.chains.has(target)) throw new Error(NOT_THERE);
  }
}

function targetOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { target } = value as JsonObject;
  return typeof target === 'string' ? target : undefined;
}
