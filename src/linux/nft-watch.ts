/**
 * Notices when somebody else changes our table. It polls the kernel's generation of the rules and
 * lists the table when that moved, which is cheaper than listing and, unlike `nft monitor`, has no
 * child that could die and no queue that could overflow.
 */
import type { Nft, NftFailure } from '../firewall/nft.ts';
import type { NftTable } from '../firewall/nft-table.ts';
import { type TableDifference, tableDiffers } from '../firewall/table-difference.ts';
import { NftGeneration } from './nft-generation.ts';

export interface NftWatchOptions {
  readonly nft: Nft;
  /** Of the rules that `nft` lists. Default: our own. */
  readonly networkNamespace?: string;
  /** Default: a second, so that a change is known within two and a listing. */
  readonly intervalMs?: number;
  /** Called once for each change that leaves the table different from what is expected. */
  readonly onDifference: (difference: TableDifference) => void;
  /** Called when a change left the table as it is expected, or brought it back to that. */
  readonly onAgreement?: () => void;
  /** Called when the table could not be listed; it is tried again at the next interval. */
  readonly onFailure: (failure: NftFailure) => void;
}

const INTERVAL_MS = 1_000;

export class NftWatch {
  readonly #options: NftWatchOptions;
  readonly #generation: NftGeneration;
  #expected: NftTable | undefined;
  /** Of the last comparison; undefined makes the next look compare. */
  #seenGeneration: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #stopped = false;

  /** @throws LinuxError when the kernel's generation cannot be read */
  constructor(options: NftWatchOptions) {
    this.#options = options;
    this.#generation = new NftGeneration(options.networkNamespace);
    this.#generation.read();
    this.#schedule();
  }

  /**
   * What the table should be from now on. Undefined while an own change is under way: then nothing
   * is compared.
   */
  expect(table: NftTable | undefined): void {
    this.#expected = table;
    this.#seenGeneration = undefined;
  }

  /**
   * Makes a change of our own, at once. Unless somebody else made one since the last look, it costs
   * no listing.
   *
   * @param table what it should be afterwards
   * @throws what the change throws; then nothing is expected anew
   */
  change(table: NftTable, act: () => void): void {
    const before = this.#readGeneration();
    const isSeen = before !== undefined && before === this.#seenGeneration;
    act();
    this.#expected = table;
    const after = this.#readGeneration();
    const isOnlyOurs = isSeen && after === nextGeneration(before);
    this.#seenGeneration = isOnlyOurs ? after : undefined;
  }

  /** Resolves when the last look has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
    this.#generation.close();
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().finally(() => {
        if (!this.#stopped) this.#schedule();
      });
    }, this.#options.intervalMs ?? INTERVAL_MS);
    // Watching is no reason to go on running.
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const expected = this.#expected;
    const generation = this.#readGeneration();
    if (generation === undefined || expected === undefined) return;
    if (generation === this.#seenGeneration) return;
    const listing = await this.#options.nft.list();
    // Meanwhile an own change began, or ended: what was listed is of the past.
    if (this.#expected !== expected || this.#stopped) return;
    if (!listing.success) {
      this.#options.onFailure(listing);
      return;
    }
    this.#seenGeneration = generation;
    const difference = tableDiffers(expected, listing.table);
    if (difference === undefined) this.#options.onAgreement?.();
    else this.#options.onDifference(difference);
  }

  #readGeneration(): number | undefined {
    try {
      return this.#generation.read();
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      const failure = { success: false, reason: 'refused', rulesInPlace: 'unchanged' } as const;
      this.#options.onFailure({ ...failure, message });
      return undefined;
    }
  }
}

/** 32 bits, of which the kernel leaves zero out. */
function nextGeneration(generation: number): number {
  return (generation + 1) >>> 0 || 1;
}
