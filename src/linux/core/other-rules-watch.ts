/**
 * Looks whether somebody else's rules may judge forwarded packets. It asks the kernel for the
 * number of its rules each second, and for their chains when that has moved.
 */
import { obstacleIn } from '../../gateway/fast-path.ts';
import { findLegacyFirewalls, findOtherFirewalls } from '../nft-facts.ts';
import { NftGeneration } from '../nft-generation.ts';

const LOOK_EVERY_MS = 1_000;

export class OtherRulesWatch {
  readonly #onChange: () => void;
  readonly #timer: NodeJS.Timeout;
  #generation: NftGeneration | undefined;
  /** The rules' number, and the older tables, which it does not tell of. */
  #seen: string | undefined;
  #obstacle: string | undefined = 'until the rules of others were looked at';
  #looking: Promise<void> | undefined;
  #isStopped = false;

  /** @param onChange called when {@link obstacle} is another */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
    this.#look();
  }

  /** Why packets may not pass the rules of others by, or undefined. */
  get obstacle(): string | undefined {
    return this.#obstacle;
  }

  /** Resolves when the look that is under way, if any, has ended. */
  async settled(): Promise<void> {
    await this.#looking;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#looking;
    this.#generation?.close();
    this.#generation = undefined;
  }

  #look(): void {
    if (this.#looking !== undefined) return;
    this.#looking = this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
  }

  async #lookOnce(): Promise<void> {
    try {
      this.#generation ??= new NftGeneration();
      const generation = this.#generation.read();
      const seen = JSON.stringify([generation, await findLegacyFirewalls()]);
      if (seen === this.#seen) return;
      const obstacle = obstacleIn(await findOtherFirewalls());
      this.#seen = seen;
      this.#tell(obstacle);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      this.#tell(`since nobody knows the rules of others: ${reason}`.slice(0, REASON_MAX));
    }
  }

  #tell(obstacle: string | undefined): void {
    if (this.#isStopped || obstacle === this.#obstacle) return;
    this.#obstacle = obstacle;
    this.#onChange();
  }
}

/** As long as a note of the status may be. */
const REASON_MAX = 1_024;
