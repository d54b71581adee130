/**
 * Nanoseconds that one packet costs in each program of the NAT, by the kernel's test run, with few
 * and with many sessions in the table.
 *
 * Each run takes a packet of a session chosen at random, once: repeated, it would meet its own
 * translation, and a table that is warm. So every figure includes one reading of the clock by the
 * kernel, some 40 ns, and what a call of the kernel costs the caches; memory is the difference
 * between few and many.
 */
import { seededRandom } from '../lab/seeded-random.ts';
import { PacketKind } from '../src/abi/layouts.generated.ts';
import { natObject } from '../src/abi/nat.generated.ts';
import { parseConfig } from '../src/config/parse-config.ts';
import { externalCount, externalPlaces, natSizes, planNat } from '../src/gateway/nat-plan.ts';
import { nextSettings } from '../src/gateway/nat-settings.ts';
import { type BpfObject, loadBpfObject } from '../src/linux/bpf-object.ts';
import type { BpfProgram, TestRunOptions } from '../src/linux/bpf-program.ts';
import { ipv4Address, requireIpv4Address } from '../src/net/ipv4-address.ts';
import { udpFrame } from '../src/testing/packet-builder.ts';
import { foldSum, internetSum } from '../src/wire/internet-checksum.ts';
import { configText } from './nat-contenders.ts';
import { type BenchRow, median, medians } from './table.ts';

type LoadedNat = BpfObject<typeof natObject>;

const SESSIONS_FEW = 1_000;
const SESSIONS_MANY = 1_000_000;
const INSIDE_HOSTS = 100;
const REMOTE_ADDRESSES = 250;
const ROUNDS = 5;
const PACKETS_PER_ROUND = 10_001;

export async function natTestRunRows(): Promise<readonly BenchRow[]> {
  using few = loadNat();
  using many = loadNat();
  const tables = {
    few: new OpenSessions(few, SESSIONS_FEW),
    many: new OpenSessions(many, SESSIONS_MANY),
  };
  const rows: BenchRow[] = [];
  for (const path of paths) {
    const ns = await medians(ROUNDS, {
      few: () => tables.few.nanosecondsPerPacket(path),
      many: () => tables.many.nanosecondsPerPacket(path),
    });
    rows.push({
      what: `${path.what}, ${SESSIONS_MANY.toLocaleString('en')} sessions`,
      figure: `${ns.many.toFixed(0)} ns`,
      peer: `${SESSIONS_FEW.toLocaleString('en')} sessions: ${ns.few.toFixed(0)} ns`,
      ratio: ns.few / ns.many,
    });
  }
  return rows;
}

interface Path {
  readonly what: string;
  readonly program: keyof LoadedNat['programs'];
  readonly packet: (flow: Flow) => Pick<TestRunOptions, 'data' | 'context'>;
  /** Each packet opens a session, which the table has from then on. */
  readonly opens?: true;
}

/** A packet to a remote meets the first two, its answer the others. */
const paths: readonly Path[] = [
  {
    what: 'inside ingress',
    program: 'natInsideIngress',
    packet: ({ inside, remote }) => ({ data: udpPacket(inside, remote) }),
  },
  {
    what: 'WAN egress',
    program: 'natWanEgress',
    packet: ({ inside, remote }) => ({ data: udpPacket(inside, remote) }),
  },
  {
    what: 'WAN ingress',
    program: 'natWanIngress',
    packet: ({ external, remote }) => ({ data: udpPacket(remote, external) }),
  },
  {
    what: 'inside egress',
    program: 'natInsideEgress',
    packet: ({ inside, remote }) => ({ data: udpPacket(remote, inside), context: replyContext() }),
  },
  {
    what: 'WAN egress, a new session of an existing mapping',
    program: 'natWanEgress',
    packet: ({ inside, remote }) => ({ data: udpPacket(inside, remote) }),
    opens: true,
  },
];

interface Endpoint {
  readonly address: number;
  readonly port: number;
}

interface Flow {
  readonly inside: Endpoint;
  readonly external: Endpoint;
  readonly remote: Endpoint;
}

/** A table with sessions of a hundred inside endpoints to many remotes each. */
class OpenSessions {
  readonly #programs: LoadedNat['programs'];
  readonly #externals: Endpoint[] = [];
  readonly #count: number;
  readonly #random = seededRandom(1);
  #opened: number;

  constructor({ programs }: LoadedNat, count: number) {
    this.#programs = programs;
    this.#count = count;
    for (let index = 0; index < count; index++) {
      const { inside, remote } = this.#flow(index);
      const { data } = run(programs.natWanEgress, { data: udpPacket(inside, remote) });
      if (index < INSIDE_HOSTS) this.#externals.push(sourceOf(data));
    }
    this.#opened = count;
  }

  nanosecondsPerPacket({ program, packet, opens }: Path): number {
    const durations: number[] = [];
    for (let index = 0; index < PACKETS_PER_ROUND; index++) {
      const flow = opens ? this.#opened++ : Math.floor(this.#random() * this.#count);
      durations.push(run(this.#programs[program], packet(this.#flow(flow))).durationNs);
    }
    // Not the mean: an interrupt takes as long as a hundred packets.
    return median(durations);
  }

  #flow(index: number): Flow {
    const host = index % INSIDE_HOSTS;
    const remote = Math.floor(index / INSIDE_HOSTS);
    return {
      inside: { address: FIRST_INSIDE + host, port: 40_000 },
      external: this.#externals[host] ?? { address: 0, port: 0 },
      remote: {
        address: FIRST_REMOTE + (remote % REMOTE_ADDRESSES),
        port: 1_024 + Math.floor(remote / REMOTE_ADDRESSES),
      },
    };
  }
}

const FIRST_INSIDE = requireIpv4Address('10.77.1.1');
const FIRST_REMOTE = requireIpv4Address('203.0.113.1');

/** TC_ACT_UNSPEC: the packet goes on. */
const GO_ON = -1;

/** @throws Error when the packet was dropped: what was measured would be something else */
function run(program: BpfProgram, options: TestRunOptions) {
  const result = program.testRun(options);
  if ((result.returnValue | 0) === GO_ON) return result;
  throw new Error(`${program.name} returned ${result.returnValue} for a packet that should pass`);
}

/** Programs and tables as the product has them with the config of its contender. */
function loadNat(): LoadedNat {
  const { config } = parseConfig(configText({ folder: '/nowhere' }), { fileName: 'bench' });
  if (config === undefined) throw new Error("the bench's own config has problems");
  const plan = planNat(config, {});
  const places = externalPlaces(externalCount(config));
  const { sessionBuckets, mappings, mappingBuckets } = natSizes(plan.limits.sessions, places);
  const object = loadBpfObject(natObject, {
    maxEntries: {
      natSessions: sessionBuckets,
      natMappings: mappings,
      natMappingBuckets: mappingBuckets,
    },
  });
  const { settings } = nextSettings(plan, {
    hashKey: [0x0123_4567_89ab_cdefn, 0xfedc_ba98_7654_3210n],
    sessionBucketCount: sessionBuckets,
    mappingBucketCount: mappingBuckets,
    places,
    ports: new Map(),
    pickupUntilTick: 0,
  });
  object.maps.natSettings.update(0, settings);
  return object;
}

/** `struct __sk_buff` of a packet that was forwarded and that WAN ingress has called a reply. */
function replyContext(): Uint8Array<ArrayBuffer> {
  const context = new Uint8Array(SK_BUFF_BYTES);
  const view = new DataView(context.buffer);
  view.setUint32(MARK_AT, PacketKind.reply, true);
  view.setUint32(INGRESS_INTERFACE_AT, 1, true);
  return context;
}

const SK_BUFF_BYTES = 192;
const MARK_AT = 8;
const INGRESS_INTERFACE_AT = 36;

/** A frame without the fields of {@link udpPacket}, and the sums of what is left. */
const template = udpFrame({
  source: '0.0.0.0',
  destination: '0.0.0.0',
  sourcePort: 0,
  destinationPort: 0,
  payload: new Uint8Array(18),
});
const templateIpSum =
  internetSum(template.subarray(14, 24)) + internetSum(template.subarray(26, 34));
/** Pseudo-header (protocol 17, length) and UDP header (length). */
const templateUdpSum = 17 + 2 * (template.length - 34);

/** A million of these are made, so nothing is built that the template has. */
function udpPacket(from: Endpoint, to: Endpoint): Uint8Array<ArrayBuffer> {
  const frame = template.slice();
  const view = new DataView(frame.buffer);
  const addresses = sumOfAddress(from.address) + sumOfAddress(to.address);
  view.setUint16(24, foldSum(templateIpSum + addresses) ^ 0xffff);
  view.setUint32(26, from.address);
  view.setUint32(30, to.address);
  view.setUint16(34, from.port);
  view.setUint16(36, to.port);
  const udp = foldSum(templateUdpSum + addresses + from.port + to.port) ^ 0xffff;
  view.setUint16(40, udp === 0 ? 0xffff : udp);
  return frame;
}

function sumOfAddress(address: number): number {
  return (address >>> 16) + (address & 0xffff);
}

function sourceOf(frame: Uint8Array<ArrayBuffer>): Endpoint {
  const view = new DataView(frame.buffer);
  return { address: ipv4Address(view.getUint32(26)), port: view.getUint16(34) };
}
