/**
 * The NAT in the kernel, as the config wants it: its programs on WAN and inside interfaces as they
 * come and go, its settings, its port forwards, and the WAN's address when DHCP gives another.
 *
 * The programs and what they know stay when this process ends, however that is. They go on
 * translating, and the next start takes them over.
 */
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { NatCounter, NatHook, type NatSettings } from '../../abi/layouts.generated.ts';
import type { Config } from '../../config/schema.ts';
import type { FastPath } from '../../gateway/fast-path.ts';
import {
  chooseWanAddress,
  externalCount,
  externalPlaces,
  type NatPlan,
  planNat,
  SESSIONS_PER_BUCKET,
  tickAt,
  ticksOfMilliseconds,
} from '../../gateway/nat-plan.ts';
import {
  type NatPort,
  type NextSettings,
  nextSettings,
  withInterfaces,
  withoutFastPath,
  withoutGone,
} from '../../gateway/nat-settings.ts';
import { type Forward, forwardsOf, NatTableWriter } from '../../gateway/nat-table-writer.ts';
import type { NatStatus } from '../../messages/control-messages.ts';
import type { AddressRange } from '../../net/address-range.ts';
import { formatIpv4Address, ipv4Address, requireIpv4Address } from '../../net/ipv4-address.ts';
import { MAC_ADDRESS_BYTES } from '../../net/mac-address.ts';
import {
  formatInterfaceAddress,
  type InterfaceAddress,
  parseInterfaceAddress,
} from '../../net/prefix.ts';
import { ipv4AddressesOf } from '../interface-addresses.ts';
import { InterfaceAttachments, type TcPrograms } from '../interface-attachments.ts';
import { FastPathObstacles } from './fast-path-obstacles.ts';
import { FastPathPorts } from './fast-path-ports.ts';
import { FragmentHolder } from './fragment-holder.ts';
import { writeNatKernelSettings } from './nat-kernel-settings.ts';
import { clearNat, fits, type LoadedNat, loadNat, type NatDemand } from './nat-object.ts';
import { raiseAddressGenerations, raiseGeneration } from './rules-generation.ts';
import type { NatTables } from './session-states.ts';

export interface NatDataplaneOptions {
  /** See {@link loadNat}. */
  readonly recordFile: string;
  /** The kernel's number of a program whose maps packets are counted in. */
  readonly countersOf: number | undefined;
  /** Something that a person should know; one line. */
  readonly alarm: (text: string) => void;
  /** More than one line, for whoever looks for the cause. */
  readonly log: (text: string) => void;
  /** Called when {@link NatDataplane.forwardedTraffic} is another than before. */
  readonly onChange: () => void;
  /** Called when {@link NatDataplane.interfaces} are others than before. */
  readonly onInterfaces: () => void;
}

/** An address that DHCP gives to the WAN is in force within this time and a little. */
const LOOK_EVERY_MS = 500;
/** After it a port forward that a program wrote over is put in once more. */
const REFER_AGAIN_AFTER_MS = 1_000;
/** TCP that went through the gateway before the tables were made is taken up within this time. */
const PICKUP_FOR_MS = 10 * 60 * 1_000;

/** What the tables hold by now. */
interface InForce {
  readonly loaded: LoadedNat;
  readonly writer: NatTableWriter;
  readonly settings: NatSettings;
  readonly forwards: readonly Forward[];
}

export class NatDataplane {
  readonly #options: NatDataplaneOptions;
  readonly #attachments: InterfaceAttachments;
  readonly #holder: FragmentHolder;
  readonly #obstacles: FastPathObstacles;
  readonly #ports: FastPathPorts;
  readonly #timer: NodeJS.Timeout;
  #referTimer: NodeJS.Timeout | undefined;
  #config: Config | undefined;
  #plan: NatPlan | undefined;
  #wanAddress: InterfaceAddress | undefined;
  #loaded: LoadedNat | undefined;
  #inForce: InForce | undefined;
  /** Why nothing is translated, although the config asks for it. */
  #offReason: string | undefined;
  /** The last told, of each kind. */
  readonly #told = new Map<string, string>();
  #isChanging = false;
  /** Ends what has to end after a change; one after the other. */
  #ending: Promise<void> = Promise.resolve();
  #endingCount = 0;

  constructor(options: NatDataplaneOptions) {
    this.#options = options;
    this.#attachments = new InterfaceAttachments({
      place: 'nat',
      action: 'translate',
      report: options.alarm,
      onChange: () => this.#handleInterfaces(),
    });
    this.#holder = new FragmentHolder({
      hooks: () => this.#hooks(),
      onChange: () => this.#handleHolder(),
    });
    this.#obstacles = new FastPathObstacles(() => this.#handleObstacle());
    this.#ports = new FastPathPorts({
      report: options.alarm,
      onChange: () => this.#followPorts(),
    });
    this.#timer = setInterval(() => this.#lookAtWan(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** Who tells replies from requests: our programs, unless the kernel does not take them. */
  get forwardedTraffic(): 'conntrack' | 'sessions' {
    return this.#offReason === undefined ? 'sessions' : 'conntrack';
  }

  /** Those that have the programs: names by the kernel's numbers. */
  get interfaces(): ReadonlyMap<number, string> {
    return this.#attachments.namesByIndex();
  }

  /** Those that packets meet now; undefined while there is no NAT. */
  get tables(): NatTables | undefined {
    if (this.#inForce === undefined) return undefined;
    const { loaded, settings } = this.#inForce;
    const endPickup = () => this.#endPickup();
    const { sessions, sessionAddresses: ipv6Addresses } = loaded;
    return { sessions, ipv6Addresses, settings, nowTick, endPickup };
  }

  /** Resolves when it is known whether packets may go fast. */
  settled(): Promise<void> {
    return this.#obstacles.settled();
  }

  /** Every session is judged once more: the rules, or what they are asked about, have changed. */
  forgetJudgements(): void {
    if (this.#loaded !== undefined) raiseGeneration(this.#loaded.object.maps.natGeneration);
  }

  /**
   * The sessions of these addresses are judged once more, whichever end they are: what the rules
   * ask about them has changed. So are a few others, and all of them where the addresses are many.
   */
  forgetJudgementsAbout(ranges: readonly AddressRange[]): void {
    if (!this.#raiseAbout(ranges)) this.forgetJudgements();
  }

  #raiseAbout(ranges: readonly AddressRange[]): boolean {
    if (this.#inForce === undefined) return false;
    const { loaded, settings } = this.#inForce;
    const { buffer: memory } = loaded.addressGenerations;
    return raiseAddressGenerations({ memory, hashKey: settings.hashKey }, ranges);
  }

  #endPickup(): void {
    this.#changeSettings((settings) => ({ ...settings, pickupUntilTick: 0 }));
  }

  #changeSettings(change: (settings: NatSettings) => NatSettings): void {
    if (this.#inForce === undefined) return;
    const settings = change(this.#inForce.settings);
    this.#inForce.loaded.object.maps.natSettings.update(0, settings);
    this.#inForce = { ...this.#inForce, settings };
  }

  /** Fragments are held somewhere else now, or nowhere. */
  #handleHolder(): void {
    const { interfaceIndex: holdInterface, trouble } = this.#holder;
    this.#changeSettings((settings) => ({ ...settings, holdInterface }));
    this.#tell('holder', trouble);
  }

  /** Those that have the programs. */
  #natPorts(): Map<string, NatPort> {
    const ports = [...this.interfaces].map(([index, name]): [string, NatPort] => {
      const { mac = noMac, isAtXdp = false } = this.#ports.ports.get(name) ?? {};
      return [name, { index, mac, isAtXdp }];
    });
    return new Map(ports);
  }

  #followPorts(): void {
    const plan = this.#plan;
    if (plan === undefined) return;
    this.#changeSettings((settings) => withInterfaces(settings, plan, this.#natPorts()));
  }

  /** Where packets must not pass something of the kernel by, none does. */
  #fastOrNot(settings: NatSettings): NatSettings {
    return this.#obstacles.first === undefined ? settings : withoutFastPath(settings);
  }

  #handleObstacle(): void {
    if (this.#config !== undefined) this.#apply();
  }

  #fastPaths(): NonNullable<NatStatus['fastPath']> {
    const obstacle = this.#obstacles.first;
    return this.#attachments.states().map(({ name }) => {
      const path = this.#ports.paths.get(name) ?? unknownPath;
      if (path.at !== 'off' && obstacle !== undefined) return { name, at: 'off', reason: obstacle };
      return { name, at: path.at, reason: path.reason.slice(0, REASON_MAX) };
    });
  }

  /** Where programs look at what comes in. */
  #hooks(): Map<number, NatHook> {
    const hooks = [...this.interfaces].map(([index, name]) => {
      const isWan = name === this.#plan?.wanInterface;
      return [index, isWan ? NatHook.wanIngress : NatHook.insideIngress] as const;
    });
    return new Map(hooks);
  }

  /** From now on. Never throws: what the kernel refuses is told, and nothing is translated. */
  follow(config: Config): void {
    const isSameWan = config.wan?.interface === this.#config?.wan?.interface;
    if (!isSameWan) this.#wanAddress = undefined;
    this.#config = config;
    this.#wanAddress = this.#findWanAddress();
    this.#apply();
  }

  status(): NatStatus {
    const shared = {
      interfaces: this.#attachments.states().map(({ name, state }) => ({ name, state })),
      overlappingNetworks: [...(this.#plan?.overlapping ?? [])],
    };
    const none = { externalAddresses: [], counters: [] };
    if (this.#offReason !== undefined) {
      return { ...shared, ...none, state: 'off', reason: this.#offReason.slice(0, REASON_MAX) };
    }
    if (this.#inForce === undefined) {
      return { ...shared, ...none, state: 'unused', reason: 'the config has no networks' };
    }
    const inKernel = statusOf(this.#inForce);
    const counters = [...inKernel.counters, ...this.#holder.counters()];
    return { ...shared, ...inKernel, counters, fastPath: this.#fastPaths(), state: 'on' };
  }

  /** What is not as it should be, a sentence each. */
  problems(): string[] {
    const reason = this.#offReason;
    const hasExternal = this.#plan === undefined || this.#plan.externals.length > 0;
    const needsExternal = this.#config?.wan !== undefined && reason === undefined;
    return [
      ...(reason === undefined ? [] : [`addresses are not translated: ${reason}`]),
      ...(needsExternal && !hasExternal ? [noAddress] : []),
      ...(this.#plan?.overlapping ?? []).map((name) => this.#overlapText(name)),
      ...(this.#holder.trouble === undefined ? [] : [this.#holder.trouble]),
    ];
  }

  /** Leaves everything in the kernel as it is. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#referTimer);
    this.#attachments.stop();
    this.#ports.stop();
    this.#holder.stop();
    const loaded = this.#loaded;
    this.#loaded = undefined;
    this.#inForce = undefined;
    await this.#obstacles.stop();
    await this.#ending;
    loaded?.close();
  }

  #apply(): void {
    const config = this.#config;
    if (config === undefined) return;
    this.#changing(() => {
      this.#offReason = undefined;
      try {
        this.#put(config);
        if (this.#offReason === undefined) this.#tell('off', undefined);
      } catch (cause) {
        this.#refuse(cause instanceof Error ? cause.message : String(cause));
      }
    });
  }

  /** Tells who has to know what came of it, once. */
  #changing(action: () => void): void {
    const before = this.forwardedTraffic;
    const isInner = this.#isChanging;
    this.#isChanging = true;
    try {
      action();
    } finally {
      this.#isChanging = isInner;
    }
    if (!isInner && this.forwardedTraffic !== before) this.#options.onChange();
  }

  #put(config: Config): void {
    if (Object.keys(config.networks).length === 0) {
      this.#plan = undefined;
      this.#putAside();
      return;
    }
    const loaded = this.#load(config);
    const previous = this.#inForce?.loaded === loaded ? this.#inForce.settings : loaded.adopted;
    if (config.wan?.address === 'dhcp') this.#wanAddress ??= lastWanAddress(config, previous);
    const plan = planNat(config, { wanAddress: this.#wanAddress });
    this.#plan = plan;
    this.#holder.follow(loaded.object.maps);
    this.#tell('holder', this.#holder.trouble);
    const next = nextSettings(plan, {
      hashKey: previous?.hashKey ?? newHashKey(),
      sessionBucketCount: loaded.sizes.sessionBuckets,
      mappingBucketCount: loaded.sizes.mappingBuckets,
      places: loaded.places,
      holdInterface: this.#holder.interfaceIndex,
      ports: this.#natPorts(),
      pickupUntilTick: previous?.pickupUntilTick ?? nowTick() + ticksOfMilliseconds(PICKUP_FOR_MS),
      previous,
    });
    const [first = 0n, second = 0n] = next.settings.hashKey;
    const writer = new NatTableWriter(loaded.memory, [first, second]);
    const forwards = forwardsOf(plan, next);
    const settings = this.#fastOrNot(next.settings);
    loaded.object.maps.natSettings.update(0, settings);
    this.#inForce = { loaded, writer, settings, forwards };
    // Since the rules changed, sessions may have been judged by the places and addresses of before.
    this.forgetJudgements();
    const taken = this.#putForwards(this.#inForce);
    this.#end(next, taken);
    this.#tellAbout(plan, next);
    this.#attach(config, plan, loaded);
  }

  /** Tables and programs that do for a config: those of now, or others in their place. */
  #load(config: Config): LoadedNat {
    const placesNeeded = externalCount(config);
    const demand = {
      sessions: config.nat.sessions,
      placesNeeded,
      placesWanted: externalPlaces(placesNeeded),
    };
    const before = this.#loaded;
    if (before !== undefined && fits(before, demand)) return before;
    const loaded = this.#loadOrKeep(demand, before);
    this.#loaded = loaded;
    if (before !== undefined && loaded !== before) {
      void this.#ending.then(() => before.close());
    }
    return loaded;
  }

  #loadOrKeep(demand: NatDemand, before: LoadedNat | undefined): LoadedNat {
    const { alarm, recordFile, countersOf } = this.#options;
    try {
      return loadNat(demand, { recordFile, countersOf, log: alarm });
    } catch (cause) {
      if (before === undefined || before.places < demand.placesNeeded) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      alarm(`the NAT keeps the tables of before, since there is no room for others: ${reason}`);
      return before;
    }
  }

  #attach(config: Config, { wanInterface, insideInterfaces }: NatPlan, loaded: LoadedNat): void {
    const programs = new Map(
      insideInterfaces.map((name) => [name, () => loaded.xdpPrograms().inside]),
    );
    if (wanInterface !== undefined) programs.set(wanInterface, () => loaded.xdpPrograms().wan);
    const wanted = new Map<string, TcPrograms>(
      insideInterfaces.map((name) => [name, loaded.insidePrograms]),
    );
    if (wanInterface !== undefined) wanted.set(wanInterface, loaded.wanPrograms);
    // First: with tables of before, whose rules nobody tells, it would go on where tc has others.
    this.#ports.follow({ config, programs });
    this.#attachments.want(wanted);
    // What an instance before this one had in its config.
    if (this.#offReason === undefined) clearNat({ but: [...wanted.keys()] });
  }

  /** @returns elements of nat_mappings that changed hands */
  #putForwards({ loaded, writer, forwards }: InForce): ReadonlySet<number> {
    const { natHosts } = loaded.object.maps;
    const changes = writer.putForwards(forwards, nowTick());
    for (const address of changes.lostMappings) {
      const host = natHosts.lookup(address);
      if (host === undefined) continue;
      natHosts.update(address, { ...host, mappings: Math.max(0, host.mappings - 1) }, 'replace');
    }
    clearTimeout(this.#referTimer);
    this.#referTimer = setTimeout(() => this.#referAgain(), REFER_AGAIN_AFTER_MS);
    this.#referTimer.unref();
    return changes.takenElements;
  }

  #referAgain(): void {
    if (this.#inForce === undefined) return;
    const { writer, forwards } = this.#inForce;
    const count = writer.refer(forwards, nowTick());
    const text = `${count} port forwards are one-way: what their hosts send has another port`;
    this.#tell('unreferenced', count === 0 ? undefined : text);
  }

  /** What can go on no more, without holding up everything else. */
  #end(next: NextSettings, takenElements: ReadonlySet<number>): void {
    const { gonePlaces, goneAddresses, areNetworksOthers, settings } = next;
    const isNothing = gonePlaces.length === 0 && takenElements.size === 0 && !areNetworksOthers;
    const inForce = this.#inForce;
    if (isNothing || inForce === undefined) return;
    const { writer, loaded } = inForce;
    // What ends must not be taken for something that was there before the tables.
    this.#endPickup();
    this.#endingCount++;
    this.#ending = this.#ending.then(async () => {
      const isCurrent = () => this.#loaded === loaded;
      if (isCurrent()) writer.endMappings(settings, gonePlaces);
      const steps = writer.endSessions({ settings, gonePlaces, goneAddresses, takenElements });
      while (isCurrent() && steps.next().done !== true) await nextTurn();
      this.#endingCount--;
      if (this.#endingCount === 0 && isCurrent()) this.#changeSettings(withoutGone);
    });
  }

  /** The config forwards nothing. */
  #putAside(): void {
    this.#ports.follow(undefined);
    this.#attachments.want(new Map());
    clearNat({ but: [] });
    this.#unload();
  }

  /** What the kernel has to say of a program fills a page. */
  #refuse(text: string): void {
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    const [first = '', last] = [lines[0], lines.slice(1).at(-1)];
    if (last !== undefined) this.#options.log(text);
    this.#turnOff(last === undefined ? first : `${first} … ${last}`);
  }

  #turnOff(reason: string): void {
    this.#tell('off', `addresses are not translated: ${reason}`);
    this.#offReason = reason;
    try {
      this.#putAside();
    } catch (cause) {
      this.#options.alarm(cause instanceof Error ? cause.message : String(cause));
    }
  }

  #unload(): void {
    this.#holder.stop();
    const loaded = this.#loaded;
    this.#loaded = undefined;
    this.#inForce = undefined;
    clearTimeout(this.#referTimer);
    if (loaded !== undefined) void this.#ending.then(() => loaded.close());
  }

  /** Half of the programs would be worse than none. */
  #handleInterfaces(): void {
    this.#followPorts();
    // What left by one interface may leave by another now.
    this.forgetJudgements();
    this.#options.onInterfaces();
    const states = this.#attachments.states();
    const failed = states.find(({ state }) => state === 'failed');
    if (failed !== undefined) {
      this.#changing(() => this.#turnOff(failed.why ?? 'it cannot be attached'));
      return;
    }
    const inside = states.filter(({ name, state }) => {
      return state === 'attached' && this.#plan?.insideInterfaces.includes(name) === true;
    });
    writeNatKernelSettings(
      inside.map(({ name }) => name),
      (text) => this.#tell('kernel', text),
    );
  }

  #lookAtWan(): void {
    if (this.#config?.wan?.address !== 'dhcp') return;
    const before = this.#wanAddress;
    const now = this.#findWanAddress();
    if (now === undefined || textOf(now) === textOf(before)) return;
    this.#wanAddress = now;
    this.#options.alarm(`the address of the WAN is ${textOf(now)}`);
    this.#apply();
  }

  #findWanAddress(): InterfaceAddress | undefined {
    const wan = this.#config?.wan;
    if (wan === undefined || wan.address !== 'dhcp') return undefined;
    return chooseWanAddress(ipv4AddressesOf(wan.interface), this.#wanAddress);
  }

  #tellAbout({ overlapping }: NatPlan, { left }: NextSettings): void {
    const overlaps = overlapping.map((name) => this.#overlapText(name));
    this.#tell('overlap', overlaps.length === 0 ? undefined : overlaps.join('; '));
    const addresses = left.map(({ address }) => formatIpv4Address(address)).join(', ');
    const text = `there is no room for the external address ${addresses}`;
    this.#tell('left', left.length === 0 ? undefined : text);
  }

  #overlapText(name: string): string {
    const where = this.#config?.networks[name]?.address ?? '';
    const wan = textOf(this.#wanAddress);
    return (
      `network ${name} (${where}) overlaps the WAN's (${wan}): ` +
      'it cannot reach the internet before its address is another'
    );
  }

  /** @param text undefined: it is not so any more */
  #tell(kind: string, text: string | undefined): void {
    const told = this.#told.get(kind);
    if (text === undefined) this.#told.delete(kind);
    else if (told !== text) {
      this.#told.set(kind, text);
      this.#options.alarm(text);
    }
  }
}

/** As long as a note of the status may be. */
const REASON_MAX = 1_024;
const unknownPath: FastPath = { at: 'tc', reason: 'until it is there' };
const noMac = new Uint8Array(MAC_ADDRESS_BYTES);
const noAddress = 'the WAN has no address yet, so nothing is translated';

/** By their place in nat_counters. */
const counterNames = new Map(
  Object.entries(NatCounter).flatMap(([name, index]): [number, string][] => {
    return index === NatCounter.count ? [] : [[index, name]];
  }),
);

function statusOf({ loaded, writer, settings }: InForce) {
  const counts = [...loaded.object.maps.natCounters.entries()].map(([index, perCpu]) => {
    const count = Number(perCpu.reduce((sum, one) => sum + one, 0n));
    return { name: counterNames.get(index), count };
  });
  const countOf = (wanted: string) => counts.find(({ name }) => name === wanted)?.count ?? 0;
  const open = Math.max(0, countOf('sessionsOpened') - countOf('sessionsClosed'));
  return {
    externalAddresses: settings.externals
      .slice(0, settings.externalCount)
      .filter(({ address, oneToOne }) => address !== 0 && oneToOne !== 0xffff_ffff)
      .map(({ address }) => formatIpv4Address(ipv4Address(address))),
    sessions: { open, max: loaded.sizes.sessionBuckets * SESSIONS_PER_BUCKET },
    mappings: writer.liveMappingCount(nowTick()),
    memoryBytes: loaded.memoryBytes,
    counters: counts.flatMap(({ name, count }) => {
      return name === undefined || count === 0 ? [] : [{ name, count }];
    }),
  };
}

/** As an instance before this one found it: a cable that is pulled now ends no session. */
function lastWanAddress(
  { nat }: Config,
  previous: NatSettings | undefined,
): InterfaceAddress | undefined {
  const named = nat.externalAddresses.map((text) => requireIpv4Address(text) as number);
  const main = previous?.externals
    .slice(0, previous.externalCount)
    .find(({ address, oneToOne }) => address !== 0 && oneToOne === 0 && !named.includes(address));
  if (main === undefined) return undefined;
  return parseInterfaceAddress(`${formatIpv4Address(ipv4Address(main.address))}/32`);
}

function textOf(address: InterfaceAddress | undefined): string {
  return address === undefined ? 'none' : formatInterfaceAddress(address);
}

function newHashKey(): bigint[] {
  const bytes = randomBytes(16);
  return [bytes.readBigUInt64LE(0), bytes.readBigUInt64LE(8)];
}

/** By the clock that the programs read. */
function nowTick(): number {
  return tickAt(process.hrtime.bigint());
}
