/** Meaning of nat: external addresses and ports that belong to nobody else. */
import { parseEndpoint } from '../net/endpoint.ts';
import {
  formatIpAddress,
  type IpAddress,
  isSameAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import { formatPortRange, parsePortRange } from '../net/port-range.ts';
import { isHostAddress, prefixesOverlap, prefixHasAddress, prefixOf } from '../net/prefix.ts';
import { formatConfigPath } from './config-path.ts';
import { quoted } from './config-problem.ts';
import { type GatewayFacts, placed } from './gateway-facts.ts';
import { hostlessPrefixes } from './judge-networks.ts';
import {
  itemsOf,
  type MeaningProblems,
  type Placed,
  repetitionsAmong,
  type SoundConfig,
} from './meaning.ts';
import { MORE_EXTERNALS_MAX, POOL_PORTS } from './schema-nat.ts';

export function judgeNat(
  config: SoundConfig,
  facts: GatewayFacts,
  problems: MeaningProblems,
): void {
  const externals = externalsOf(config);
  judgeExternals(externals, facts, problems);
  const internals = itemsOf(config.nat?.oneToOne, ['nat', 'oneToOne']).flatMap(({ path, value }) =>
    placed([...path, 'internal'], value.internal, parseIpAddress),
  );
  for (const internal of internals) judgeInternal(internal, { config, facts, problems });
  for (const list of [externals, internals]) judgeRepeated(list, problems);
  judgePool(config, problems);
  judgeForwardedPorts(config, facts, problems);
}

/** Those of the pool before those of single hosts. */
function externalsOf({ nat }: SoundConfig): Placed<IpAddress>[] {
  return [
    ...itemsOf(nat?.externalAddresses, ['nat', 'externalAddresses']).flatMap(({ path, value }) =>
      placed(path, value, parseIpAddress),
    ),
    ...itemsOf(nat?.oneToOne, ['nat', 'oneToOne']).flatMap(({ path, value }) =>
      placed([...path, 'external'], value.external, parseIpAddress),
    ),
  ];
}

function judgeExternals(
  externals: readonly Placed<IpAddress>[],
  { hasWan, networks, ownAddresses }: GatewayFacts,
  problems: MeaningProblems,
): void {
  const [first] = externals;
  if (first !== undefined && !hasWan) {
    const expected = 'no external addresses without `wan`';
    problems.add({ path: first.path.slice(0, 2), expected, found: `${externals.length}` });
  }
  if (externals.length > MORE_EXTERNALS_MAX) {
    const expected = `at most ${MORE_EXTERNALS_MAX} in \`externalAddresses\` and \`oneToOne\``;
    problems.add({ path: ['nat'], expected, found: `${externals.length}` });
  }
  for (const { path, value } of externals) {
    const found = quoted(formatIpAddress(value));
    const own = ownAddresses.find((one) => isSameAddress(one.value, value));
    const network = networks.find((one) => prefixHasAddress(one.value.prefix, value));
    const itself = prefixOf(value, 32);
    if (own !== undefined) {
      const whose = `the address of \`${formatConfigPath(own.path)}\``;
      problems.add({ path, expected: 'an address besides', found: `${found}, ${whose}` });
    } else if (network !== undefined) {
      const expected = 'an address outside of every network';
      problems.add({ path, expected, found: `${found}, in \`${network.name}\`` });
    } else if (hostlessPrefixes.some((prefix) => prefixesOverlap(prefix, itself))) {
      problems.add({ path, expected: 'an address that a host can have', found });
    }
  }
}

interface Judging {
  readonly config: SoundConfig;
  readonly facts: GatewayFacts;
  readonly problems: MeaningProblems;
}

/** A host that has an external address, or a port of one, for its own. */
function judgeInternal(
  { path, value: address }: Placed<IpAddress>,
  { config, facts, problems }: Judging,
): void {
  const { networks, areNetworksKnown, ownAddresses } = facts;
  const found = quoted(formatIpAddress(address));
  const network = networks.find((one) => prefixHasAddress(one.value.prefix, address));
  const own = ownAddresses.find((one) => isSameAddress(one.value, address));
  if (own !== undefined) {
    const whose = `the address of \`${formatConfigPath(own.path)}\``;
    const expected = 'another host than the gateway itself';
    problems.add({ path, expected, found: `${found}, ${whose}` });
  } else if (network === undefined) {
    if (areNetworksKnown) problems.add({ path, expected: 'a host in one of the networks', found });
  } else if (!isHostAddress({ address, prefix: network.value.prefix })) {
    problems.add({ path, expected: `a host in \`${network.name}\``, found });
  } else judgeTranslated({ path, value: address }, { config, facts, problems });
}

/** What a routed host answers would leave with the address that it has inside. */
function judgeTranslated(
  { path, value }: Placed<IpAddress>,
  { config, facts, problems }: Judging,
): void {
  const network = facts.networks.find((one) => prefixHasAddress(one.value.prefix, value));
  if (network === undefined || config.networks?.[network.name]?.nat?.mode !== 'route') return;
  const expected = 'a host in a network whose addresses are translated';
  const found = `${quoted(formatIpAddress(value))}: \`${network.name}\` has \`nat.mode: route\``;
  problems.add({ path, expected, found });
}

function judgeRepeated(addresses: readonly Placed<IpAddress>[], problems: MeaningProblems): void {
  for (const { earlier, later } of repetitionsAmong(addresses, ({ value }) => `${value.bits}`)) {
    const found = `the one of \`${formatConfigPath(earlier.path)}\``;
    problems.add({ path: later.path, expected: 'an address of its own', found });
  }
}

function judgePool({ nat }: SoundConfig, problems: MeaningProblems): void {
  const path = ['nat', 'portRange'];
  const [range] = placed(path, nat?.portRange, parsePortRange);
  if (range === undefined) return;
  const { first, last } = range.value;
  const found = quoted(nat?.portRange ?? '');
  if (first < POOL_PORTS.first || last > POOL_PORTS.last) {
    const expected = `ports from ${POOL_PORTS.first} to ${POOL_PORTS.last}`;
    problems.add({ path, expected, found });
  } else if (first === last) {
    // RFC 4787 REQ-4: an odd port is mapped to an odd one, an even one to an even one.
    problems.add({ path, expected: 'at least two ports, an even and an odd one', found });
  }
}

/** UDP; the port where the gateway gets its own address (RFC 2131). */
const DHCP_CLIENT_PORT = 68;

function judgeForwardedPorts(
  config: SoundConfig,
  facts: GatewayFacts,
  problems: MeaningProblems,
): void {
  for (const { path, value } of itemsOf(config.portForwards, ['portForwards'])) {
    const [ports] = placed([...path, 'port'], textOf(value.port), parsePortRange);
    if (ports !== undefined) {
      const { first, last } = ports.value;
      const found = formatPortRange(ports.value);
      if (last > POOL_PORTS.last) {
        const expected = `ports up to ${POOL_PORTS.last}: those above are the gateway's own`;
        problems.add({ path: ports.path, expected, found });
      }
      const isDhcp = value.protocol === 'udp' && config.wan?.address === 'dhcp';
      if (isDhcp && first <= DHCP_CLIENT_PORT && last >= DHCP_CLIENT_PORT) {
        const expected = `ports without ${DHCP_CLIENT_PORT}, where the WAN's DHCP answers`;
        problems.add({ path: ports.path, expected, found });
      }
    }
    const [to] = placed([...path, 'to'], value.to, parseEndpoint);
    if (to !== undefined) {
      const host = { path: to.path, value: to.value.address };
      judgeTranslated(host, { config, facts, problems });
    }
  }
}

function textOf(port: number | string | undefined): string | undefined {
  return port === undefined ? undefined : String(port);
}
