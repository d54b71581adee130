/** The commands that bring a topology up: pure, so that they can be compared with what is meant. */
import { isIPv6 } from 'node:net';
import {
  type HostDescription,
  type LinkDescription,
  type LinkImpairment,
  linkMacs,
  macOfName,
  prefixFamily,
  type RouteDescription,
  splitEnd,
  type Topology,
  TopologyError,
  validateTopology,
} from './topology.ts';

/** The steps that bring a topology up. Within a step the order counts, except where noted. */
export interface LabPlan {
  /** Host → name of its namespace. */
  readonly namespaces: ReadonlyMap<string, string>;
  /** Lines of one `ip -batch` that makes the namespaces. */
  readonly makeNamespaces: readonly string[];
  /** For every namespace before it has interfaces. Keys that this kernel lacks are left out. */
  readonly defaultSysctls: readonly SysctlSetting[];
  /** Lines of one `ip -batch` that makes the veth pairs, each end at once where it belongs. */
  readonly makeLinks: readonly string[];
  /** Links carried by a process of their own; their ends are TAP devices. Any order. */
  readonly impairedLinks: readonly ImpairedLinkPlan[];
  /** Host → lines of an `ip -batch` inside its namespace that makes bridges. */
  readonly makeBridges: ReadonlyMap<string, readonly string[]>;
  /** Host → settings that may name interfaces. Each must succeed. */
  readonly hostSysctls: ReadonlyMap<string, readonly SysctlSetting[]>;
  /** Commands that make checksums real, with the host to run them in. Any order. */
  readonly checksumCommands: readonly HostCommand[];
  /** Host → lines of an `ip -batch` inside its namespace: addresses, up, routes. */
  readonly configureHosts: ReadonlyMap<string, readonly string[]>;
  /** Host → the interfaces that have to carry frames before the lab counts as up. */
  readonly awaitedInterfaces: ReadonlyMap<string, readonly string[]>;
}

export interface SysctlSetting {
  /** File below /proc/sys. */
  readonly path: string;
  readonly value: string;
}

export interface HostCommand {
  readonly host: string;
  readonly argv: readonly [string, ...string[]];
}

export interface ImpairedLinkPlan {
  readonly name: string;
  readonly ends: readonly [TapEnd, TapEnd];
  readonly impairment: LinkImpairment;
}

export interface TapEnd {
  readonly host: string;
  readonly interfaceName: string;
}

/**
 * Plans the commands for a lab.
 *
 * @param instance the lab's unique name; a namespace is named `gh-<instance>-<host>`
 * @throws TopologyError with all faults
 */
export function planLab(topology: Topology, instance: string): LabPlan {
  const faults = validateTopology(topology);
  if (faults.length > 0) throw new TopologyError(faults);
  const hosts = Object.entries(topology.hosts);
  const links = Object.entries(topology.links ?? {});
  const namespaces = new Map(hosts.map(([name]) => [name, namespaceName(instance, name)]));
  const namespaceOf = (host: string) => namespaces.get(host) ?? '';
  return {
    namespaces,
    makeNamespaces: [...namespaces.values()].map((namespace) => `netns add ${namespace}`),
    defaultSysctls: DEFAULT_SYSCTLS,
    makeLinks: links
      .filter(([, link]) => link.impairment === undefined)
      .map(([, link], index) => vethLine(link, FIRST_INDEX + 2 * index, namespaceOf)),
    impairedLinks: links.flatMap(([name, link]) => impairedLinkPlan(name, link)),
    makeBridges: new Map(
      hosts
        .filter(([, host]) => Object.keys(host.bridges ?? {}).length > 0)
        .map(([name, host]) => [name, bridgeLines(name, host)]),
    ),
    hostSysctls: new Map(hosts.map(([name, host]) => [name, sysctlSettings(host.sysctls ?? {})])),
    checksumCommands: links.flatMap(([, link]) => checksumCommands(link)),
    configureHosts: new Map(hosts.map(([name, host]) => [name, hostLines(topology, name, host)])),
    awaitedInterfaces: new Map(hosts.map(([name, host]) => [name, carriers(topology, name, host)])),
  };
}

export function namespaceName(instance: string, host: string): string {
  return `gh-${instance}-${host}`;
}

/** Addresses are usable at once, bridged frames stay out of netfilter, and no host redirects. */
const DEFAULT_SYSCTLS: readonly SysctlSetting[] = sysctlSettings({
  'net.ipv6.conf.all.accept_dad': '0',
  'net.ipv6.conf.default.accept_dad': '0',
  'net.ipv4.conf.all.send_redirects': '0',
  'net.ipv4.conf.default.send_redirects': '0',
  'net.bridge.bridge-nf-call-iptables': '0',
  'net.bridge.bridge-nf-call-ip6tables': '0',
  'net.bridge.bridge-nf-call-arptables': '0',
});

function sysctlSettings(sysctls: Readonly<Record<string, string>>): SysctlSetting[] {
  return Object.entries(sysctls).map(([key, value]) => ({
    // As sysctl(8): a key with slashes is taken as it is, so that it can name eth0.10.
    path: `/proc/sys/${key.includes('/') ? key : key.replaceAll('.', '/')}`,
    value,
  }));
}

/**
 * Interface indexes of veth ends, unlike each other: the kernel takes its time, up to a second, to
 * let a new link carry frames when both its ends happen to have the same index in their
 * namespaces. (net/core/link_watch.c, linkwatch_urgent_event.)
 */
const FIRST_INDEX = 11;

function vethLine(
  link: LinkDescription,
  firstIndex: number,
  namespaceOf: (host: string) => string,
): string {
  const macs = linkMacs(link);
  const [first, second] = link.ends.map((end, index) => {
    const { host, interfaceName } = splitEnd(end);
    const mtu = link.mtu === undefined ? '' : ` mtu ${link.mtu}`;
    const identity = `name ${interfaceName} index ${firstIndex + index} address ${macs[index]}`;
    return `${identity}${mtu} netns ${namespaceOf(host)}`;
  });
  return `link add ${first} type veth peer ${second}`;
}

function impairedLinkPlan(name: string, link: LinkDescription): ImpairedLinkPlan[] {
  if (link.impairment === undefined) return [];
  return [
    { name, ends: [splitEnd(link.ends[0]), splitEnd(link.ends[1])], impairment: link.impairment },
  ];
}

function bridgeLines(hostName: string, host: HostDescription): string[] {
  return Object.entries(host.bridges ?? {}).flatMap(([bridge, ports]) => [
    // Ports forward at once, and multicast reaches every port, as on an unmanaged switch.
    `link add name ${bridge} address ${macOfName(`${hostName}:${bridge}`)} type bridge ` +
      'stp_state 0 forward_delay 0 mcast_snooping 0',
    ...ports.map((port) => `link set dev ${port} master ${bridge}`),
  ]);
}

function checksumCommands(link: LinkDescription): HostCommand[] {
  if (link.checksumOffload !== 'off' || link.impairment !== undefined) return [];
  return link.ends.map((end) => {
    const { host, interfaceName } = splitEnd(end);
    return { host, argv: ['ethtool', '-K', interfaceName, 'tx', 'off'] };
  });
}

/**
 * Frames that wait to be read by the link's process; the kernel drops what comes beyond. Ten times
 * the default, which a TCP sender at full speed overruns while the process has no processor: the
 * link should lose by its model alone. 15 MB at the usual MTU.
 */
const TAP_QUEUE_FRAMES = 10_000;

function hostLines(topology: Topology, hostName: string, host: HostDescription): string[] {
  const lines: string[] = [];
  const ups = ['link set dev lo up'];
  for (const link of Object.values(topology.links ?? {})) {
    for (const [index, end] of link.ends.entries()) {
      const { host: owner, interfaceName } = splitEnd(end);
      if (owner !== hostName) continue;
      if (link.impairment !== undefined) {
        const mtu = link.mtu === undefined ? '' : ` mtu ${link.mtu}`;
        const queue = `txqueuelen ${TAP_QUEUE_FRAMES}`;
        lines.push(`link set dev ${interfaceName} ${queue} address ${linkMacs(link)[index]}${mtu}`);
      }
      ups.push(`link set dev ${interfaceName} up`);
    }
  }
  for (const bridge of Object.keys(host.bridges ?? {})) ups.push(`link set dev ${bridge} up`);
  lines.push(...ups);
  for (const [name, addresses] of Object.entries(host.addresses ?? {})) {
    for (const address of addresses) {
      const nodad = prefixFamily(address) === 6 ? ' nodad' : '';
      lines.push(`address add ${address} dev ${name}${nodad}`);
    }
  }
  for (const route of host.routes ?? []) lines.push(routeLine(route));
  return lines;
}

function routeLine(route: RouteDescription): string {
  const { to, via } = route;
  // `ip -batch` has no -6 for a single line; the family of 'default' is said by the full prefix.
  const target = to === 'default' && via !== undefined && isIPv6(via) ? '::/0' : to;
  const gateway = via === undefined ? '' : ` via ${via}`;
  const device = route.interface === undefined ? '' : ` dev ${route.interface}`;
  return `route add ${target}${gateway}${device}`;
}

function carriers(topology: Topology, hostName: string, host: HostDescription): string[] {
  const ends = Object.values(topology.links ?? {}).flatMap((link) => link.ends.map(splitEnd));
  const bridges = Object.entries(host.bridges ?? {}).filter(([, ports]) => ports.length > 0);
  return [
    ...ends.filter((end) => end.host === hostName).map(({ interfaceName }) => interfaceName),
    ...bridges.map(([bridge]) => bridge),
  ];
}
