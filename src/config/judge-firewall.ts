/** Meaning of the firewall's section: names that exist, and rules that can match. */
import {
  formatIpAddress,
  type IpAddress,
  isSameAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import { parseMacAddress } from '../net/mac-address.ts';
import { parsePrefix, prefixHasAddress } from '../net/prefix.ts';
import { parseTableReference } from '../net/table-reference.ts';
import { formatConfigPath } from './config-path.ts';
import { quoted } from './config-problem.ts';
import { type GatewayFacts, placed } from './gateway-facts.ts';
import { reservedNetworkNames } from './judge-networks.ts';
import {
  itemsOf,
  type MeaningProblems,
  namedOf,
  type Placed,
  repetitionsAmong,
  type Sound,
  type SoundConfig,
} from './meaning.ts';
import type { Config } from './schema.ts';
import { suggest } from './suggest.ts';

type SoundRule = Sound<Config['firewall']['rules'][number]>;

/** Of the list and of all features, which may be switched on at once: as nft's side has it. */
export const RULES_TOTAL_MAX = 10_000;

/** Each is a rule of its own in nft, for each of the other side. */
export const TABLES_PER_LIST_MAX = 8;

const protocolsWithPorts: readonly (string | undefined)[] = ['tcp', 'udp', 'sctp'];

export function judgeFirewall(
  config: SoundConfig,
  facts: GatewayFacts,
  problems: MeaningProblems,
): void {
  const { rules, features } = config.firewall ?? {};
  const at = ['firewall', 'features'];
  const all = [
    ...itemsOf(rules, ['firewall', 'rules']),
    ...namedOf(features, at).flatMap(({ path, value }) => itemsOf(value.rules, [...path, 'rules'])),
  ];
  if (all.length > RULES_TOTAL_MAX) {
    const expected = `at most ${RULES_TOTAL_MAX} rules, those of features included`;
    problems.add({ path: ['firewall'], expected, found: `${all.length}` });
  }
  for (const rule of all) judgeRule(rule, facts, problems);
  const names = all.flatMap(({ path, value }) =>
    placed([...path, 'name'], value.name, (text) => text),
  );
  for (const { earlier, later } of repetitionsAmong(names, ({ value }) => value)) {
    const other = formatConfigPath(earlier.path);
    const found = `${quoted(later.value)}, which \`${other}\` has already`;
    problems.add({ path: later.path, expected: 'a name of its own', found });
  }
  judgeDevices(config, facts, problems);
  judgeSchedules(config, facts, problems);
}

function judgeRule(rule: Placed<SoundRule>, facts: GatewayFacts, problems: MeaningProblems): void {
  judgeEnds(rule, facts, problems);
  const { path, value } = rule;
  if (value.ports !== undefined && !protocolsWithPorts.includes(value.protocol)) {
    const found = value.protocol === undefined ? 'no protocol' : quoted(value.protocol);
    const expected = 'the protocol `tcp`, `udp` or `sctp` with ports';
    problems.add({ path: [...path, 'ports'], expected, found, atKey: true });
  }
  judgeTables(rule, facts, problems);
  judgeFamilies(rule, problems);
}

function judgeTables(
  { path, value }: Placed<SoundRule>,
  { tableNames }: GatewayFacts,
  problems: MeaningProblems,
): void {
  for (const key of ['source', 'destination'] as const) {
    const tables = itemsOf(value[key], [...path, key]).flatMap((item) =>
      placed(item.path, item.value, parseTableReference),
    );
    if (tables.length > TABLES_PER_LIST_MAX) {
      const expected = `at most ${TABLES_PER_LIST_MAX} tables`;
      problems.add({ path: [...path, key], expected, found: `${tables.length}` });
    }
    for (const { path: at, value: named } of tables) {
      if (tableNames.includes(named)) continue;
      const meant = suggest(named, tableNames);
      const suggestion = meant === undefined ? undefined : `@${meant}`;
      const expected = 'the name of a table in `firewall.tables`';
      problems.add({ path: at, expected, found: quoted(`@${named}`), suggestion });
    }
  }
}

function judgeEnds(
  { path, value }: Placed<SoundRule>,
  { networkNames, hasWan }: GatewayFacts,
  problems: MeaningProblems,
): void {
  const sides = [
    { key: 'from', words: ['wan', 'any'] },
    { key: 'to', words: reservedNetworkNames },
  ] as const;
  for (const { key, words } of sides) {
    const named = value[key];
    const possible = words.filter((word) => word !== 'wan' || hasWan);
    const known = [...networkNames, ...possible];
    if (named === undefined || known.includes(named)) continue;
    const reserved = possible.map((word) => `\`${word}\``).join(', ');
    const expected = `the name of a network, or one of ${reserved}`;
    const found = named === 'wan' ? '`wan`, which the config does not have' : quoted(named);
    problems.add({ path: [...path, key], expected, found, suggestion: suggest(named, known) });
  }
}

/** Addresses of both ends and the protocol need a family in common. */
function judgeFamilies({ path, value }: Placed<SoundRule>, problems: MeaningProblems): void {
  const ofProtocol = familiesOfProtocol(value.protocol);
  const source = familiesOf(value.source);
  const destination = familiesOf(value.destination);
  for (const [key, families] of [
    ['source', source],
    ['destination', destination],
  ] as const) {
    if (!families.isDisjointFrom(ofProtocol)) continue;
    const expected = `addresses of the family of \`${value.protocol}\``;
    problems.add({ path: [...path, key], expected, found: 'none: no packet could match' });
    return;
  }
  if (!source.intersection(destination).isDisjointFrom(ofProtocol)) return;
  const expected = 'addresses of the same family as those of `source`';
  const found = 'none: no packet could match';
  problems.add({ path: [...path, 'destination'], expected, found });
}

function familiesOfProtocol(protocol: string | undefined): ReadonlySet<number> {
  return new Set(protocol === 'icmp' ? [4] : protocol === 'icmpv6' ? [6] : [4, 6]);
}

const bothFamilies: ReadonlySet<number> = new Set([4, 6]);

/** Both, where no address says otherwise; a table has both. */
function familiesOf(prefixes: readonly (string | undefined)[] | undefined): ReadonlySet<number> {
  if (prefixes?.some((text) => parseTableReference(text ?? '') !== undefined)) return bothFamilies;
  const families = (prefixes ?? []).map((text) => parsePrefix(text ?? '')?.family);
  const known = new Set(families.filter((family) => family !== undefined));
  return known.size === 0 ? bothFamilies : known;
}

function judgeDevices(config: SoundConfig, facts: GatewayFacts, problems: MeaningProblems): void {
  const devices = namedOf(config.firewall?.devices, ['firewall', 'devices']);
  const macs = devices.flatMap(({ path, value }) =>
    placed([...path, 'mac'], value.mac, parseMacAddress),
  );
  const addresses = devices.flatMap(({ path, value }) =>
    placed([...path, 'address'], value.address, parseIpAddress),
  );
  const repeated = [
    ...repetitionsAmong(macs, ({ value }) => value),
    ...repetitionsAmong(addresses, ({ value }) => `${value.bits}`),
  ];
  for (const { earlier, later } of repeated) {
    const found = `the one of \`${formatConfigPath(earlier.path)}\``;
    problems.add({ path: later.path, expected: 'an address of its own', found });
  }
  for (const address of addresses) judgeDeviceAddress(address, facts, problems);
}

function judgeDeviceAddress(
  { path, value }: Placed<IpAddress>,
  { networks, areNetworksKnown, ownAddresses }: GatewayFacts,
  problems: MeaningProblems,
): void {
  const isInside = networks.some((network) => prefixHasAddress(network.value.prefix, value));
  const own = ownAddresses.find((one) => isSameAddress(one.value, value));
  if (own !== undefined) {
    const found = `the one of \`${formatConfigPath(own.path)}\``;
    problems.add({ path, expected: "another address than the gateway's own", found });
  } else if (areNetworksKnown && !isInside) {
    const found = quoted(formatIpAddress(value));
    problems.add({ path, expected: 'an address in one of the networks', found });
  }
}

function judgeSchedules(
  config: SoundConfig,
  { scheduleNames: known }: GatewayFacts,
  problems: MeaningProblems,
): void {
  const { schedules, features, devices } = config.firewall ?? {};
  const users = [
    ...namedOf(features, ['firewall', 'features']),
    ...namedOf(devices, ['firewall', 'devices']),
  ];
  for (const { path, value } of users) {
    const named = value.schedule;
    if (named === undefined || known.includes(named)) continue;
    const expected = 'the name of a schedule in `firewall.schedules`';
    const suggestion = suggest(named, known);
    problems.add({ path: [...path, 'schedule'], expected, found: quoted(named), suggestion });
  }
  for (const { path, value } of namedOf(schedules, ['firewall', 'schedules'])) {
    const days = itemsOf(value.days, [...path, 'days']);
    for (const { later } of repetitionsAmong(days, (day) => day.value)) {
      const found = `${quoted(later.value)} again`;
      problems.add({ path: later.path, expected: 'each day once', found });
    }
  }
}
