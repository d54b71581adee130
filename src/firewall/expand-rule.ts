/** One rule of the config as nft rules: for each address family and way of telling "no". */

import type { PortRange } from '../net/port-range.ts';
import { parseTableReference } from '../net/table-reference.ts';
import {
  type FirewallModel,
  type FirewallRule,
  familiesOfProtocols,
  type Protocol,
} from './firewall-model.ts';
import { asPrefix, familyOf, mergeAddressRanges, parseAddresses } from './nft-addresses.ts';
import type { Match, RulesetRule, Statement } from './ruleset.ts';

/** @param model has no faults, and the rule is one of its own */
export function expandRule(rule: FirewallRule, model: FirewallModel): RulesetRule[] {
  const ends: Match[] = [
    ...interfaceMatch('input-interface', rule.from, model),
    ...interfaceMatch('output-interface', rule.to, model),
  ];
  return familiesOf(rule).flatMap(({ part: familyPart, matches: addresses }) =>
    verdictsOf(rule).flatMap(({ part: verdictPart, protocols, statement }) => {
      const parts = [familyPart, verdictPart].filter((part) => part !== '');
      const matches = [...ends, ...addresses, ...protocolMatches(protocols, rule.ports)];
      const text = rule.comment === undefined ? {} : { text: rule.comment };
      const make = (part: readonly string[], made: Statement): RulesetRule => ({
        origin: {
          kind: 'rule',
          name: rule.name,
          ...(part.length === 0 ? {} : { part: part.join('-') }),
          ...text,
        },
        matches,
        statement: made,
      });
      const log: Statement = {
        kind: 'log',
        prefix: `gatehouse ${rule.name}: `,
        perSecond: LOGS_PER_SECOND_MAX,
      };
      return [...(rule.log === true ? [make([...parts, 'log'], log)] : []), make(parts, statement)];
    }),
  );
}

/** Else whoever sends packets fills the disk. */
const LOGS_PER_SECOND_MAX = 10;

function interfaceMatch(
  kind: 'input-interface' | 'output-interface',
  end: string | undefined,
  model: FirewallModel,
): Match[] {
  if (end === undefined || end === 'any' || end === 'gateway') return [];
  if (end === 'wan') return model.wan === undefined ? [] : [{ kind, names: [model.wan.interface] }];
  const names = model.networks.find(({ name }) => name === end)?.interfaces ?? [];
  return [{ kind, names: inNftOrder(names) }];
}

interface FamilyPart {
  readonly part: string;
  readonly matches: readonly Match[];
}

/** nft compares the addresses of one family at a time. */
function familiesOf(rule: FirewallRule): FamilyPart[] {
  if (rule.source === undefined && rule.destination === undefined)
    return [{ part: '', matches: [] }];
  const families = familiesOfProtocols(rule.protocols);
  const found = families.flatMap((family): FamilyPart[] => {
    const destinations = addressMatches('destination', rule.destination, family);
    const pairs = addressMatches('source', rule.source, family).flatMap((source) =>
      destinations.map((destination) => [...source, ...destination]),
    );
    return pairs.map((both, index) => {
      const addresses = both.filter(({ kind }) => kind !== 'family');
      // An address says its family by itself, and so does a protocol that only one family has.
      const isSaid = addresses.length > 0 || families.length === 1;
      const matches = isSaid ? addresses : both.slice(0, 1);
      const part = pairs.length === 1 ? `ipv${family}` : `ipv${family}-${index + 1}`;
      return { part, matches };
    });
  });
  return found.length === 1 ? found.map(({ matches }) => ({ part: '', matches })) : found;
}

/**
 * What to look for, one after the other: nft compares with a list or with one table at a time. None
 * where nothing of the list can be of this family.
 */
function addressMatches(
  kind: 'source' | 'destination',
  texts: readonly string[] | undefined,
  family: 4 | 6,
): Match[][] {
  const listed = addressMatch(kind, texts, family);
  const tables = new Set((texts ?? []).map(parseTableReference));
  tables.delete(undefined);
  return [
    ...(listed === undefined ? [] : [listed]),
    ...[...tables].map((table = ''): Match[] => [{ kind: `${kind}-table`, table, family }]),
  ];
}

/** Undefined where the list has no address of this family, so that nothing can match. */
function addressMatch(
  kind: 'source' | 'destination',
  texts: readonly string[] | undefined,
  family: 4 | 6,
): Match[] | undefined {
  if (texts === undefined) return [];
  const parsed = texts.map(parseAddresses).filter((range) => range !== undefined);
  const ranges = mergeAddressRanges(parsed.filter((range) => familyOf(range) === family));
  const [first] = ranges;
  if (first === undefined) return undefined;
  return asPrefix(first)?.length === 0 ? [{ kind: 'family', family }] : [{ kind, ranges }];
}

interface Verdict {
  readonly part: string;
  readonly protocols: readonly Protocol[] | undefined;
  readonly statement: Statement;
}

/** TCP is refused by a reset, which ends a connection at once; the rest by an ICMP error. */
function verdictsOf({ action, protocols }: FirewallRule): Verdict[] {
  if (action !== 'reject') return [{ part: '', protocols, statement: { kind: action } }];
  const reset: Statement = { kind: 'reject', with: 'tcp-reset' };
  const error: Statement = { kind: 'reject', with: 'admin-prohibited' };
  const others = protocols?.filter((protocol) => protocol !== 'tcp');
  if (others?.length === 0) return [{ part: '', protocols, statement: reset }];
  const rest: Verdict = { part: '', protocols: others, statement: error };
  if (others?.length === protocols?.length && protocols !== undefined) return [rest];
  return [{ part: 'tcp', protocols: ['tcp'], statement: reset }, rest];
}

function protocolMatches(
  protocols: readonly Protocol[] | undefined,
  ports: readonly PortRange[] | undefined,
): Match[] {
  if (protocols === undefined) return [];
  if (ports !== undefined) return portMatches(protocols, ports);
  return [{ kind: 'protocol', protocols: nftProtocols(protocols) }];
}

/** @param protocols all with ports */
export function portMatches(protocols: readonly Protocol[], ports: readonly PortRange[]): Match[] {
  const names = nftProtocols(protocols);
  const ranges = mergePortRanges(ports);
  const [only] = names;
  if (names.length === 1 && (only === 'tcp' || only === 'udp' || only === 'sctp')) {
    return [{ kind: 'destination-port', protocol: only, ranges }];
  }
  return [
    { kind: 'protocol', protocols: names },
    { kind: 'destination-port', protocol: 'th', ranges },
  ];
}

/** By number, since nft lists sets in the order of their values, with the name that nft uses. */
const protocolNames: ReadonlyMap<Protocol, string> = new Map([
  ['icmp', 'icmp'],
  ['tcp', 'tcp'],
  ['udp', 'udp'],
  ['gre', 'gre'],
  ['esp', 'esp'],
  ['ah', 'ah'],
  ['icmpv6', 'ipv6-icmp'],
  ['sctp', 'sctp'],
]);

function nftProtocols(protocols: readonly Protocol[]): string[] {
  return [...protocolNames].flatMap(([name, word]) => (protocols.includes(name) ? [word] : []));
}

/** Names as nft lists them: it compares the bytes as one number, the first byte lowest. */
export function inNftOrder(names: readonly string[]): string[] {
  const reversed = (name: string) => [...name].reverse().join('');
  return [...new Set(names)].sort(
    (a, b) => a.length - b.length || (reversed(a) < reversed(b) ? -1 : 1),
  );
}

/** In order, without overlap, neighbours joined. */
function mergePortRanges(ranges: readonly PortRange[]): PortRange[] {
  const merged: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const last = merged.at(-1);
    if (last === undefined || range.first > last.last + 1) merged.push(range);
    else merged.splice(-1, 1, { first: last.first, last: Math.max(last.last, range.last) });
  }
  return merged;
}
