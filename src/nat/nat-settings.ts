/** What the NAT is told: addresses, networks, times and limits. docs/nat.md says how each acts. */
import {
  NatFiltering as filterings,
  type NatSettings as Layout,
  NatLimits,
} from '../abi/layouts.generated.ts';
import type { Ipv4Address } from '../net/ipv4-address.ts';
import { MAC_ADDRESS_BYTES } from '../net/mac-address.ts';

/** Who from outside may use a mapping (RFC 4787 section 5). */
export type NatFiltering =
  | 'endpoint-independent'
  | 'address-dependent'
  | 'address-and-port-dependent';

export interface NatNetwork {
  readonly prefix: Ipv4Address;
  /** Bits. */
  readonly prefixLength: number;
  /** The gateway's own address in it. */
  readonly gateway: Ipv4Address;
  /** False: routed, with sessions but without translation. */
  readonly isTranslated: boolean;
  readonly filtering: NatFiltering;
  /** Where its hosts are. 0: the interface is not there. */
  readonly interfaceIndex: number;
}

export interface NatExternal {
  readonly address: Ipv4Address;
  /** The inside host that owns the whole address. Absent: a pool for all. */
  readonly oneToOne?: Ipv4Address;
  /** For `oneToOne`. */
  readonly filtering: NatFiltering;
}

/** How long something lives after its last packet, in ticks of 2^30 ns. */
export interface NatTimes {
  readonly udp: number;
  /** Opened from outside, and the inside end never answered. */
  readonly udpUnanswered: number;
  readonly tcpOpening: number;
  readonly tcpEstablished: number;
  readonly tcpClosing: number;
  readonly icmp: number;
  readonly other: number;
  /** nft has not let the first packet through. */
  readonly unconfirmed: number;
  readonly fragment: number;
}

export interface NatSettings {
  /** Two words of SipHash's key. */
  readonly hashKey: readonly [bigint, bigint];
  /** At most 16. */
  readonly externals: readonly NatExternal[];
  /** At most 64, the longest prefix first. */
  readonly networks: readonly NatNetwork[];
  /** Ports from 1,024 on that hosts get, both included. */
  readonly pool: { readonly first: number; readonly last: number };
  readonly times: NatTimes;
  /** Until this tick TCP without SYN from inside opens sessions. */
  readonly pickupUntilTick: number;
  readonly sessionsPerHost: number;
  readonly mappingsPerHost: number;
  /** Opened from outside and not answered. */
  readonly outsideSessionsPerMapping: number;
  /** Where fragments before their first go. 0: nowhere. */
  readonly holdInterface: number;
  /** 0: it is not there. */
  readonly wanInterfaceIndex: number;
  /** Private addresses cannot be behind it. */
  readonly wanIsPublic: boolean;
}

/** Where addresses belong now: indices of interfaces, 0 where there is none. */
export interface NatInterfaces {
  readonly wan: number;
  /** By the index of the network in the settings. */
  readonly networks: readonly number[];
}

const NANOSECONDS_PER_TICK = 2 ** 30;

/** Enough ticks for a time, so that nothing ends early. */
export function ticksForSeconds(seconds: number): number {
  return Math.ceil((seconds * 1e9) / NANOSECONDS_PER_TICK);
}

/** @returns the index of the network that an inside address lies in, or undefined */
export function networkIndexOf(settings: NatSettings, address: number): number | undefined {
  const index = settings.networks.findIndex(
    ({ prefix, prefixLength }) => ((address ^ prefix) & maskOf(prefixLength)) === 0,
  );
  return index < 0 ? undefined : index;
}

/** @returns the network that an inside address lies in, or undefined */
export function networkOf(settings: NatSettings, address: number): NatNetwork | undefined {
  return settings.networks[networkIndexOf(settings, address) ?? -1];
}

/** @returns the index of the interface that an address belongs to; 0 when it is not there */
export function interfaceIndexOf(settings: NatSettings, address: number): number {
  return networkOf(settings, address)?.interfaceIndex ?? settings.wanInterfaceIndex;
}

/** The same settings while the interfaces have these numbers. */
export function withInterfaces(
  settings: NatSettings,
  { wan, networks }: NatInterfaces,
): NatSettings {
  return {
    ...settings,
    wanInterfaceIndex: wan,
    networks: settings.networks.map((network, index) => ({
      ...network,
      interfaceIndex: networks[index] ?? 0,
    })),
  };
}

/** @returns the index of an external address, or undefined */
export function externalIndexOf(settings: NatSettings, address: number): number | undefined {
  const index = settings.externals.findIndex((external) => external.address === address);
  return index < 0 ? undefined : index;
}

/** @returns signed 32 bits, as JavaScript's operators give them */
export function maskOf(prefixLength: number): number {
  return prefixLength === 0 ? 0 : -1 << (32 - prefixLength);
}

export interface SettingsPlace {
  readonly sessionBucketCount: number;
  readonly mappingBucketCount: number;
  /** Not 0: the time for all packets, for tests. */
  readonly fixedNowNs?: bigint;
}

/** The same as the kernel programs read it, without the fast path, which the twin does not have. */
export function natSettingsLayout(settings: NatSettings, place: SettingsPlace): Layout {
  const { times, pool, externals, networks } = settings;
  return {
    hashKey: settings.hashKey,
    fixedNowNs: place.fixedNowNs ?? 0n,
    sessionBucketCount: place.sessionBucketCount,
    mappingBucketCount: place.mappingBucketCount,
    udpTicks: times.udp,
    udpUnansweredTicks: times.udpUnanswered,
    tcpOpeningTicks: times.tcpOpening,
    tcpEstablishedTicks: times.tcpEstablished,
    tcpClosingTicks: times.tcpClosing,
    icmpTicks: times.icmp,
    otherTicks: times.other,
    unconfirmedTicks: times.unconfirmed,
    fragmentTicks: times.fragment,
    pickupUntilTick: settings.pickupUntilTick,
    sessionsPerHost: settings.sessionsPerHost,
    mappingsPerHost: settings.mappingsPerHost,
    outsideSessionsPerMapping: settings.outsideSessionsPerMapping,
    holdInterface: settings.holdInterface,
    wanInterface: settings.wanInterfaceIndex,
    wanIsPublic: settings.wanIsPublic ? 1 : 0,
    wanFastPath: 0,
    wanMac: noMac,
    trustsRoutes: 1,
    externalCount: externals.length,
    networkCount: networks.length,
    poolFirst: pool.first,
    poolLast: pool.last,
    // Nobody takes over what the tables hold.
    layout: 0,
    externals: filled(externals.map(externalLayout), {
      count: NatLimits.externals,
      filler: { address: 0, oneToOne: 0, filtering: 0 },
    }),
    networks: filled(networks.map(networkLayout), {
      count: NatLimits.networks,
      filler: emptyNetwork,
    }),
  };
}

const filteringNumbers: { readonly [F in NatFiltering]: number } = {
  'endpoint-independent': filterings.endpointIndependent,
  'address-dependent': filterings.addressDependent,
  'address-and-port-dependent': filterings.addressAndPortDependent,
};

/** What is at XDP has no twin. */
const noMac = new Uint8Array(MAC_ADDRESS_BYTES);

const emptyNetwork = {
  ...{ prefix: 0, mask: 0, gateway: 0, interface: 0, mac: noMac },
  ...{ translate: 0, filtering: 0, fastPath: 0 },
};

function externalLayout({ address, oneToOne, filtering }: NatExternal) {
  return { address, oneToOne: oneToOne ?? 0, filtering: filteringNumbers[filtering] };
}

function networkLayout(network: NatNetwork) {
  const { prefix, gateway, interfaceIndex } = network;
  return {
    ...{ prefix, gateway },
    mask: maskOf(network.prefixLength) >>> 0,
    interface: interfaceIndex,
    mac: noMac,
    translate: network.isTranslated ? 1 : 0,
    filtering: filteringNumbers[network.filtering],
    fastPath: 0,
  };
}

function filled<Row>(
  rows: readonly Row[],
  { count, filler }: { readonly count: number; readonly filler: Row },
): Row[] {
  return Array.from({ length: count }, (_, index) => rows[index] ?? filler);
}
