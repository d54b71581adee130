/** What the config, and the addresses found at run time, ask of the NAT in the kernel. */
import { NatClass, NatFiltering, NatLimits } from '../abi/layouts.generated.ts';
import type { Config } from '../config/schema.ts';
import type { NatTimes } from '../nat/nat-settings.ts';
import { requireDuration } from '../net/duration.ts';
import { requireEndpoint } from '../net/endpoint.ts';
import { type IpAddress, isSameAddress } from '../net/ip-address.ts';
import { type Ipv4Address, ipv4Address, requireIpv4Address } from '../net/ipv4-address.ts';
import { type PortRange, requirePortRange } from '../net/port-range.ts';
import {
  type InterfaceAddress,
  parseInterfaceAddress,
  prefixesOverlap,
  prefixHasAddress,
  requireInterfaceAddress,
} from '../net/prefix.ts';
import { fastPathOf } from './fast-path.ts';
import { interfaceOfNetwork, isWanPublic } from './firewall-plan.ts';

export interface NatPlan {
  readonly wanInterface?: string;
  /** Private addresses cannot be behind it. */
  readonly isWanPublic: boolean;
  readonly hasWanFastPath: boolean;
  readonly insideInterfaces: readonly string[];
  /** The WAN's own first, where it is known. */
  readonly externals: readonly PlannedExternal[];
  readonly networks: readonly PlannedNetwork[];
  /** Names of networks that overlap the WAN's (RFC 4787 REQ-7); they are not in `networks`. */
  readonly overlapping: readonly string[];
  readonly forwards: readonly PlannedForward[];
  readonly pool: PortRange;
  readonly limits: NatLimitsPlan;
  readonly ticks: NatTimes;
}

export interface PlannedExternal {
  readonly address: Ipv4Address;
  /** It is the WAN's own, where ports are forwarded. */
  readonly isMain: boolean;
  /** The host that owns it alone. */
  readonly oneToOne?: Ipv4Address;
  readonly filtering: NatFiltering;
}

export interface PlannedNetwork {
  readonly name: string;
  readonly interface: string;
  readonly hasFastPath: boolean;
  readonly prefix: Ipv4Address;
  readonly mask: Ipv4Address;
  /** The gateway's own address in it. */
  readonly gateway: Ipv4Address;
  readonly translates: boolean;
  readonly filtering: NatFiltering;
}

/** Ports of the WAN's own address that lead to the same number of ports inside. */
export interface PlannedForward {
  readonly class: NatClass;
  readonly ports: PortRange;
  readonly internalAddress: Ipv4Address;
  readonly internalPortFirst: number;
}

export interface NatLimitsPlan {
  readonly sessions: number;
  readonly sessionsPerHost: number;
  readonly mappingsPerHost: number;
  readonly unansweredPerMapping: number;
}

/** Entries of the maps. */
export interface NatSizes {
  readonly sessionBuckets: number;
  readonly mappings: number;
  readonly mappingBuckets: number;
}

/** How long a session waits for nft to let its first packet through. */
const UNCONFIRMED = requireDuration('5s');
/** As long as the kernel waits for fragments itself (net.ipv4.ipfrag_time). */
const FRAGMENT = requireDuration('30s');

/**
 * @param facts.wanAddress the one found on the WAN's interface, which counts with DHCP alone
 */
export function planNat(
  config: Config,
  facts: { readonly wanAddress?: InterfaceAddress | undefined },
): NatPlan {
  const networks = Object.entries(config.networks);
  const { nat, wan } = config;
  const fixed = wan === undefined ? undefined : parseInterfaceAddress(wan.address);
  const wanAddress = wan === undefined ? undefined : (fixed ?? facts.wanAddress);
  const overlapping = networks.filter(([, { address }]) => {
    const { prefix } = requireInterfaceAddress(address);
    return wanAddress !== undefined && prefixesOverlap(prefix, wanAddress.prefix);
  });
  return {
    ...(wan === undefined ? {} : { wanInterface: wan.interface }),
    isWanPublic: wan !== undefined && isWanPublic(wan),
    hasWanFastPath: wan !== undefined && fastPathOf(config, wan.interface).at !== 'off',
    insideInterfaces: networks.map(([name, network]) => interfaceOfNetwork(name, network)),
    externals: wan === undefined ? [] : externalsOf(nat, wanAddress?.address),
    networks: networks
      .filter((one) => !overlapping.includes(one))
      .map((one) => networkOf(config, one)),
    overlapping: overlapping.map(([name]) => name),
    forwards: config.portForwards.map(forwardOf),
    pool: requirePortRange(nat.portRange),
    limits: {
      sessions: nat.sessions,
      sessionsPerHost: nat.sessionsPerHost,
      mappingsPerHost: nat.mappingsPerHost,
      unansweredPerMapping: nat.unansweredPerMapping,
    },
    ticks: ticksOf(nat.timeouts),
  };
}

type NatSection = Config['nat'];

function externalsOf(
  { externalAddresses, oneToOne }: NatSection,
  main: IpAddress | undefined,
): PlannedExternal[] {
  // For the pool the filtering is that of the network.
  const shared = { filtering: NatFiltering.endpointIndependent };
  const own = main === undefined ? [] : [{ address: ipv4Of(main), isMain: true, ...shared }];
  const isOther = ({ address }: PlannedExternal) => address !== own[0]?.address;
  const more = [
    ...externalAddresses.map((text) => ({
      address: requireIpv4Address(text),
      isMain: false,
      ...shared,
    })),
    ...oneToOne.map(({ external, internal, filtering }) => ({
      address: requireIpv4Address(external),
      isMain: false,
      oneToOne: requireIpv4Address(internal),
      filtering: filterings[filtering],
    })),
  ];
  // DHCP may give an address that the config has, too.
  return [...own, ...more.filter(isOther)];
}

const filterings = {
  'endpoint-independent': NatFiltering.endpointIndependent,
  'address-dependent': NatFiltering.addressDependent,
  'address-and-port-dependent': NatFiltering.addressAndPortDependent,
} as const;

function networkOf(
  config: Config,
  [name, network]: [name: string, network: Config['networks'][string]],
): PlannedNetwork {
  const { address, nat } = network;
  const { address: own, prefix } = requireInterfaceAddress(address);
  const interfaceName = interfaceOfNetwork(name, network);
  return {
    name,
    interface: interfaceName,
    hasFastPath: fastPathOf(config, interfaceName).at !== 'off',
    prefix: ipv4Address(Number(prefix.bits)),
    mask: ipv4Address(prefix.length === 0 ? 0 : -1 << (32 - prefix.length)),
    gateway: ipv4Of(own),
    translates: nat.mode === 'translate',
    filtering: filterings[nat.filtering],
  };
}

function forwardOf({ protocol, port, to }: Config['portForwards'][number]): PlannedForward {
  const { address, port: internalPortFirst } = requireEndpoint(to);
  return {
    class: NatClass[protocol],
    ports: requirePortRange(port),
    internalAddress: ipv4Of(address),
    internalPortFirst,
  };
}

function ticksOf(timeouts: NatSection['timeouts']): NatTimes {
  return {
    udp: ticksIn(timeouts.udp),
    udpUnanswered: ticksIn(timeouts.udpUnanswered),
    tcpOpening: ticksIn(timeouts.tcpOpening),
    tcpEstablished: ticksIn(timeouts.tcpEstablished),
    tcpClosing: ticksIn(timeouts.tcpClosing),
    icmp: ticksIn(timeouts.icmp),
    other: ticksIn(timeouts.other),
    unconfirmed: ticksOfMilliseconds(UNCONFIRMED),
    fragment: ticksOfMilliseconds(FRAGMENT),
  };
}

function ticksIn(text: string): number {
  return ticksOfMilliseconds(requireDuration(text));
}

/** Rounded up: nothing ends before its time. */
export function ticksOfMilliseconds(milliseconds: number): number {
  return Math.ceil((milliseconds * 1_000_000) / 2 ** NatLimits.tickShift);
}

/** The number of the tick. @param monotonicNs of the kernel's monotonic clock */
export function tickAt(monotonicNs: bigint): number {
  return Number(BigInt.asUintN(32, monotonicNs >> BigInt(NatLimits.tickShift)));
}

function ipv4Of({ bits }: IpAddress): Ipv4Address {
  return ipv4Address(Number(bits));
}

/** A bucket of sixteen slots for eight sessions: then next to none finds both its buckets full. */
export const SESSIONS_PER_BUCKET = 8;
/** Of references to mappings, for each external address; at most three mappings a bucket. */
const BUCKETS_PER_EXTERNAL = 65_536;
const MAPPINGS_PER_EXTERNAL = NatLimits.protocolClasses * 65_536;

/** @param places for external addresses: see {@link externalPlaces} */
export function natSizes(sessions: number, places: number): NatSizes {
  return {
    sessionBuckets: Math.ceil(sessions / SESSIONS_PER_BUCKET),
    mappings: MAPPINGS_PER_EXTERNAL * places,
    mappingBuckets: BUCKETS_PER_EXTERNAL * places,
  };
}

/** External addresses that a config may come to have, with the WAN's own. */
export function externalCount({ nat }: Config): number {
  return 1 + nat.externalAddresses.length + nat.oneToOne.length;
}

/**
 * For how many external addresses there is room in new tables: one more than there are, since an
 * address that comes takes another place than one that goes, and in steps, since tables that grow
 * are new ones. 2, 4, 8 or 16.
 */
export function externalPlaces(count: number): number {
  return [2, 4, 8].find((places) => places > count) ?? NatLimits.externals;
}

/** The number of places in tables of this size. */
export function placesIn({ mappings }: Pick<NatSizes, 'mappings'>): number {
  return Math.floor(mappings / MAPPINGS_PER_EXTERNAL);
}

/**
 * Which of the WAN's addresses counts. One that counted before does as long as it is there, and
 * also when there is none any more: a cable that is pulled ends no session.
 *
 * @param found on the interface, in the kernel's order
 */
export function chooseWanAddress(
  found: readonly InterfaceAddress[],
  before: InterfaceAddress | undefined,
): InterfaceAddress | undefined {
  const same = (one: InterfaceAddress) =>
    before !== undefined && isSameAddress(one.address, before.address);
  return found.find(same) ?? found.find(isUsable) ?? before;
}

const linkLocal = requireInterfaceAddress('169.254.0.0/16').prefix;

/** What a host gives itself where no DHCP server answers (RFC 3927) leads nowhere. */
function isUsable({ address }: InterfaceAddress): boolean {
  return address.family === 4 && !prefixHasAddress(linkLocal, address);
}
