/** The processes without rights that the core keeps alive, and what it tells them. */
import type { Config } from '../../config/schema.ts';
import { type RoleStatus, Supervision } from '../../gateway/supervision.ts';
import type { CoreMessage, RoleMessage } from '../../messages/role-messages.ts';
import { requireEndpoint } from '../../net/endpoint.ts';
import { formatIpAddress, isLoopback } from '../../net/ip-address.ts';
import { RoleSupervisor } from '../role-supervisor.ts';
import type { PacketCounting } from './packet-counting.ts';

type ListenPlace = Extract<CoreMessage, { kind: 'begin' }>['listen'][number];

export interface CoreRolesOptions {
  /** How this program is started, without its words. */
  readonly program: readonly [string, ...string[]];
  readonly version: string;
  /** The account that the roles run as. */
  readonly user: string;
  /** Of the API's Unix socket, which is always there. */
  readonly apiSocketPath: string;
  readonly config: Config;
  readonly counting: PacketCounting;
  readonly onApiReady: (addresses: readonly string[]) => void;
  readonly alarm: (text: string) => void;
  readonly log: (text: string) => void;
}

export class CoreRoles {
  readonly #options: CoreRolesOptions;
  readonly #supervision = new Supervision(['api']);
  readonly #supervisor: RoleSupervisor;
  #listen: readonly ListenPlace[];
  #addresses: readonly string[] = [];
  /** The last alarm of each role. */
  readonly #told = new Map<string, { readonly lastExit: string; readonly at: number }>();

  constructor(options: CoreRolesOptions) {
    const { program, version, user, counting, log } = options;
    this.#options = options;
    this.#listen = listenPlaces(options.config, options.apiSocketPath);
    this.#supervisor = new RoleSupervisor({
      supervision: this.#supervision,
      now,
      roles: {
        api: {
          argv: [...program, 'role', 'api'],
          begin: () => ({ kind: 'begin', version, user, listen: [...this.#listen] }),
          answer: (question) => answer(question, counting),
        },
      },
      onReady: (_role, addresses) => {
        this.#addresses = addresses;
        options.onApiReady(addresses);
      },
      onStatus: (statuses) => this.#handleStatuses(statuses),
      report: log,
    });
    this.#supervisor.start();
  }

  /** Where the API answers. */
  get apiAddresses(): readonly string[] {
    return this.#addresses;
  }

  /** With the time since they are in their phase. */
  statuses(): (RoleStatus & { readonly forMs: number })[] {
    const at = now();
    return this.#supervision.statuses().map((status) => {
      return { ...status, forMs: Math.max(0, at - status.sinceAt) };
    });
  }

  /** Takes up what a new config says. */
  follow(config: Config): void {
    const listen = listenPlaces(config, this.#options.apiSocketPath);
    if (JSON.stringify(listen) === JSON.stringify(this.#listen)) return;
    this.#listen = listen;
    this.#supervisor.restart('api', 'its addresses have changed');
  }

  async stop(): Promise<void> {
    await this.#supervisor.stop();
  }

  #handleStatuses(statuses: readonly RoleStatus[]): void {
    for (const { role, phase, lastExit } of statuses) {
      if (phase !== 'waiting' || lastExit === undefined) continue;
      if (role === 'api') this.#addresses = [];
      // A role that cannot start says the same twice a minute.
      const told = this.#told.get(role);
      if (told?.lastExit === lastExit && now() - told.at < TELL_AGAIN_AFTER_MS) continue;
      this.#told.set(role, { lastExit, at: now() });
      this.#options.alarm(`role ${role} ended (${lastExit}) and is started again`);
    }
  }
}

/** The same end of a role is news again after this time. */
const TELL_AGAIN_AFTER_MS = 10 * 60 * 1_000;

/** Until connections are encrypted and accounts exist, the API answers on loopback only. */
function listenPlaces({ api }: Config, socketPath: string): ListenPlace[] {
  const endpoints = api.tls.mode === 'off' ? api.listen.map(requireEndpoint) : [];
  const own = endpoints.filter(({ address }) => isLoopback(address));
  return [
    { path: socketPath },
    ...own.map(({ address, port }) => ({ host: formatIpAddress(address), port })),
  ];
}

/** What a role may know. */
function answer(question: RoleMessage, counting: PacketCounting): CoreMessage | undefined {
  if (question.kind !== 'get-protocol-counts') return undefined;
  const { counts, uncountedPackets } = counting.counts();
  return {
    kind: 'protocol-counts',
    id: question.id,
    counts: counts.map((row) => ({
      ...row,
      packets: row.packets.toString(),
      bytes: row.bytes.toString(),
    })),
    uncountedPackets: uncountedPackets.toString(),
  };
}

/** Monotonic, in milliseconds. */
function now(): number {
  return performance.now();
}
