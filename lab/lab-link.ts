import {
  type RunningProcess,
  type StartOptions,
  startProcess,
} from '../src/linux/command-runner.ts';
import type {
  ImpairedLinkAnswer,
  ImpairedLinkCounters,
  ImpairedLinkRequest,
  ImpairedLinkSetup,
} from './impaired-link.ts';
import { type Impairment, validateImpairment } from './impairment.ts';

/** For the link's process to start, or to answer: milliseconds, seconds under load. */
const ANSWER_TIMEOUT_MS = 20_000;

/** A link that can be impaired while it runs. */
export class LabLink {
  readonly name: string;
  readonly #options: StartOptions;
  #process: RunningProcess | undefined;
  #requestCount = 0;

  constructor(name: string, options: StartOptions) {
    this.name = name;
    this.#options = options;
  }

  /** Starts the process that carries the link, and waits until both its ends exist. */
  async start(setup: ImpairedLinkSetup): Promise<void> {
    const program = new URL('./impaired-link.ts', import.meta.url).pathname;
    const argv = [process.execPath, '--disable-warning=ExperimentalWarning', program] as const;
    this.#process = startProcess(argv, this.#options);
    this.#process.writeInput(`${JSON.stringify(setup)}\n`);
    await this.#process.waitForOutput(/^\{"ready":true\}$/m, ANSWER_TIMEOUT_MS);
  }

  /**
   * Replaces the impairment of the directions that are given, for frames to come.
   *
   * @throws Error when an impairment is invalid, naming the field
   */
  async impair(impairments: {
    readonly firstToSecond?: Impairment;
    readonly secondToFirst?: Impairment;
  }): Promise<void> {
    for (const direction of ['firstToSecond', 'secondToFirst'] as const) {
      const [fault] = validateImpairment(impairments[direction] ?? {});
      if (fault !== undefined) {
        throw new Error(`cannot impair link '${this.name}': ${direction}.${fault}`);
      }
    }
    await this.#request(impairments);
  }

  /** What became of all frames so far, by direction. */
  async counters(): Promise<ImpairedLinkCounters> {
    const { counters } = await this.#request({});
    return counters;
  }

  async stop(): Promise<void> {
    await this.#process?.stop();
  }

  async #request(request: Omit<ImpairedLinkRequest, 'id'>): Promise<ImpairedLinkAnswer> {
    const running = this.#process;
    if (running === undefined) throw new Error(`link '${this.name}' is not started`);
    this.#requestCount += 1;
    const id = this.#requestCount;
    running.writeInput(`${JSON.stringify({ ...request, id })}\n`);
    const pattern = new RegExp(`^\\{"id":${id},.*\\}$`, 'm');
    const [line] = await running.waitForOutput(pattern, ANSWER_TIMEOUT_MS);
    return JSON.parse(line) as ImpairedLinkAnswer;
  }
}
