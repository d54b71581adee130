/**
 * Where NATs are compared: an inside host, a gateway and an outside host in one row, always the
 * same links, and on the gateway one contender at a time.
 *
 * ```
 *  inside eth0 ── lan0 gateway wan0 ── eth0 outside
 *  10.77.0.2/16   10.77.0.1            198.51.100.254, the way to everywhere
 * ```
 *
 * Small packets are made on the inside host's interface by the generator and counted by an XDP
 * program on the outside host's. The generator stays on one CPU, and what veth receives is worked
 * on where the sender runs: so generator, gateway and sink share that CPU, each packet goes the
 * whole way before the next ones are made, none waits in a queue and none is lost for want of time.
 * The other CPU is left to the product's processes and to this one. While anybody else has the
 * packets' CPU, the clock stands still. The neighbours are written down, so nobody asks by ARP.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Lab, type LabHost } from '../lab/lab.ts';
import {
  type FlowPattern,
  type PacketGenerator,
  startPacketGenerator,
} from '../lab/packet-generator.ts';
import { startPacketSink } from '../lab/packet-sink.ts';
import type { Topology } from '../lab/topology.ts';
import { type Argv, describeFailure } from '../src/linux/command-runner.ts';
import { requireIpAddress } from '../src/net/ip-address.ts';

/** The same for everybody who is on the links. */
export const bedAddresses = {
  outside: '198.51.100.254',
  gatewayWan: '198.51.100.1',
  gatewayLan: '10.77.0.1',
  inside: '10.77.0.2',
  insidePrefix: '10.77.0.0/16',
} as const;

/** While {@link NatBed.measure} is asked for IPv6. */
const ipv6Addresses = {
  outside: '2001:db8:1::fe',
  gatewayWan: '2001:db8:1::1',
  gatewayLan: '2001:db8:77::1',
  inside: '2001:db8:77::2',
  insidePrefix: '2001:db8:77::/64',
} as const;

const macs = {
  outside: '02:00:00:00:00:01',
  gatewayWan: '02:00:00:00:00:02',
  gatewayLan: '02:00:00:00:00:03',
  inside: '02:00:00:00:00:04',
} as const;

/** Only bounds a hang: each of these commands takes milliseconds. */
const COMMAND_TIMEOUT_MS = 20_000;
/** The generator's CPU, and so the gateway's. */
const PACKET_CPU = 0;
/** Where each has a receive queue of its own. */
const PACKET_CPUS = [0, 1] as const;
/** A "64-byte" frame without the checksum behind it; IPv6 headers and UDP take two bytes more. */
const frameBytes = { 4: 60, 6: 62 } as const;
/** A million packets that each open a session take the slowest contender some seconds. */
const SENDING_MS_MAX = 30_000;
/** Between two looks at what has arrived. */
const LOOK_MS = 1;
/** After the last packet was sent: whatever is under way arrives within microseconds. */
const ARRIVAL_MS = 100;
/** A flow whose first packet was lost is opened by the next pass. */
const OPENING_PASSES_MAX = 5;

/** Who translates, or only forwards, between the gateway's two interfaces. */
export interface NatContender {
  readonly name: string;
  /** Whether the outside needs no way to inside addresses. */
  readonly translates: boolean;
  /** Brings it into force on a gateway without rules; disposing leaves such a gateway behind. */
  start(gateway: LabHost): Promise<AsyncDisposable>;
}

/** What came out at the other end. */
export interface Passage {
  readonly sent: number;
  readonly arrived: number;
  /** Between the first and the last arrival, as long as the packets had their CPU. */
  readonly framesPerSecond: number;
}

export class NatBed implements AsyncDisposable {
  readonly lab: Lab;
  readonly gateway: LabHost;
  readonly #inside: LabHost;
  readonly #outside: LabHost;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.gateway = lab.host('gateway');
    this.#inside = lab.host('inside');
    this.#outside = lab.host('outside');
  }

  static async start(): Promise<NatBed> {
    const bed = new NatBed(await Lab.start(topology, { name: 'bench' }));
    const neighbours = [
      [bed.gateway, 'wan0', bedAddresses.outside, macs.outside],
      [bed.gateway, 'lan0', bedAddresses.inside, macs.inside],
      [bed.#inside, 'eth0', bedAddresses.gatewayLan, macs.gatewayLan],
      [bed.#outside, 'eth0', bedAddresses.gatewayWan, macs.gatewayWan],
    ] as const;
    for (const [host, name, address, mac] of neighbours) {
      const argv = ['ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', name] as const;
      await requireCommand(host, [...argv, 'nud', 'permanent']);
    }
    return bed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.stop();
  }

  /**
   * Measures with a contender that was started for this alone.
   *
   * @param options.withIpv6 everybody has IPv6 addresses, too. Without it nobody speaks IPv6.
   * @param options.withoutOffload end hosts leave no checksum to their interfaces, and take what is
   *   redirected there at XDP
   */
  async measure<T>(
    contender: NatContender,
    action: () => Promise<T>,
    {
      withIpv6 = false,
      withoutOffload = false,
    }: { readonly withIpv6?: boolean; readonly withoutOffload?: boolean } = {},
  ): Promise<T> {
    await using cleanup = new AsyncDisposableStack();
    if (withIpv6) {
      cleanup.defer(() => this.#switchIpv6('off'));
      await this.#switchIpv6('on');
    }
    if (withoutOffload) {
      cleanup.defer(() => this.#setOffload('on'));
      await this.#setOffload('off');
    }
    if (!contender.translates) {
      const route = [bedAddresses.insidePrefix, 'via', bedAddresses.gatewayWan] as const;
      await requireCommand(this.#outside, ['ip', 'route', 'add', ...route]);
      cleanup.defer(() => requireCommand(this.#outside, ['ip', 'route', 'del', ...route]));
    }
    cleanup.use(await contender.start(this.gateway));
    await this.#requireAnswer(contender);
    return await action();
  }

  /** One TCP connection, kept full. @returns bits a second that the receiver got */
  async bulk(options: {
    readonly towards: 'outside' | 'inside';
    readonly seconds: number;
    /** Default: 4. */
    readonly family?: 4 | 6;
  }): Promise<number> {
    const { towards, seconds, family = 4 } = options;
    const to = (family === 4 ? bedAddresses : ipv6Addresses).outside;
    // A server for one test only: none stays busy after a client that was ended.
    const server = this.#outside.spawn(['iperf3', '-s', '-1', '--forceflush']);
    try {
      await server.waitForOutput(/listening/, COMMAND_TIMEOUT_MS);
      const client = ['iperf3', '-c', to, '-J', '-t', `${seconds}`] as const;
      const argv: Argv = towards === 'inside' ? [...client, '-R'] : client;
      const timeoutMs = seconds * 1_000 + 10_000;
      const result = await this.#inside.run(argv, { timeoutMs });
      const report = JSON.parse(result.stdout || '{}') as IperfReport;
      const rate = report.end?.sum_received?.bits_per_second;
      if (rate !== undefined && rate > 0) return rate;
      throw new Error(report.error ?? describeFailure(argv, result));
    } finally {
      await server.stop();
    }
  }

  /** Opens every flow of a pattern. @throws Error when some never reach the other end */
  async openFlows(pattern: NatPattern): Promise<void> {
    let last: Passage | undefined;
    for (let pass = 0; pass < OPENING_PASSES_MAX; pass++) {
      // Each flow sends one packet a pass.
      last = await this.send({ ...pattern, order: 'in-turn' }, pattern.flowCount);
      if (last.arrived === last.sent) return;
    }
    throw new Error(`${last?.arrived} of ${last?.sent} flows came through`);
  }

  /** Sends packets of the flows, as fast as it goes, in one go. */
  async send(pattern: NatPattern, frameCount: number): Promise<Passage> {
    using sink = startPacketSink(this.#place(this.#outside, 'eth0'));
    const generator = await this.#generate(pattern, { frameCount, cpu: PACKET_CPU });
    const arrivals = new Arrivals(() => sink.counted().frames);
    let ended = false;
    const finished = generator.finished.finally(() => {
      ended = true;
    });
    while (!ended && arrivals.look() < frameCount) await Promise.race([delay(LOOK_MS), finished]);
    const { frames: sent, waitedSeconds } = await finished;
    if (arrivals.look() < sent) {
      await delay(ARRIVAL_MS);
      arrivals.look();
    }
    return {
      sent,
      arrived: arrivals.count,
      framesPerSecond: arrivals.framesPerSecond(waitedSeconds),
    };
  }

  /**
   * As {@link send}, but a pattern from each CPU at once, which has a queue of its own at every
   * interface, and so its packets' whole way. The rate is the sum of theirs.
   */
  async sendByQueues(
    patterns: readonly [NatPattern, NatPattern],
    frameCount: number,
  ): Promise<Passage> {
    await this.#setQueueCount(PACKET_CPUS.length);
    try {
      using sink = startPacketSink(this.#place(this.#outside, 'eth0'));
      const half = Math.floor(frameCount / PACKET_CPUS.length);
      const generators = await Promise.all(
        PACKET_CPUS.map((cpu) => this.#generate(patterns[cpu], { frameCount: half, cpu })),
      );
      const results = await Promise.all(generators.map(({ finished }) => finished));
      await delay(ARRIVAL_MS);
      return {
        sent: results.reduce((sum, { frames }) => sum + frames, 0),
        arrived: sink.counted().frames,
        framesPerSecond: results.reduce((sum, { frames, seconds, waitedSeconds }) => {
          return sum + frames / (seconds - waitedSeconds);
        }, 0),
      };
    } finally {
      await this.#setQueueCount(1);
    }
  }

  #generate(
    pattern: NatPattern,
    { frameCount, cpu }: { readonly frameCount: number; readonly cpu: number },
  ): Promise<PacketGenerator> {
    return startPacketGenerator({
      sender: this.#place(this.#inside, 'eth0'),
      receiver: this.#place(this.gateway, 'lan0'),
      sourceMac: macs.inside,
      destinationMac: macs.gatewayLan,
      pattern: { ...pattern, protocol: 'udp', frameBytes: frameBytes[familyOf(pattern)] },
      framesMax: frameCount,
      framesPerCall: frameCount,
      durationMsMax: SENDING_MS_MAX,
      cpu,
    });
  }

  /** As with IPv4, all neighbours are written down and nobody looks for others. */
  async #switchIpv6(to: 'on' | 'off'): Promise<void> {
    const ends = [
      [this.#inside, 'eth0', ipv6Addresses.inside],
      [this.gateway, 'lan0', ipv6Addresses.gatewayLan],
      [this.gateway, 'wan0', ipv6Addresses.gatewayWan],
      [this.#outside, 'eth0', ipv6Addresses.outside],
    ] as const;
    for (const [host, name] of ends) setIpv6(host, name, to);
    if (to === 'off') return;
    for (const [host, name, address] of ends) {
      const argv = ['ip', 'address', 'add', `${address}/64`, 'dev', name, 'nodad'] as const;
      await requireCommand(host, argv);
    }
    const ways = [
      [this.#inside, 'eth0', ipv6Addresses.gatewayLan, macs.gatewayLan],
      [this.gateway, 'lan0', ipv6Addresses.inside, macs.inside],
      [this.gateway, 'wan0', ipv6Addresses.outside, macs.outside],
      [this.#outside, 'eth0', ipv6Addresses.gatewayWan, macs.gatewayWan],
    ] as const;
    for (const [host, name, address, mac] of ways) {
      const argv = ['ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', name] as const;
      await requireCommand(host, [...argv, 'nud', 'permanent']);
    }
    for (const [host, to, via] of [
      [this.#inside, 'default', ipv6Addresses.gatewayLan],
      [this.gateway, 'default', ipv6Addresses.outside],
      [this.#outside, ipv6Addresses.insidePrefix, ipv6Addresses.gatewayWan],
    ] as const) {
      await requireCommand(host, ['ip', 'route', 'replace', to, 'via', via]);
    }
  }

  async #setOffload(word: 'on' | 'off'): Promise<void> {
    const gro = word === 'on' ? 'off' : 'on';
    for (const host of [this.#inside, this.#outside]) {
      await requireCommand(host, ['ethtool', '-K', 'eth0', 'tx', word, 'gro', gro]);
    }
  }

  async #setQueueCount(count: number): Promise<void> {
    const ends = [
      [this.#inside, 'eth0'],
      [this.gateway, 'lan0'],
      [this.gateway, 'wan0'],
      [this.#outside, 'eth0'],
    ] as const;
    for (const [host, name] of ends) {
      await requireCommand(host, ['ethtool', '-L', name, 'rx', `${count}`, 'tx', `${count}`]);
    }
  }

  #place(host: LabHost, interfaceName: string) {
    return { interface: interfaceName, networkNamespace: host.namespacePath };
  }

  /** Nothing but a translation brings an answer back where the outside knows no way inside. */
  async #requireAnswer({ translates }: NatContender): Promise<void> {
    const argv = ['ping', '-n', '-c', '1', '-i', '0.2', '-w', '3', bedAddresses.outside] as const;
    const result = await this.#inside.run(argv, { timeoutMs: COMMAND_TIMEOUT_MS });
    if (result.success) return;
    const why = translates ? 'it does not translate' : 'it does not forward';
    throw new Error(`no answer came back through the gateway: ${why}`);
  }
}

/** Flows of UDP from inside to outside. */
export type NatPattern = Omit<FlowPattern, 'protocol' | 'frameBytes'> & {
  readonly flowCount: number;
};

function familyOf({ destination }: NatPattern): 4 | 6 {
  return requireIpAddress(destination.address).family;
}

/** Off, its addresses, neighbours and routes are gone. */
function setIpv6(host: LabHost, interfaceName: string, to: 'on' | 'off'): void {
  const settings = [
    ['accept_ra', '0'],
    ['disable_ipv6', to === 'on' ? '0' : '1'],
  ] as const;
  host.setSysctls(
    settings.map(([name, value]) => ({
      path: `/proc/sys/net/ipv6/conf/${interfaceName}/${name}`,
      value,
    })),
    'required',
  );
}

interface IperfReport {
  readonly end?: { readonly sum_received?: { readonly bits_per_second?: number } };
  readonly error?: string;
}

/** When what arrived, as far as one looks. */
class Arrivals {
  count = 0;
  readonly #counted: () => number;
  #first: { readonly count: number; readonly at: number } | undefined;
  #lastAt = 0;

  constructor(counted: () => number) {
    this.#counted = counted;
  }

  look(): number {
    const count = this.#counted();
    if (count > this.count) {
      this.count = count;
      this.#lastAt = performance.now();
      this.#first ??= { count, at: this.#lastAt };
    }
    return count;
  }

  /** @param pauseSeconds meanwhile, in which nothing could arrive */
  framesPerSecond(pauseSeconds: number): number {
    if (this.#first === undefined) return 0;
    const seconds = (this.#lastAt - this.#first.at) / 1_000 - pauseSeconds;
    return seconds > 0 ? (this.count - this.#first.count) / seconds : Number.NaN;
  }
}

export async function requireCommand(host: LabHost, argv: Argv, input = ''): Promise<void> {
  const result = await host.run(argv, { timeoutMs: COMMAND_TIMEOUT_MS, input });
  if (!result.success) throw new Error(describeFailure(argv, result));
}

/** Without IPv6, so that nobody sends what was not asked for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };

const topology: Topology = {
  hosts: {
    outside: { addresses: { eth0: [`${bedAddresses.outside}/24`] }, sysctls: quiet },
    gateway: {
      addresses: {
        wan0: [`${bedAddresses.gatewayWan}/24`],
        lan0: [`${bedAddresses.gatewayLan}/16`],
      },
      routes: [{ to: 'default', via: bedAddresses.outside }],
      sysctls: quiet,
    },
    inside: {
      addresses: { eth0: [`${bedAddresses.inside}/16`] },
      routes: [{ to: 'default', via: bedAddresses.gatewayLan }],
      sysctls: quiet,
    },
  },
  links: {
    wan: { ends: ['outside:eth0', 'gateway:wan0'], macs: [macs.outside, macs.gatewayWan] },
    lan: { ends: ['gateway:lan0', 'inside:eth0'], macs: [macs.gatewayLan, macs.inside] },
  },
};
