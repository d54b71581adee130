/**
 * The lab: virtual networks of real kernels, for the demo, tests and benchmarks.
 *
 * ```ts
 * await using lab = await Lab.start({
 *   hosts: {
 *     left: { addresses: { eth0: ['10.0.0.1/24'] } },
 *     right: { addresses: { eth0: ['10.0.0.2/24'] } },
 *   },
 *   links: { wire: { ends: ['left:eth0', 'right:eth0'], impairment: {} } },
 * });
 * const ping = await lab.host('left').run(['ping', '-c1', '10.0.0.2'], { timeoutMs: 5000 });
 * const server = lab.host('right').spawn(['iperf3', '-s', '--forceflush']);
 * await server.waitForOutput(/listening/, 5000);
 * await lab.link('wire').impair({ firstToSecond: { lossPercent: 10 } });
 * const capture = await lab.host('right').capture('eth0', { filter: 'icmp' });
 * ```
 *
 * A host is a network namespace `gh-<instance>-<host>`; nothing ever stands in the machine's own
 * one, so labs run side by side. `stop` removes everything. A lab whose process was killed is
 * removed by the next `Lab.start` on the machine, or by `node lab/clean.ts` (ownership.ts says
 * how). Needs root, iproute2, ethtool, util-linux, for captures tcpdump and tshark.
 */
import {
  type Argv,
  describeFailure,
  runCommand,
  type StartOptions,
} from '../src/linux/command-runner.ts';
import { LabHost } from './lab-host.ts';
import { LabLink } from './lab-link.ts';
import { type ImpairedLinkPlan, type LabPlan, planLab } from './lab-plan.ts';
import {
  type CleaningReport,
  claimInstance,
  cleanLeftovers,
  OWNER_VARIABLE,
  type OwnedInstance,
  removeInstance,
} from './ownership.ts';
import { type Topology, TopologyError, validateTopology } from './topology.ts';

export type { LabHost, LabLink };

export interface LabOptions {
  /** Begins the instance's name: a letter, then up to 15 letters and digits. Default: `lab`. */
  readonly name?: string;
  /** Called with every command before it starts, for a log. */
  readonly onCommand?: (argv: Argv) => void;
}

export class Lab {
  /** Unique on this machine, for example `lab-1f0c22a9`. */
  readonly instance: string;
  /** For files of this lab: private to root and removed by `stop`. */
  readonly directory: string;
  /** What the start removed of earlier, killed labs. */
  readonly leftovers: CleaningReport;
  readonly #owned: OwnedInstance;
  readonly #hosts: ReadonlyMap<string, LabHost>;
  readonly #links = new Map<string, LabLink>();
  #stopped: Promise<void> | undefined;

  private constructor(
    owned: OwnedInstance,
    hosts: ReadonlyMap<string, LabHost>,
    leftovers: CleaningReport,
  ) {
    this.instance = owned.instance;
    this.directory = owned.directory;
    this.leftovers = leftovers;
    this.#owned = owned;
    this.#hosts = hosts;
  }

  /**
   * Brings a network up: all addresses usable, all processes started and, where they say how,
   * ready. Removes leftovers of killed labs first.
   *
   * @throws TopologyError before anything is made; Error with the failed command otherwise, after
   *   removing what was made
   */
  static async start(topology: Topology, options: LabOptions = {}): Promise<Lab> {
    const faults = validateTopology(topology);
    if (faults.length > 0) throw new TopologyError(faults);
    const leftovers = await cleanLeftovers();
    const owned = claimInstance(options.name ?? 'lab');
    const plan = planLab(topology, owned.instance);
    const hosts = new Map(
      [...plan.namespaces].map(([name, namespace]) => [
        name,
        new LabHost({ name, namespace, owned, onCommand: options.onCommand }),
      ]),
    );
    const lab = new Lab(owned, hosts, leftovers);
    try {
      await lab.#bringUp(plan, options.onCommand);
      await lab.#startProcesses(topology);
    } catch (error) {
      await lab.stop().catch((stopError: unknown) => {
        throw new AggregateError([error, stopError], 'a lab came neither up nor down');
      });
      throw error;
    }
    return lab;
  }

  /** @throws Error when the topology has no such host */
  host(name: string): LabHost {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`the lab has no host '${name}'`);
    return host;
  }

  /** @throws Error when the topology has no link of that name with `impairment` */
  link(name: string): LabLink {
    const link = this.#links.get(name);
    if (link === undefined) throw new Error(`the lab has no link '${name}' with an impairment`);
    return link;
  }

  /** Ends all processes, then removes all that the lab made. Safe to call again. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stopProcesses()));
    await removeInstance(this.#owned);
    await Promise.all([...this.#links.values()].map((link) => link.stop()));
  }

  async #bringUp(plan: LabPlan, onCommand: LabOptions['onCommand']): Promise<void> {
    const batch = (lines: readonly string[], networkNamespace?: string) =>
      runBatch(lines, {
        env: { [OWNER_VARIABLE]: this.instance },
        ...(networkNamespace === undefined ? {} : { networkNamespace }),
        ...(onCommand === undefined ? {} : { onCommand }),
      });
    const hostBatches = (batches: ReadonlyMap<string, readonly string[]>) =>
      Promise.all([...batches].map(([name, lines]) => batch(lines, this.host(name).namespacePath)));

    await batch(plan.makeNamespaces);
    for (const host of this.#hosts.values()) host.setSysctls(plan.defaultSysctls, 'where-present');
    await Promise.all([
      batch(plan.makeLinks),
      ...plan.impairedLinks.map((link) => this.#startImpairedLink(link, onCommand)),
    ]);
    await hostBatches(plan.makeBridges);
    for (const [name, settings] of plan.hostSysctls) {
      this.host(name).setSysctls(settings, 'required');
    }
    await Promise.all(
      plan.checksumCommands.map(async ({ host, argv }) => {
        const result = await this.host(host).run(argv, { timeoutMs: COMMAND_TIMEOUT_MS });
        if (!result.success) throw new Error(describeFailure(argv, result));
      }),
    );
    await hostBatches(plan.configureHosts);
    await Promise.all(
      [...plan.awaitedInterfaces].map(([name, names]) => this.host(name).waitForCarriers(names)),
    );
  }

  async #startImpairedLink(
    plan: ImpairedLinkPlan,
    onCommand: LabOptions['onCommand'],
  ): Promise<void> {
    const { name, impairment } = plan;
    const [first, second] = plan.ends;
    const place = (end: typeof first) => ({
      namespacePath: this.host(end.host).namespacePath,
      interfaceName: end.interfaceName,
    });
    const link = new LabLink(name, {
      env: { [OWNER_VARIABLE]: this.instance },
      killWithParent: true,
      ...(onCommand === undefined ? {} : { onCommand }),
    });
    this.#links.set(name, link);
    await link.start({
      ends: [place(first), place(second)],
      seed: impairment.seed ?? 1,
      firstToSecond: impairment.firstToSecond ?? {},
      secondToFirst: impairment.secondToFirst ?? {},
    });
  }

  async #startProcesses(topology: Topology): Promise<void> {
    for (const [name, host] of Object.entries(topology.hosts)) {
      for (const { argv, env, ready } of host.processes ?? []) {
        const started = this.host(name).spawn(argv, env === undefined ? {} : { env });
        if (ready !== undefined) await started.waitForOutput(ready, READY_TIMEOUT_MS);
      }
    }
  }
}

/** Any command here takes milliseconds; a machine under load may take seconds. */
const COMMAND_TIMEOUT_MS = 20_000;
/** For a process of the topology, or an impaired link, to say that it is ready. */
const READY_TIMEOUT_MS = 20_000;

async function runBatch(lines: readonly string[], options: StartOptions): Promise<void> {
  if (lines.length === 0) return;
  const argv = ['ip', '-batch', '-'] as const;
  const result = await runCommand(argv, {
    ...options,
    timeoutMs: COMMAND_TIMEOUT_MS,
    input: `${lines.join('\n')}\n`,
    killWithParent: true,
  });
  if (result.success) return;
  const lineNumber = Number(/Command failed -:(\d+)/.exec(result.stderr)?.[1]);
  const line = lines[lineNumber - 1];
  const where = line === undefined ? '' : ` at 'ip ${line}'`;
  throw new Error(`${describeFailure(argv, result)}${where}`);
}
