/**
 * The product between real neighbours: an internet, a gateway on which `gatehouse run` runs, and a
 * laptop behind it. Everything of an instance lies in one folder of the lab.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { waitFor } from '../../lab/wait-for.ts';

import type { NftTable } from '../../src/firewall/nft-table.ts';
import { clearTcPlace, tcDirections } from '../../src/linux/attach.ts';
import type { Argv, CommandResult, RunningProcess } from '../../src/linux/command-runner.ts';
import { openNft } from '../../src/linux/nft.ts';
import {
  asControlAnswer,
  CONTROL_SOCKET_NAME,
  type ControlAnswer,
  type ControlQuestion,
  type CoreStatus,
  REVISIONS_PER_ANSWER_MAX,
  type RevisionSummary,
} from '../../src/messages/control-messages.ts';

export const gatehouse = join(import.meta.dirname, '../../bin/gatehouse');

/** Only bounds a hang. */
export const TIMEOUT_MS = 60_000;

/** As long as the command line waits, and a little. */
const ANSWER_TIMEOUT_MS = 150_000;

/** As the command line's exit codes are documented. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  configProblems: 3,
  notRunning: 4,
  refused: 5,
  toTell: 6,
} as const;

export const macs = {
  internet: '02:00:00:00:00:01',
  wan: '02:00:00:00:00:02',
  lan: '02:00:00:00:00:03',
  laptop: '02:00:00:00:00:04',
} as const;

export const addresses = {
  internet: '198.51.100.254',
  gatewayWan: '198.51.100.1',
  gatewayLan: '10.77.0.1',
  laptop: '10.77.0.2',
} as const;

/** Without IPv6, so that nobody sends what a test did not ask for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };

export interface ConfigOptions {
  /** Each as a flow mapping of YAML. */
  readonly rules?: readonly string[];
  /** As a flow mapping of YAML. */
  readonly tables?: string;
  readonly foreignChanges?: 'restore' | 'report';
  readonly lanAddress?: string;
  /** Default: the laptop's network. */
  readonly networks?: string;
}

export class GatehouseLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly gateway: LabHost;
  readonly laptop: LabHost;
  readonly internet: LabHost;
  /** Everything of the instance. */
  readonly folder: string;
  readonly configFile: string;
  readonly stateFolder: string;
  readonly runtimeFolder: string;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.gateway = lab.host('gateway');
    this.laptop = lab.host('laptop');
    this.internet = lab.host('internet');
    this.folder = join(lab.directory, 'gatehouse');
    mkdirSync(this.folder, { mode: 0o700 });
    this.configFile = join(this.folder, 'gatehouse.yaml');
    this.stateFolder = join(this.folder, 'state');
    this.runtimeFolder = join(this.folder, 'runtime');
  }

  /** Nothing of the product runs yet. The gateway does not forward, as after its boot. */
  static async start(name: string): Promise<GatehouseLab> {
    const lab = await Lab.start(
      {
        hosts: {
          internet: {
            addresses: { eth0: [`${addresses.internet}/24`] },
            // The way back: nobody translates addresses here.
            routes: [{ to: '10.77.0.0/24', via: addresses.gatewayWan }],
            sysctls: quiet,
          },
          gateway: {
            addresses: {
              wan0: [`${addresses.gatewayWan}/24`],
              lan0: [`${addresses.gatewayLan}/24`],
            },
            sysctls: { ...quiet, 'net.ipv4.ip_forward': '0' },
          },
          laptop: {
            addresses: { eth0: [`${addresses.laptop}/24`] },
            routes: [{ to: 'default', via: addresses.gatewayLan }],
            sysctls: quiet,
          },
        },
        links: {
          wan: { ends: ['internet:eth0', 'gateway:wan0'], macs: [macs.internet, macs.wan] },
          lan: { ends: ['gateway:lan0', 'laptop:eth0'], macs: [macs.lan, macs.laptop] },
        },
      },
      { name },
    );
    return new GatehouseLab(lab);
  }

  async stop(): Promise<void> {
    await this.lab.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The text of a config of this gateway. */
  config(options: ConfigOptions = {}): string {
    const {
      rules = [],
      tables = '{}',
      foreignChanges,
      lanAddress = `${addresses.gatewayLan}/24`,
    } = options;
    // Addresses are as they are on both sides, for tests that look at other things than the NAT.
    const lan = `{ interfaces: [lan0], address: ${lanAddress}, nat: { mode: route } }`;
    const { networks = `{ lan: ${lan} }` } = options;
    return `# Of a test.
version: 1
wan: { interface: wan0, address: ${addresses.gatewayWan}/24, gateway: ${addresses.internet} }
networks: ${networks}
nat: { sessions: 1024 }
api: { listen: ['127.0.0.1:8443'], tls: { mode: off } }
firewall:
${foreignChanges === undefined ? '' : `  foreignChanges: ${foreignChanges}\n`}  tables: ${tables}
  rules:
${rules.length === 0 ? '    []' : rules.map((rule) => `    - ${rule}`).join('\n')}
paths: { state: ${this.stateFolder}, runtime: ${this.runtimeFolder} }
`;
  }

  /** Writes the config file. @returns its text */
  writeConfig(options: ConfigOptions = {}): string {
    const text = this.config(options);
    writeFileSync(this.configFile, text);
    return text;
  }

  readConfig(): string {
    return readFileSync(this.configFile, 'utf8');
  }

  /** Another config beside that of the gateway. @returns its path */
  writeOther(name: string, text: string): string {
    const path = join(this.folder, name);
    writeFileSync(path, text);
    return path;
  }

  /** `gatehouse run`, not ready yet. */
  spawn(options: { env?: Readonly<Record<string, string>> } = {}): RunningProcess {
    return this.gateway.spawn([gatehouse, 'run', '--config', this.configFile], options);
  }

  async run(options: { env?: Readonly<Record<string, string>> } = {}): Promise<RunningProcess> {
    const running = this.spawn(options);
    await untilReady(running);
    return running;
  }

  /**
   * Ends the instance and forgets what it knew, in the kernel and on disk.
   *
   * @param options.keepsNat the NAT's programs stay for the next instance, for tests that are not
   *   about them: the kernel would take a second to look through them again
   */
  async reset({ keepsNat = false }: { readonly keepsNat?: boolean } = {}): Promise<void> {
    await this.killAll();
    await output(this.gateway, 'nft', 'flush', 'ruleset');
    const record = join(this.runtimeFolder, 'nat-programs.json');
    const programs = keepsNat && existsSync(record) ? readFileSync(record) : undefined;
    for (const folder of [this.stateFolder, this.runtimeFolder]) {
      rmSync(folder, { recursive: true, force: true });
    }
    await output(this.gateway, 'sysctl', '-w', 'net.ipv4.ip_forward=0');
    if (programs !== undefined) {
      mkdirSync(this.runtimeFolder, { mode: 0o700 });
      writeFileSync(record, programs);
      return;
    }
    const { namespacePath: networkNamespace } = this.gateway;
    for (const name of ['wan0', 'lan0']) {
      for (const direction of tcDirections) {
        for (const one of ['counting', 'nat'] as const) {
          clearTcPlace({ interface: name, networkNamespace }, direction, one);
        }
      }
    }
  }

  /** A command line on the gateway's console. */
  command(...words: string[]): Promise<CommandResult> {
    const argv: Argv = [gatehouse, '--config', this.configFile, ...words];
    return this.gateway.run(argv, { timeoutMs: TIMEOUT_MS });
  }

  /** A command line that has to end with this code. */
  async expectCode(code: number, ...words: string[]): Promise<CommandResult> {
    const result = await this.command(...words);
    const said = `gatehouse ${words.join(' ')} ended with ${result.code}: ${saidBy(result)}`;
    assert.equal(result.code, code, said);
    return result;
  }

  /** Asks the core as the command line does, without the time that a new process takes. */
  ask(question: ControlQuestion): Promise<ControlAnswer> {
    return askCore(this.runtimeFolder, question);
  }

  async status(): Promise<CoreStatus> {
    const answer = await this.ask({ kind: 'get-status' });
    assert.ok(answer.kind === 'status', JSON.stringify(answer));
    return answer.status;
  }

  async revisions(): Promise<readonly RevisionSummary[]> {
    const answer = await this.ask({ kind: 'get-revisions', limit: REVISIONS_PER_ANSWER_MAX });
    assert.ok(answer.kind === 'revisions', JSON.stringify(answer));
    return answer.revisions;
  }

  /** The status once it is as wanted. */
  awaitStatus(
    description: string,
    until: (status: CoreStatus) => boolean,
    { timeoutMs = TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
  ): Promise<CoreStatus> {
    return waitFor(description, () => this.status(), { timeoutMs, until });
  }

  /** Everything runs, roles included, and nothing is wrong. */
  awaitHealth(options: { readonly timeoutMs?: number } = {}): Promise<CoreStatus> {
    return this.awaitStatus('health', ({ healthy }) => healthy, options);
  }

  /** Applies a text and confirms it. @returns its revision */
  async install(configText: string): Promise<number> {
    const by = { author: 'test', forced: true } as const;
    const applied = await this.ask({ kind: 'apply', configText, windowMs: 60_000, ...by });
    assert.equal(applied.kind, 'change', JSON.stringify(applied));
    const confirmed = await this.ask({ kind: 'confirm', author: 'test' });
    assert.ok(confirmed.kind === 'change', JSON.stringify(confirmed));
    return confirmed.revision ?? assert.fail(JSON.stringify(confirmed));
  }

  /** The kernel's table, by nft. */
  async table(): Promise<NftTable | undefined> {
    const nft = openNft({ networkNamespace: this.gateway.namespacePath });
    const listing = await nft.list();
    assert.ok(listing.success, listing.success ? '' : listing.message);
    return listing.table;
  }

  /** Names of the config's rules that the kernel has. */
  async ruleNames(): Promise<string[]> {
    const rules = (await this.table())?.rules ?? [];
    const names = rules.flatMap(({ comment }) => /^rule ([^/:]+)/.exec(comment ?? '')?.[1] ?? []);
    return [...new Set(names)];
  }

  /** Packets that a rule of the config has matched. */
  async matched(rule: string): Promise<number> {
    const text = await output(this.gateway, 'nft', 'list', 'table', 'inet', 'gatehouse');
    const counts = [...text.matchAll(/counter packets (\d+) .*comment "rule ([^/:"]+)/g)];
    const own = counts.filter(([, , name]) => name === rule);
    return own.reduce((sum, [, packets]) => sum + Number(packets), 0);
  }

  /** Processes of the product on this gateway: core, roles, guards. */
  processes(): { readonly pid: number; readonly argv: readonly string[] }[] {
    return processesIn(this.gateway).filter(({ argv }) =>
      argv.some((word) => word.endsWith('/src/main.ts')),
    );
  }

  guards(): number[] {
    const own = this.processes().filter(({ argv }) => argv.includes('rollback-guard'));
    return own.map(({ pid }) => pid);
  }

  /** Ends core, roles and guards by SIGKILL, and waits until they and their nft are gone. */
  async killAll(): Promise<void> {
    const found = () => [...this.processes().map(({ pid }) => pid), ...this.nftProcesses()];
    await waitFor(
      'the end of all processes of the product',
      () => {
        const pids = found();
        for (const pid of pids) sendSignal(pid, 'SIGKILL');
        return pids;
      },
      { timeoutMs: TIMEOUT_MS, until: (pids) => pids.length === 0 },
    );
  }

  nftProcesses(): number[] {
    const own = processesIn(this.gateway).filter(({ argv }) =>
      argv.some((word) => word === 'nft' || word.endsWith('/nft')),
    );
    return own.map(({ pid }) => pid);
  }

  /** The sinks and generators of packets must not depend on who answers ARP. */
  async fixNeighbours(): Promise<void> {
    const neighbours = [
      ['wan0', addresses.internet, macs.internet],
      ['lan0', addresses.laptop, macs.laptop],
    ] as const;
    for (const [name, address, mac] of neighbours) {
      const argv = ['ip', 'neigh', 'replace', address, 'lladdr', mac, 'dev', name] as const;
      await output(this.gateway, ...argv, 'nud', 'permanent');
    }
  }
}

/** Waits for the line by which the product says that it is ready. */
export async function untilReady(running: RunningProcess): Promise<void> {
  await running.waitForOutput(/^gatehouse .* runs/m, TIMEOUT_MS);
}

/** SIGKILL. A guard of the change under way lives on. */
export async function kill(running: RunningProcess): Promise<void> {
  const pid = pidOf(running);
  sendSignal(pid, 'SIGKILL');
  await waitFor(`the end of process ${pid}`, () => !isAlive(pid), { timeoutMs: TIMEOUT_MS });
}

/** @returns the exit code; null after a signal */
export async function end(running: RunningProcess, signal: NodeJS.Signals = 'SIGTERM') {
  sendSignal(pidOf(running), signal);
  return exitCodeOf(running);
}

/** Waits until nobody holds its output any more, a guard included. */
export async function exitCodeOf(running: RunningProcess): Promise<number | null> {
  let ended: { readonly code: number | null } | undefined;
  void running.exited.then((exit) => {
    ended = exit;
  });
  await waitFor(`${running.argv.join(' ')} to end`, () => ended !== undefined, {
    timeoutMs: TIMEOUT_MS,
  });
  return ended?.code ?? null;
}

export function pidOf(running: RunningProcess): number {
  return running.pid ?? assert.fail('never started');
}

export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]$/.test(stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3));
  } catch {
    return false;
  }
}

export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
}

/** Processes in a host's network namespace, whoever started them. */
function processesIn(host: LabHost): { readonly pid: number; readonly argv: readonly string[] }[] {
  const link = `net:[${statSync(host.namespacePath).ino}]`;
  return readdirSync('/proc').flatMap((entry) => {
    try {
      if (!/^\d+$/.test(entry) || readlinkSync(`/proc/${entry}/ns/net`) !== link) return [];
      const argv = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0').slice(0, -1);
      return argv.length === 0 ? [] : [{ pid: Number(entry), argv }];
    } catch {
      // It has ended meanwhile.
      return [];
    }
  });
}

export async function output(host: LabHost, ...argv: Argv): Promise<string> {
  const result = await host.run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `${argv.join(' ')}: ${saidBy(result)}`);
  return result.stdout;
}

export function saidBy({ stdout, stderr, error = '' }: CommandResult): string {
  return `${stdout}${stderr}${error}`.trim();
}

/** One question over a connection of its own. @throws Error when no core answers */
export async function askCore(
  runtimeFolder: string,
  question: ControlQuestion,
): Promise<ControlAnswer> {
  const line = await exchange(join(runtimeFolder, CONTROL_SOCKET_NAME), { ...question, id: 1 });
  const answer = asControlAnswer(JSON.parse(line));
  if (answer === undefined) throw new Error(`the core answered ${line.slice(0, 2_000)}`);
  return answer;
}

/** A line there, a line back. @throws Error when nobody listens, or the other side hangs up */
async function exchange(socketPath: string, message: unknown): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(socketPath);
  const chunks: Buffer[] = [];
  socket.setTimeout(ANSWER_TIMEOUT_MS, () => reject(new Error('the core does not answer')));
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('the core hung up without an answer')));
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (chunk.includes(10)) resolve(Buffer.concat(chunks).toString('utf8').split('\n')[0] ?? '');
  });
  socket.write(`${JSON.stringify(message)}\n`);
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
