/**
 * What our ruleset does with one packet, as nft would: for questions such as "would I still get
 * in?" and "why was this blocked?". Other tables are not known here; they may drop what this
 * accepts. test/namespaces/judge-packet.test.ts compares it with the kernel.
 */
import { rangeHasAddress } from '../net/address-range.ts';
import type { IpAddress } from '../net/ip-address.ts';
import type { PortRange } from '../net/port-range.ts';
import { prefixHasAddress } from '../net/prefix.ts';
import type { Protocol } from './firewall-model.ts';
import { familyOf } from './nft-addresses.ts';
import { priorities } from './nft-document.ts';
import { markOf, type PacketKnowledge } from './packet-mark.ts';
import type { RuleOrigin } from './rule-comment.ts';
import type { ChainHook, Match, Ruleset, RulesetChain, RulesetSet } from './ruleset.ts';

/**
 * A packet from another host or from this one's loopback; what is absent matches nothing. With what
 * the programs in front of nft would say of it.
 */
export interface PacketFacts extends PacketKnowledge {
  readonly inputInterface: string;
  /** Where routing sends it; for packets that are forwarded. */
  readonly outputInterface?: string;
  /** Of one family. */
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: Protocol | 'other';
  /** Of tcp, udp and sctp. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** The number in the header of icmp and icmpv6. */
  readonly icmpType?: number;
  /** A TCP segment with SYN and without RST. Default: it is none. */
  readonly isSyn?: boolean;
  /** IPv6's hop limit or IPv4's time to live. */
  readonly hopLimit?: number;
  /** What conntrack says of it, unless the ruleset keeps it away from there. */
  readonly connection: 'new' | 'established' | 'related' | 'invalid' | 'untracked';
  /** This host takes it, instead of forwarding it. */
  readonly toThisHost: boolean;
  /** The routes lead to its source by another interface, or not at all. Default: by its own. */
  readonly isSourceElsewhere?: boolean;
  /** Its destination is a broadcast or multicast address, so no address of this host. */
  readonly toGroup?: boolean;
}

export interface Verdict {
  readonly action: 'accept' | 'drop' | 'reject';
  /** What decided in the end. Absent: the policy of the last chain. */
  readonly by?: MatchedRule;
  /** Every rule that matched, in order; those that only log, change or lead on included. */
  readonly matched: readonly MatchedRule[];
}

export interface MatchedRule {
  readonly chain: string;
  readonly origin: RuleOrigin;
}

/**
 * Follows the packet through prerouting, and then through input or forward. Limits count as not yet
 * reached.
 *
 * @throws RangeError for a ruleset that nft would refuse, or an ICMP type that is not known here
 */
export function judgePacket(ruleset: Ruleset, packet: PacketFacts): Verdict {
  const passage: Passage = { ruleset, matched: [], isUntracked: false };
  let last: ChainVerdict = { action: 'accept' };
  for (const hook of ['prerouting', packet.toThisHost ? 'input' : 'forward'] as const) {
    for (const chain of chainsAt(hook, ruleset)) {
      last = judgeInChain(chain, packet, passage);
      if (last.action !== 'accept') return { ...last, matched: passage.matched };
    }
  }
  return { ...last, matched: passage.matched };
}

/** What changes on the way. */
interface Passage {
  readonly ruleset: Ruleset;
  readonly matched: MatchedRule[];
  isUntracked: boolean;
}

type ChainVerdict = Omit<Verdict, 'matched'>;
type HookedChain = RulesetChain & { readonly hook: ChainHook };

function chainsAt(name: ChainHook['name'], ruleset: Ruleset): HookedChain[] {
  return ruleset.chains
    .filter((chain): chain is HookedChain => chain.hook?.name === name)
    .sort((a, b) => priorities[a.hook.priority] - priorities[b.hook.priority]);
}

function judgeInChain(base: HookedChain, packet: PacketFacts, passage: Passage): ChainVerdict {
  const seen = new Set<string>();
  let chain: RulesetChain | undefined = base;
  while (chain !== undefined) {
    if (seen.has(chain.name)) throw new RangeError(`the chain ${chain.name} leads to itself`);
    seen.add(chain.name);
    const outcome = judgeByRules(chain, { packet, passage, hook: base.hook.name });
    if (outcome === undefined) break;
    if (typeof outcome !== 'string') return outcome;
    chain = chainNamed(outcome, passage.ruleset);
  }
  // Whoever went to another chain does not come back: what falls through there meets the policy.
  return { action: base.hook.policy };
}

function chainNamed(name: string, { chains }: Ruleset): RulesetChain {
  const chain = chains.find((one) => one.name === name);
  if (chain === undefined) throw new RangeError(`a rule leads to a chain ${name}; there is none`);
  return chain;
}

interface Scene {
  readonly packet: PacketFacts;
  readonly passage: Passage;
  readonly hook: ChainHook['name'];
}

/** @returns the name of a chain that it goes on in; undefined where no rule decides */
function judgeByRules(chain: RulesetChain, scene: Scene): ChainVerdict | string | undefined {
  const { passage } = scene;
  for (const { origin, matches, statement } of chain.rules) {
    if (!matches.every((match) => isMatching(match, scene))) continue;
    const by = { chain: chain.name, origin };
    passage.matched.push(by);
    switch (statement.kind) {
      case 'accept':
      case 'drop':
      case 'reject':
        return { action: statement.kind, by };
      case 'accept-limited':
        return { action: 'accept', by };
      case 'accept-untracked':
        passage.isUntracked = true;
        return { action: 'accept', by };
      case 'reject-limited':
        return { action: 'reject', by };
      case 'goto':
        return statement.chain;
      case 'notrack':
        passage.isUntracked = true;
        break;
      case 'log':
      case 'clamp-mss':
        break;
    }
  }
  return undefined;
}

function isMatching(match: Match, { packet, passage, hook }: Scene): boolean {
  switch (match.kind) {
    case 'input-interface':
      return match.names.includes(packet.inputInterface);
    case 'output-interface': {
      // Before routing, and on the way in, a packet has none.
      const name = hook === 'forward' ? packet.outputInterface : undefined;
      return name !== undefined && match.names.includes(name);
    }
    case 'mark':
      return match.values.includes(markOf(packet) & match.mask);
    case 'to-this-host': {
      const isOwn = packet.toThisHost && packet.toGroup !== true;
      return isOwn !== match.negated;
    }
    case 'family':
      return packet.source.family === match.family;
    case 'source':
    case 'destination':
      return isAddressMatching(match, packet[match.kind]);
    case 'source-table':
      return isInTable(match, packet.source, passage.ruleset);
    case 'destination-table':
      return isInTable(match, packet.destination, passage.ruleset);
    case 'protocol':
      return match.protocols.includes(wordOf(packet.protocol));
    case 'source-port':
      return isPortMatching(match, packet.sourcePort, packet);
    case 'destination-port':
      return isPortMatching(match, packet.destinationPort, packet);
    case 'tcp-syn':
      return packet.protocol === 'tcp' && packet.isSyn === true;
    case 'hop-limit':
      return packet.source.family === 6 && packet.hopLimit === match.value;
    case 'icmp-type':
      return isIcmpTypeMatching(match, packet);
    case 'source-by-interface': {
      const isByOne =
        packet.isSourceElsewhere !== true && match.names.includes(packet.inputInterface);
      return isByOne !== match.negated;
    }
    case 'connection':
      return match.states.includes(passage.isUntracked ? 'untracked' : packet.connection);
  }
}

/** As rulesets write it. */
function wordOf(protocol: PacketFacts['protocol']): string {
  return protocol === 'icmpv6' ? 'ipv6-icmp' : protocol;
}

function isAddressMatching(
  { ranges, negated = false }: Extract<Match, { kind: 'source' | 'destination' }>,
  address: IpAddress,
): boolean {
  if (!ranges.some((range) => familyOf(range) === address.family)) return false;
  return ranges.some((range) => rangeHasAddress(range, address)) !== negated;
}

function isInTable(
  { table, family }: Pick<RulesetSet, 'table' | 'family'>,
  address: IpAddress,
  { sets = [] }: Ruleset,
): boolean {
  const set = sets.find((one) => one.table === table && one.family === family);
  if (set === undefined) throw new RangeError(`a rule names a table ${table}; there is none`);
  return set.prefixes.some((prefix) => prefixHasAddress(prefix, address));
}

function isPortMatching(
  match: { readonly protocol: string; readonly ranges: readonly PortRange[] },
  port: number | undefined,
  { protocol }: PacketFacts,
): boolean {
  if (port === undefined || (match.protocol !== 'th' && match.protocol !== protocol)) return false;
  return match.ranges.some(({ first, last }) => first <= port && port <= last);
}

function isIcmpTypeMatching(
  match: Extract<Match, { kind: 'icmp-type' }>,
  { protocol, source, icmpType }: PacketFacts,
): boolean {
  const isOfKind = protocol === (match.family === 4 ? 'icmp' : 'icmpv6');
  if (!isOfKind || source.family !== match.family) return false;
  return match.types.some((name) => icmpTypeNumber(name, match.family) === icmpType);
}

/** The words of nft for the types that our rulesets know. */
const icmpTypes = {
  4: new Map([
    ['destination-unreachable', 3],
    ['echo-request', 8],
    ['time-exceeded', 11],
    ['parameter-problem', 12],
  ]),
  6: new Map([
    ['destination-unreachable', 1],
    ['packet-too-big', 2],
    ['time-exceeded', 3],
    ['parameter-problem', 4],
    ['echo-request', 128],
    ['mld-listener-query', 130],
    ['mld-listener-report', 131],
    ['mld-listener-done', 132],
    ['nd-router-solicit', 133],
    ['nd-router-advert', 134],
    ['nd-neighbor-solicit', 135],
    ['nd-neighbor-advert', 136],
    ['nd-redirect', 137],
    ['router-renumbering', 138],
    ['ind-neighbor-solicit', 141],
    ['ind-neighbor-advert', 142],
    ['mld2-listener-report', 143],
  ]),
} as const satisfies Record<4 | 6, ReadonlyMap<string, number>>;

function icmpTypeNumber(name: string | number, family: 4 | 6): number {
  if (typeof name === 'number') return name;
  const number = icmpTypes[family].get(name);
  if (number === undefined) throw new RangeError(`no number is known of the ICMP type ${name}`);
  return number;
}
