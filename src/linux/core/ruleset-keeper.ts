/**
 * Keeps the ruleset that is wanted in the kernel: applies it, watches over it, puts it right when
 * somebody else changes it, and tries again for as long as nft fails.
 */
import type { Nft, NftFailure } from '../../firewall/nft.ts';
import { compileRuleset, type NftDocument } from '../../firewall/nft-document.ts';
import { expectedTable, type NftTable, setsInPlace } from '../../firewall/nft-table.ts';
import { type Ruleset, setNameOf } from '../../firewall/ruleset.ts';
import { type TableDifference, tableDiffers } from '../../firewall/table-difference.ts';
import type { SetChange } from '../../firewall/table-entries.ts';
import { formatNftPrefix } from '../../firewall/table-prefixes.ts';
import { protectThenForward, setForwarding } from '../nft-default-posture.ts';
import { NftSetElements, PREFIXES_PER_CHANGE_MAX } from '../nft-set-elements.ts';
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
  /** Called as soon as what the sets of tables hold has changed, and nothing else. */
  readonly onSetsChange?: (changes: readonly SetChange[]) => void;
  /** A ruleset with what its tables have besides; later changes are those of its sets. */
  readonly withEntries?: (ruleset: Ruleset) => Ruleset;
  /** Default: by netlink, in our own network namespace. @throws when the kernel refuses */
  readonly changeSets?: (changes: readonly SetChange[]) => void;
  /** Something that a person should know; not repeated while it stays the same. */
  readonly alarm: (text: string) => void;
  /** Default: watches the kernel's table in our own network namespace. */
  readonly startWatch?: (options: NftWatchOptions) => Watch;
}

type Watch = Pick<NftWatch, 'expect' | 'change' | 'stop'>;

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
  readonly #watch: Watch;
  readonly #withEntries: (ruleset: Ruleset) => Ruleset;
  #elements: NftSetElements | undefined;
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
    this.#withEntries = options.withEntries ?? ((ruleset) => ruleset);
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

  /**
   * Changes sets of what is in force, in a millisecond: packets meet them as they are now, and
   * sessions are judged again, when this resolves. What is not in force has them later.
   *
   * @param makeChanges called when everything asked for before is done
   */
  changeSets(makeChanges: () => readonly SetChange[]): Promise<ApplyResult> {
    return this.#alone(async () => {
      const changes = makeChanges();
      if (changes.length === 0) return { success: true };
      const inForce = this.#inForce;
      // Nothing of ours asks for them, or will before the next apply.
      if (inForce?.kind === 'posture' || this.#wanted === undefined) return { success: true };
      if (inForce?.table === undefined || inForce.wanted === undefined) {
        return this.#applyInsisting(this.#wanted);
      }
      const { wanted, table } = inForce;
      const names = new Set(table.sets.map(({ name }) => name));
      const own = changes.filter((change) => names.has(setNameOf(change)));
      if (own.length === 0) return { success: true };
      if (countPrefixes(own) > PREFIXES_PER_CHANGE_MAX) return this.#applyInsisting(wanted);
      try {
        this.#changeAtOnce(own, inForce, table);
        return { success: true };
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        this.#options.alarm(
          `the whole ruleset is applied, since sets cannot be changed: ${reason}`,
        );
        return this.#applyInsisting(wanted);
      }
    });
  }

  /** Leaves the kernel as it is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    await this.#watch.stop();
    await this.#last;
    this.#elements?.close();
  }

  #alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#last.then(action);
    this.#last = result.catch(() => {});
    return result;
  }

  /** @throws when the kernel refuses it */
  #changeAtOnce(changes: readonly SetChange[], inForce: InForce, table: NftTable): void {
    const sets = table.sets.map((set) => {
      const own = changes.filter((change) => setNameOf(change) === set.name);
      return own.length === 0 ? set : { ...set, elements: changedElements(set.elements, own) };
    });
    const changed = { ...table, sets };
    this.#watch.change(changed, () => this.#setChanger()(changes));
    this.#inForce = { ...inForce, table: changed };
    this.#changed(() => this.#options.onSetsChange?.(changes));
  }

  #setChanger(): (changes: readonly SetChange[]) => void {
    const { changeSets } = this.#options;
    if (changeSets !== undefined) return changeSets;
    this.#elements ??= new NftSetElements();
    const elements = this.#elements;
    return (changes) => elements.change(changes);
  }

  /** What the kernel has now is not what it should have: it is tried until it has. */
  async #applyInsisting(wanted: WantedRuleset): Promise<ApplyResult> {
    const result = await this.#apply(wanted, 'table');
    if (result.success) return result;
    this.#inForce = undefined;
    this.#failed(result.failure);
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
    const before = this.#inForce?.wanted;
    const ruleset = this.#withEntries(wanted.ruleset);
    const whole = compileRuleset(ruleset, { replacing: 'table' });
    const table = expectedTable(whole);
    const document = replacing === 'table' ? whole : this.#replacingRules(ruleset);
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
    if (before !== undefined) this.#withEntries(before.ruleset);
    if (!unchanged) this.#inForce = undefined;
    this.#watch.expect(this.#inForce?.table);
    if (failure.reason !== 'refused' || !unchanged) this.#failed(failure);
    return { success: false, failure, unchanged };
  }

  #replacingRules(ruleset: Ruleset): NftDocument {
    const table = this.#inForce?.table;
    const sets = table === undefined ? {} : { setsInPlace: setsInPlace(table) };
    return compileRuleset(ruleset, { replacing: 'rules', ...sets });
  }

  /** Rules that are in place are no worse for it: a rollback above all must go on. */
  #rulesChanged(): void {
    this.#changed(this.#options.onRulesChange);
  }

  #changed(tell: () => void): void {
    const { alarm } = this.#options;
    try {
      tell();
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

function countPrefixes(changes: readonly SetChange[]): number {
  return changes.reduce((sum, { added, removed }) => sum + added.length + removed.length, 0);
}

function changedElements(
  elements: ReadonlySet<string>,
  changes: readonly SetChange[],
): ReadonlySet<string> {
  const changed = new Set(elements);
  for (const { removed, added } of changes) {
    for (const prefix of removed) changed.delete(formatNftPrefix(prefix));
    for (const prefix of added) changed.add(formatNftPrefix(prefix));
  }
  return changed;
}
