/**
 * The ruleset in nft's JSON (libnftables-json(5)): one document, one transaction on
 * `table inet gatehouse` and on nothing else.
 *
 * Words and order are those in which nft lists the table afterwards, so that what was applied can
 * be compared with what is there (src/firewall/table-difference.ts).
 */
import type { AddressRange } from '../net/address-range.ts';
import { addressWidths } from '../net/ip-address.ts';
import type { PortRange } from '../net/port-range.ts';
import type { Prefix } from '../net/prefix.ts';
import { asPrefix, familyOf, formatNftAddress, isSingleAddress } from './nft-addresses.ts';
import { formatRuleComment } from './rule-comment.ts';
import {
  type ChainHook,
  type Match,
  type Ruleset,
  type RulesetChain,
  type RulesetRule,
  type RulesetSet,
  type Statement,
  setNameOf,
  TABLE_FAMILY,
  TABLE_NAME,
} from './ruleset.ts';
import { formatNftPrefix } from './table-prefixes.ts';

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

export interface NftDocument {
  readonly nftables: readonly NftCommand[];
}

export type NftCommand =
  | { readonly add: { readonly table: NftTableName } }
  | { readonly delete: { readonly table: NftTableName } }
  | { readonly delete: { readonly set: NftSetName } }
  | { readonly flush: { readonly table: NftTableName } }
  | { readonly flush: { readonly set: NftSetName } }
  | { readonly add: { readonly set: NftSet } }
  | { readonly add: { readonly element: NftElements } }
  | { readonly add: { readonly chain: NftChain } }
  | { readonly add: { readonly rule: NftRule } };

export interface NftTableName {
  readonly family: string;
  readonly name: string;
}

export interface NftSetName extends NftTableName {
  readonly table: string;
}

export interface NftSet extends NftSetName {
  readonly type: string;
  readonly flags: readonly string[];
}

export interface NftElements extends NftSetName {
  readonly elem: readonly JsonValue[];
}

export interface NftChain extends NftTableName {
  readonly table: string;
  readonly type?: string;
  readonly hook?: string;
  readonly prio?: number;
  readonly policy?: string;
}

export interface NftRule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly comment: string;
  readonly expr: readonly JsonObject[];
}

/**
 * @param options.replacing `rules` keeps the table's chains, which stay hooked up all the time; nft
 *   refuses it when one of them is there with another hook or priority, and chains of others stay.
 *   `table` removes and makes everything; for after somebody else's change
 * @param options.setsInPlace that the table has, as far as that is known: those that stay as they
 *   are keep their elements, which packets find all the time; those that are not wanted go
 */
export function compileRuleset(
  ruleset: Ruleset,
  options: { readonly replacing: 'rules' | 'table'; readonly setsInPlace?: SetsInPlace },
): NftDocument {
  const addTable: NftCommand = { add: { table } };
  const { sets = [] } = ruleset;
  const addSets = sets.map((set): NftCommand => ({ add: { set: setOf(set) } }));
  const chains = ruleset.chains.map((chain): NftCommand => ({ add: { chain: chainOf(chain) } }));
  const rules = ruleset.chains.flatMap((chain) =>
    chain.rules.map((rule): NftCommand => ({ add: { rule: ruleOf(rule, chain) } })),
  );
  const head: readonly NftCommand[] =
    options.replacing === 'rules'
      ? [addTable, ...addSets, ...chains, { flush: { table } }]
      : [addTable, { delete: { table } }, addTable, ...addSets, ...chains];
  const elements =
    options.replacing === 'rules'
      ? replaceElements(sets, options.setsInPlace ?? new Map())
      : sets.flatMap(addElements);
  return { nftables: [...head, ...elements, ...rules] };
}

/** By their names in nft: the definition of each, and its elements as nft writes them. */
export type SetsInPlace = ReadonlyMap<
  string,
  { readonly family: 4 | 6; readonly elements: ReadonlySet<string> }
>;

function replaceElements(sets: readonly RulesetSet[], inPlace: SetsInPlace): NftCommand[] {
  const wanted = new Set(sets.map(setNameOf));
  return [
    ...[...inPlace].flatMap(([name, { family }]): NftCommand[] => {
      if (wanted.has(name)) return [];
      // Nobody can say that it is still there; what is there already is no error.
      return [{ add: { set: definitionOf(name, family) } }, { delete: { set: setName(name) } }];
    }),
    ...sets.flatMap((set): NftCommand[] => {
      const name = setNameOf(set);
      const there = inPlace.get(name)?.elements;
      const isSame =
        there?.size === set.prefixes.length &&
        set.prefixes.every((prefix) => there.has(formatNftPrefix(prefix)));
      return isSame ? [] : [{ flush: { set: setName(name) } }, ...addElements(set)];
    }),
  ];
}

function addElements(set: RulesetSet): NftCommand[] {
  const { prefixes } = set;
  if (prefixes.length === 0) return [];
  const elem = prefixes.map((prefix) => prefixValue(prefix));
  return [{ add: { element: { ...setName(setNameOf(set)), elem } } }];
}

function setName(name: string): NftSetName {
  return { ...inTable, name };
}

/** Of ranges, since prefixes may come at any time, and a set cannot change what it is. */
function definitionOf(name: string, family: 4 | 6): NftSet {
  return { ...setName(name), type: `ipv${family}_addr`, flags: ['interval'] };
}

function setOf(set: RulesetSet): NftSet {
  return definitionOf(setNameOf(set), set.family);
}

/** The document as it is given to nft. */
export function formatNftDocument(document: NftDocument): string {
  return `${JSON.stringify(document)}\n`;
}

export function rulesOf(document: NftDocument): NftRule[] {
  return document.nftables.flatMap((command) =>
    'add' in command && 'rule' in command.add ? [command.add.rule] : [],
  );
}

export const priorities = { raw: -300, filter: 0 } as const satisfies Record<
  ChainHook['priority'],
  number
>;

const table: NftTableName = { family: TABLE_FAMILY, name: TABLE_NAME };
const inTable = { family: TABLE_FAMILY, table: TABLE_NAME };

function chainOf({ name, hook }: RulesetChain): NftChain {
  if (hook === undefined) return { ...inTable, name };
  const prio = priorities[hook.priority];
  return { ...inTable, name, type: 'filter', hook: hook.name, prio, policy: hook.policy };
}

function ruleOf({ origin, matches, statement }: RulesetRule, chain: RulesetChain): NftRule {
  return {
    ...inTable,
    chain: chain.name,
    comment: formatRuleComment(origin),
    expr: [...matches.map(matchOf), ...statementsOf(statement)],
  };
}

function matchOf(match: Match): JsonObject {
  switch (match.kind) {
    case 'input-interface':
      return equal({ meta: { key: 'iifname' } }, oneOf(match.names));
    case 'output-interface':
      return equal({ meta: { key: 'oifname' } }, oneOf(match.names));
    case 'mark': {
      const masked = { '&': [{ meta: { key: 'mark' } }, match.mask] };
      return equal(masked, oneOf(match.values));
    }
    case 'to-this-host': {
      const type = { fib: { result: 'type', flags: ['daddr'] } };
      return compared(type, match.negated ? '!=' : '==', 'local');
    }
    case 'family':
      return equal({ meta: { key: 'nfproto' } }, `ipv${match.family}`);
    case 'source':
    case 'destination': {
      const name = match.kind === 'source' ? 'saddr' : 'daddr';
      const op = match.negated === true ? '!=' : '==';
      return compared(addressField(name, match.ranges), op, oneOf(match.ranges.map(addressValue)));
    }
    case 'source-table':
    case 'destination-table': {
      const name = match.kind === 'source-table' ? 'saddr' : 'daddr';
      return equal(field(match.family === 6 ? 'ip6' : 'ip', name), `@${setNameOf(match)}`);
    }
    case 'protocol':
      return equal({ meta: { key: 'l4proto' } }, oneOf(match.protocols));
    case 'source-port':
      return equal(field(match.protocol, 'sport'), oneOf(match.ranges.map(portValue)));
    case 'destination-port':
      return equal(field(match.protocol, 'dport'), oneOf(match.ranges.map(portValue)));
    case 'tcp-syn':
      return equal({ '&': [field('tcp', 'flags'), ['syn', 'rst']] }, 'syn');
    case 'hop-limit':
      return equal(field('ip6', 'hoplimit'), match.value);
    case 'icmp-type':
      return equal(field(match.family === 4 ? 'icmp' : 'icmpv6', 'type'), oneOf(match.types));
    case 'source-by-interface': {
      const way = { fib: { result: 'oifname', flags: ['saddr', 'iif'] } };
      return compared(way, match.negated ? '!=' : '==', oneOf(match.names));
    }
    case 'connection': {
      const [only, ...others] = match.states;
      return compared(
        { ct: { key: 'state' } },
        'in',
        others.length === 0 ? (only ?? []) : match.states,
      );
    }
  }
}

function equal(left: JsonObject, right: JsonValue): JsonObject {
  return compared(left, '==', right);
}

function compared(left: JsonObject, op: '==' | '!=' | 'in', right: JsonValue): JsonObject {
  return { match: { op, left, right } };
}

function field(protocol: string, name: string): JsonObject {
  return { payload: { protocol, field: name } };
}

function addressField(name: string, [first]: readonly AddressRange[]): JsonObject {
  return field(first !== undefined && familyOf(first) === 6 ? 'ip6' : 'ip', name);
}

/** nft lists a set of one as its element. */
function oneOf(values: readonly JsonValue[]): JsonValue {
  const [only, ...others] = values;
  return only !== undefined && others.length === 0 ? only : { set: values };
}

function addressValue(range: AddressRange): JsonValue {
  const first = formatNftAddress(range.first);
  if (isSingleAddress(range)) return first;
  const prefix = asPrefix(range);
  if (prefix !== undefined) return prefixValue(prefix);
  return { range: [first, formatNftAddress(range.last)] };
}

export function prefixValue({ family, bits, length }: Prefix): JsonValue {
  const addr = formatNftAddress({ family, bits });
  return length === addressWidths[family] ? addr : { prefix: { addr, len: length } };
}

function portValue({ first, last }: PortRange): JsonValue {
  return first === last ? first : { range: [first, last] };
}

const counter: JsonObject = { counter: { packets: 0, bytes: 0 } };

function statementsOf(statement: Statement): readonly JsonObject[] {
  switch (statement.kind) {
    case 'accept':
    case 'drop':
    case 'notrack':
      return [counter, { [statement.kind]: null }];
    case 'accept-untracked':
      return [counter, { notrack: null }, { accept: null }];
    case 'accept-limited':
      return [limit(statement.perSecond, statement.burst), counter, { accept: null }];
    case 'reject':
      return [counter, rejectWith(statement.with)];
    case 'reject-limited': {
      const { perSecond, burst } = statement;
      return [limit(perSecond, burst), counter, rejectWith(statement.with)];
    }
    case 'clamp-mss': {
      // nft never raises an MSS, and takes the smaller of the path's two directions.
      const key = { 'tcp option': { name: 'maxseg', field: 'size' } };
      return [counter, { mangle: { key, value: { rt: { key: 'mtu' } } } }];
    }
    case 'goto':
      return [counter, { goto: { target: statement.chain } }];
    case 'log':
      return [
        limit(statement.perSecond, LOG_BURST),
        counter,
        { log: { prefix: statement.prefix } },
      ];
  }
}

/** `icmpx` is code 13 of type 3 in IPv4 and code 1 of type 1 in IPv6. */
function rejectWith(reason: 'tcp-reset' | 'admin-prohibited'): JsonObject {
  return reason === 'tcp-reset'
    ? { reject: { type: 'tcp reset' } }
    : { reject: { type: 'icmpx', expr: 'admin-prohibited' } };
}

/** nft's own default, which it does not print. */
export const LOG_BURST = 5;

function limit(perSecond: number, burst: number): JsonObject {
  return { limit: { rate: perSecond, burst, per: 'second' } };
}
