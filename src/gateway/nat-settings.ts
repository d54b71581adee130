/**
 * From a plan to the NAT's settings in the kernel. Sessions and mappings name external addresses
 * and networks by their place, so what stays keeps its place, and what comes takes a free one.
 */
import {
  type NatExternal,
  NatFastPath,
  NatFiltering,
  NatLimits,
  type NatNetwork,
  type NatSettings,
} from '../abi/layouts.generated.ts';
import { MAC_ADDRESS_BYTES } from '../net/mac-address.ts';
import { natLayout } from './nat-layout.ts';
import type { NatPlan, PlannedExternal, PlannedNetwork } from './nat-plan.ts';

export interface SettingsFrame {
  readonly hashKey: readonly bigint[];
  readonly sessionBucketCount: number;
  readonly mappingBucketCount: number;
  /** External addresses that the tables have room for. */
  readonly places: number;
  /** Until then TCP from inside without SYN opens sessions: those of before are not known. */
  readonly pickupUntilTick: number;
  /** The interface where fragments go that came before their first. Default: nowhere. */
  readonly holdInterface?: number;
  /** The interfaces that have the programs, by name. */
  readonly ports: ReadonlyMap<string, NatPort>;
  /** What is in force; absent for new tables. */
  readonly previous?: NatSettings | undefined;
}

/** An interface that has the programs. */
export interface NatPort {
  /** The kernel's number. */
  readonly index: number;
  /** Six bytes: what is sent there was meant for the gateway. Where it has none: zeros. */
  readonly mac: Uint8Array;
  /** It has the program at XDP, too, and takes what others redirect to it. */
  readonly isAtXdp: boolean;
}

export interface NextSettings {
  readonly settings: NatSettings;
  /** Place of the WAN's own address. */
  readonly mainPlace?: number;
  /** Places of external addresses that went, whose sessions have to end. */
  readonly gonePlaces: readonly number[];
  /** Their addresses, network order as a number. */
  readonly goneAddresses: readonly number[];
  /** Other networks than before, or translated in another way: sessions may have to end. */
  readonly areNetworksOthers: boolean;
  /** What did not fit into the tables. */
  readonly left: readonly PlannedExternal[];
}

const noMac = new Uint8Array(MAC_ADDRESS_BYTES);
/** Owner of an external address that is given up: no host has it, so nobody gets it. */
const NOBODY = 0xffff_ffff;
/** Never the source or destination of a packet that is forwarded (RFC 1122 §3.2.1.3). */
const vacantNetwork: NatNetwork = {
  prefix: 1,
  mask: 0xffff_ffff,
  gateway: 0,
  interface: 0,
  mac: noMac,
  fastPath: 0,
  translate: 0,
  filtering: NatFiltering.endpointIndependent,
};
/** Nobody from outside may begin: what still comes to the address is dropped. */
const vacantExternal: NatExternal = {
  address: 0,
  oneToOne: NOBODY,
  filtering: NatFiltering.addressAndPortDependent,
};
const noExternal: NatExternal = { address: 0, oneToOne: 0, filtering: 0 };
const noNetwork: NatNetwork = { ...vacantNetwork, prefix: 0, mask: 0, filtering: 0 };

export function nextSettings(plan: NatPlan, frame: SettingsFrame): NextSettings {
  const { previous, places, pickupUntilTick, ...rest } = frame;
  const externals = placeExternals(plan.externals, previous, places);
  const networks = placeNetworks(plan.networks, previous);
  const { limits, ticks, pool } = plan;
  const settings: NatSettings = {
    hashKey: rest.hashKey,
    sessionBucketCount: rest.sessionBucketCount,
    mappingBucketCount: rest.mappingBucketCount,
    fixedNowNs: 0n,
    udpTicks: ticks.udp,
    udpUnansweredTicks: ticks.udpUnanswered,
    tcpOpeningTicks: ticks.tcpOpening,
    tcpEstablishedTicks: ticks.tcpEstablished,
    tcpClosingTicks: ticks.tcpClosing,
    icmpTicks: ticks.icmp,
    otherTicks: ticks.other,
    unconfirmedTicks: ticks.unconfirmed,
    fragmentTicks: ticks.fragment,
    pickupUntilTick,
    sessionsPerHost: limits.sessionsPerHost,
    mappingsPerHost: limits.mappingsPerHost,
    outsideSessionsPerMapping: limits.unansweredPerMapping,
    // Whoever held fragments before is not there any more, and its number may be another's.
    holdInterface: rest.holdInterface ?? 0,
    wanInterface: 0,
    wanIsPublic: plan.isWanPublic ? 1 : 0,
    wanFastPath: plan.hasWanFastPath ? NatFastPath.tc : 0,
    wanMac: noMac,
    trustsRoutes: 0,
    externalCount: externals.placed.length,
    networkCount: networks.placed.length,
    poolFirst: pool.first,
    poolLast: pool.last,
    layout: natLayout,
    externals: padded(externals.placed, { count: NatLimits.externals, filler: noExternal }),
    networks: padded(networks.placed, { count: NatLimits.networks, filler: noNetwork }),
  };
  const mainPlace = mainPlaceOf(plan, settings);
  return {
    settings: withInterfaces(settings, plan, frame.ports),
    ...(mainPlace === undefined ? {} : { mainPlace }),
    gonePlaces: externals.gone.map(({ place }) => place),
    goneAddresses: externals.gone.map(({ address }) => address),
    areNetworksOthers: networks.areOthers,
    left: externals.left,
  };
}

/** The same with nothing that goes fast. */
export function withoutFastPath(settings: NatSettings): NatSettings {
  const networks = settings.networks.map((row) => ({ ...row, fastPath: 0 }));
  return { ...settings, networks, wanFastPath: 0 };
}

/** The same with the interfaces that are there now: sessions are judged between these alone. */
export function withInterfaces(
  settings: NatSettings,
  plan: NatPlan,
  ports: ReadonlyMap<string, NatPort>,
): NatSettings {
  const networks = settings.networks.map((row): NatNetwork => {
    const planned = plan.networks.find(
      ({ prefix, mask }) => row.prefix === prefix && row.mask === mask,
    );
    const port = ports.get(planned?.interface ?? '');
    const fastPath = fastPathAt(row.fastPath, port);
    return { ...row, interface: port?.index ?? 0, mac: port?.mac ?? noMac, fastPath };
  });
  const wan = ports.get(plan.wanInterface ?? '');
  const wanFastPath = fastPathAt(settings.wanFastPath, wan);
  const wanMac = wan?.mac ?? noMac;
  return { ...settings, networks, wanInterface: wan?.index ?? 0, wanMac, wanFastPath };
}

/** @param before 0 where there is none at all */
function fastPathAt(before: number, port: NatPort | undefined): number {
  if (before === 0) return 0;
  return port?.isAtXdp === true ? NatFastPath.tc | NatFastPath.xdp : NatFastPath.tc;
}

/** The same without the addresses that are being given up, once their sessions have ended. */
export function withoutGone(settings: NatSettings): NatSettings {
  const externals = settings.externals.map((one) => {
    return one.oneToOne === NOBODY ? { ...one, address: 0 } : one;
  });
  return { ...settings, externals };
}

function mainPlaceOf({ externals }: NatPlan, settings: NatSettings): number | undefined {
  const main = externals.find(({ isMain }) => isMain);
  const place = settings.externals
    .slice(0, settings.externalCount)
    .findIndex(({ address, oneToOne }) => address === main?.address && oneToOne === 0);
  return main === undefined || place < 0 ? undefined : place;
}

interface Gone {
  readonly place: number;
  readonly address: number;
}

function placeExternals(
  wanted: readonly PlannedExternal[],
  previous: NatSettings | undefined,
  places: number,
): { placed: NatExternal[]; gone: Gone[]; left: PlannedExternal[] } {
  const before = previous?.externals.slice(0, previous.externalCount) ?? [];
  const rows = wanted.map((one) => ({
    address: one.address as number,
    oneToOne: (one.oneToOne ?? 0) as number,
    filtering: one.filtering,
  }));
  const isSame = (one: NatExternal, other: NatExternal) =>
    one.address === other.address && one.oneToOne === other.oneToOne;
  const placed = new Map<number, NatExternal>();
  const coming: number[] = [];
  for (const [index, row] of rows.entries()) {
    const place = before.findIndex((one) => isSame(one, row));
    if (place < 0 || place >= places) coming.push(index);
    else placed.set(place, row);
  }
  const gone = before.flatMap((one, place): Gone[] => {
    return placed.has(place) || one.address === 0 ? [] : [{ place, address: one.address }];
  });
  const isGone = (place: number) => gone.some((one) => one.place === place);
  const free = Array.from({ length: places }, (_, place) => place)
    .filter((place) => !placed.has(place))
    // Where nobody was before, nothing of before can be confused with what comes.
    .sort((one, other) => Number(isGone(one)) - Number(isGone(other)));
  const left: PlannedExternal[] = [];
  for (const index of coming) {
    const place = free.shift();
    const row = rows[index];
    if (place !== undefined && row !== undefined) placed.set(place, row);
    else left.push(...wanted.slice(index, index + 1));
  }
  for (const { place, address } of gone) {
    // Its sessions keep their address until they have ended, unless somebody else has it now.
    const isTaken = rows.some((row) => row.address === address);
    if (!placed.has(place))
      placed.set(place, { ...vacantExternal, address: isTaken ? 0 : address });
  }
  // Never fewer: the programs collect what is over only in places that count.
  const count = Math.max(Math.min(before.length, places), 1 + Math.max(-1, ...placed.keys()));
  return {
    placed: Array.from({ length: count }, (_, place) => placed.get(place) ?? vacantExternal),
    gone,
    left,
  };
}

function placeNetworks(
  wanted: readonly PlannedNetwork[],
  previous: NatSettings | undefined,
): { placed: NatNetwork[]; areOthers: boolean } {
  const before = previous?.networks.slice(0, previous.networkCount) ?? [];
  const rows = wanted.map(({ translates, hasFastPath, prefix, mask, gateway, filtering }) => ({
    ...{ prefix, mask, gateway, filtering },
    interface: 0,
    translate: translates ? 1 : 0,
    mac: noMac,
    fastPath: hasFastPath ? NatFastPath.tc : 0,
  }));
  const isSame = (one: NatNetwork, other: NatNetwork) =>
    one.prefix === other.prefix && one.mask === other.mask && one.translate === other.translate;
  const placed = new Map<number, NatNetwork>();
  const coming: NatNetwork[] = [];
  for (const row of rows) {
    const place = before.findIndex((one) => isSame(one, row));
    if (place < 0) coming.push(row);
    else placed.set(place, row);
  }
  const isVacant = (one: NatNetwork | undefined) => one === undefined || isSame(one, vacantNetwork);
  const areOthers = before.some((one, place) => !placed.has(place) && !isVacant(one));
  const free = Array.from({ length: NatLimits.networks }, (_, place) => place)
    .filter((place) => !placed.has(place))
    .sort((one, other) => Number(!isVacant(before[one])) - Number(!isVacant(before[other])));
  for (const row of coming) {
    const place = free.shift();
    if (place !== undefined) placed.set(place, row);
  }
  const count = 1 + Math.max(-1, ...placed.keys());
  return {
    placed: Array.from({ length: count }, (_, place) => placed.get(place) ?? vacantNetwork),
    areOthers,
  };
}

function padded<Row>(
  rows: readonly Row[],
  { count, filler }: { readonly count: number; readonly filler: Row },
): Row[] {
  return Array.from({ length: count }, (_, index) => rows[index] ?? filler);
}
