/**
 * What the config asks of the firewall, as plain values. {@link findModelFaults} judges them;
 * src/firewall/plan-ruleset.ts makes the ruleset of a model without faults.
 */
import type { AddressRange } from '../net/address-range.ts';
import { PORT_MAX, type PortRange } from '../net/port-range.ts';
import { parsePrefix } from '../net/prefix.ts';
import { parseTableReference } from '../net/table-reference.ts';
import { familyOf, parseAddresses } from './nft-addresses.ts';
import { COMMENT_TEXT_BYTES_MAX, isCommentText } from './rule-comment.ts';

export interface FirewallModel {
  readonly networks: readonly FirewallNetwork[];
  readonly wan?: FirewallWan;
  /** Absent: none. */
  readonly tables?: readonly FirewallTable[];
  /** In order; the first that matches decides. */
  readonly rules: readonly FirewallRule[];
  /** What the gateway itself offers to inside networks. Nothing is offered to the WAN. */
  readonly services: readonly GatewayService[];
  /**
   * Who knows which forwarded packet is a reply. `conntrack`: the kernel's, so established flows
   * are accepted before any rule. `sessions`: the programs in front of nft, which say so in the
   * packet mark; what is forwarded bypasses conntrack, and a reply is judged as its request is.
   */
  readonly forwardedTraffic: 'conntrack' | 'sessions';
}

export interface FirewallNetwork {
  readonly name: string;
  /** Those with the addresses: the bridge, not its ports. An absent one counts once it appears. */
  readonly interfaces: readonly string[];
  /** `10.77.0.1/24`: nobody may use these as source on the WAN. */
  readonly addresses: readonly string[];
  /** True: may reach the WAN, unless a rule says otherwise, and the gateway's services. */
  readonly inside: boolean;
}

export interface FirewallWan {
  readonly interface: string;
  /** The gateway gets its WAN address by DHCP or DHCPv6. */
  readonly dhcpClient: boolean;
  /** Sources that cannot be there, besides those that can be nowhere: private ones, for example. */
  readonly martians?: readonly string[];
}

/** An address table, which rules name as `@name`. */
export interface FirewallTable {
  readonly name: string;
  /** What is always in it: prefixes and addresses of both families. */
  readonly addresses: readonly string[];
}

export interface FirewallRule {
  /** Unique. */
  readonly name: string;
  readonly action: 'accept' | 'drop' | 'reject';
  /** A network, `wan`, or (also when absent) `any`. */
  readonly from?: string;
  /** As `from`, or `gateway`. `any` is every network and the WAN, never the gateway itself. */
  readonly to?: string;
  /** Prefixes of either family, and tables as `@name`; absent means every address. */
  readonly source?: readonly string[];
  readonly destination?: readonly string[];
  /** Absent means every protocol. */
  readonly protocols?: readonly Protocol[];
  /** Destination ports, for protocols that have ports. */
  readonly ports?: readonly PortRange[];
  /** The kernel logs matching packets, at most ten a second for each rule. */
  readonly log?: boolean;
  /** One printable line of at most 64 bytes, without double quotes and backslashes. */
  readonly comment?: string;
}

export type Protocol = 'tcp' | 'udp' | 'sctp' | 'icmp' | 'icmpv6' | 'esp' | 'ah' | 'gre';

export interface GatewayService {
  /** Unique among the services. */
  readonly name: string;
  readonly protocols: readonly ('tcp' | 'udp')[];
  readonly ports: readonly number[];
  /** Names of inside networks. Default: all of them. */
  readonly networks?: readonly string[];
}

/** Beyond this an apply takes longer than anybody waits: two seconds for ten thousand. */
export const RULES_MAX = 10_000;
/** Each is named in many rules. */
export const NETWORKS_MAX = 64;
export const INTERFACES_PER_NETWORK_MAX = 16;
export const SERVICES_MAX = 64;
/** Larger lists belong into address tables. */
export const PREFIXES_PER_RULE_MAX = 256;
export const TABLES_MAX = 256;
/** Of the config; and as many as this in all, with those that come while the program runs. */
export const TABLE_ADDRESSES_MAX = 10_000;
/** Each is a rule of its own in nft, for each of the other side. */
export const TABLES_PER_LIST_MAX = 8;
/** Each is an element of a set. */
export const PORT_RANGES_PER_RULE_MAX = 64;

export interface ModelFault {
  /** Where: `rules[3].source[0]`. */
  readonly path: string;
  /** What is wrong, naming the rejected value. */
  readonly message: string;
}

/** Everything that is wrong with a model; none means that a ruleset can be made of it. */
export function findModelFaults(model: FirewallModel): ModelFault[] {
  const faults = new FaultList();
  faults.limit('networks', model.networks.length, NETWORKS_MAX);
  faults.limit('services', model.services.length, SERVICES_MAX);
  faults.limit('rules', model.rules.length, RULES_MAX);
  faults.unique('networks', model.networks);
  faults.unique('services', model.services);
  faults.unique('rules', model.rules);
  for (const [index, network] of model.networks.entries()) {
    judgeNetwork(network, `networks[${index}]`, faults);
  }
  if (model.wan !== undefined) {
    judgeInterface(model.wan.interface, 'wan.interface', faults);
    parsePrefixes(model.wan.martians, 'wan.martians', faults);
  }
  judgeSharedInterfaces(model, faults);
  for (const [index, service] of model.services.entries()) {
    judgeService(service, { path: `services[${index}]`, model, faults });
  }
  judgeTables(model, faults);
  for (const [index, rule] of model.rules.entries()) {
    judgeRule(rule, { path: `rules[${index}]`, model, faults });
  }
  return faults.found;
}

const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,31}$/;
/** The kernel's limit is 15 bytes; nft takes a final `*` as "any that begins so". */
const interfacePattern = /^[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,14}$/;
const reservedNames = ['wan', 'any', 'gateway'];
const protocolsWithPorts: readonly string[] = ['tcp', 'udp', 'sctp'];
const protocols: readonly string[] = [...protocolsWithPorts, 'icmp', 'icmpv6', 'esp', 'ah', 'gre'];

/** ICMP belongs to IPv4 alone, ICMPv6 to IPv6. */
export function familiesOfProtocols(names: readonly Protocol[] | undefined): (4 | 6)[] {
  if (names === undefined || names.length === 0) return [4, 6];
  const only = (name: Protocol) => names.every((one) => one === name);
  return only('icmp') ? [4] : only('icmpv6') ? [6] : [4, 6];
}

class FaultList {
  readonly found: ModelFault[] = [];

  add(path: string, message: string): void {
    this.found.push({ path, message });
  }

  limit(path: string, count: number, max: number): void {
    if (count > max) this.add(path, `has ${count} entries; at most ${max} are possible`);
  }

  unique(path: string, entries: readonly { readonly name: string }[]): void {
    const seen = new Set<string>();
    for (const [index, { name }] of entries.entries()) {
      const at = `${path}[${index}].name`;
      if (!namePattern.test(name)) {
        const allowed = 'a letter or _, then at most 31 letters, digits or _';
        this.add(at, `${JSON.stringify(name)} is no name: ${allowed}`);
      }
      if (seen.has(name)) this.add(at, `${JSON.stringify(name)} is there already`);
      seen.add(name);
    }
  }
}

interface Place {
  readonly path: string;
  readonly model: FirewallModel;
  readonly faults: FaultList;
}

function judgeNetwork(network: FirewallNetwork, path: string, faults: FaultList): void {
  if (reservedNames.includes(network.name)) {
    faults.add(`${path}.name`, `"${network.name}" has a meaning of its own in rules`);
  }
  faults.limit(`${path}.interfaces`, network.interfaces.length, INTERFACES_PER_NETWORK_MAX);
  if (network.interfaces.length === 0) faults.add(`${path}.interfaces`, 'names no interface');
  for (const [index, name] of network.interfaces.entries()) {
    judgeInterface(name, `${path}.interfaces[${index}]`, faults);
  }
  parsePrefixes(network.addresses, `${path}.addresses`, faults);
}

function judgeInterface(name: string, path: string, faults: FaultList): void {
  if (interfacePattern.test(name)) return;
  faults.add(path, `${JSON.stringify(name)} is no name of an interface`);
}

/** An interface in two zones would make the order of rules decide what nobody meant. */
function judgeSharedInterfaces(model: FirewallModel, faults: FaultList): void {
  const owners = new Map<string, string>();
  if (model.wan !== undefined) owners.set(model.wan.interface, 'the WAN');
  for (const [index, network] of model.networks.entries()) {
    for (const [position, name] of network.interfaces.entries()) {
      const owner = owners.get(name);
      const path = `networks[${index}].interfaces[${position}]`;
      if (owner !== undefined) faults.add(path, `${JSON.stringify(name)} belongs to ${owner}`);
      owners.set(name, `the network ${JSON.stringify(network.name)}`);
    }
  }
}

function judgeService(service: GatewayService, { path, model, faults }: Place): void {
  if (service.protocols.length === 0) faults.add(`${path}.protocols`, 'names no protocol');
  if (service.ports.length === 0) faults.add(`${path}.ports`, 'names no port');
  for (const [index, protocol] of service.protocols.entries()) {
    if (protocol === 'tcp' || protocol === 'udp') continue;
    faults.add(`${path}.protocols[${index}]`, `${JSON.stringify(protocol)} is neither tcp nor udp`);
  }
  const ranges = service.ports.map((port) => ({ first: port, last: port }));
  judgePorts(ranges, `${path}.ports`, faults);
  for (const [index, name] of (service.networks ?? []).entries()) {
    if (model.networks.some((network) => network.name === name && network.inside)) continue;
    faults.add(`${path}.networks[${index}]`, `${JSON.stringify(name)} is no inside network`);
  }
}

function judgeRule(rule: FirewallRule, { path, model, faults }: Place): void {
  if (!['accept', 'drop', 'reject'].includes(rule.action)) {
    faults.add(`${path}.action`, `${JSON.stringify(rule.action)} is none of accept, drop, reject`);
  }
  judgeEnd(rule.from, { path: `${path}.from`, model, faults });
  if (rule.to !== 'gateway') judgeEnd(rule.to, { path: `${path}.to`, model, faults });
  judgeAddresses(rule, { path, model, faults });
  judgeProtocols(rule, path, faults);
  if (rule.comment !== undefined && !isCommentText(rule.comment)) {
    const allowed = `one printable line of 1 to ${COMMENT_TEXT_BYTES_MAX} bytes without " and \\`;
    faults.add(`${path}.comment`, `${JSON.stringify(rule.comment)} is not ${allowed}`);
  }
}

function judgeEnd(end: string | undefined, { path, model, faults }: Place): void {
  if (end === undefined || end === 'any') return;
  if (end === 'wan' && model.wan !== undefined) return;
  if (model.networks.some(({ name }) => name === end)) return;
  faults.add(path, `${JSON.stringify(end)} is no network`);
}

function judgeAddresses(rule: FirewallRule, { path, model, faults }: Place): void {
  const sides = (['source', 'destination'] as const).map((key) => {
    const at = `${path}.${key}`;
    const tables = judgeTableReferences(rule[key], { path: at, model, faults });
    return { hasTable: tables > 0, list: parsePrefixes(rule[key], at, faults) };
  });
  const matching = familiesOfProtocols(rule.protocols).filter((family) =>
    sides.every(
      ({ hasTable, list }) => hasTable || (list?.some((one) => familyOf(one) === family) ?? true),
    ),
  );
  if (matching.length > 0) return;
  faults.add(path, 'matches no packet: source, destination and protocols share no address family');
}

/** @returns how many there are */
function judgeTableReferences(
  texts: readonly string[] = [],
  { path, model, faults }: Place,
): number {
  let count = 0;
  for (const [index, text] of texts.entries()) {
    const named = parseTableReference(text);
    if (named === undefined) continue;
    count++;
    if (model.tables?.some(({ name }) => name === named) === true) continue;
    faults.add(`${path}[${index}]`, `${JSON.stringify(text)} is no table`);
  }
  if (count > TABLES_PER_LIST_MAX) {
    faults.add(path, `names ${count} tables; at most ${TABLES_PER_LIST_MAX} are possible`);
  }
  return count;
}

/** Of the prefixes among them. */
function parsePrefixes(
  texts: readonly string[] | undefined,
  path: string,
  faults: FaultList,
): readonly AddressRange[] | undefined {
  if (texts === undefined) return undefined;
  faults.limit(path, texts.length, PREFIXES_PER_RULE_MAX);
  if (texts.length === 0 && path.startsWith('rules')) {
    faults.add(path, 'is empty, so no packet could match: leave it out to mean every address');
    return undefined;
  }
  const valid: AddressRange[] = [];
  let isSound = true;
  for (const [index, text] of texts.entries()) {
    if (path.startsWith('rules') && parseTableReference(text) !== undefined) continue;
    const parsed = parseAddresses(text);
    if (parsed !== undefined) valid.push(parsed);
    else faults.add(`${path}[${index}]`, `${JSON.stringify(text)} is no address or prefix`);
    isSound &&= parsed !== undefined;
  }
  return isSound ? valid : undefined;
}

function judgeTables({ tables = [], rules }: FirewallModel, faults: FaultList): void {
  faults.limit('tables', tables.length, TABLES_MAX);
  faults.unique('tables', tables);
  for (const [index, { addresses }] of tables.entries()) {
    const path = `tables[${index}].addresses`;
    faults.limit(path, addresses.length, TABLE_ADDRESSES_MAX);
    for (const [position, text] of addresses.entries()) {
      if (parsePrefix(text) !== undefined) continue;
      faults.add(`${path}[${position}]`, `${JSON.stringify(text)} is no address or prefix`);
    }
  }
  if (rules.length > RULES_MAX) return;
  const waysOf = (list: readonly string[] = []) => {
    const tables = list.filter((text) => parseTableReference(text) !== undefined);
    return Math.min(list.length, tables.length + 1);
  };
  const combinations = rules.map(
    ({ source, destination }) => Math.max(1, waysOf(source)) * Math.max(1, waysOf(destination)),
  );
  const count = combinations.reduce((sum, one) => sum + one, 0);
  if (count <= RULES_MAX) return;
  faults.add(
    'rules',
    `are ${count}, one for each pair of tables; at most ${RULES_MAX} are possible`,
  );
}

function judgeProtocols(rule: FirewallRule, path: string, faults: FaultList): void {
  if (rule.protocols?.length === 0) faults.add(`${path}.protocols`, 'is empty: leave it out');
  for (const [index, protocol] of (rule.protocols ?? []).entries()) {
    const at = `${path}.protocols[${index}]`;
    if (!protocols.includes(protocol)) {
      faults.add(at, `${JSON.stringify(protocol)} is none of ${protocols.join(', ')}`);
    } else if (rule.ports !== undefined && !protocolsWithPorts.includes(protocol)) {
      faults.add(at, `${protocol} has no ports`);
    }
  }
  if (rule.ports === undefined) return;
  if (rule.protocols === undefined) faults.add(`${path}.ports`, 'stands without a protocol');
  if (rule.ports.length === 0) faults.add(`${path}.ports`, 'is empty: leave it out');
  faults.limit(`${path}.ports`, rule.ports.length, PORT_RANGES_PER_RULE_MAX);
  judgePorts(rule.ports, `${path}.ports`, faults);
}

function judgePorts(ranges: readonly PortRange[], path: string, faults: FaultList): void {
  const isPort = (port: number) => Number.isInteger(port) && port >= 0 && port <= PORT_MAX;
  for (const [index, { first, last }] of ranges.entries()) {
    if (isPort(first) && isPort(last) && first <= last) continue;
    faults.add(`${path}[${index}]`, `${first}-${last} is no range of ports`);
  }
}
