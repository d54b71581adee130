/**
 * The NAT's programs and tables in the kernel: loaded anew, or taken over with everything in them
 * from an instance before this one whose programs are still attached.
 */
import { createHash } from 'node:crypto';
import { closeSync, readFileSync, rmSync } from 'node:fs';
import Type from 'typebox';
import { Value } from 'typebox/value';
import type { NatSettings } from '../../abi/layouts.generated.ts';
import { natObject } from '../../abi/nat.generated.ts';
import { natXdpObject } from '../../abi/nat-xdp.generated.ts';
import { natLayout } from '../../gateway/nat-layout.ts';
import { type NatSizes, natSizes, placesIn } from '../../gateway/nat-plan.ts';
import type { NatMemory } from '../../gateway/nat-table-writer.ts';
import { writeFileDurably } from '../atomic-file.ts';
import { attachedTcProgramId, clearTcPlace, tcDirections } from '../attach.ts';
import { BpfMap, type MappedArray } from '../bpf-map.ts';
import {
  type BpfObject,
  bpfObjectPath,
  loadBpfObject,
  openLoadedBpfObject,
} from '../bpf-object.ts';
import type { BpfProgram } from '../bpf-program.ts';
import { LinuxError } from '../ffi.ts';
import type { TcPrograms } from '../interface-attachments.ts';
import { KERNEL_NAME_LENGTH_MAX, type KernelMap, mapsOfPrograms } from '../kernel-objects.ts';
import { bootId } from './boot-id.ts';
import { SessionAddresses } from './session-addresses.ts';

export interface LoadedNat {
  readonly object: NatObject;
  readonly sizes: NatSizes;
  /** External addresses that the tables have room for. */
  readonly places: number;
  readonly memory: NatMemory;
  readonly sessions: MappedArray;
  /** The numbers of addresses: see raiseAddressGenerations. */
  readonly addressGenerations: MappedArray;
  readonly sessionAddresses: SessionAddresses;
  readonly wanPrograms: TcPrograms;
  readonly insidePrograms: TcPrograms;
  /**
   * The programs at XDP, which share the tables. Most machines do without, so the kernel looks
   * through them when they are first asked for.
   *
   * @throws Error when the kernel does not take them, each time the same
   */
  xdpPrograms(): { readonly wan: BpfProgram; readonly inside: BpfProgram };
  /** What was in force before, where the tables were taken over. */
  readonly adopted?: NatSettings;
  /** Bytes of the tables that grow with the config. */
  readonly memoryBytes: number;
  close(): void;
}

/** Longer than any record. */
const RECORD_LENGTH_MAX = 4_096;

export interface LoadNatOptions {
  /** Where it is kept which programs are loaded; gone after a boot, or worthless. */
  readonly recordFile: string;
  /** The kernel's number of a program whose maps packets are counted in. */
  readonly countersOf: number | undefined;
  /** Told where sessions of before are lost, and why. */
  readonly log: (text: string) => void;
}

export interface NatDemand {
  /** Sessions that the config wants room for. */
  readonly sessions: number;
  /** Room for this many external addresses at least. */
  readonly placesNeeded: number;
  /** And for this many where the tables are made anew. */
  readonly placesWanted: number;
}

/**
 * @throws LinuxError when the kernel refuses programs or tables
 */
export function loadNat(demand: NatDemand, options: LoadNatOptions): LoadedNat {
  const { recordFile, countersOf, log } = options;
  const ids = attachedNatPrograms();
  const found = ids.length === 0 ? undefined : adoptableSizes(ids, demand);
  if (ids.length > 0 && found === undefined) {
    log('the tables of the NAT have another size or form than before: sessions start anew');
  }
  const sizes = found ?? natSizes(demand.sessions, demand.placesWanted);
  // Before it is loaded: the file may be replaced meanwhile.
  const digest = objectDigest();
  const same = found === undefined ? undefined : openRecorded(recordFile, { digest, ids });
  const counters = countersOf === undefined ? [] : [countersOf];
  const object = same ?? loadObject(sizes, [...(found === undefined ? [] : ids), ...counters]);
  try {
    const loaded = loadedNat(object, sizes);
    if (same === undefined) record(object, { digest, recordFile });
    return loaded;
  } catch (cause) {
    object.close();
    throw cause;
  }
}

/** @param adoptMapsOf numbers of programs */
function loadObject(sizes: NatSizes, adoptMapsOf: readonly number[]): NatObject {
  return loadBpfObject(natObject, { maxEntries: entriesOf(sizes), adoptMapsOf });
}

function entriesOf(sizes: NatSizes) {
  return {
    natSessions: sizes.sessionBuckets,
    natMappings: sizes.mappings,
    natMappingBuckets: sizes.mappingBuckets,
  };
}

type NatObject = BpfObject<typeof natObject>;
type XdpObject = BpfObject<typeof natXdpObject>;

/** @returns why the kernel does not take them */
function loadXdp({ programs }: NatObject, sizes: NatSizes): XdpObject | Error {
  const ids = Object.values(programs).map(({ id }) => id);
  try {
    const maxEntries = entriesOf(sizes);
    const object = loadBpfObject(natXdpObject, { maxEntries, adoptMapsOf: ids });
    const lacking = mapsNotShared(Object.values(object.programs), ids);
    if (lacking.length === 0) return object;
    object.close();
    return new Error(`the programs at XDP do not share ${lacking.join(', ')} with those at tc`);
  } catch (cause) {
    return cause instanceof Error ? cause : new Error(String(cause));
  }
}

/** Names of maps that both have, each its own. They would translate by other sessions. */
function mapsNotShared(xdpPrograms: readonly BpfProgram[], tcIds: readonly number[]): string[] {
  const own = mapsOfPrograms(xdpPrograms.map(({ id }) => id));
  const shared = mapsOfPrograms(tcIds);
  for (const { fd } of [...own, ...shared]) closeSync(fd);
  return own
    .filter(({ id, name }) => shared.some((one) => one.name === name && one.id !== id))
    .map(({ name }) => name)
    .filter((name) => name !== SCRATCH);
}

/** Of the time of one packet; each program's object has its own. */
const SCRATCH = 'nat_scratch';

/** Which programs were loaded last, and from what. */
const recordSchema = Type.Object({
  /** Of the object's file: SHA-256 in hexadecimal. */
  digest: Type.String(),
  bootId: Type.String(),
  programIds: Type.Object(mapProgramNames(() => Type.Integer({ minimum: 1 }))),
});

/**
 * Those of the last instance, where it loaded them from the same file: the kernel takes seconds of
 * a small machine to look through them again, and has done so already.
 */
function openRecorded(
  recordFile: string,
  attached: { readonly digest: string; readonly ids: readonly number[] },
): NatObject | undefined {
  try {
    const text = readFileSync(recordFile, 'utf8').slice(0, RECORD_LENGTH_MAX);
    const value: unknown = JSON.parse(text);
    if (!Value.Check(recordSchema, value)) return undefined;
    if (value.digest !== attached.digest || value.bootId !== bootId()) return undefined;
    const own = Object.values(value.programIds);
    if (attached.ids.some((id) => !own.includes(id))) return undefined;
    return openLoadedBpfObject(natObject, value.programIds);
  } catch {
    // Without a record that can be read they are loaded.
    return undefined;
  }
}

/** A folder that takes nothing costs the next start some time. */
function record(
  { programs }: NatObject,
  { digest, recordFile }: { readonly digest: string; readonly recordFile: string },
): void {
  const programIds = mapProgramNames((name) => programs[name].id);
  const value = { digest, bootId: bootId(), programIds };
  try {
    writeFileDurably(recordFile, `${JSON.stringify(value)}\n`);
  } catch {
    rmSync(recordFile, { force: true });
  }
}

function mapProgramNames<T>(
  change: (name: keyof NatObject['programs']) => T,
): Record<keyof NatObject['programs'], T> {
  return {
    natInsideEgress: change('natInsideEgress'),
    natInsideIngress: change('natInsideIngress'),
    natWanEgress: change('natWanEgress'),
    natWanIngress: change('natWanIngress'),
  };
}

function objectDigest(): string {
  return createHash('sha256')
    .update(readFileSync(bpfObjectPath(natObject)))
    .digest('hex');
}

/** Tables of the running instance do for a demand. */
export function fits({ sizes, places }: LoadedNat, demand: NatDemand): boolean {
  const { sessionBuckets } = natSizes(demand.sessions, demand.placesWanted);
  return sizes.sessionBuckets === sessionBuckets && places >= demand.placesNeeded;
}

/** What rules have to be made for without a running core: for the programs that are attached. */
export function forwardedTrafficInKernel(): 'conntrack' | 'sessions' {
  return attachedNatPrograms().length > 0 ? 'sessions' : 'conntrack';
}

/** Takes the NAT's programs off every interface but these, whoever attached them. */
export function clearNat(options: { readonly but: readonly string[] }): void {
  for (const name of interfaceNames().filter((one) => !options.but.includes(one))) {
    for (const direction of tcDirections)
      unlessGone(() => clearTcPlace({ interface: name }, direction, 'nat'));
  }
}

/** Their numbers, on the interfaces of this network namespace. */
export function attachedNatPrograms(): number[] {
  const ids = interfaceNames().flatMap((name) =>
    tcDirections.map((direction) =>
      unlessGone(() => attachedTcProgramId({ interface: name }, direction, 'nat')),
    ),
  );
  return [...new Set(ids.filter((id) => id !== undefined))];
}

/** Of this network namespace. The first two lines are headings. */
function interfaceNames(): string[] {
  const lines = readFileSync('/proc/thread-self/net/dev', 'utf8').split('\n').slice(2);
  return lines.flatMap((line) => line.match(/^\s*(\S+):/)?.[1] ?? []);
}

/** @returns undefined when the interface went away meanwhile */
function unlessGone<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof LinuxError && error.code === 'ENODEV') return undefined;
    throw error;
  }
}

/** Maps whose contents belong together: all are taken over, or none. */
const related = [
  'natSettings',
  'natSessions',
  'natMappings',
  'natMappingBuckets',
  'natHosts',
  'natSixHosts',
  'natAddressGenerations',
] as const;

/** @returns the sizes of what is there, where all of it can be taken over for the demand */
function adoptableSizes(ids: readonly number[], demand: NatDemand): NatSizes | undefined {
  const found = mapsOfPrograms(ids);
  try {
    return sizesOf(found, demand);
  } finally {
    for (const { fd } of found) closeSync(fd);
  }
}

function sizesOf(found: readonly KernelMap[], demand: NatDemand): NatSizes | undefined {
  const mapOf = (property: (typeof related)[number]): KernelMap | undefined => {
    const { name, key, value } = natObject.maps[property];
    return found.find((map) => {
      if (map.name !== name.slice(0, KERNEL_NAME_LENGTH_MAX)) return false;
      return map.keyBytes === key.sizeBytes && map.valueBytes === value.sizeBytes;
    });
  };
  if (related.some((property) => mapOf(property) === undefined)) return undefined;
  if (layoutIn(mapOf('natSettings')) !== natLayout) return undefined;
  const sizes: NatSizes = {
    sessionBuckets: mapOf('natSessions')?.maxEntries ?? 0,
    mappings: mapOf('natMappings')?.maxEntries ?? 0,
    mappingBuckets: mapOf('natMappingBuckets')?.maxEntries ?? 0,
  };
  const { sessionBuckets } = natSizes(demand.sessions, demand.placesWanted);
  const isEnough = placesIn(sizes) >= demand.placesNeeded;
  return isEnough && sizes.sessionBuckets === sessionBuckets ? sizes : undefined;
}

/** What the tables mean that settings of the right size belong to. */
function layoutIn(settings: KernelMap | undefined): number | undefined {
  if (settings === undefined) return undefined;
  return new BpfMap({ ...natObject.maps.natSettings, fd: settings.fd }).lookup(0)?.layout;
}

function loadedNat(object: NatObject, sizes: NatSizes): LoadedNat {
  const { natMappings, natMappingBuckets, natSessions, natSettings } = object.maps;
  const { natAddressGenerations } = object.maps;
  const mapped: MappedArray[] = [];
  const map = (one: { mapMemory(): MappedArray }): MappedArray => {
    const memory = one.mapMemory();
    mapped.push(memory);
    return memory;
  };
  let xdp: XdpObject | Error | undefined;
  const close = (): void => {
    for (const memory of mapped) memory.unmap();
    if (xdp !== undefined && !(xdp instanceof Error)) xdp.close();
    object.close();
  };
  try {
    const sessions = map(natSessions);
    const memory: NatMemory = {
      mappings: map(natMappings).buffer,
      mappingBuckets: map(natMappingBuckets).buffer,
      sessions: sessions.buffer,
    };
    const { natWanIngress, natWanEgress, natInsideIngress, natInsideEgress } = object.programs;
    const before = natSettings.lookup(0);
    const isAdopted = before !== undefined && before.sessionBucketCount > 0;
    return {
      object,
      sizes,
      places: placesIn(sizes),
      memory,
      sessions,
      addressGenerations: map(natAddressGenerations),
      sessionAddresses: new SessionAddresses(object.maps.natSixAddresses),
      wanPrograms: { ingress: natWanIngress, egress: natWanEgress },
      insidePrograms: { ingress: natInsideIngress, egress: natInsideEgress },
      xdpPrograms: () => {
        xdp ??= loadXdp(object, sizes);
        if (xdp instanceof Error) throw xdp;
        return { wan: xdp.programs.natWanXdp, inside: xdp.programs.natInsideXdp };
      },
      ...(isAdopted ? { adopted: before } : {}),
      memoryBytes: mapped.reduce((sum, { buffer }) => sum + buffer.byteLength, 0),
      close,
    };
  } catch (cause) {
    for (const memory of mapped) memory.unmap();
    throw cause;
  }
}
