/** What the config asks of the firewall, as the firewall's model and as its ruleset. */
import { bridgeNameOf } from '../config/bridge-name.ts';
import type { Config } from '../config/schema.ts';
import type {
  FirewallModel,
  FirewallNetwork,
  FirewallRule,
  FirewallWan,
  GatewayService,
} from '../firewall/firewall-model.ts';
import {
  API_SERVICE,
  dhcpService,
  dnsService,
  planRuleset,
  safeRuleset,
  sshService,
} from '../firewall/plan-ruleset.ts';
import type { Ruleset } from '../firewall/ruleset.ts';
import { requireEndpoint } from '../net/endpoint.ts';
import { isSameAddress, isUnspecified, parseIpAddress } from '../net/ip-address.ts';
import { requirePortRange } from '../net/port-range.ts';
import {
  type InterfaceAddress,
  parseInterfaceAddress,
  prefixHasAddress,
  requireInterfaceAddress,
  requirePrefix,
} from '../net/prefix.ts';

export { bridgeNameOf } from '../config/bridge-name.ts';
export { findNotInForce } from './not-in-force.ts';

export interface FirewallPlanOptions {
  /** `sessions` where the programs of the NAT can be loaded. Default: conntrack. */
  readonly forwardedTraffic?: FirewallModel['forwardedTraffic'] | undefined;
}

/** @param options.safe as the panic button wants it: without any of the config's rules */
export function planConfiguration(
  config: Config,
  options: FirewallPlanOptions & { readonly safe: boolean },
): Ruleset {
  const model = firewallModelOf(config, options);
  return options.safe ? safeRuleset(withOneApiService(model)) : planRuleset(model);
}

/**
 * The model never has a fault, whatever parseConfig takes. Not in it, since they are not in force
 * yet: devices, and features that have a schedule.
 *
 * @param config as parseConfig gives it
 */
export function firewallModelOf(
  config: Config,
  { forwardedTraffic = 'conntrack' }: FirewallPlanOptions = {},
): FirewallModel {
  const { wan } = config;
  return {
    networks: Object.entries(config.networks).map(networkOf),
    ...(wan === undefined ? {} : { wan: wanOf(wan) }),
    tables: Object.entries(config.firewall.tables).map(([name, { addresses }]) => ({
      name,
      addresses,
    })),
    rules: rulesInForce(config).map(ruleOf),
    services: servicesOf(config),
    forwardedTraffic,
  };
}

type NetworkEntry = [name: string, network: Config['networks'][string]];

function networkOf([name, network]: NetworkEntry): FirewallNetwork {
  return {
    name,
    interfaces: [interfaceOfNetwork(name, network)],
    addresses: [network.address],
    inside: true,
  };
}

/** The one that has the network's address: its only interface, or the bridge of several. */
export function interfaceOfNetwork(name: string, network: Config['networks'][string]): string {
  const [only, ...others] = network.interfaces;
  return only === undefined || others.length > 0 ? bridgeNameOf(name) : only;
}

type ConfiguredWan = NonNullable<Config['wan']>;

function wanOf(wan: ConfiguredWan): FirewallWan {
  const martians = isWanPublic(wan) ? privateSources : [];
  return {
    interface: wan.interface,
    dhcpClient: wan.address === 'dhcp',
    ...(martians.length === 0 ? {} : { martians }),
  };
}

/** Private-use addresses (RFC 1918, RFC 4193): no route of the internet leads to them. */
const privateSources = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'];

/**
 * Where a provider's own network has addresses that are not unique: those, and shared, link-local
 * and DS-Lite addresses (RFC 6598, RFC 3927, RFC 6333).
 */
const notUnique = [...privateSources, '100.64.0.0/10', '169.254.0.0/16', '192.0.0.0/24'].map(
  requirePrefix,
);

/**
 * False where private sources can be honest: behind another NAT, where the network in front of the
 * gateway is private itself and nobody says how large it is; behind a provider whose router is; and
 * with DHCP, since only the lease will tell, and the provider's DHCP server may have such an
 * address.
 */
export function isWanPublic(wan: ConfiguredWan): boolean {
  const own = parseInterfaceAddress(wan.address)?.address;
  const router = wan.gateway === undefined ? undefined : parseIpAddress(wan.gateway);
  if (own === undefined) return false;
  return [own, router].every(
    (address) =>
      address === undefined || !notUnique.some((prefix) => prefixHasAddress(prefix, address)),
  );
}

type ConfiguredRule = Config['firewall']['rules'][number];

/** Rules of features that are on stand before the list. */
function rulesInForce({ firewall }: Config): ConfiguredRule[] {
  const features = Object.values(firewall.features).filter(
    ({ enabled, schedule }) => enabled && schedule === undefined,
  );
  return [...features.flatMap(({ rules }) => rules), ...firewall.rules];
}

function ruleOf({ protocol, ports, ...rule }: ConfiguredRule): FirewallRule {
  return {
    ...rule,
    ...(protocol === undefined ? {} : { protocols: [protocol] }),
    ...(ports === undefined ? {} : { ports: ports.map(requirePortRange) }),
  };
}

function servicesOf(config: Config): GatewayService[] {
  const networks = Object.entries(config.networks);
  if (networks.length === 0) return [];
  const withDhcp = networks.filter(([, { dhcp }]) => dhcp !== undefined).map(([name]) => name);
  return [
    ...(withDhcp.length === 0 ? [] : [{ ...dhcpService, networks: withDhcp }]),
    ...(config.dns === undefined ? [] : [dnsService]),
    // Whoever administers the machine from inside must reach it, whatever else is offered.
    sshService,
    ...apiServicesOf(config),
  ];
}

/**
 * The API's ports, each offered to the networks in which it listens: `api`, `api_2` and so on where
 * networks differ, so that a port that is meant for one network is not open to another.
 */
function apiServicesOf(config: Config): GatewayService[] {
  const networks = Object.entries(config.networks).map(([name, { address }]) => ({
    name,
    own: requireInterfaceAddress(address),
  }));
  const networksByPort = new Map<number, Set<string>>();
  for (const { address, port } of config.api.listen.map(requireEndpoint)) {
    const listensIn = ({ own }: { readonly own: InterfaceAddress }) =>
      isUnspecified(address) || isSameAddress(own.address, address);
    const names = networksByPort.get(port) ?? new Set();
    for (const { name } of networks.filter(listensIn)) names.add(name);
    if (names.size > 0) networksByPort.set(port, names);
  }
  const groups = new Map<string, { ports: number[]; networks: string[] }>();
  for (const [port, names] of networksByPort) {
    const sorted = [...names].sort();
    const group = groups.get(sorted.join(' ')) ?? { ports: [], networks: sorted };
    group.ports.push(port);
    groups.set(sorted.join(' '), group);
  }
  return [...groups.values()].map((group, index) => ({
    name: index === 0 ? API_SERVICE : `${API_SERVICE}_${index + 1}`,
    protocols: ['tcp'],
    ...group,
  }));
}

/** In safe mode every inside network reaches every port of the API, as one service. */
function withOneApiService(model: FirewallModel): FirewallModel {
  const isApi = ({ name }: GatewayService) =>
    name === API_SERVICE || name.startsWith(`${API_SERVICE}_`);
  const ports = model.services.filter(isApi).flatMap((service) => service.ports);
  const others = model.services.filter((service) => !isApi(service));
  const api: GatewayService = { name: API_SERVICE, protocols: ['tcp'], ports };
  return { ...model, services: ports.length === 0 ? others : [...others, api] };
}
