/**
 * The privileged process: it holds the ruleset, the programs in the kernel, the state, the roles.
 *
 * What it puts into the kernel stays there when it ends, however that is. The next start finds it
 * and goes on.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { findPaths } from '../../config/find-paths.ts';
import type { Config } from '../../config/schema.ts';
import type { SetChange } from '../../firewall/table-entries.ts';
import type { CompiledConfiguration, CompileResult } from '../../gateway/compile-configuration.ts';
import { interfaceOfNetwork } from '../../gateway/firewall-plan.ts';
import {
  CONTROL_SOCKET_NAME,
  type ControlReply,
  type ControlRequest,
  type CoreStatus,
} from '../../messages/control-messages.ts';
import type { AddressRange } from '../../net/address-range.ts';
import { lastAddressOf } from '../../net/prefix.ts';
import { openNft } from '../nft.ts';
import { setForwarding } from '../nft-default-posture.ts';
import { type ChangeRecords, openChangeRecords } from '../store/change-records.ts';
import { openStore, type StorageAlarm, type Store } from '../store/store.ts';
import { openTableRecords, type TableRecords } from '../store/table-records.ts';
import { AddressTables } from './address-tables.ts';
import { Alarms } from './alarms.ts';
import { readConfigFile } from './config-file.ts';
import { compileBounded } from './configuration-compiler.ts';
import { startControlServer } from './control-server.ts';
import { CoreChanges } from './core-changes.ts';
import { CoreRoles } from './core-roles.ts';
import { type CoreParts, coreStatus } from './core-status.ts';
import { type InstanceLock, type LockHolder, lockFolder, lockNetwork } from './instance-lock.ts';
import { NatDataplane } from './nat-dataplane.ts';
import { PacketCounting } from './packet-counting.ts';
import { answerRevision, answerRevisions } from './revision-answers.ts';
import { RulesetKeeper } from './ruleset-keeper.ts';
import { answerStates, killStates, type NatTables } from './session-states.ts';

export interface CoreOptions {
  /** How this program is started, without its words; absolute paths. */
  readonly program: readonly [string, ...string[]];
  readonly version: string;
  readonly configFile: string;
  /** The account that role processes run as. */
  readonly user: string;
  /** One line for the log. */
  readonly log: (text: string) => void;
  readonly onApiReady: (addresses: readonly string[]) => void;
}

/** There is no config to run by; the message lists its problems. */
export class ConfigProblemsError extends Error {
  override readonly name = 'ConfigProblemsError';
}

/** A rollback guard holds its locks for a second or two. */
const GUARD_WAIT_MS = 70_000;
const LOCK_LOOK_EVERY_MS = 100;
/** Whoever takes a lock says who it is at once, unless the disk is full. */
const NAME_WAIT_MS = 2_000;
/** Of those before, when the config has problems: more would be older than anybody remembers. */
const REVISIONS_TRIED_MAX = 5;
/** Of the API, for programs on this machine. */
const API_SOCKET_NAME = 'api.sock';

/** In the runtime folder: which of the NAT's programs are loaded. */
const NAT_RECORD_NAME = 'nat-programs.json';

/** What was put up, in order, to be taken down in reverse. */
type Undoing = (() => void | Promise<void>)[];

/**
 * Puts everything up, or nothing.
 *
 * @throws Error that says what is in the way
 */
export async function startCore(options: CoreOptions): Promise<Core> {
  const undoing: Undoing = [];
  try {
    const core = new Core(options, undoing);
    await core.start();
    return core;
  } catch (cause) {
    await takeDown(undoing);
    throw cause;
  }
}

export class Core {
  readonly #options: CoreOptions;
  readonly #undoing: Undoing;
  readonly #alarms: Alarms;
  #parts: CoreParts | undefined;
  #nat: NatDataplane | undefined;

  constructor(options: CoreOptions, undoing: Undoing) {
    this.#options = options;
    this.#undoing = undoing;
    this.#alarms = new Alarms(options.log);
  }

  async start(): Promise<void> {
    const { configFile } = this.#options;
    const paths = findPaths(requireConfigText(configFile));
    await this.#lock(paths.state, (holder) => lockFolder(paths.state, holder));
    await this.#lock(paths.runtime, (holder) => lockFolder(paths.runtime, holder));
    await this.#lock('this network namespace', lockNetwork);
    const store = this.#openStore(paths.state);
    const records = openChangeRecords(store);
    // Only now: a rollback guard that had the locks may have restored it.
    const first = await this.#firstConfiguration(requireConfigText(configFile), records);
    const { keeper, tables } = this.#makeKeeper(openTableRecords(store));
    await keeper.protect();
    const counting = new PacketCounting({
      interfaces: interfacesOf(first.config),
      countedByNat: () => this.#nat?.interfaces ?? new Map(),
      report: (text) => this.#alarms.raise(text),
    });
    this.#undoing.push(() => counting.stop());
    const nat = this.#startNat(first.config, counting);
    counting.count(interfacesOf(first.config));
    const stateFolder = paths.state;
    const changes = this.#makeChanges({ keeper, records, counting, nat, stateFolder });
    const { forwardedTraffic } = nat;
    const begun = await this.#compiledAgain(first, nat);
    const pending = records.pending();
    if (pending === undefined) {
      tables.forgetAllBut(Object.keys(first.config.firewall.tables));
      await changes.begin(begun);
    } else await changes.resume(pending, begun);
    const config = changes.running?.config ?? first.config;
    const roles = this.#startRoles({ config, counting, runtimeFolder: paths.runtime });
    this.#parts = { paths, store, records, keeper, tables, counting, nat, changes, roles };
    // An interface may have refused its programs meanwhile.
    if (nat.forwardedTraffic !== forwardedTraffic) await changes.compileAgain();
    await nat.settled();
    const path = join(paths.runtime, CONTROL_SOCKET_NAME);
    const control = await startControlServer(path, (request) => this.#answer(request));
    this.#undoing.push(() => control.close());
  }

  /** Undefined until everything stands. */
  status(): CoreStatus | undefined {
    return this.#parts === undefined ? undefined : this.#status(this.#parts);
  }

  /**
   * Leaves in the kernel what protects the network.
   *
   * @throws Error that tells everything that could not be taken down
   */
  async stop(): Promise<void> {
    await takeDown(this.#undoing);
  }

  /** A guard that ends a dead instance's change holds the locks for a moment. */
  async #lock(what: string, lock: (holder: LockHolder) => InstanceLock): Promise<void> {
    const giveUpAt = performance.now() + GUARD_WAIT_MS;
    const nameless = performance.now() + NAME_WAIT_MS;
    for (;;) {
      const taken = lock('instance');
      if (taken.release !== undefined) {
        this.#undoing.push(taken.release);
        return;
      }
      // One that has not told its name yet may be a guard.
      const isForMoments = taken.isGuard || taken.holderPid === undefined;
      if (!isForMoments || performance.now() > (taken.isGuard ? giveUpAt : nameless)) {
        const holder =
          taken.holderPid === undefined ? 'another process' : `process ${taken.holderPid}`;
        throw new Error(`gatehouse runs already: ${holder} has ${what}`);
      }
      await pause(LOCK_LOOK_EVERY_MS);
    }
  }

  #openStore(folder: string): Store {
    const store = openStore(folder, {
      alarm: (alarm) => this.#alarms.raise(describeStorageAlarm(alarm)),
    });
    this.#undoing.push(() => store.close());
    return store;
  }

  /**
   * What the file says counts. One that cannot be understood does not keep a network down that ran
   * before.
   */
  async #firstConfiguration(
    fileText: string,
    records: ChangeRecords,
  ): Promise<CompiledConfiguration> {
    const { configFile: fileName } = this.#options;
    const pending = records.pending()?.change.previous.configText;
    const ways = [
      ...(pending === undefined ? [] : [{ fileName: 'the config of before', text: pending }]),
      { fileName, text: fileText },
      ...records.revisions.list({ limit: REVISIONS_TRIED_MAX }).map(([number, { configText }]) => {
        return { fileName: `revision ${number}`, text: configText };
      }),
    ];
    const problems: string[] = [];
    for (const way of ways) {
      const options = { ...way, forwardedTraffic: 'sessions' } as const;
      const { compiled, problems: found } = await compileBounded(way.text, options);
      if (found !== undefined) problems.push(found);
      if (compiled === undefined) continue;
      for (const text of problems) {
        this.#alarms.raise(`the config has problems, so ${way.fileName} is in force: ${text}`);
      }
      return compiled;
    }
    await closeUnlessGuarded();
    throw new ConfigProblemsError(`the config has problems:\n${problems[0]}`);
  }

  /** Before any of our rules: nothing is forwarded yet, or by the programs of an earlier run. */
  #startNat(config: Config, counting: PacketCounting): NatDataplane {
    const nat = new NatDataplane({
      countersOf: counting.programId,
      onInterfaces: () => counting.lookAtNat(),
      recordFile: join(config.paths.runtime, NAT_RECORD_NAME),
      alarm: (text) => this.#alarms.raise(text),
      log: this.#options.log,
      onChange: () => void this.#parts?.changes.compileAgain(),
    });
    this.#undoing.push(() => nat.stop());
    this.#nat = nat;
    nat.follow(config);
    return nat;
  }

  #compile(text: string, { forwardedTraffic }: NatDataplane): Promise<CompileResult> {
    return compileBounded(text, { fileName: this.#options.configFile, forwardedTraffic });
  }

  /** Where the kernel does not take the NAT, the rules are others than it was compiled for. */
  async #compiledAgain(
    compiled: CompiledConfiguration,
    nat: NatDataplane,
  ): Promise<CompiledConfiguration> {
    if (nat.forwardedTraffic === 'sessions') return compiled;
    return (await this.#compile(compiled.configText, nat)).compiled ?? compiled;
  }

  #makeKeeper(records: TableRecords): { keeper: RulesetKeeper; tables: AddressTables } {
    const { log } = this.#options;
    const alarm = (text: string) => this.#alarms.raise(text);
    const tables: AddressTables = new AddressTables({
      records,
      changeSets: (makeChanges) => keeper.changeSets(makeChanges),
      configured: () => this.#parts?.changes.running?.config.firewall.tables ?? {},
      log,
      alarm,
    });
    const keeper = new RulesetKeeper({
      nft: openNft(),
      restores: () => this.#parts?.changes.running?.config.firewall.foreignChanges !== 'report',
      onForeignChange: () => this.#parts?.changes.wantedNow(),
      onRulesChange: () => this.#nat?.forgetJudgements(),
      onSetsChange: (changes) => this.#nat?.forgetJudgementsAbout(changes.flatMap(rangesOf)),
      withEntries: (ruleset) => tables.withEntries(ruleset),
      alarm,
    });
    this.#undoing.push(() => keeper.stop());
    this.#undoing.push(() => tables.stop());
    return { keeper, tables };
  }

  #makeChanges(parts: {
    keeper: RulesetKeeper;
    records: ChangeRecords;
    counting: PacketCounting;
    nat: NatDataplane;
    stateFolder: string;
  }): CoreChanges {
    const { configFile, program } = this.#options;
    const { counting, nat, ...rest } = parts;
    const changes = new CoreChanges({
      ...rest,
      program,
      configFile,
      forwardedTraffic: () => nat.forwardedTraffic,
      compile: (text) => this.#compile(text, nat),
      onInForce: ({ config }) => {
        counting.count(interfacesOf(config));
        nat.follow(config);
        this.#parts?.roles.follow(config);
      },
      alarm: (text) => this.#alarms.raise(text),
    });
    this.#undoing.push(() => changes.stop());
    return changes;
  }

  #startRoles(parts: {
    config: Config;
    counting: PacketCounting;
    runtimeFolder: string;
  }): CoreRoles {
    const { program, version, user, log, onApiReady } = this.#options;
    const { runtimeFolder, ...rest } = parts;
    const apiSocketPath = join(runtimeFolder, API_SOCKET_NAME);
    const roles = new CoreRoles({
      ...rest,
      program,
      version,
      user,
      apiSocketPath,
      onApiReady,
      log,
      alarm: (text) => this.#alarms.raise(text),
    });
    this.#undoing.push(async () => {
      await roles.stop();
      // The role could not: it has no right to the folder any more.
      rmSync(apiSocketPath, { force: true });
    });
    return roles;
  }

  #status(parts: CoreParts): CoreStatus {
    const { version, configFile } = this.#options;
    return coreStatus({ ...parts, version, configFile, alarms: this.#alarms.list });
  }

  async #answer(request: ControlRequest): Promise<ControlReply> {
    const parts = this.#parts;
    if (parts === undefined) throw new Error('gatehouse is starting');
    const { changes, records } = parts;
    switch (request.kind) {
      case 'get-status':
        return { kind: 'status', status: this.#status(parts) };
      case 'get-tables':
        return parts.tables.list();
      case 'get-table':
        return parts.tables.show(request);
      case 'add-table-entry':
        return parts.tables.add(request);
      case 'remove-table-entry':
        return parts.tables.remove(request);
      case 'get-running':
        return this.#running(parts);
      case 'apply':
        return changes.apply(request);
      case 'apply-revision':
        return changes.applyRevision(request);
      case 'confirm':
      case 'rollback':
        return changes.decide(request);
      case 'get-revisions':
        return answerRevisions(records, request);
      case 'get-revision':
        return answerRevision(records, request);
      case 'set-safe-mode':
        return changes.setSafeMode(request);
      case 'get-states':
        return answerStates(() => this.#natTables(), request);
      case 'kill-states':
        return killStates(() => this.#natTables(), request, this.#options.log);
    }
  }

  /** Those that packets meet now; undefined while there is no NAT. */
  #natTables(): NatTables | undefined {
    return this.#parts?.nat.tables;
  }

  #running({ changes: { running }, nat: { forwardedTraffic } }: CoreParts): ControlReply {
    if (running === undefined) throw new Error('no configuration is in force yet');
    const { configFile } = this.#options;
    const { configText, rulesetText } = running;
    return { kind: 'running', configFile, configText, rulesetText, forwardedTraffic };
  }
}

/** @throws Error that names the file */
function requireConfigText(path: string): string {
  const { text, reason, absent } = readConfigFile(path);
  if (text !== undefined) return text;
  throw new Error(absent ? `${reason}; gatehouse init makes one` : reason);
}

/**
 * A gateway that cannot start forwards nothing, unless rules of an earlier run are in place. The
 * machine itself stays as reachable as it was: somebody has to repair the config.
 */
async function closeUnlessGuarded(): Promise<void> {
  const listing = await openNft().list();
  if (!listing.success || listing.table === undefined) setForwarding(false);
}

function describeStorageAlarm(alarm: StorageAlarm): string {
  switch (alarm.kind) {
    case 'file-damaged': {
      const kept = alarm.keptAs === undefined ? '' : `; it is kept as ${alarm.keptAs}`;
      return `${alarm.file} was damaged and is made anew: ${alarm.reason}${kept}`;
    }
    case 'state-truncated':
      return `acknowledged state is lost: ${alarm.reason}`;
    case 'writing-failed':
      return `the state is kept in memory only: ${alarm.error.message}`;
    case 'writing-resumed':
      return 'the state is on disk again';
  }
}

/** What comes and what goes: between the two, a packet may have met neither. */
function rangesOf({ removed, added }: SetChange): AddressRange[] {
  return [...removed, ...added].map((prefix) => ({
    first: { family: prefix.family, bits: prefix.bits },
    last: lastAddressOf(prefix),
  }));
}

function interfacesOf(config: Config): string[] {
  const inside = Object.entries(config.networks).map(([name, network]) =>
    interfaceOfNetwork(name, network),
  );
  return [config.wan?.interface, ...inside].filter((name) => name !== undefined);
}

async function takeDown(undoing: Undoing): Promise<void> {
  const errors: unknown[] = [];
  // One that fails keeps none of the others up.
  for (const undo of undoing.splice(0).reverse()) {
    try {
      await undo();
    } catch (error) {
      errors.push(error);
    }
  }
  const words = errors.map((error) => (error instanceof Error ? error.message : String(error)));
  if (errors.length > 0) throw new AggregateError(errors, words.join('; '));
}
