/**
 * The ruleset of `table inet gatehouse` as a value, one step above nft's own words: what
 * src/firewall/plan-ruleset.ts plans, src/firewall/nft-document.ts compiles for nft, and
 * src/firewall/format-ruleset.ts prints for people.
 */
import type { AddressRange } from '../net/address-range.ts';
import type { PortRange } from '../net/port-range.ts';
import type { Prefix } from '../net/prefix.ts';
import type { RuleOrigin } from './rule-comment.ts';

export const TABLE_FAMILY = 'inet';
export const TABLE_NAME = 'gatehouse';

export interface Ruleset {
  /** Those that rules name, and others. Absent: none. */
  readonly sets?: readonly RulesetSet[];
  readonly chains: readonly RulesetChain[];
}

/** The addresses of one family that an address table has. */
export interface RulesetSet {
  readonly table: string;
  readonly family: 4 | 6;
  /** In order, none in another. */
  readonly prefixes: readonly Prefix[];
}

/** What nft calls it: `@blocked_4` in a rule. */
export function setNameOf({ table, family }: Pick<RulesetSet, 'table' | 'family'>): string {
  return `${table}_${family}`;
}

export interface RulesetChain {
  readonly name: string;
  /** Absent: a chain that only others go to. */
  readonly hook?: ChainHook;
  readonly rules: readonly RulesetRule[];
}

export interface ChainHook {
  readonly name: 'prerouting' | 'input' | 'forward' | 'output';
  readonly priority: 'raw' | 'filter';
  readonly policy: 'accept' | 'drop';
}

export interface RulesetRule {
  readonly origin: RuleOrigin;
  /** All must hold. In the order in which nft lists them: ends, addresses, protocol, the rest. */
  readonly matches: readonly Match[];
  readonly statement: Statement;
}

/** Lists are not empty; a packet matches when it is in the list. */
export type Match =
  | { readonly kind: 'input-interface' | 'output-interface'; readonly names: readonly string[] }
  /** The masked bits equal one of the values, which are in order. */
  | { readonly kind: 'mark'; readonly mask: number; readonly values: readonly number[] }
  | { readonly kind: 'to-this-host'; readonly negated: boolean }
  | { readonly kind: 'family'; readonly family: 4 | 6 }
  /** Of one family, also when negated: then every other address of that family matches. */
  | {
      readonly kind: 'source' | 'destination';
      readonly ranges: readonly AddressRange[];
      readonly negated?: boolean;
    }
  /** The addresses of this family that the table has: none while it has none. */
  | {
      readonly kind: 'source-table' | 'destination-table';
      readonly table: string;
      readonly family: 4 | 6;
    }
  | { readonly kind: 'protocol'; readonly protocols: readonly string[] }
  /** `th` is whatever transport header there is; a protocol match stands before it. */
  | {
      readonly kind: 'source-port' | 'destination-port';
      readonly protocol: 'tcp' | 'udp' | 'sctp' | 'th';
      readonly ranges: readonly PortRange[];
    }
  /** SYN without RST: whoever opens a connection, and the answer. */
  | { readonly kind: 'tcp-syn' }
  | { readonly kind: 'hop-limit'; readonly value: number }
  /** Types by nft's words, and by number where it has none; in the order of their numbers. */
  | {
      readonly kind: 'icmp-type';
      readonly family: 4 | 6;
      readonly types: readonly (string | number)[];
    }
  /** The routes lead to its source by the interface that it came by, and that is one of these. */
  | {
      readonly kind: 'source-by-interface';
      readonly names: readonly string[];
      readonly negated: boolean;
    }
  | { readonly kind: 'connection'; readonly states: readonly string[] };

export type Statement =
  | { readonly kind: 'accept' | 'drop' | 'notrack' | 'accept-untracked' }
  /** TCP gets a reset, everything else an ICMP error. */
  | { readonly kind: 'reject'; readonly with: 'tcp-reset' | 'admin-prohibited' }
  /** Packets above the limit go on with the next rule, here and below. */
  | { readonly kind: 'accept-limited'; readonly perSecond: number; readonly burst: number }
  | {
      readonly kind: 'reject-limited';
      readonly with: 'tcp-reset' | 'admin-prohibited';
      readonly perSecond: number;
      readonly burst: number;
    }
  | { readonly kind: 'goto'; readonly chain: string }
  /** Lowers the MSS that a SYN names to what fits the path both ways; goes on as a log does. */
  | { readonly kind: 'clamp-mss' }
  /** Goes on with the next rule. */
  | { readonly kind: 'log'; readonly prefix: string; readonly perSecond: number };

/** The same match, for packets of the opposite direction. */
export function mirrorMatch(match: Match): Match {
  switch (match.kind) {
    case 'input-interface':
      return { ...match, kind: 'output-interface' };
    case 'output-interface':
      return { ...match, kind: 'input-interface' };
    case 'source':
      return { ...match, kind: 'destination' };
    case 'destination':
      return { ...match, kind: 'source' };
    case 'source-table':
      return { ...match, kind: 'destination-table' };
    case 'destination-table':
      return { ...match, kind: 'source-table' };
    case 'source-port':
      return { ...match, kind: 'destination-port' };
    case 'destination-port':
      return { ...match, kind: 'source-port' };
    default:
      return match;
  }
}
