import { writeFileSync } from 'node:fs';
import {
  type Argv,
  type CommandOptions,
  type CommandResult,
  describeFailure,
  type RunningProcess,
  runCommand,
  type StartOptions,
  startProcess,
} from '../src/linux/command-runner.ts';
import { inNetworkNamespace } from '../src/linux/libc.ts';
import { Capture, type CaptureOptions } from './capture.ts';
import type { SysctlSetting } from './lab-plan.ts';
import { NAMESPACES_DIRECTORY, OWNER_VARIABLE, type OwnedInstance } from './ownership.ts';
import { waitFor } from './wait-for.ts';

/** A look at the interfaces takes milliseconds, and a new link is up within a second. */
const COMMAND_TIMEOUT_MS = 20_000;
const CARRIER_TIMEOUT_MS = 20_000;

/** Options of a command in a host. */
export type HostCommandOptions = Omit<CommandOptions, 'networkNamespace'>;
export type HostProcessOptions = Omit<StartOptions, 'networkNamespace' | 'killWithParent'>;

/** One machine of a lab: a network namespace, and what is started in it. */
/**
 * An interface of the lab. The namespace is required: without it, a measurement would flood the
 * machine's own network.
 */
export interface LabInterface {
  readonly interface: string;
  /** {@link LabHost.namespacePath} */
  readonly networkNamespace: string;
}

export class LabHost {
  readonly name: string;
  /** The namespace's file, `/run/netns/gh-<instance>-<host>`. */
  readonly namespacePath: string;
  readonly #owned: OwnedInstance;
  readonly #onCommand: StartOptions['onCommand'] | undefined;
  readonly #processes: RunningProcess[] = [];

  constructor(options: {
    name: string;
    namespace: string;
    owned: OwnedInstance;
    onCommand: StartOptions['onCommand'] | undefined;
  }) {
    this.name = options.name;
    this.namespacePath = `${NAMESPACES_DIRECTORY}/${options.namespace}`;
    this.#owned = options.owned;
    this.#onCommand = options.onCommand;
  }

  /** Runs a command in this host to its end; what goes wrong with it stands in the result. */
  run(argv: Argv, options: HostCommandOptions): Promise<CommandResult> {
    return runCommand(argv, { ...options, ...this.#startOptions(options) });
  }

  /** Starts a program in this host. It ends with the lab, however the lab ends. */
  spawn(argv: Argv, options: HostProcessOptions = {}): RunningProcess {
    const started = startProcess(argv, { ...options, ...this.#startOptions(options) });
    this.#processes.push(started);
    return started;
  }

  /** All that was started by `spawn`, the topology's processes first, ended ones included. */
  get processes(): readonly RunningProcess[] {
    return this.#processes;
  }

  /**
   * Runs a function with this thread inside the host, to make sockets, look up interfaces, attach
   * programs. Synchronous: nothing after an await is inside.
   */
  enter<T>(action: () => T): T {
    return inNetworkNamespace(this.namespacePath, action);
  }

  /** Captures on an interface. Frames that come after this has returned are in the capture. */
  async capture(interfaceName: string, options: CaptureOptions = {}): Promise<Capture> {
    return Capture.start({
      ...options,
      interfaceName,
      directory: this.#owned.directory,
      spawn: (argv) => this.spawn(argv),
    });
  }

  /** Writes settings; a file that this kernel does not have is an error or passed over. */
  setSysctls(settings: readonly SysctlSetting[], missing: 'required' | 'where-present'): void {
    this.enter(() => {
      for (const { path, value } of settings) {
        try {
          writeFileSync(path, value);
        } catch (cause) {
          const { code } = cause as NodeJS.ErrnoException;
          if (code === 'ENOENT' && missing === 'where-present') continue;
          throw new Error(`cannot write '${value}' to ${path} in ${this.name}: ${code}`, { cause });
        }
      }
    });
  }

  /** Waits until each interface takes frames to send, and forwards if it is a bridge's port. */
  async waitForCarriers(interfaceNames: readonly string[]): Promise<void> {
    if (interfaceNames.length === 0) return;
    const argv = ['ip', '-json', '-details', 'link', 'show'] as const;
    const observe = async () => {
      const result = await this.run(argv, { timeoutMs: COMMAND_TIMEOUT_MS });
      if (!result.success) throw new Error(describeFailure(argv, result));
      const links: readonly ShownLink[] = JSON.parse(result.stdout);
      return interfaceNames.filter(
        (name) => !links.some((link) => link.ifname === name && carriesFrames(link)),
      );
    };
    await waitFor(`links of ${this.name} to carry frames`, observe, {
      timeoutMs: CARRIER_TIMEOUT_MS,
      until: (idle) => idle.length === 0,
    });
  }

  async stopProcesses(): Promise<void> {
    await Promise.all(this.#processes.map((started) => started.stop()));
  }

  #startOptions(options: StartOptions): StartOptions {
    const onCommand = options.onCommand ?? this.#onCommand;
    return {
      networkNamespace: this.namespacePath,
      killWithParent: true,
      env: { ...options.env, [OWNER_VARIABLE]: this.#owned.instance },
      ...(onCommand === undefined ? {} : { onCommand }),
    };
  }
}

/** What is read of `ip -json -details link show`. */
interface ShownLink {
  readonly ifname: string;
  readonly operstate: string;
  readonly qdisc: string;
  readonly linkinfo?: {
    readonly info_slave_kind?: string;
    readonly info_slave_data?: { readonly state?: string };
  };
}

/** A link is shown as up before its queue is there; TAP devices never say that they are up. */
function carriesFrames({ operstate, qdisc, linkinfo }: ShownLink): boolean {
  const isPort = linkinfo?.info_slave_kind === 'bridge';
  if (isPort && linkinfo.info_slave_data?.state !== 'forwarding') return false;
  return (operstate === 'UP' || operstate === 'UNKNOWN') && qdisc !== 'noop';
}
