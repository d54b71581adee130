/** A world in memory for tests of the command line. What it says is as src/messages/ has it. */
import type { NftResult } from '../firewall/nft.ts';
import type { NftDocument } from '../firewall/nft-document.ts';
import {
  asControlAnswer,
  asControlRequest,
  type ControlAnswer,
  type ControlConnection,
  type ControlQuestion,
} from '../messages/control-messages.ts';
import { parseCommandLine } from './arguments.ts';
import { type ExitCode, exitCodes } from './exit-codes.ts';
import { runVerb, tellUsageError } from './run-verb.ts';
import { UsageError } from './usage-error.ts';
import type { ActionResult, BackupOptions, CliWorld, FileResult, Finding } from './world.ts';

/** An answer without its number. */
export type ControlReply = ControlAnswer extends infer A
  ? A extends { id: number }
    ? Omit<A, 'id'>
    : never
  : never;

/** What the simulated core does with a question. */
export type CoreBehaviour = (question: ControlQuestion, withinMs?: number) => ControlReply | Error;

export class SimulatedWorld implements CliWorld {
  readonly version = '1.2.3';
  environment: Record<string, string> = {};
  author = 'anna';
  isTerminal = false;
  /** Path → text. `-` is standard input. */
  readonly files = new Map<string, string>();
  /** Absent: nobody listens. A word: why there is no connection. */
  core: CoreBehaviour | 'denied' | 'failed' | undefined;
  kernel: NftResult | undefined = { success: true };
  findings: Finding[] = [];
  proposal: ActionResult & { readonly text?: string } = { success: false, reason: 'no WAN' };
  action: ActionResult = { success: true, lines: [] };

  /** What was done to it. */
  stdout = '';
  stderr = '';
  readonly questions: ControlQuestion[] = [];
  readonly withinMs: (number | undefined)[] = [];
  readonly connectedTo: string[] = [];
  readonly modes = new Map<string, number>();
  readonly checked: NftDocument[] = [];
  readonly examined: { readonly state: string; readonly runtime: string }[] = [];
  readonly safeRulesets: object[] = [];
  readonly backups: BackupOptions[] = [];
  readonly restored: BackupOptions[] = [];
  openConnections = 0;

  print(text: string): void {
    this.stdout += text;
  }

  complain(text: string): void {
    this.stderr += text;
  }

  readFile(path: string): FileResult {
    const text = this.files.get(path);
    if (text !== undefined) return { text };
    return { absent: true, reason: `cannot read ${path}: there is no such file` };
  }

  writeNewFile(path: string, text: string, mode: number): ActionResult {
    if (this.files.has(path)) return { success: false, reason: `${path} is there already` };
    this.files.set(path, text);
    this.modes.set(path, mode);
    return { success: true, lines: [] };
  }

  async connect(runtimeFolder: string): Promise<ControlConnection> {
    this.connectedTo.push(runtimeFolder);
    const { core } = this;
    const reason = `${runtimeFolder}/control.sock: ${core ?? 'nobody listens'}`;
    if (core === undefined) return { why: 'stopped', reason };
    if (typeof core === 'string') return { why: core, reason };
    this.openConnections++;
    return {
      client: {
        ask: async (question, withinMs) => this.#answer(core, question, withinMs),
        close: () => {
          this.openConnections--;
        },
      },
    };
  }

  async checkRuleset(document: NftDocument): Promise<NftResult | undefined> {
    this.checked.push(document);
    return this.kernel;
  }

  async examineMachine(paths: { readonly state: string; readonly runtime: string }) {
    this.examined.push(paths);
    return this.findings;
  }

  async proposeConfig(): Promise<ActionResult & { readonly text?: string }> {
    return this.proposal;
  }

  async loadSafeRuleset(options: {
    readonly configFile: string;
    readonly stateFolder: string;
    readonly author: string;
  }): Promise<ActionResult> {
    this.safeRulesets.push(options);
    return this.action;
  }

  async makeBackup(options: BackupOptions): Promise<ActionResult> {
    this.backups.push(options);
    return this.action;
  }

  async restoreBackup(options: BackupOptions): Promise<ActionResult> {
    this.restored.push(options);
    return this.action;
  }

  #answer(core: CoreBehaviour, question: ControlQuestion, withinMs?: number): ControlAnswer {
    if (asControlRequest({ ...question, id: 1 }) === undefined) {
      throw new Error(`no request that a core takes: ${JSON.stringify(question)}`);
    }
    this.questions.push(question);
    this.withinMs.push(withinMs);
    const reply = core(question, withinMs);
    if (reply instanceof Error) throw reply;
    const answer = asControlAnswer({ ...reply, id: 1 });
    if (answer === undefined) throw new Error(`no answer of a core: ${JSON.stringify(reply)}`);
    return answer;
  }
}

/** As src/main.ts does it, for every verb but those that run until they are ended. */
export async function typed(world: SimulatedWorld, ...words: string[]): Promise<ExitCode> {
  try {
    const command = parseCommandLine(words, world.environment);
    if (command.verb === 'run' || command.verb === 'demo') return exitCodes.done;
    return await runVerb(command, world);
  } catch (error) {
    if (error instanceof UsageError) return tellUsageError(error, world);
    throw error;
  }
}

/** What a verb printed with `--json`: one document and nothing else. */
export function documentOf(world: SimulatedWorld): Record<string, unknown> {
  if (world.stderr !== '') throw new Error(`standard error is not empty: ${world.stderr}`);
  const document: unknown = JSON.parse(world.stdout);
  if (typeof document !== 'object' || document === null) throw new Error('no document');
  return { ...document };
}

/** Of a home; with nothing that is not in force yet but addresses, DNS and the like. */
export const homeConfig = `# Of a home.
version: 1
wan: { interface: wan0, address: 198.51.100.1/24, gateway: 198.51.100.254 }
networks:
  lan: { interfaces: [lan0], address: 10.77.0.1/24 }
firewall:
  rules:
    - { name: no_mail, action: drop, from: lan, to: wan, protocol: tcp, ports: [25] }
paths: { state: /srv/gate/state, runtime: /srv/gate/runtime }
`;
