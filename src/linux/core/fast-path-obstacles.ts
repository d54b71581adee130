/**
 * Looks each second whether something of the kernel would have to see forwarded packets that the
 * fast path passes by: rules of others, IPsec, routing by marks. The kernel tells that in some ten
 * system calls; the chains of others are listed only when the number of nft's rules has moved.
 */
import { obstacleIn } from '../../gateway/fast-path.ts';
import type { OtherFirewall } from '../../gateway/machine-facts.ts';
import { IpsecPolicies } from '../ipsec-policies.ts';
import { findLegacyFirewalls, findOtherFirewalls } from '../nft-facts.ts';
import { NftGeneration } from '../nft-generation.ts';
import { RoutingRules } from '../routing-rules.ts';

const LOOK_EVERY_MS = 1_000;

export class FastPathObstacles {
  readonly #onChange: () => void;
  readonly #timer: NodeJS.Timeout;
  #kernel: Kernel | undefined;
  #others: readonly OtherFirewall[] = [];
  /** Of {@link #others}: the rules' number, and the older tables, which it does not tell of. */
  #seen: string | undefined;
  #first: string | undefined = 'until it is known what is in its way';
  #looking: Promise<void> | undefined;
  #isStopped = false;

  /** @param onChange called when {@link first} is another */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
    this.#look();
  }

  /** Why there must be no fast path, or undefined. */
  get first(): string | undefined {
    return this.#first;
  }

  /** Resolves when the look that is under way, if any, has ended. */
  async settled(): Promise<void> {
    await this.#looking;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    await this.#looking;
    this.#close();
  }

  #look(): void {
    if (this.#looking !== undefined) return;
    this.#looking = this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
  }

  async #lookOnce(): Promise<void> {
    try {
      const kernel = this.#kernel ?? openKernel();
      this.#kernel = kernel;
      const others = await this.#findOthers(kernel.generation);
      const isIpsecUsed = kernel.policies.mayApplyToForwarded();
      const isRoutedByMark = kernel.rules.goByMarks();
      this.#tell(obstacleIn({ others, isIpsecUsed, isRoutedByMark }));
    } catch (cause) {
      // A list that was not read to its end would be in the way of the next.
      this.#close();
      const reason = cause instanceof Error ? cause.message : String(cause);
      this.#tell(`since nobody knows what is in its way: ${reason}`.slice(0, REASON_MAX));
    }
  }

  async #findOthers(generation: NftGeneration): Promise<readonly OtherFirewall[]> {
    const seen = JSON.stringify([generation.read(), await findLegacyFirewalls()]);
    if (seen !== this.#seen) {
      this.#others = await findOtherFirewalls();
      this.#seen = seen;
    }
    return this.#others;
  }

  #tell(obstacle: string | undefined): void {
    if (this.#isStopped || obstacle === this.#first) return;
    this.#first = obstacle;
    this.#onChange();
  }

  #close(): void {
    this.#kernel?.sockets.dispose();
    this.#kernel = undefined;
  }
}

/** What is asked, by a socket each that stays open. */
interface Kernel {
  readonly generation: NftGeneration;
  readonly policies: IpsecPolicies;
  readonly rules: RoutingRules;
  readonly sockets: DisposableStack;
}

function openKernel(): Kernel {
  using opened = new DisposableStack();
  const generation = opened.use(new NftGeneration());
  const policies = opened.use(new IpsecPolicies());
  const rules = opened.use(new RoutingRules());
  return { generation, policies, rules, sockets: opened.move() };
}

/** As long as a note of the status may be. */
const REASON_MAX = 1_024;
