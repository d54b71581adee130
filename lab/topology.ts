/**
 * A virtual network described as data: hosts (network namespaces) and the links between them.
 *
 * ```ts
 * const topology: Topology = {
 *   hosts: {
 *     router: { addresses: { lan: ['10.0.0.1/24'] }, sysctls: { 'net.ipv4.ip_forward': '1' } },
 *     laptop: {
 *       addresses: { eth0: ['10.0.0.2/24'] },
 *       routes: [{ to: 'default', via: '10.0.0.1' }],
 *     },
 *   },
 *   links: { lan: { ends: ['router:lan', 'laptop:eth0'], checksumOffload: 'off' } },
 * };
 * ```
 *
 * Everything here is pure; lab-plan.ts turns a topology into commands, lab.ts carries them out.
 */
import { createHash } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import { type Impairment, validateImpairment } from './impairment.ts';

export interface Topology {
  /** By name. A host is a network namespace. */
  readonly hosts: Readonly<Record<string, HostDescription>>;
  /** By name. A link brings its two interfaces into being. */
  readonly links?: Readonly<Record<string, LinkDescription>>;
}

export interface HostDescription {
  /** Interface → addresses with their prefix length. `lo` may have addresses too. */
  readonly addresses?: Readonly<Record<string, readonly string[]>>;
  /** Bridge → the interfaces of links that are its ports. */
  readonly bridges?: Readonly<Record<string, readonly string[]>>;
  readonly routes?: readonly RouteDescription[];
  /** Key → value, as for sysctl(8). Set before the interfaces are up, so they may name them. */
  readonly sysctls?: Readonly<Record<string, string>>;
  /** Started in this order, when all links are up. */
  readonly processes?: readonly ProcessDescription[];
}

export interface RouteDescription {
  /** A prefix, or `default` with the address family of `via`. */
  readonly to: string;
  readonly via?: string;
  readonly interface?: string;
}

export interface ProcessDescription {
  readonly argv: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
  /** The lab counts as up when the output matches. Without it the process is only started. */
  readonly ready?: RegExp;
}

export interface LinkDescription {
  /** Two ends, each `host:interface`. */
  readonly ends: readonly [string, string];
  /** Ethernet addresses of the ends. Default: made from the ends' names, always the same. */
  readonly macs?: readonly [string, string];
  /** Bytes of the largest packet. Default: 1500. */
  readonly mtu?: number;
  /**
   * `on`: packets of local senders cross the link with their checksum still to be made, as veth
   * does it. `off`: every frame carries its real checksum, as on a wire, and none is larger than
   * the MTU allows. Default: `on`; an impaired link is always `off`.
   */
  readonly checksumOffload?: 'on' | 'off';
  /** A link that loses, delays, reorders or congests. `{}` is a perfect one, for later. */
  readonly impairment?: LinkImpairment;
}

/** What a link does to frames, by direction. */
export interface LinkImpairment {
  /** The same seed gives the same decisions for the same frames at the same times. Default: 1. */
  readonly seed?: number;
  /** For frames that enter at `ends[0]` and leave at `ends[1]`. */
  readonly firstToSecond?: Impairment;
  readonly secondToFirst?: Impairment;
}

/** The same impairment in both directions. */
export function inBothDirections(impairment: Impairment, seed?: number): LinkImpairment {
  const directions = { firstToSecond: impairment, secondToFirst: impairment };
  return seed === undefined ? directions : { ...directions, seed };
}

/** The topology is wrong. The message lists each fault with its place. */
export class TopologyError extends Error {
  override readonly name = 'TopologyError';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`the topology is wrong:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
    this.faults = faults;
  }
}

/** Finds every fault of a topology, each as `place: what is wrong`; none means that it is good. */
export function validateTopology(topology: Topology): string[] {
  const faults: string[] = [];
  const interfaces = collectInterfaces(topology, faults);
  for (const [name, link] of Object.entries(topology.links ?? {})) {
    checkLink(`links.${name}`, link, faults);
  }
  checkMacs(topology, faults);
  for (const [name, host] of Object.entries(topology.hosts)) {
    const place = `hosts.${name}`;
    if (!HOST_NAME.test(name)) {
      faults.push(`${place}: a host's name is 1 to 32 of a-z, 0-9 and -, starting with a letter`);
    }
    checkHost(place, host, interfaces.get(name) ?? new Map(), faults);
  }
  return faults;
}

const HOST_NAME = /^[a-z][a-z0-9-]{0,31}$/;
const INTERFACE_NAME = /^[^\s/:]+$/;
/** IFNAMSIZ of linux/if.h without the final NUL. */
const INTERFACE_NAME_BYTES_MAX = 15;
const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
/** IPv6 needs 1280 (RFC 8200 section 5), IPv4 alone works from 68 (RFC 791). */
const MTU_MIN = 68;
/** ETH_MAX_MTU. */
const MTU_MAX = 65_535;

type InterfaceKind = 'loopback' | 'link' | 'bridge';

/** Every host's interfaces in order of making. Faults are unknown hosts, bad and repeated names. */
function collectInterfaces(
  topology: Topology,
  faults: string[],
): Map<string, Map<string, InterfaceKind>> {
  const interfaces = new Map<string, Map<string, InterfaceKind>>();
  for (const host of Object.keys(topology.hosts)) {
    interfaces.set(host, new Map([['lo', 'loopback']]));
  }
  const add = (place: string, host: string, name: string, kind: InterfaceKind) => {
    const known = interfaces.get(host);
    if (known === undefined) {
      faults.push(`${place}: there is no host '${host}'`);
    } else if (!INTERFACE_NAME.test(name)) {
      faults.push(`${place}: '${name}' is no interface name`);
    } else if (Buffer.byteLength(name) > INTERFACE_NAME_BYTES_MAX) {
      faults.push(`${place}: the interface name '${name}' is longer than 15 bytes`);
    } else if (known.has(name)) {
      faults.push(`${place}: the interface ${host}:${name} exists already`);
    } else {
      known.set(name, kind);
    }
  };
  for (const [name, link] of Object.entries(topology.links ?? {})) {
    for (const [index, end] of link.ends.entries()) {
      const { host, interfaceName } = splitEnd(end);
      add(`links.${name}.ends[${index}]`, host, interfaceName, 'link');
    }
  }
  for (const [host, description] of Object.entries(topology.hosts)) {
    for (const bridge of Object.keys(description.bridges ?? {})) {
      add(`hosts.${host}.bridges.${bridge}`, host, bridge, 'bridge');
    }
  }
  return interfaces;
}

function checkLink(place: string, link: LinkDescription, faults: string[]): void {
  const { mtu, macs, impairment } = link;
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX)) {
    faults.push(`${place}.mtu: ${mtu} is not between ${MTU_MIN} and ${MTU_MAX} bytes`);
  }
  for (const [index, mac] of (macs ?? []).entries()) {
    const multicast = Number.parseInt(mac.slice(0, 2), 16) % 2 === 1;
    if (!MAC.test(mac) || multicast) {
      faults.push(`${place}.macs[${index}]: '${mac}' is no Ethernet address of a station`);
    }
  }
  if (impairment === undefined) return;
  if (link.checksumOffload === 'on') {
    faults.push(`${place}.checksumOffload: an impaired link cannot carry unfinished checksums`);
  }
  const { seed = 1 } = impairment;
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff) {
    faults.push(`${place}.impairment.seed: ${seed} is no integer of 32 bits`);
  }
  for (const direction of ['firstToSecond', 'secondToFirst'] as const) {
    for (const fault of validateImpairment(impairment[direction] ?? {})) {
      faults.push(`${place}.impairment.${direction}.${fault}`);
    }
  }
}

function checkMacs(topology: Topology, faults: string[]): void {
  const owners = new Map<string, string>();
  for (const [name, link] of Object.entries(topology.links ?? {})) {
    for (const [index, mac] of linkMacs(link).entries()) {
      const owner = owners.get(mac);
      const place = `links.${name}.macs[${index}]`;
      if (owner !== undefined) faults.push(`${place}: ${mac} is the address of ${owner} too`);
      owners.set(mac, link.ends[index] ?? '');
    }
  }
}

function checkHost(
  place: string,
  host: HostDescription,
  interfaces: ReadonlyMap<string, InterfaceKind>,
  faults: string[],
): void {
  for (const [name, addresses] of Object.entries(host.addresses ?? {})) {
    const at = `${place}.addresses.${name}`;
    if (!interfaces.has(name)) faults.push(`${at}: there is no such interface`);
    const seen = new Set<string>();
    for (const address of addresses) {
      if (prefixFamily(address) === undefined) {
        faults.push(`${at}: '${address}' is no address with a prefix length`);
      }
      if (seen.has(address)) faults.push(`${at}: '${address}' stands there twice`);
      seen.add(address);
    }
  }
  const bridgeOfPort = new Map<string, string>();
  for (const [bridge, ports] of Object.entries(host.bridges ?? {})) {
    for (const port of ports) {
      const at = `${place}.bridges.${bridge}`;
      const owner = bridgeOfPort.get(port);
      if (interfaces.get(port) !== 'link') faults.push(`${at}: no link ends at '${port}' here`);
      if (owner !== undefined) faults.push(`${at}: '${port}' is a port of ${owner} already`);
      bridgeOfPort.set(port, bridge);
    }
  }
  for (const [index, route] of (host.routes ?? []).entries()) {
    checkRoute(`${place}.routes[${index}]`, route, interfaces, faults);
  }
  for (const [key, value] of Object.entries(host.sysctls ?? {})) {
    if (!/^net[./][\w./-]+$/.test(key) || key.includes('..')) {
      faults.push(`${place}.sysctls: '${key}' is no key below net.`);
    }
    if (value.includes('\n')) faults.push(`${place}.sysctls.${key}: a value is one line`);
  }
}

function checkRoute(
  place: string,
  route: RouteDescription,
  interfaces: ReadonlyMap<string, InterfaceKind>,
  faults: string[],
): void {
  const { to, via } = route;
  if (to !== 'default' && prefixFamily(to) === undefined) {
    faults.push(`${place}.to: '${to}' is neither 'default' nor a prefix`);
  }
  if (via !== undefined && !isIPv4(via) && !isIPv6(via)) {
    faults.push(`${place}.via: '${via}' is no address`);
  }
  if (via === undefined && route.interface === undefined) {
    faults.push(`${place}: a route needs 'via' or 'interface'`);
  }
  if (route.interface !== undefined && !interfaces.has(route.interface)) {
    faults.push(`${place}.interface: there is no interface '${route.interface}' here`);
  }
}

/** The address family of `10.0.0.1/24` or `2001:db8::1/64`; undefined when it is neither. */
export function prefixFamily(text: string): 4 | 6 | undefined {
  const [address = '', length = '', ...more] = text.split('/');
  if (more.length > 0 || !/^\d{1,3}$/.test(length)) return undefined;
  if (isIPv4(address) && Number(length) <= 32) return 4;
  if (isIPv6(address) && !address.includes('%') && Number(length) <= 128) return 6;
  return undefined;
}

export function splitEnd(end: string): { host: string; interfaceName: string } {
  const colon = end.indexOf(':');
  if (colon < 0) return { host: end, interfaceName: '' };
  return { host: end.slice(0, colon), interfaceName: end.slice(colon + 1) };
}

/**
 * The Ethernet addresses of a link's ends. Those made from names are locally administered and do
 * not depend on the lab's instance, so that captures of two runs can be compared.
 */
export function linkMacs(link: LinkDescription): readonly [string, string] {
  return link.macs ?? [macOfName(link.ends[0]), macOfName(link.ends[1])];
}

/** `host:interface` → its made address. */
export function macOfName(name: string): string {
  const digest = createHash('sha256').update(name).digest('hex');
  const bytes = ['02', ...Array.from({ length: 5 }, (_, i) => digest.slice(i * 2, i * 2 + 2))];
  return bytes.join(':');
}
