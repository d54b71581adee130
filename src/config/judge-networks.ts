/** Meaning of wan, networks, dns and dataplane: addresses and interfaces that fit together. */
import { type AddressRange, parseAddressRange, rangeHasAddress } from '../net/address-range.ts';
import {
  formatIpAddress,
  type IpAddress,
  isSameAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import {
  formatInterfaceAddress,
  formatPrefix,
  type InterfaceAddress,
  isHostAddress,
  lastAddressOf,
  prefixesOverlap,
  prefixHasAddress,
  requirePrefix,
} from '../net/prefix.ts';
import { bridgeNameOf } from './bridge-name.ts';
import { formatConfigPath } from './config-path.ts';
import { quoted } from './config-problem.ts';
import { type GatewayFacts, placed } from './gateway-facts.ts';
import {
  clashesAmong,
  type MeaningProblems,
  namedOf,
  type Placed,
  repetitionsAmong,
  type SoundConfig,
} from './meaning.ts';
import { suggest } from './suggest.ts';

/** Words with a meaning of their own where a rule names a network. */
export const reservedNetworkNames: readonly string[] = ['wan', 'gateway', 'any'];

/** This network, loopback, multicast and reserved (RFC 6890): no interface has such an address. */
export const hostlessPrefixes = ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4'].map(
  requirePrefix,
);

export function judgeNetworks(
  config: SoundConfig,
  facts: GatewayFacts,
  problems: MeaningProblems,
): void {
  const { wan, networks } = facts;
  const subnets = [...(wan === undefined ? [] : [wan]), ...networks];
  for (const subnet of subnets) judgeOwnAddress(subnet, problems);
  judgeOverlaps(subnets, problems);
  judgeWanGateway(config, facts, problems);
  for (const { name, path } of namedOf(config.networks, ['networks'])) {
    if (!reservedNetworkNames.includes(name)) continue;
    const expected = 'another name: rules use this word for something else';
    problems.add({ path, expected, found: quoted(name), atKey: true });
  }
  for (const network of networks) judgeDhcp(config, network, problems);
  judgeInterfaces(config, facts, problems);
  judgeDns(config, problems);
}

function judgeOwnAddress({ path, value }: Placed<InterfaceAddress>, problems: MeaningProblems) {
  const found = quoted(formatInterfaceAddress(value));
  if (hostlessPrefixes.some((prefix) => prefixesOverlap(prefix, value.prefix))) {
    problems.add({ path, expected: 'an address that a host can have', found });
  } else if (!isHostAddress(value)) {
    const expected = `an address of a host in ${formatPrefix(value.prefix)}`;
    const which = isSameAddress(value.address, lastAddressOf(value.prefix))
      ? 'its broadcast address'
      : 'the address of the network itself';
    problems.add({ path, expected, found: `${found}, ${which}` });
  }
}

function judgeOverlaps(
  subnets: readonly Placed<InterfaceAddress>[],
  problems: MeaningProblems,
): void {
  const clash = (one: Placed<InterfaceAddress>, other: Placed<InterfaceAddress>) =>
    prefixesOverlap(one.value.prefix, other.value.prefix);
  for (const { earlier, later } of clashesAmong(subnets, clash)) {
    const other = formatPrefix(earlier.value.prefix);
    const found =
      `${quoted(formatInterfaceAddress(later.value))}, which overlaps ${other} ` +
      `of \`${formatConfigPath(earlier.path)}\``;
    problems.add({ path: later.path, expected: 'a network of its own', found });
  }
}

function judgeWanGateway(config: SoundConfig, { wan }: GatewayFacts, problems: MeaningProblems) {
  if (config.wan === undefined) return;
  const path = ['wan', 'gateway'];
  const text = config.wan.gateway;
  if (config.wan.address === 'dhcp' && text !== undefined) {
    const expected = 'no gateway with `address: dhcp`, which tells it';
    problems.add({ path, expected, found: quoted(text) });
  }
  if (wan === undefined) return;
  const [gateway] = placed(path, text, parseIpAddress);
  if (text === undefined) {
    problems.add({ path, expected: 'a gateway with a fixed address', found: 'nothing' });
  } else if (gateway !== undefined && isSameAddress(gateway.value, wan.value.address)) {
    const expected = "the provider's router";
    problems.add({ path, expected, found: `${quoted(text)}, which is the address of wan itself` });
  } else if (gateway !== undefined && !isOnLink(wan.value, gateway.value)) {
    const expected = `an address in ${formatPrefix(wan.value.prefix)}`;
    problems.add({ path, expected, found: quoted(text) });
  }
}

/** Providers that hand out single addresses name a router outside of them. */
function isOnLink({ prefix }: InterfaceAddress, router: IpAddress): boolean {
  return prefix.length === 32 || prefixHasAddress(prefix, router);
}

function judgeDhcp(
  config: SoundConfig,
  network: GatewayFacts['networks'][number],
  problems: MeaningProblems,
): void {
  const path = ['networks', network.name, 'dhcp', 'range'];
  const text = config.networks?.[network.name]?.dhcp?.range;
  const [range] = placed(path, text, parseAddressRange);
  if (range === undefined) return;
  const { address, prefix } = network.value;
  const found = quoted(text ?? '');
  const outside = [range.value.first, range.value.last].some(
    (end) => !prefixHasAddress(prefix, end),
  );
  if (outside) {
    problems.add({ path, expected: `addresses in ${formatPrefix(prefix)}`, found });
    return;
  }
  if (rangeHasAddress(range.value, address)) {
    const expected = `addresses without ${formatIpAddress(address)}, the gateway's own`;
    problems.add({ path, expected, found });
  }
  if (endsOf(range.value).some((end) => !isHostAddress({ address: end, prefix }))) {
    const expected = 'addresses of hosts: neither the first nor the last of the network';
    problems.add({ path, expected, found });
  }
}

function endsOf({ first, last }: AddressRange): IpAddress[] {
  return [first, last];
}

function judgeInterfaces(
  config: SoundConfig,
  { interfaces }: GatewayFacts,
  problems: MeaningProblems,
): void {
  for (const { earlier, later } of repetitionsAmong(interfaces, ({ value }) => value)) {
    const found = `${quoted(later.value)}, which is \`${formatConfigPath(earlier.path)}\` already`;
    problems.add({ path: later.path, expected: 'an interface of its own', found });
  }
  for (const { path } of interfaces.filter(({ value }) => value === 'lo')) {
    const expected = "another interface than the machine's own loopback";
    problems.add({ path, expected, found: quoted('lo') });
  }
  judgeBridges(config, interfaces, problems);
  const names = interfaces.map(({ value }) => value);
  for (const { name, path } of namedOf(config.dataplane?.interfaces, ['dataplane', 'interfaces'])) {
    if (names.includes(name)) continue;
    const expected = 'an interface that the config uses';
    const suggestion = suggest(name, names);
    problems.add({ path, expected, found: quoted(name), suggestion, atKey: true });
  }
}

/** The bridge of several interfaces has a name that nothing else may have. */
function judgeBridges(
  config: SoundConfig,
  interfaces: GatewayFacts['interfaces'],
  problems: MeaningProblems,
): void {
  const bridges = namedOf(config.networks, ['networks'])
    .filter(({ value }) => (value.interfaces ?? []).length > 1)
    .map(({ name, path }) => ({ path, value: bridgeNameOf(name) }));
  const taken = new Map(bridges.map(({ path, value }) => [value, path]));
  for (const { path, value } of interfaces) {
    const network = taken.get(value);
    if (network === undefined) continue;
    const owner = formatConfigPath(network);
    const expected = `another interface: the bridge of \`${owner}\` has this name`;
    problems.add({ path, expected, found: quoted(value) });
  }
  for (const { earlier, later } of repetitionsAmong(bridges, ({ value }) => value)) {
    const owner = formatConfigPath(earlier.path);
    const expected = `another name, since the bridge of \`${owner}\` has the same already`;
    problems.add({ path: later.path, expected, found: quoted(later.value), atKey: true });
  }
}

function judgeDns(config: SoundConfig, problems: MeaningProblems): void {
  const upstreams = config.dns?.upstreams;
  if (upstreams === undefined || upstreams.length > 0 || config.wan?.address === 'dhcp') return;
  const expected = 'at least one resolver, since no DHCP on the WAN names one';
  problems.add({ path: ['dns', 'upstreams'], expected, found: 'none' });
}
