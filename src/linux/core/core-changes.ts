/**
 * The configuration that is in force, and every way to change it: a new config with its confirm
 * timer, an earlier revision, and safe mode.
 */
import { randomBytes } from 'node:crypto';
import {
  type Change,
  type ChangeEvent,
  ChangeMachine,
  type PendingChange,
} from '../../gateway/change/change-machine.ts';
import { describeChangeEvent, describeRefusal } from '../../gateway/change/describe-event.ts';
import type { CompiledConfiguration, CompileResult } from '../../gateway/compile-configuration.ts';
import { findAccessLoss } from '../../gateway/own-access.ts';
import type { ControlReply, ControlRequest, RefusalCode } from '../../messages/control-messages.ts';
import type { ChangeRecords } from '../store/change-records.ts';
import { bootId } from './boot-id.ts';
import {
  changeActs,
  describeNftFailure,
  type ForwardedTraffic,
  type RulesetChoice,
  wantedRuleset,
} from './change-acts.ts';
import { ChangeDriver } from './change-driver.ts';
import { readConfigFile } from './config-file.ts';

import { RollbackGuard } from './rollback-guard.ts';
import type { RulesetKeeper, WantedRuleset } from './ruleset-keeper.ts';
import { readSafeMode, type SafeMode, switchSafeModeOff, switchSafeModeOn } from './safe-mode.ts';

type ApplyRequest = Extract<ControlRequest, { kind: 'apply' }>;
type RevisionRequest = Extract<ControlRequest, { kind: 'apply-revision' }>;
type DecisionRequest = Extract<ControlRequest, { kind: 'confirm' | 'rollback' }>;
/** How a change shall be made, whatever it is. */
type Terms = Omit<ApplyRequest, 'kind' | 'id' | 'configText'>;

export interface CoreChangesOptions {
  /** How this program is started, without its words. */
  readonly program: readonly [string, ...string[]];
  readonly configFile: string;
  readonly stateFolder: string;
  readonly keeper: RulesetKeeper;
  readonly records: ChangeRecords;
  readonly compile: (configText: string) => Promise<CompileResult>;
  /** What rules are compiled for now. */
  readonly forwardedTraffic: () => ForwardedTraffic;
  /** Called when another configuration is in force. */
  readonly onInForce: (compiled: CompiledConfiguration) => void;
  readonly alarm: (text: string) => void;
}

/** Compiled configs that a change may need again: the one before, the one after. */
const COMPILED_KEPT = 4;

export class CoreChanges {
  readonly #options: CoreChangesOptions;
  readonly #machine: ChangeMachine;
  readonly #driver: ChangeDriver;
  readonly #compiled = new Map<string, CompiledConfiguration>();
  #running: CompiledConfiguration | undefined;
  /** What was in force before the change under way. */
  #before: CompiledConfiguration | undefined;
  #guard: RollbackGuard | undefined;
  /** What the disk did not take, for as long as its file is as it was then. */
  #untakenSafeMode: { readonly wanted?: SafeMode; readonly fileSinceMs?: number } | undefined;
  /** A request is looked at, which takes seconds, and no other is taken. */
  #isJudging = false;

  constructor(options: CoreChangesOptions) {
    this.#options = options;
    const { records, configFile, keeper } = options;
    this.#machine = new ChangeMachine(bootId());
    this.#driver = new ChangeDriver({
      machine: this.#machine,
      acts: changeActs({
        records,
        configFile,
        plan: () => this.#plan(),
        keeper,
        compile: (text) => this.#compile(text),
        fallback: () => this.#before,
        alarm: options.alarm,
        onInForce: (compiled) => this.#follow(compiled),
      }),
      onEvent: (event) => options.alarm(describeChangeEvent(event)),
      onIdle: () => this.#dismissGuard(),
    });
  }

  /** Undefined before the first is in force. */
  get running(): CompiledConfiguration | undefined {
    return this.#running;
  }

  get safeMode(): SafeMode | undefined {
    const inFile = readSafeMode(this.#options.stateFolder);
    const untaken = this.#untakenSafeMode;
    return untaken !== undefined && untaken.fileSinceMs === inFile?.sinceMs
      ? untaken.wanted
      : inFile;
  }

  get underWay(): { change: Change; phase: string; rollbackInMs?: number } | undefined {
    const { change, phase } = this.#machine;
    if (change === undefined) return undefined;
    const { rollbackInMs } = this.#driver;
    return { change, phase, ...(rollbackInMs === undefined ? {} : { rollbackInMs }) };
  }

  /** The number of the newest revision, where it is what is in force. */
  get revision(): number | undefined {
    const [newest] = this.#options.records.revisions.list({ limit: 1 });
    return newest?.[1].configText === this.#running?.configText ? newest?.[0] : undefined;
  }

  /**
   * Goes on with the change that the last process left. Resolves when a ruleset is in force, or
   * trying again is all that is left.
   *
   * @param first what to run by until then
   */
  async resume(pending: PendingChange, first: CompiledConfiguration): Promise<void> {
    this.#startGuard();
    this.#before = first;
    this.#follow(first);
    // After a boot nothing is in force yet; what the change needs may fail.
    const { keeper } = this.#options;
    if (keeper.inForce === 'posture') await keeper.apply(() => this.#wanted(), { insists: true });
    await this.#driver.start(pending);
  }

  /** Puts a configuration in force that needs nobody's confirmation, as at the start. */
  async begin(compiled: CompiledConfiguration): Promise<void> {
    const { keeper, records, alarm } = this.#options;
    this.#follow(compiled);
    await keeper.apply(() => this.#wanted(), { insists: true });
    const { configText, rulesetText } = compiled;
    const [newest] = records.revisions.list({ limit: 1 });
    if (newest?.[1].configText === configText) return;
    const author = 'the config file';
    try {
      records.recordRevision({ author, recordedAt: Date.now(), configText, rulesetText });
    } catch (cause) {
      // A network must not stay down for its history.
      alarm(`cannot record the revision: ${cause instanceof Error ? cause.message : cause}`);
    }
  }

  async apply({ configText, ...terms }: ApplyRequest | RevisionText): Promise<ControlReply> {
    if (this.#isJudging || this.#machine.phase !== 'idle') return this.#refuseBusy();
    this.#isJudging = true;
    try {
      const judged = await this.#judge(configText, terms);
      return 'kind' in judged ? judged : await this.#make(judged, terms);
    } finally {
      this.#isJudging = false;
    }
  }

  async applyRevision({ revision, ...terms }: RevisionRequest): Promise<ControlReply> {
    const found = this.#options.records.revisions.get(revision);
    if (found === undefined) {
      return refused('no-such-revision', `there is no revision ${revision}`);
    }
    return this.apply({ ...terms, configText: found.configText });
  }

  async decide({ kind, changeId, author }: DecisionRequest): Promise<ControlReply> {
    const { change } = this.#machine;
    if (change === undefined) return refused('no-such-change', 'no change is under way');
    const id = changeId ?? change.id;
    if (id !== change.id) {
      return refused('no-such-change', `the change under way is ${change.id}, not ${id}`);
    }
    this.#options.alarm(`${author} asks to ${kind} change ${id}`);
    const event = await this.#driver.request({ kind, changeId: id });
    return this.#replyTo(event);
  }

  /** In one transaction of the kernel; the next config is under it as well. */
  async setSafeMode(options: { on: boolean; author: string }): Promise<ControlReply> {
    const { on, author } = options;
    const { keeper, alarm } = this.#options;
    if (this.#running === undefined) return refused('failed', 'no configuration is in force yet');
    alarm(`${author} switches safe mode ${on ? 'on' : 'off'}`);
    this.#rememberSafeMode(on ? { sinceMs: Date.now(), author } : undefined);
    const result = await keeper.apply(() => this.#wanted(), { insists: true });
    if (result.success) return { kind: 'safe-mode', on };
    return refused('failed', `${describeNftFailure(result.failure)}; it is tried again`);
  }

  /** A disk that takes nothing is no reason not to do it. */
  #rememberSafeMode(safeMode: SafeMode | undefined): void {
    const { stateFolder, alarm } = this.#options;
    try {
      if (safeMode === undefined) switchSafeModeOff(stateFolder);
      else switchSafeModeOn(stateFolder, safeMode);
      this.#untakenSafeMode = undefined;
    } catch (cause) {
      const fileSinceMs = readSafeMode(stateFolder)?.sinceMs;
      this.#untakenSafeMode = {
        ...(safeMode === undefined ? {} : { wanted: safeMode }),
        ...(fileSinceMs === undefined ? {} : { fileSinceMs }),
      };
      const reason = cause instanceof Error ? cause.message : String(cause);
      alarm(`safe mode is only switched until the next start of gatehouse: ${reason}`);
    }
  }

  /** Somebody pressed the panic button without us: what is wanted instead of what was. */
  wantedNow(): WantedRuleset | undefined {
    if (this.#running === undefined) return undefined;
    const isInForce =
      (this.#options.keeper.wantedKind === 'safe') === (this.safeMode !== undefined);
    return isInForce ? undefined : this.#wanted();
  }

  /** A change that waits goes on waiting: its guard, or the next start, looks after it. */
  async stop(): Promise<void> {
    await this.#driver.stop();
  }

  /** What it is compiled for is another: compiles what is in force once more, and applies it. */
  async compileAgain(): Promise<void> {
    this.#compiled.clear();
    const running = this.#running;
    if (running === undefined) return;
    const { compiled } = await this.#options.compile(running.configText);
    // Another may be in force by now, which was compiled for today's needs.
    if (compiled === undefined || this.#running !== running) return;
    this.#running = compiled;
    await this.#options.keeper.apply(() => this.#wanted(), { insists: true });
  }

  #wanted(): WantedRuleset {
    if (this.#running === undefined) throw new Error('no configuration is in force yet');
    return wantedRuleset(this.#running, this.#plan());
  }

  #plan(): RulesetChoice {
    const { forwardedTraffic } = this.#options;
    return { isSafe: this.safeMode !== undefined, forwardedTraffic: forwardedTraffic() };
  }

  async #judge(
    configText: string,
    { forced, access }: Terms,
  ): Promise<CompiledConfiguration | ControlReply> {
    const { compiled, problems } = await this.#compile(configText);
    if (compiled === undefined) return refused('config-problems', problems);
    const { configFile } = this.#options;
    const running = this.#running;
    if (running === undefined) return refused('failed', 'no configuration is in force yet');
    const { paths } = compiled.config;
    if (JSON.stringify(paths) !== JSON.stringify(running.config.paths)) {
      const reason =
        'paths cannot change while gatehouse runs: stop it, move the folders, start it';
      return refused('needs-restart', reason);
    }
    const held = readConfigFile(configFile).text;
    const isKnown = held === undefined || held === configText || held === running.configText;
    if (!isKnown && !forced) {
      const reason = `${configFile} has edits that are neither in force nor in this change`;
      return refused('config-file-edited', `${reason}: apply the file itself, or use --force`);
    }
    const wanted = wantedRuleset(compiled, this.#plan());
    const options = { current: running.config, next: compiled.config, nextRuleset: wanted.ruleset };
    const loss = access === undefined ? undefined : findAccessLoss({ ...options, access });
    if (loss !== undefined && !forced) {
      return refused('cuts-own-access', `this would cut your own way in: ${loss}`);
    }
    return compiled;
  }

  async #make(next: CompiledConfiguration, { author, windowMs, forced }: Terms) {
    const running = this.#running;
    if (running === undefined) throw new Error('a change without a running configuration');
    const change: Change = {
      id: randomBytes(4).toString('hex'),
      author,
      previous: { configText: running.configText, rulesetText: running.rulesetText },
      next: { configText: next.configText, rulesetText: next.rulesetText },
      windowMs,
    };
    this.#options.alarm(`${author} applies change ${change.id}`);
    this.#before = running;
    // The way back must not depend on compiling anything.
    this.#keepCompiled(running);
    // Before anything is touched: it must be there when the core dies half-way.
    this.#startGuard();
    const input = { kind: 'request', change, cutsOwnAccess: false, forced } as const;
    return this.#replyTo(await this.#driver.request(input));
  }

  #startGuard(): void {
    const { program, configFile, stateFolder, alarm } = this.#options;
    this.#guard = new RollbackGuard(program, { configFile, stateFolder }, (reason) => {
      alarm(`the rollback guard ${reason}: a change is safe only while gatehouse runs`);
    });
  }

  #dismissGuard(): void {
    this.#guard?.dismiss();
    this.#guard = undefined;
  }

  #replyTo(event: ChangeEvent): ControlReply {
    const { changeId } = event;
    switch (event.kind) {
      case 'change-applied': {
        const { rollbackInMs } = this.#driver;
        const rest = rollbackInMs === undefined ? {} : { rollbackInMs };
        return { kind: 'change', changeId, outcome: 'applied', ...rest };
      }
      case 'change-confirmed': {
        const { revision } = this;
        const rest = revision === undefined ? {} : { revision };
        return { kind: 'change', changeId, outcome: 'confirmed', ...rest };
      }
      case 'step-failed':
        return refused('failed', `${describeChangeEvent(event)}; it is tried again`);
      case 'change-rolled-back':
        if (event.cause === 'asked-for')
          return { kind: 'change', changeId, outcome: 'rolled-back' };
        return refused('failed', describeChangeEvent(event));
      case 'request-refused':
        return refused(event.why, describeRefusal(event.why));
      case 'change-refused': {
        if (event.step === 'store-pending') return refused('storage', event.reason);
        // An nft that is missing or hangs is no fault of the ruleset.
        const isWorking = !this.#options.keeper.isNftFailing;
        return refused(isWorking ? 'ruleset-refused' : 'failed', event.reason);
      }
      case 'confirmation-failed':
        return refused('storage', event.reason);
      default:
        return refused('failed', describeChangeEvent(event));
    }
  }

  #refuseBusy(): ControlReply {
    const { change } = this.#machine;
    const which = change === undefined ? 'another request is looked at' : underWayText(change);
    return refused('busy', which);
  }

  #follow(compiled: CompiledConfiguration): void {
    this.#running = compiled;
    this.#options.onInForce(compiled);
  }

  async #compile(configText: string): Promise<CompileResult> {
    const known = this.#compiled.get(configText) ?? this.#ifRunning(configText);
    if (known !== undefined) return { compiled: known };
    const result = await this.#options.compile(configText);
    if (result.compiled !== undefined) this.#keepCompiled(result.compiled);
    return result;
  }

  #keepCompiled(compiled: CompiledConfiguration): void {
    // The newest last.
    this.#compiled.delete(compiled.configText);
    this.#compiled.set(compiled.configText, compiled);
    const [oldest] = this.#compiled.keys();
    if (this.#compiled.size > COMPILED_KEPT && oldest !== undefined) this.#compiled.delete(oldest);
  }

  #ifRunning(configText: string): CompiledConfiguration | undefined {
    return this.#running?.configText === configText ? this.#running : undefined;
  }
}

/** As the request, with the text of its revision. */
type RevisionText = Terms & { readonly configText: string };

function underWayText({ id, author }: Change): string {
  return `change ${id} of ${author} is under way: confirm it or roll it back first`;
}

function refused(code: RefusalCode, reason: string): ControlReply {
  return { kind: 'refused', code, reason };
}
