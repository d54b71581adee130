/**
 * Keeps the ruleset that is wanted in the kernel: applies it, watches over it, puts it right when
 * somebody else changes it, and tries again for as long as nft fails.
 */
import type { Nft, NftFailure } from '../../firewall/nft.ts';
import { compileRuleset } from '../../firewall/nft-document.ts';
import { expectedTable, type NftTable } from '../../firewall/nft-table.ts';
import type { Ruleset } from '../../firewall/ruleset.ts';
import { type TableDifference, tableDiffers } from '../../firewall/table-difference.ts';
import { protectThenForward, setForwarding } from '../nft-default-posture.ts';
import { NftWatch, type NftWatchOptions } from '../nft-watch.ts';

export interface WantedRuleset {
  readonly kind: 'config' | 'safe';
  readonly ruleset: Ruleset;
}

export interface RulesetKeeperOptions {
  readonly nft: Nft;
  /** Whether somebody else's change is undone, or only told. Asked at each. */
  readonly restores: () => boolean;
  /** Called with somebody else's change before it is put right; may want another ruleset. */
  readonly onForeignChange: (difference: TableDifference) => WantedRuleset | undefined;
  /** Called as soon as what nft says of a packet may have changed, whoever changed it. */
  readonly onRulesChange: () => void;
  /** Something that a person should know; not repeated while it stays the same. */
  readonly alarm: (text: string) => void;
  /** Default: watches the kernel's table in our own network namespace. */
  readonly startWatch?: (options: NftWatchOptions) => Pick<NftWatch, 'expect' | 'stop'>;
}

export type ApplyResult =
  | { readonly success: true }
  /** `unchanged`: what was in force before still is. */
  | { readonly success: false; readonly failure: NftFailure; readonly unchanged: boolean };

/** After a failure of nft, until it works again. */
const RETRY_EVERY_MS = 2_000;

/** What we put in place last. */
interface InForce {
  readonly kind: 'config' | 'safe' | 'posture';
  readonly wanted?: WantedRuleset;
  readonly table?: NftTable;
  readonly ruleCount: number;
}

export class RulesetKeeper {
  readonly #options: RulesetKeeperOptions;
  readonly #watch: Pick<NftWatch, 'expect' | 'stop'>;
  #inForce: InForce | undefined;
  #wanted: WantedRuleset | undefined;
  /** It was asked for, so forwarding is ours to switch. */
  #protects = false;
  #forwarding = false;
  #nftTrouble: string | undefined;
  /** Somebody else's, until it is put right. */
  #foreignChange: string | undefined;
  #retryTimer: NodeJS.Timeout | undefined;
  /** One thing at a time: the order of two requests to nft at once would be anybody's guess. */
  #last: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(options: RulesetKeeperOptions) {
    this.#options = options;
    const { startWatch = (watched) => new NftWatch(watched) } = options;
    this.#watch = startWatch({
      nft: options.nft,
      onDifference: (difference) => this.#handleDifference(difference),
      onAgreement: () => this.#handleAgreement(),
      onFailure: (failure) => this.#failed(failure),
    });
  }

  get inForce(): 'config' | 'safe' | 'posture' | 'unknown' {
    return this.#foreignChange === undefined ? (this.#inForce?.kind ?? 'unknown') : 'unknown';
  }

  /** What shall be in force, whether it is or not. */
  get wantedKind(): 'config' | 'safe' | undefined {
    return this.#wanted?.kind;
  }

  get ruleCount(): number {
    return this.#inForce?.ruleCount ?? 0;
  }

  get forwarding(): boolean {
    return this.#forwarding;
  }

  /** Why the kernel does not have what it should, or nobody knows whether it does. */
  get trouble(): string | undefined {
    return this.#nftTrouble ?? this.#foreignChange;
  }

  /** nft does not work at present, whatever is asked of it. */
  get isNftFailing(): boolean {
    return this.#nftTrouble !== undefined;
  }

  /**
   * Refuses everything unless rules of ours are there already, and forwards only then. From now on
   * nothing is forwarded without rules.
   */
  protect(): Promise<void> {
    this.#protects = true;
    return this.#alone(() => this.#protect());
  }

  /**
   * In one transaction. What was wanted before stays wanted when it fails.
   *
   * @param makeWanted called when everything asked for before is done
   * @param options.insists try again until it is in force
   * @param options.onSuccess called before anything that is asked for later begins
   */
  apply(
    makeWanted: () => WantedRuleset,
    options: { readonly insists?: boolean; readonly onSuccess?: () => void } = {},
  ): Promise<ApplyResult> {
    return this.#alone(async () => {
      const before = this.#wanted;
      const wanted = makeWanted();
      this.#wanted = wanted;
      // What somebody else put into the table goes only with all of it.
      const isForeign = this.#foreignChange !== undefined;
      const result = await this.#apply(wanted, isForeign ? 'table' : 'rules');
      if (result.success) options.onSuccess?.();
      else if (options.insists === true) this.#failed(result.failure);
      else this.#wanted = before;
      return result;
    });
  }

  /** Leaves the kernel as it is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    await this.#watch.stop();
    await this.#last;
  }

  #alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => {});
    return result;
  }

  async #protect(): Promise<void> {
    const result = await protectThenForward({ nft: this.#options.nft });
    this.#forwarding = result.success;
    if (!result.success) {
      this.#failed(result.failure);
      return;
    }
    if (result.table === 'loaded') this.#inForce = { kind: 'posture', ruleCount: 0 };
  }

  async #apply(wanted: WantedRuleset, replacing: 'rules' | 'table'): Promise<ApplyResult> {
    const document = compileRuleset(wanted.ruleset, { replacing });
    const table = expectedTable(document);
    this.#watch.expect(undefined);
    const result = await this.#options.nft.apply(document);
    this.#rulesChanged();
    const isInPlace = result.success || (await this.#isInPlace(result, table));
    if (isInPlace === true) {
      const ruleCount = wanted.ruleset.chains.reduce((sum, { rules }) => sum + rules.length, 0);
      this.#inForce = { kind: wanted.kind, wanted, table, ruleCount };
      this.#foreignChange = undefined;
      this.#watch.expect(table);
      this.#works();
      this.#forward();
      return { success: true };
    }
    // Somebody may have put one of our chains on another hook: then only the whole can be replaced.
    const failure = result as NftFailure;
    if (replacing === 'rules' && failure.reason === 'refused' && failure.rule === undefined) {
      return this.#apply(wanted, 'table');
    }
    const unchanged = isInPlace === false;
    if (!unchanged) this.#inForce = undefined;
    this.#watch.expect(this.#inForce?.table);
    if (failure.reason !== 'refused' || !unchanged) this.#failed(failure);
    return { success: false, failure, unchanged };
  }

  /** Rules that are in place are no worse for it: a rollback above all must go on. */
  #rulesChanged(): void {
    const { onRulesChange, alarm } = this.#options;
    try {
      onRulesChange();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      alarm(`open connections go on as the rules of before judged them: ${reason}`);
    }
  }

  /** @returns undefined when nobody knows */
  async #isInPlace(failure: NftFailure, table: NftTable): Promise<boolean | undefined> {
    if (failure.rulesInPlace === 'unchanged') return false;
    const listing = await this.#options.nft.list();
    if (!listing.success) return undefined;
    if (tableDiffers(table, listing.table) === undefined) return true;
    const before = this.#inForce?.table;
    if (before === undefined || tableDiffers(before, listing.table) !== undefined) return undefined;
    return false;
  }

  #handleDifference(difference: TableDifference): void {
    const { changes, untoldCount } = difference;
    const more = untoldCount === 0 ? '' : `, and ${untoldCount} more changes`;
    const told = `somebody else changed table inet gatehouse: ${changes.join(', ')}${more}`;
    const { restores, onForeignChange, alarm } = this.#options;
    this.#rulesChanged();
    const other = onForeignChange(difference);
    if (this.#foreignChange !== told) alarm(told);
    this.#foreignChange = told;
    if (other === undefined && !restores()) return;
    if (other !== undefined) this.#wanted = other;
    void this.#alone(async () => {
      if (this.#wanted === undefined) return;
      const result = await this.#apply(this.#wanted, 'table');
      if (result.success) alarm('table inet gatehouse is as it should be again');
      else this.#failed(result.failure);
    });
  }

  #handleAgreement(): void {
    if (this.#foreignChange === undefined) return;
    this.#foreignChange = undefined;
    this.#rulesChanged();
    this.#options.alarm('table inet gatehouse is as it should be again, by somebody else');
  }

  #failed(failure: NftFailure): void {
    const trouble = `nft: ${failure.message}`;
    if (this.#nftTrouble !== trouble) this.#options.alarm(trouble);
    this.#nftTrouble = trouble;
    if (this.#stopped) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => void this.#alone(() => this.#retry()), RETRY_EVERY_MS);
    this.#retryTimer.unref();
  }

  /** Brings what is wanted into force, or where it is, sees whether nft works again. */
  async #retry(): Promise<void> {
    if (this.#stopped) return;
    if (this.#protects && !this.#forwarding) await this.#protect();
    const isChanged = this.#foreignChange !== undefined && this.#options.restores();
    if (this.#wanted !== undefined && (isChanged || this.#inForce?.wanted !== this.#wanted)) {
      const result = await this.#apply(this.#wanted, 'table');
      if (!result.success) this.#failed(result.failure);
      return;
    }
    const listing = await this.#options.nft.list();
    if (listing.success) this.#works();
    else this.#failed(listing);
  }

  #works(): void {
    clearTimeout(this.#retryTimer);
    if (this.#nftTrouble !== undefined) this.#options.alarm('nft works again');
    this.#nftTrouble = undefined;
  }

  /** Forwarding is off when no rules could be put in place at first. */
  #forward(): void {
    if (!this.#protects || this.#forwarding) return;
    setForwarding(true);
    this.#forwarding = true;
  }
}
