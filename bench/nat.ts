/**
 * The NAT against what an ordinary gateway does, and against a gateway that does nothing: bulk TCP,
 * small packets of few and many flows, new sessions, new mappings (nat-bed.ts says how); and what a
 * packet costs in each of its programs (nat-test-run.ts).
 *
 * Each contender is started anew for each measurement and is gone after it, so that it meets no
 * table that an earlier one has filled. One that fails is told on stderr with its reason, and the
 * others go on; the command then ends with code 1.
 */

import { requireIpv4Address } from '../src/net/ipv4-address.ts';
import { NatBed, type NatContender, type NatPattern, type Passage } from './nat-bed.ts';
import { CHANGES_PER_SECOND, startChanges } from './nat-changes.ts';
import { raiseConntrackLimits } from './nat-conntrack.ts';
import {
  type GatehouseContender,
  gatehouse,
  nftMasquerade,
  plainForwarding,
} from './nat-contenders.ts';
import { natTestRunRows } from './nat-test-run.ts';
import { type BenchRow, median, medianRatio, roundsOf } from './table.ts';

interface Measurement {
  readonly what: string;
  readonly unit: Unit;
  /** An odd number. */
  readonly rounds: number;
  /** It is about sessions that were judged before, so it is measured without the fast path, too. */
  readonly isFast?: true;
  readonly withIpv6?: boolean;
  /** The end hosts make their checksums themselves; then it is measured at XDP, and at tc. */
  readonly withoutOffload?: boolean;
  /** What a contender reaches that has just been started. */
  readonly measure: (bed: NatBed) => Promise<Reached>;
}

interface Reached {
  /** A second: bits, packets, or sessions by their first packets, that came out. */
  readonly rate: number;
  /** Packets that did not. */
  readonly lost?: number;
}

/** How a figure is written: divided, then followed by its name. */
interface Unit {
  readonly name: string;
  readonly divisor: number;
  readonly digits: number;
}

const gigabits: Unit = { name: 'Gbit/s', divisor: 1e9, digits: 1 };
const packets: Unit = { name: 'kpps', divisor: 1e3, digits: 0 };
const sessions: Unit = { name: 'thousand sessions/s', divisor: 1e3, digits: 0 };
const mappings: Unit = { name: 'thousand mappings/s', divisor: 1e3, digits: 0 };

const BULK_SECONDS = 2;
const INSIDE_HOSTS = 100;
/** One to three seconds. */
const FRAMES_PER_ROUND = 500_000;
/** Some ten seconds, in which a core is started. */
const FRAMES_DURING_UPGRADE = 2_500_000;
/** The last ports are found by luck. Beyond it, a figure tells of dropping, not of carrying. */
const LOSS_MAX = 0.01;

/** On a quiet machine everything fits into it. What begins later is measured in one round. */
const ROUNDS_WITHIN_MS = 900_000;

const flowCounts = { few: 1_000, many: 100_000, million: 1_000_000 } as const;

/** Bulk comes first: the generator switches GRO on at one end of a link, where it stays. */
const measurements = {
  upload: {
    what: 'bulk TCP with GSO, inside to outside',
    unit: gigabits,
    rounds: 3,
    isFast: true,
    measure: async (bed) => ({
      rate: await bed.bulk({ towards: 'outside', seconds: BULK_SECONDS }),
    }),
  },
  download: {
    what: 'bulk TCP with GSO, outside to inside',
    unit: gigabits,
    rounds: 3,
    isFast: true,
    measure: async (bed) => ({
      rate: await bed.bulk({ towards: 'inside', seconds: BULK_SECONDS }),
    }),
  },
  ipv6Upload: {
    what: 'bulk TCP with GSO over IPv6, inside to outside',
    unit: gigabits,
    rounds: 3,
    isFast: true,
    withIpv6: true,
    measure: async (bed) => ({
      rate: await bed.bulk({ towards: 'outside', seconds: BULK_SECONDS, family: 6 }),
    }),
  },
  few: {
    what: '64-byte UDP, 1,000 flows',
    unit: packets,
    rounds: 3,
    isFast: true,
    measure: (bed) => steadyRate(bed, flowCounts.few),
  },
  many: {
    what: '64-byte UDP, 100,000 flows',
    unit: packets,
    rounds: 1,
    isFast: true,
    measure: (bed) => steadyRate(bed, flowCounts.many),
  },
  million: {
    what: '64-byte UDP, 1,000,000 flows',
    unit: packets,
    rounds: 1,
    measure: (bed) => steadyRate(bed, flowCounts.million),
  },
  fewAtXdp: {
    what: '64-byte UDP, 1,000 flows, without offload',
    unit: packets,
    rounds: 3,
    withoutOffload: true,
    measure: (bed) => steadyRate(bed, flowCounts.few),
  },
  manyAtXdp: {
    what: '64-byte UDP, 100,000 flows, without offload',
    unit: packets,
    rounds: 3,
    withoutOffload: true,
    measure: (bed) => steadyRate(bed, flowCounts.many),
  },
  ipv6FewAtXdp: {
    what: '66-byte UDP over IPv6, 1,000 flows, without offload',
    unit: packets,
    rounds: 3,
    withIpv6: true,
    withoutOffload: true,
    measure: (bed) => steadyRate(bed, flowCounts.few, { family: 6 }),
  },
  ipv6ManyAtXdp: {
    what: '66-byte UDP over IPv6, 100,000 flows, without offload',
    unit: packets,
    rounds: 3,
    withIpv6: true,
    withoutOffload: true,
    measure: (bed) => steadyRate(bed, flowCounts.many, { family: 6 }),
  },
  queues: {
    what: '64-byte UDP, 1,000 flows by two receive queues on two cores',
    unit: packets,
    rounds: 3,
    isFast: true,
    measure: (bed) => queuesRate(bed, flowCounts.few),
  },
  newSessions: {
    what: 'new UDP sessions of existing mappings',
    unit: sessions,
    rounds: 3,
    measure: newSessionRate,
  },
  newMappings: {
    what: 'burst of 60,000 new mappings, each to a remote of its own',
    unit: mappings,
    rounds: 3,
    measure: (bed) => burstRate(bed, { remoteAddressCount: 250, remotePortCount: 240 }),
  },
  newMappingsOneServer: {
    what: 'burst of 60,000 new mappings, all to one server',
    unit: mappings,
    rounds: 3,
    measure: (bed) => burstRate(bed, { remoteAddressCount: 1, remotePortCount: 1 }),
  },
} as const satisfies Record<string, Measurement>;

type MeasurementName = keyof typeof measurements;

export async function benchNat(): Promise<readonly BenchRow[]> {
  using _ = raiseConntrackLimits();
  await using bed = await NatBed.start();
  const contenders: Contenders = {
    ours: gatehouse(bed.lab.directory),
    slow: gatehouse(bed.lab.directory, { fastPath: 'off' }),
    peer: nftMasquerade,
    plain: plainForwarding,
  };
  const { directory } = bed.lab;
  const atXdp: Contenders = {
    ...contenders,
    ours: gatehouse(directory, { fastPath: 'xdp' }),
    slow: contenders.ours,
  };
  const startedAt = performance.now();
  const rows: BenchRow[] = [];
  const ours: Partial<Record<MeasurementName, number | undefined>> = {};
  for (const [name, measurement] of Object.entries(measurements)) {
    const isLate = performance.now() - startedAt > ROUNDS_WITHIN_MS;
    if (isLate) process.stderr.write(`${measurement.what}: one round only, time is short\n`);
    const rounds = isLate ? 1 : measurement.rounds;
    const compared = 'withoutOffload' in measurement ? atXdp : contenders;
    const figures = await compare(bed, compared, { ...measurement, rounds });
    ours[name as MeasurementName] = figures.ours && median(figures.ours);
    rows.push(...rowsOf(measurement, figures));
  }
  rows.push(...scalingRows(ours));
  try {
    rows.push(await changesRow(bed, gatehouse(bed.lab.directory)));
  } catch (error) {
    tellFailure('changes of a set', error);
  }
  try {
    rows.push(await upgradeRow(bed, gatehouse(bed.lab.directory)));
  } catch (error) {
    tellFailure('an upgrade of the programs', error);
  }
  try {
    rows.push(...(await natTestRunRows()));
  } catch (error) {
    tellFailure('packets by test run', error);
  }
  return rows;
}

interface Contenders {
  readonly ours: NatContender;
  /** The product where its packets take a longer way. */
  readonly slow: NatContender;
  readonly peer: NatContender;
  readonly plain: NatContender;
}

/** One a round. Absent where the contender failed. */
interface Figures {
  readonly ours?: readonly number[];
  readonly slow?: readonly number[];
  readonly peer?: readonly number[];
  readonly plain?: readonly number[];
}

/** Rounds that alternate between the contenders. One that fails is left out from then on. */
async function compare(
  bed: NatBed,
  contenders: Contenders,
  { what, rounds, isFast, withIpv6 = false, withoutOffload = false, measure }: Measurement,
): Promise<Figures> {
  const failed = new Set<NatContender>();
  const attempt = async (contender: NatContender): Promise<number> => {
    if (failed.has(contender)) return Number.NaN;
    try {
      const { rate, lost = 0 } = await bed.measure(contender, () => measure(bed), {
        withIpv6,
        withoutOffload,
      });
      if (lost > 0) process.stderr.write(`${contender.name}, ${what}: lost ${lost} packets\n`);
      return rate;
    } catch (error) {
      failed.add(contender);
      tellFailure(`${contender.name}, ${what}`, error);
      return Number.NaN;
    }
  };
  if (isFast === undefined && !withoutOffload) failed.add(contenders.slow);
  const { ours, slow, peer, plain } = await roundsOf(rounds, {
    ours: () => attempt(contenders.ours),
    peer: () => attempt(contenders.peer),
    slow: () => attempt(contenders.slow),
    plain: () => attempt(contenders.plain),
  });
  return {
    ...(failed.has(contenders.ours) ? {} : { ours }),
    ...(failed.has(contenders.slow) ? {} : { slow }),
    ...(failed.has(contenders.peer) ? {} : { peer }),
    ...(failed.has(contenders.plain) ? {} : { plain }),
  };
}

function tellFailure(what: string, error: unknown): void {
  process.stderr.write(`${what}: ${error instanceof Error ? error.message : error}\n`);
  process.exitCode = 1;
}

/** A row needs both; what is missing was told when it failed. */
function rowsOf(
  { what, unit, withoutOffload }: Measurement,
  { ours, slow, peer, plain }: Figures,
): BenchRow[] {
  if (ours === undefined || peer === undefined) {
    const middles = [ours, peer].map((figures) => written(figures && median(figures), unit));
    process.stderr.write(`${what}: ${middles[0]}, the peer ${middles[1]}\n`);
    return [];
  }
  const without = `${plainForwarding.name} ${written(plain && median(plain), unit)}`;
  const row = (name: string, figures: readonly number[]): BenchRow => ({
    what: name,
    figure: written(median(figures), unit),
    peer: `${nftMasquerade.name} ${written(median(peer), unit)} (${without})`,
    ratio: medianRatio(figures, peer),
  });
  const atXdp = withoutOffload === true;
  return [
    row(atXdp ? `${what}, at XDP` : what, ours),
    ...(slow === undefined
      ? []
      : [row(`${what}, ${atXdp ? 'at tc' : 'without the fast path'}`, slow)]),
  ];
}

/** The product against itself at 1,000 flows and one queue. */
function scalingRows(figures: Partial<Record<MeasurementName, number | undefined>>): BenchRow[] {
  const { few, million, queues } = figures;
  const against = (what: string, figure: number | undefined): BenchRow[] => {
    if (few === undefined || figure === undefined) return [];
    const peer = `Gatehouse at 1,000 flows by one queue ${written(few, packets)}`;
    return [
      { what: `64-byte UDP, ${what}`, figure: written(figure, packets), peer, ratio: figure / few },
    ];
  };
  return [
    ...against('1,000,000 flows against 1,000', million),
    ...against('two queues and cores against one', queues),
  ];
}

/**
 * A million sessions while something changes about a hundred of their addresses a second: those
 * sessions are judged once more, and the others shall not notice. Before each figure every session
 * is judged.
 */
async function changesRow(bed: NatBed, contender: NatContender): Promise<BenchRow> {
  const flows = flowsOfHosts(flowCounts.million, { remoteAddressCount: CHANGING_REMOTES });
  const rate = async (): Promise<number> => {
    const passage = await bed.send({ ...flows, order: 'random' }, FRAMES_PER_ROUND);
    return reachedBy(passage).rate;
  };
  const { during, without } = await bed.measure(contender, () =>
    roundsOf(CHANGING_ROUNDS, {
      without: async () => {
        await bed.openFlows(flows);
        return await rate();
      },
      during: async () => {
        await bed.openFlows(flows);
        await using _ = await startChanges(bed.gateway, addressesOf(flows));
        return await rate();
      },
    }),
  );
  const remotes = CHANGING_REMOTES.toLocaleString('en');
  const changes = `${CHANGES_PER_SECOND} set changes a second`;
  return {
    what: `64-byte UDP, 1,000,000 flows to ${remotes} hosts, ${changes}`,
    figure: written(median(during), packets),
    peer: `the same without changes ${written(median(without), packets)}`,
    ratio: medianRatio(during, without),
  };
}

const CHANGING_REMOTES = 10_000;
const CHANGING_ROUNDS = 3;

/** Of both ends. */
function addressesOf({ source, destination }: NatPattern): number[] {
  return [source, destination].flatMap(({ address, addressCount = 1 }) => {
    const first = requireIpv4Address(address);
    return Array.from({ length: addressCount }, (_, index) => first + index);
  });
}

/**
 * How long nothing passes while other programs take the place of those that are there: packets come
 * without a pause, so what is lost is the gap.
 */
async function upgradeRow(bed: NatBed, contender: GatehouseContender): Promise<BenchRow> {
  const flows = flowsOfHosts(flowCounts.few);
  const { sent, arrived, framesPerSecond } = await bed.measure(contender, async () => {
    await bed.openFlows(flows);
    const sending = bed.send({ ...flows, order: 'random' }, FRAMES_DURING_UPGRADE);
    const first = await Promise.race([sending, contender.upgrade()]);
    if (first !== undefined) throw new Error('the packets ended before the upgrade');
    return await sending;
  });
  const lost = sent - arrived;
  const gap = `${((lost / framesPerSecond) * 1e6).toFixed(0)} µs`;
  return {
    what: 'core killed, programs replaced under load',
    figure: `${lost} of ${sent} packets lost: a gap of ${gap}`,
    peer: `none lost, at ${written(framesPerSecond, packets)}`,
    ratio: arrived / sent,
  };
}

function written(figure: number | undefined, { name, divisor, digits }: Unit): string {
  return figure === undefined ? 'failed' : `${(figure / divisor).toFixed(digits)} ${name}`;
}

/** The inside hosts, with one port each, and remotes enough for the flows that are asked for. */
function flowsOfHosts(
  flowCount: number,
  {
    firstRemotePort = 1_024,
    remoteAddressCount = 250,
    family = 4,
  }: {
    readonly firstRemotePort?: number;
    readonly remoteAddressCount?: number;
    readonly family?: 4 | 6;
  } = {},
): NatPattern {
  const remotes = flowCount / INSIDE_HOSTS;
  return {
    source: {
      address: family === 4 ? '10.77.1.1' : '2001:db8:77::1:1',
      addressCount: INSIDE_HOSTS,
      port: 40_000,
    },
    destination: {
      address: family === 4 ? '203.0.113.1' : '2001:db8:2::1',
      addressCount: Math.min(remotes, remoteAddressCount),
      port: firstRemotePort,
      portCount: Math.max(1, remotes / remoteAddressCount),
    },
    flowCount,
  };
}

/** Packets a second of flows that are open, in no order. */
async function steadyRate(
  bed: NatBed,
  flowCount: number,
  options: { readonly family?: 4 | 6 } = {},
): Promise<Reached> {
  const flows = flowsOfHosts(flowCount, options);
  await bed.openFlows(flows);
  return reachedBy(await bed.send({ ...flows, order: 'random' }, FRAMES_PER_ROUND));
}

/** As {@link steadyRate}, by one half of the inside hosts from each CPU. */
async function queuesRate(bed: NatBed, flowCount: number): Promise<Reached> {
  const flows = flowsOfHosts(flowCount);
  await bed.openFlows(flows);
  const halfOf = (address: string): NatPattern => ({
    ...flows,
    source: { ...flows.source, address, addressCount: INSIDE_HOSTS / 2 },
    flowCount: flowCount / 2,
    order: 'random',
  });
  const halves = [halfOf('10.77.1.1'), halfOf('10.77.1.51')] as const;
  return reachedBy(await bed.sendByQueues(halves, FRAMES_PER_ROUND));
}

/** Each packet is the first one to its remote, from an endpoint that has talked to another. */
async function newSessionRate(bed: NatBed): Promise<Reached> {
  await bed.openFlows(flowsOfHosts(INSIDE_HOSTS));
  const flows = flowsOfHosts(NEW_SESSION_COUNT, { firstRemotePort: 2_000 });
  return reachedBy(await bed.send(flows, flows.flowCount));
}

/** 3,000 a host. */
const NEW_SESSION_COUNT = 300_000;

/** Each packet is the first one of its inside endpoint: 600 ports of each host. */
async function burstRate(
  bed: NatBed,
  remotes: { readonly remoteAddressCount: number; readonly remotePortCount: number },
): Promise<Reached> {
  const flows: NatPattern = {
    source: { address: '10.77.1.1', addressCount: INSIDE_HOSTS, port: 20_000, portCount: 600 },
    destination: {
      address: '203.0.113.1',
      addressCount: remotes.remoteAddressCount,
      port: 1_024,
      portCount: remotes.remotePortCount,
    },
    combinations: 'in-step',
    flowCount: 60_000,
  };
  return reachedBy(await bed.send(flows, flows.flowCount));
}

/** @throws Error when so much was lost that the figure is of something else */
function reachedBy({ sent, arrived, framesPerSecond }: Passage): Reached {
  if (arrived < sent * (1 - LOSS_MAX)) throw new Error(`only ${arrived} of ${sent} came through`);
  return { rate: framesPerSecond, lost: sent - arrived };
}
