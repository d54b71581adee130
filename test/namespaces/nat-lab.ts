/**
 * The product's NAT between real peers:
 *
 * ```
 *  alice 10.77.0.10 ┬ switch ┐         gateway           ┌ server   203.0.113.10 and .11
 *  bob   10.77.0.11 ┘        ├ 10.77.0.1   198.51.100.1 ── isp ── stranger 203.0.113.130
 *  guest 10.78.0.10 ─────────┤ 10.78.0.1                 └ narrow ── far   192.0.2.130
 *  depot 192.0.2.20 ─────────┘ 192.0.2.17
 * ```
 *
 * The internet knows no way to 10.77.0.0/24 and 10.78.0.0/24. Between isp and narrow, a packet has
 * at most 1,280 bytes. Nobody may talk to guests whom they did not talk to. The depot's network has
 * addresses of its own, and is not translated.
 *
 * With IPv6, every host has an address of that, too, and the internet knows the ways to all.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe } from 'node:test';
import type { Capture } from '../../lab/capture.ts';
import type { Impairment } from '../../lab/impairment.ts';
import { Lab, type LabHost } from '../../lab/lab.ts';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { inBothDirections, type LinkDescription, type Topology } from '../../lab/topology.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { RunningProcess } from '../../src/linux/command-runner.ts';
import type {
  ControlAnswer,
  ControlQuestion,
  CoreStatus,
} from '../../src/messages/control-messages.ts';
import { askCore, gatehouse, output, TIMEOUT_MS, untilReady } from './gatehouse-lab.ts';
import { addIpv6, ipv6Addresses } from './nat-lab-ipv6.ts';

export { ipv6Addresses } from './nat-lab-ipv6.ts';

export const addresses = {
  alice: '10.77.0.10',
  bob: '10.77.0.11',
  guest: '10.78.0.10',
  depot: '192.0.2.20',
  gatewayLan: '10.77.0.1',
  gatewayGuests: '10.78.0.1',
  gatewayDepot: '192.0.2.17',
  /** What the internet sees of everybody inside. */
  external: '198.51.100.1',
  /** Free in the provider's network. */
  otherExternal: '198.51.100.2',
  isp: '198.51.100.254',
  server: '203.0.113.10',
  /** The same machine. */
  serverToo: '203.0.113.11',
  stranger: '203.0.113.130',
  narrow: '192.0.2.2',
  far: '192.0.2.130',
  /** The provider sends these to the gateway, too. */
  moreExternals: ['192.0.2.201', '192.0.2.202'],
} as const;

/** Addresses that no packet on the WAN may show. */
const INSIDE = /^10\.(77|78)\./;

/** Room for more than any test opens. */
const SESSIONS = 16_384;

export const NARROW_MTU = 1_280;

/** How long a packet may take that must come. Only bounds a hang. */
export const ARRIVAL_MS = 10_000;

export type HostName =
  | 'alice'
  | 'bob'
  | 'guest'
  | 'depot'
  | 'gateway'
  | 'isp'
  | 'server'
  | 'stranger'
  | 'narrow'
  | 'far';

/** Whose sockets tests open. */
export type SpeakingHost = Exclude<HostName, 'gateway'>;

export type ChecksumOffload = 'on' | 'off';

export interface NatConfig {
  /** Each as a flow mapping of YAML. */
  readonly rules?: readonly string[];
  /** Address tables by name, with what the config puts into them. */
  readonly tables?: Readonly<Record<string, readonly string[]>>;
  readonly portForwards?: readonly string[];
  readonly wanAddress?: string;
  /** Keys of the section `nat` but `sessions`. */
  readonly nat?: string;
  readonly sessions?: number;
  readonly guestsFiltering?: 'address-dependent' | 'address-and-port-dependent';
  /** Of the LAN. */
  readonly lanFiltering?: 'endpoint-independent' | 'address-dependent';
  readonly fastPath?: FastPath;
  /** Interfaces whose packets are always routed, whatever `fastPath` says. */
  readonly slowInterfaces?: readonly string[];
}

/** `auto` is at tc, since the lab's links are virtual. `xdp` needs `checksumOffload` off. */
export type FastPath = 'auto' | 'xdp' | 'off';

export interface NatLabOptions {
  /** For the names of the namespaces. */
  readonly name: string;
  readonly checksumOffload: ChecksumOffload;
  readonly config?: NatConfig;
  /** Default: IPv4 alone. */
  readonly ipv6?: boolean;
  /** `masquerade`: a symmetric NAT of the kernel alone instead of the product, to compare with. */
  readonly translator?: 'gatehouse' | 'masquerade';
  /** Links of hosts that are not perfect. */
  readonly impaired?: Partial<Record<'alice' | 'server', Impairment>>;
}

/**
 * Runs tests twice: packets of local senders cross the links with their checksums still to be made,
 * and as on a wire. At the end, no host may have seen a wrong checksum.
 */
export function describeNat(
  options: Omit<NatLabOptions, 'checksumOffload'>,
  defineTests: (place: () => NatLab) => void,
): void {
  for (const checksumOffload of ['on', 'off'] as const) {
    describe(`with checksum offload ${checksumOffload}`, () => {
      let place: NatLab | undefined;
      before(async () => {
        place = await NatLab.start({ ...options, checksumOffload });
      });
      after(async () => {
        try {
          await place?.assertChecksums();
        } finally {
          await place?.stop();
        }
      });
      defineTests(() => place ?? assert.fail('the lab did not start'));
    });
  }
}

export class NatLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly #config: NatConfig;
  readonly #configFile: string;
  readonly #stateFolder: string;
  readonly #runtimeFolder: string;
  #core: RunningProcess | undefined;

  private constructor(lab: Lab, config: NatConfig) {
    this.lab = lab;
    this.#config = config;
    const folder = join(lab.directory, 'gatehouse');
    mkdirSync(folder, { mode: 0o700 });
    this.#configFile = join(folder, 'gatehouse.yaml');
    this.#stateFolder = join(folder, 'state');
    this.#runtimeFolder = join(folder, 'runtime');
  }

  static async start(options: NatLabOptions): Promise<NatLab> {
    const lab = await Lab.start(topology(options), { name: options.name });
    const place = new NatLab(lab, options.config ?? {});
    try {
      if (options.checksumOffload === 'off') await place.#mergeSegments();
      if (options.config?.fastPath === 'xdp') await place.takeRedirected();
      if (options.translator === 'masquerade') await place.#masquerade();
      else await place.run();
    } catch (error) {
      await lab.stop();
      throw error;
    }
    return place;
  }

  async stop(): Promise<void> {
    await this.lab.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  host(name: HostName): LabHost {
    return this.lab.host(name);
  }

  get core(): RunningProcess {
    return this.#core ?? assert.fail('nothing of the product runs here');
  }

  /** Starts `gatehouse run`, the first time or again. */
  async run(): Promise<void> {
    writeFileSync(this.#configFile, this.configText());
    this.#core = this.spawn();
    await untilReady(this.#core);
  }

  /** `gatehouse run`, not ready yet. */
  spawn(): RunningProcess {
    return this.host('gateway').spawn([gatehouse, 'run', '--config', this.#configFile]);
  }

  /** @param changes what differs from the config of the start */
  configText(changes: NatConfig = {}): string {
    const config = { ...this.#config, ...changes };
    const { rules = [], tables = {}, portForwards = [] } = config;
    const { wanAddress = addresses.external } = config;
    const tableTexts = Object.entries(tables).map(
      ([name, entries]) => `${name}: { addresses: ${JSON.stringify(entries)} }`,
    );
    const { guestsFiltering = 'address-and-port-dependent', lanFiltering } = config;
    const lanNat = lanFiltering === undefined ? '' : `, nat: { filtering: ${lanFiltering} }`;
    const { nat, sessions = SESSIONS, fastPath = 'auto', slowInterfaces = [] } = config;
    const slow = slowInterfaces.map((name) => `${name}: { fastPath: off }`);
    const list = (items: readonly string[]) =>
      items.length === 0 ? ' []' : items.map((item) => `\n  - ${item}`).join('');
    return `# Of a test.
version: 1
wan: { interface: wan0, address: ${wanAddress}/24, gateway: ${addresses.isp} }
networks:
  lan: { interfaces: [lan0], address: ${addresses.gatewayLan}/24${lanNat} }
  guests:
    interfaces: [guest0]
    address: ${addresses.gatewayGuests}/24
    nat: { filtering: ${guestsFiltering} }
  depot: { interfaces: [depot0], address: ${addresses.gatewayDepot}/28, nat: { mode: route } }
nat: { sessions: ${sessions}${nat === undefined ? '' : `, ${nat}`} }
dataplane: { fastPath: ${fastPath}, interfaces: { ${slow.join(', ')} } }
portForwards:${list(portForwards)}
api: { listen: ['127.0.0.1:8443'], tls: { mode: off } }
firewall:
  tables: { ${tableTexts.join(', ')} }
  rules:${list(rules).replaceAll('\n', '\n  ')}
paths: { state: ${this.#stateFolder}, runtime: ${this.#runtimeFolder} }
`;
  }

  ask(question: ControlQuestion): Promise<ControlAnswer> {
    return askCore(this.#runtimeFolder, question);
  }

  async status(): Promise<CoreStatus> {
    const answer = await this.ask({ kind: 'get-status' });
    assert.ok(answer.kind === 'status', JSON.stringify(answer));
    return answer.status;
  }

  awaitHealth(): Promise<CoreStatus> {
    const until = ({ healthy }: CoreStatus) => healthy;
    return waitFor('health', () => this.status(), { timeoutMs: TIMEOUT_MS, until });
  }

  /** Packets that went from interface to interface so far, past routing and nft. */
  async fastCount(): Promise<number> {
    return (await this.fastCounts()).all;
  }

  /** Of which some did so at XDP. */
  async fastCounts(): Promise<{ readonly all: number; readonly atXdp: number }> {
    const { nat } = await this.status();
    const countOf = (wanted: string) =>
      nat.counters.find(({ name }) => name === wanted)?.count ?? 0;
    return { all: countOf('fast'), atXdp: countOf('fastXdp') };
  }

  /** Puts a changed config in force. */
  async install(changes: NatConfig): Promise<void> {
    const configText = this.configText(changes);
    const by = { author: 'test', forced: true } as const;
    const applied = await this.ask({ kind: 'apply', configText, windowMs: 60_000, ...by });
    assert.equal(applied.kind, 'change', JSON.stringify(applied));
    const confirmed = await this.ask({ kind: 'confirm', author: 'test' });
    assert.equal(confirmed.kind, 'change', JSON.stringify(confirmed));
  }

  /** A host's command that must succeed. @returns its output */
  output(host: HostName, ...argv: readonly [string, ...string[]]): Promise<string> {
    return output(this.host(host), ...argv);
  }

  /** Everything on the WAN from now on. */
  captureWan(): Promise<LinkCapture> {
    const sentinel = { from: this.host('isp'), to: addresses.external };
    return LinkCapture.start({ interfaceName: 'wan0', ...sentinel });
  }

  /** Everything on alice's link from now on. */
  captureAlice(): Promise<LinkCapture> {
    const sentinel = { from: this.host('alice'), to: addresses.gatewayLan };
    return LinkCapture.start({ interfaceName: 'eth0', ...sentinel });
  }

  /**
   * What the internet sees of a socket inside: it sends there, and is answered.
   *
   * @param remote a socket outside
   */
  async externalEndpoint(inside: UdpSocket, remote: UdpSocket): Promise<Endpoint> {
    inside.send(endpointOf(remote), 'who am I');
    const asked = await remote.nextDatagram(ARRIVAL_MS);
    remote.send(asked.from, 'you');
    const told = await inside.nextDatagram(ARRIVAL_MS);
    assert.equal(`${told.payload}`, 'you');
    assert.deepEqual(told.from, endpointOf(remote));
    return asked.from;
  }

  /** @param name with a socket at its address, and at the port if one is wanted */
  udp(name: SpeakingHost, port = 0): UdpSocket {
    return UdpSocket.open(this.host(name), { address: addresses[name], port });
  }

  /** As `udp`, with the host's address of IPv6. */
  udp6(name: SpeakingHost, port = 0): UdpSocket {
    return UdpSocket.open(this.host(name), { address: ipv6Addresses[name], port });
  }

  /** Sets both ends of a link. */
  async setWanMtu(bytes: number): Promise<void> {
    for (const name of ['isp', 'gateway'] as const) {
      await this.output(name, 'ip', 'link', 'set', 'dev', 'wan0', 'mtu', `${bytes}`);
    }
  }

  /** No host has received a packet whose checksum was wrong. */
  async assertChecksums(): Promise<void> {
    for (const name of hostNames) {
      const text = await this.output(name, 'cat', '/proc/net/snmp', '/proc/net/snmp6');
      assert.deepEqual(wrongChecksums(text), [], `${name} received wrong checksums`);
    }
  }

  /** As network cards do it: segments with real checksums, put together before the gateway sees. */
  async #mergeSegments(): Promise<void> {
    for (const name of ['wan0', 'lan0', 'guest0', 'depot0']) {
      await this.output('gateway', 'ethtool', '-K', name, 'gro', 'on');
    }
  }

  /** The other end of a virtual link takes what is redirected to it at XDP only in this mode. */
  async takeRedirected(): Promise<void> {
    for (const [host, name] of gatewayPeers) {
      await output(this.lab.host(host), 'ethtool', '-K', name, 'gro', 'on');
    }
  }

  async #masquerade(): Promise<void> {
    const { portForwards = [] } = this.#config;
    const forwards = portForwards.map((text) => {
      const [, protocol, port, to] = /protocol: (\w+), port: (\d+), to: ([\d.:]+)/.exec(text) ?? [];
      return `iifname wan0 ${protocol} dport ${port} dnat ip to ${to}`;
    });
    const rules = `
table inet plain {
  chain prerouting { type nat hook prerouting priority dstnat; ${forwards.join('; ')}; }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname wan0 masquerade fully-random;
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname != wan0 accept
    ct state established,related accept
    ct status dnat accept
  }
}
`;
    const gateway = this.host('gateway');
    const options = { timeoutMs: TIMEOUT_MS, input: rules };
    const result = await gateway.run(['nft', '-f', '-'], options);
    assert.ok(result.success, result.stderr);
    await this.output('gateway', 'sysctl', '-w', 'net.ipv4.ip_forward=1');
  }
}

/** A capture that ends with a datagram of its own, so that nothing before that is missing. */
export class LinkCapture {
  readonly #capture: Capture;
  readonly #from: LabHost;
  readonly #to: string;
  #frames: readonly Uint8Array[] | undefined;

  private constructor(capture: Capture, { from, to }: { from: LabHost; to: string }) {
    this.#capture = capture;
    this.#from = from;
    this.#to = to;
  }

  /** @param options `from` is the host of the interface, `to` an address of the gateway there */
  static async start(options: {
    readonly interfaceName: string;
    readonly from: LabHost;
    readonly to: string;
  }): Promise<LinkCapture> {
    return new LinkCapture(await options.from.capture(options.interfaceName), options);
  }

  /** All frames until now. Safe to call again. */
  async end(): Promise<readonly Uint8Array[]> {
    if (this.#frames !== undefined) return this.#frames;
    const last = `the end ${randomUUID()}`;
    using socket = UdpSocket.open(this.#from);
    socket.send({ address: this.#to, port: DISCARD_PORT }, last);
    const read = () => this.#capture.frames().map(({ bytes }) => bytes);
    const endOf = (frames: readonly Uint8Array[]) =>
      frames.findIndex((bytes) => Buffer.from(bytes).includes(last));
    const options = { timeoutMs: ARRIVAL_MS, until: (all: Uint8Array[]) => endOf(all) >= 0 };
    const frames = await waitFor('the end of a capture', read, options);
    await this.#capture.stop();
    this.#frames = frames.slice(0, endOf(frames));
    return this.#frames;
  }

  /** As {@link Capture.packets}, until the end. */
  async packets<const F extends string>(
    fields: readonly F[],
    displayFilter?: string,
  ): Promise<Record<F, string>[]> {
    const frames = await this.end();
    const ours = `frame.number <= ${frames.length}`;
    const filter = displayFilter === undefined ? ours : `${ours} && (${displayFilter})`;
    return this.#capture.packets(fields, { displayFilter: filter });
  }
}

/** Where the gateway offers nothing. */
const DISCARD_PORT = 9;

/** Of a socket whose address is not any. */
export function endpointOf(socket: UdpSocket): Endpoint {
  const { local } = socket;
  assert.notEqual(local.address, '0.0.0.0');
  return local;
}

/**
 * No packet of a capture on the WAN shows an address of the inside: not as source or destination,
 * not within an ICMP error, not in ARP.
 */
export async function assertNoInsideAddress(capture: LinkCapture): Promise<void> {
  const fields = ['frame.number', 'ip.src', 'ip.dst', 'arp.src.proto_ipv4', 'arp.dst.proto_ipv4'];
  const packets = await capture.packets([...fields, '_ws.col.Info']);
  assert.notEqual(packets.length, 0, 'nothing was captured');
  const shown = packets.filter((packet) =>
    fields
      .slice(1)
      .some((field) => (packet[field] ?? '').split(',').some((one) => INSIDE.test(one))),
  );
  assert.deepEqual(shown, []);
}

const hostNames = [
  ...(['alice', 'bob', 'guest', 'depot', 'gateway'] as const),
  ...(['isp', 'server', 'stranger', 'narrow', 'far'] as const),
] as const satisfies readonly HostName[];

/**
 * Counters of /proc/net/snmp, a line of names and one of values for each protocol, and of snmp6, a
 * line each.
 */
function wrongChecksums(text: string): string[] {
  const lines = text.split('\n');
  return lines.flatMap((line, index) => {
    const [, name6, count6] = /^(\w+6InCsumErrors)\s+(\d+)$/.exec(line) ?? [];
    if (name6 !== undefined) return count6 === '0' ? [] : [`${name6} ${count6}`];
    const names = line.split(' ');
    const at = names.indexOf('InCsumErrors');
    const count = lines[index + 1]?.split(' ')[at];
    return at < 0 || count === '0' ? [] : [`${names[0]} ${count}`];
  });
}

/** Of the gateway's links. */
const gatewayPeers = [
  ['isp', 'wan0'],
  ['switch', 'gateway'],
  ['guest', 'eth0'],
  ['depot', 'eth0'],
] as const;

/** Without IPv6 and with every ICMP error, so that a test sees what it caused and all of that. */
const quiet = {
  'net.ipv6.conf.all.disable_ipv6': '1',
  'net.ipv6.conf.default.disable_ipv6': '1',
  'net.ipv4.icmp_ratelimit': '0',
};
const router = { ...quiet, 'net.ipv4.ip_forward': '1' };

function topology(options: NatLabOptions): Topology {
  return options.ipv6 === true ? addIpv6(ipv4Topology(options)) : ipv4Topology(options);
}

function ipv4Topology({ checksumOffload, impaired = {} }: NatLabOptions): Topology {
  const host = (address: string, via: string) => ({
    addresses: { eth0: [address] },
    routes: [{ to: 'default', via }],
    sysctls: quiet,
  });
  const link = (...ends: [string, string]): LinkDescription => ({ ends, checksumOffload });
  const linkOf = (name: 'alice' | 'server', ...ends: [string, string]): LinkDescription => {
    const impairment = impaired[name];
    if (impairment === undefined) return link(...ends);
    return { ends, impairment: inBothDirections(impairment) };
  };
  return {
    hosts: {
      alice: host(`${addresses.alice}/24`, addresses.gatewayLan),
      bob: host(`${addresses.bob}/24`, addresses.gatewayLan),
      guest: host(`${addresses.guest}/24`, addresses.gatewayGuests),
      depot: host(`${addresses.depot}/28`, addresses.gatewayDepot),
      switch: { bridges: { switch0: ['gateway', 'alice', 'bob'] }, sysctls: quiet },
      gateway: {
        addresses: {
          wan0: [`${addresses.external}/24`],
          lan0: [`${addresses.gatewayLan}/24`],
          guest0: [`${addresses.gatewayGuests}/24`],
          depot0: [`${addresses.gatewayDepot}/28`],
        },
        routes: [{ to: 'default', via: addresses.isp }],
        sysctls: { ...quiet, 'net.ipv4.ip_forward': '0' },
      },
      isp: {
        addresses: {
          wan0: [`${addresses.isp}/24`],
          server0: ['203.0.113.1/25'],
          stranger0: ['203.0.113.129/25'],
          narrow0: ['192.0.2.1/30'],
        },
        routes: [
          { to: '192.0.2.128/26', via: addresses.narrow },
          { to: '192.0.2.16/28', via: addresses.external },
          { to: '192.0.2.200/29', via: addresses.external },
        ],
        sysctls: router,
      },
      server: {
        addresses: { eth0: [`${addresses.server}/25`, `${addresses.serverToo}/25`] },
        routes: [{ to: 'default', via: '203.0.113.1' }],
        sysctls: quiet,
      },
      stranger: host(`${addresses.stranger}/25`, '203.0.113.129'),
      narrow: {
        addresses: { isp0: [`${addresses.narrow}/30`], far0: ['192.0.2.129/26'] },
        routes: [{ to: 'default', via: '192.0.2.1' }],
        sysctls: router,
      },
      far: host(`${addresses.far}/26`, '192.0.2.129'),
    },
    links: {
      alice: linkOf('alice', 'alice:eth0', 'switch:alice'),
      bob: link('bob:eth0', 'switch:bob'),
      lan: link('switch:gateway', 'gateway:lan0'),
      guest: link('guest:eth0', 'gateway:guest0'),
      depot: link('depot:eth0', 'gateway:depot0'),
      wan: link('gateway:wan0', 'isp:wan0'),
      server: linkOf('server', 'isp:server0', 'server:eth0'),
      stranger: link('isp:stranger0', 'stranger:eth0'),
      narrow: { ...link('isp:narrow0', 'narrow:isp0'), mtu: NARROW_MTU },
      far: link('narrow:far0', 'far:eth0'),
    },
  };
}
