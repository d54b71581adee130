/**
 * The ruleset as `nft -s list table inet gatehouse` prints it, for people, diffs and tests. The
 * comment of each rule says where it comes from.
 */
import type { AddressRange } from '../net/address-range.ts';
import { formatPortRange } from '../net/port-range.ts';
import { familyOf, formatAddresses } from './nft-addresses.ts';
import { LOG_BURST } from './nft-document.ts';
import { formatRuleComment } from './rule-comment.ts';
import {
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

export function formatRuleset(ruleset: Ruleset): string {
  const objects = [...(ruleset.sets ?? []).map(formatSet), ...ruleset.chains.map(formatChain)];
  return `table ${TABLE_FAMILY} ${TABLE_NAME} {\n${objects.join('\n')}}\n`;
}

/** nft writes two addresses of IPv4 into a line, and one of IPv6. */
function formatSet(set: RulesetSet): string {
  const { family, prefixes } = set;
  const perLine = family === 4 ? 2 : 1;
  const rows: string[] = [];
  for (let index = 0; index < prefixes.length; index += perLine) {
    rows.push(
      prefixes
        .slice(index, index + perLine)
        .map(formatNftPrefix)
        .join(', '),
    );
  }
  const elements = rows.join(`,\n\t\t\t     `);
  const lines = [
    `type ipv${family}_addr`,
    'flags interval',
    ...(rows.length === 0 ? [] : [`elements = { ${elements} }`]),
  ];
  return `\tset ${setNameOf(set)} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

function formatChain({ name, hook, rules }: RulesetChain): string {
  const place = hook && `type filter hook ${hook.name} priority ${hook.priority}`;
  const lines = [
    ...(hook === undefined ? [] : [`${place}; policy ${hook.policy};`]),
    ...rules.map(formatRule),
  ];
  return `\tchain ${name} {\n${lines.map((line) => `\t\t${line}\n`).join('')}\t}\n`;
}

function formatRule({ origin, matches, statement }: RulesetRule): string {
  const words = [...matches.map(formatMatch), formatStatement(statement)];
  return `${words.join(' ')} comment "${formatRuleComment(origin)}"`;
}

function formatMatch(match: Match): string {
  switch (match.kind) {
    case 'input-interface':
      return `iifname ${oneOf(match.names.map((name) => `"${name}"`))}`;
    case 'output-interface':
      return `oifname ${oneOf(match.names.map((name) => `"${name}"`))}`;
    case 'mark':
      return `meta mark & ${hex(match.mask)} == ${oneOf(match.values.map(hex))}`;
    case 'to-this-host':
      return `fib daddr type ${match.negated ? '!= ' : ''}local`;
    case 'family':
      return `meta nfproto ipv${match.family}`;
    case 'source':
    case 'destination': {
      const field = match.kind === 'source' ? 'saddr' : 'daddr';
      const not = match.negated === true ? '!= ' : '';
      const values = oneOf(match.ranges.map(formatAddresses));
      return `${internet(match.ranges)} ${field} ${not}${values}`;
    }
    case 'source-table':
    case 'destination-table': {
      const field = match.kind === 'source-table' ? 'saddr' : 'daddr';
      return `${match.family === 6 ? 'ip6' : 'ip'} ${field} @${setNameOf(match)}`;
    }
    case 'protocol':
      return `meta l4proto ${oneOf(match.protocols)}`;
    case 'source-port':
      return `${match.protocol} sport ${oneOf(match.ranges.map(formatPortRange))}`;
    case 'destination-port':
      return `${match.protocol} dport ${oneOf(match.ranges.map(formatPortRange))}`;
    case 'tcp-syn':
      return 'tcp flags syn / syn,rst';
    case 'hop-limit':
      return `ip6 hoplimit ${match.value}`;
    case 'icmp-type':
      return `${match.family === 4 ? 'icmp' : 'icmpv6'} type ${oneOf(match.types.map(String))}`;
    case 'source-by-interface': {
      const not = match.negated ? '!= ' : '';
      return `fib saddr . iif oifname ${not}${oneOf(match.names.map((name) => `"${name}"`))}`;
    }
    case 'connection':
      return `ct state ${match.states.join(',')}`;
  }
}

function formatStatement(statement: Statement): string {
  switch (statement.kind) {
    case 'accept':
    case 'drop':
    case 'notrack':
      return `counter ${statement.kind}`;
    case 'accept-untracked':
      return 'counter notrack accept';
    case 'accept-limited':
      return `${formatLimit(statement.perSecond, statement.burst)} counter accept`;
    case 'reject':
      return `counter ${rejectWith(statement.with)}`;
    case 'reject-limited': {
      const limit = formatLimit(statement.perSecond, statement.burst);
      return `${limit} counter ${rejectWith(statement.with)}`;
    }
    case 'clamp-mss':
      return 'counter tcp option maxseg size set rt mtu';
    case 'goto':
      return `counter goto ${statement.chain}`;
    case 'log': {
      const limit = formatLimit(statement.perSecond, LOG_BURST);
      return `${limit} counter log prefix "${statement.prefix}"`;
    }
  }
}

function rejectWith(reason: 'tcp-reset' | 'admin-prohibited'): string {
  return `reject with ${reason === 'tcp-reset' ? 'tcp reset' : 'icmpx admin-prohibited'}`;
}

/** nft leaves its own default out. */
function formatLimit(perSecond: number, burst: number): string {
  const rate = `limit rate ${perSecond}/second`;
  return burst === LOG_BURST ? rate : `${rate} burst ${burst} packets`;
}

function internet([first]: readonly AddressRange[]): string {
  return first !== undefined && familyOf(first) === 6 ? 'ip6' : 'ip';
}

function oneOf(words: readonly string[]): string {
  return words.length === 1 ? (words[0] ?? '') : `{ ${words.join(', ')} }`;
}

function hex(bits: number): string {
  return `0x${bits.toString(16).padStart(8, '0')}`;
}
