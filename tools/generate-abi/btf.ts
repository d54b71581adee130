/**
 * BTF (BPF Type Format, the kernel's Documentation/bpf/btf.rst) of a compiled object, read through
 * `bpftool btf dump` and narrowed to what may cross between kernel and user space.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { ScalarType } from '../../src/abi/layout.ts';

/** One entry of bpftool's JSON. Only the kinds that we follow have their fields typed. */
export interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name: string;
  readonly type_id?: number;
  readonly size?: number;
  readonly encoding?: string;
  readonly nr_elems?: number;
  readonly linkage?: string;
  readonly members?: readonly BtfMember[];
  readonly values?: readonly { readonly name: string; readonly val: number }[];
  readonly vars?: readonly { readonly type_id: number }[];
  readonly params?: readonly { readonly type_id: number }[];
}

interface BtfMember {
  readonly name: string;
  readonly type_id: number;
  readonly bits_offset: number;
  readonly bitfield_size?: number;
}

export type FieldType = ScalarType | { readonly struct: string };

export interface ExportedField {
  readonly cName: string;
  readonly offsetBytes: number;
  readonly type: FieldType;
  readonly count?: number;
}

export interface ExportedStruct {
  readonly sizeBytes: number;
  readonly fields: readonly ExportedField[];
  readonly padding: readonly { readonly offsetBytes: number; readonly sizeBytes: number }[];
}

export interface ExportedTypes {
  readonly structs: Map<string, ExportedStruct>;
  /** enum name → constant name → value */
  readonly enums: Map<string, Readonly<Record<string, number>>>;
}

/** A map as section `.maps` describes it. Type ids are absent where C gave sizes. */
export interface BtfMap {
  readonly name: string;
  readonly type: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly keyTypeId?: number;
  readonly valueTypeId?: number;
  readonly keySizeBytes?: number;
  readonly valueSizeBytes?: number;
}

export class Btf {
  readonly #types: ReadonlyMap<number, BtfType>;

  constructor(types: readonly BtfType[]) {
    this.#types = new Map(types.map((type) => [type.id, type]));
  }

  type(id: number | undefined): BtfType {
    const type = id === undefined ? undefined : this.#types.get(id);
    if (type === undefined) throw new Error(`BTF has no type ${id}`);
    return type;
  }

  all(): Iterable<BtfType> {
    return this.#types.values();
  }

  /** Follows typedefs and qualifiers; keeps the byte order that a `__be…` typedef promised. */
  resolve(id: number | undefined): { type: BtfType; bigEndian: boolean } {
    let type = this.type(id);
    let bigEndian = false;
    while (['TYPEDEF', 'CONST', 'VOLATILE', 'RESTRICT'].includes(type.kind)) {
      if (/^__be(16|32|64)$/.test(type.name)) bigEndian = true;
      type = this.type(type.type_id);
    }
    return { type, bigEndian };
  }

  /** The variables of a section, in the order of their names. */
  section(name: string): readonly BtfType[] {
    const section = [...this.all()].find((type) => type.kind === 'DATASEC' && type.name === name);
    return (section?.vars ?? [])
      .map((variable) => this.type(variable.type_id))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  maps(): readonly BtfMap[] {
    return this.section('.maps').map((variable) => this.#map(variable));
  }

  /**
   * Names of the programs: the functions that C does not call static and whose one parameter points
   * to a context: the kernel's, or for a program of type syscall a struct that ABI_EXPORT names.
   * Others are parts of programs that the verifier checks by themselves.
   */
  programs(): readonly string[] {
    return [...this.all()]
      .filter((type) => type.kind === 'FUNC' && type.linkage === 'global' && this.#isProgram(type))
      .map((type) => type.name)
      .sort();
  }

  #isProgram(func: BtfType): boolean {
    const [parameter, ...others] = this.type(func.type_id).params ?? [];
    if (parameter === undefined || others.length > 0) return false;
    const { type: pointer } = this.resolve(parameter.type_id);
    if (pointer.kind !== 'PTR' || !pointer.type_id) return pointer.kind === 'PTR';
    const { type: context } = this.resolve(pointer.type_id);
    return ['__sk_buff', 'xdp_md'].includes(context.name) || this.#isExported(context);
  }

  #isExported(type: BtfType): boolean {
    return this.section('abi_exports').some((variable) => {
      const { type: pointer } = this.resolve(variable.type_id);
      return this.resolve(pointer.type_id).type.id === type.id;
    });
  }

  #map(variable: BtfType): BtfMap {
    const members = this.resolve(variable.type_id).type.members ?? [];
    const number = (name: string): number | undefined => {
      const member = members.find((candidate) => candidate.name === name);
      if (member === undefined) return undefined;
      // `__uint(name, 5)` declares a pointer to an array of five elements.
      return this.resolve(this.resolve(member.type_id).type.type_id).type.nr_elems;
    };
    const pointee = (name: string): number | undefined => {
      const member = members.find((candidate) => candidate.name === name);
      return member === undefined ? undefined : this.resolve(member.type_id).type.type_id;
    };
    const optional = {
      keyTypeId: pointee('key'),
      valueTypeId: pointee('value'),
      keySizeBytes: number('key_size'),
      valueSizeBytes: number('value_size'),
    };
    return {
      name: variable.name,
      type: number('type') ?? 0,
      maxEntries: number('max_entries') ?? 0,
      flags: number('map_flags') ?? 0,
      ...Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)),
    };
  }
}

/** @throws when bpftool is missing or the object holds no BTF; the message names the object */
export async function readBtf(objectPath: string): Promise<Btf> {
  const argv = ['--json', 'btf', 'dump', 'file', objectPath];
  const { stdout } = await promisify(execFile)('/usr/sbin/bpftool', argv, {
    maxBuffer: 64 * 1024 * 1024,
  }).catch((cause: Error) => {
    throw new Error(`cannot read the BTF of ${objectPath}: ${cause.message}`, { cause });
  });
  return new Btf((JSON.parse(stdout) as { types: BtfType[] }).types);
}

/** Everything that crosses: what maps hold, what ABI_EXPORT names, and what those contain. */
export function exportedTypes(btf: Btf): ExportedTypes {
  const exported: ExportedTypes = { structs: new Map(), enums: new Map() };
  for (const map of btf.maps()) {
    for (const id of [map.keyTypeId, map.valueTypeId]) {
      if (id !== undefined) exportType(btf, id, exported);
    }
  }
  for (const variable of btf.section('abi_exports')) {
    exportType(btf, btf.resolve(variable.type_id).type.type_id, exported);
  }
  return exported;
}

function exportType(btf: Btf, id: number | undefined, exported: ExportedTypes): void {
  const { type } = btf.resolve(id);
  if (type.kind === 'ENUM' || type.kind === 'ENUM64') {
    exported.enums.set(type.name, enumConstants(type));
  } else if (type.kind === 'ARRAY') {
    exportType(btf, type.type_id, exported);
  } else if (type.kind === 'STRUCT' && !exported.structs.has(type.name)) {
    exported.structs.set(type.name, exportedStruct(btf, type));
    for (const member of type.members ?? []) exportType(btf, member.type_id, exported);
  }
}

function enumConstants(type: BtfType): Record<string, number> {
  const constants = (type.values ?? []).map(({ name, val }) => {
    // Beyond, bpftool tells unsigned constants with the sign extended to 64 bits.
    if (!Number.isInteger(val) || Math.abs(val) > 0x7fff_ffff) {
      throw new Error(`enum ${type.name}: ${name} lies beyond 2^31 - 1`);
    }
    return [name, val] as const;
  });
  return Object.fromEntries(constants);
}

function exportedStruct(btf: Btf, struct: BtfType): ExportedStruct {
  const fields: ExportedField[] = [];
  const padding: { offsetBytes: number; sizeBytes: number }[] = [];
  const where = `struct ${struct.name}`;
  let expectedOffset = 0;
  for (const member of struct.members ?? []) {
    const place = `${where}, field ${member.name || '(anonymous)'}`;
    if ((member.bitfield_size ?? 0) !== 0) throw new Error(`${place}: bit-fields do not cross`);
    const offsetBytes = member.bits_offset / 8;
    refuseHole(where, expectedOffset, offsetBytes);
    const { type, count, sizeBytes } = fieldType(btf, member.type_id, place);
    if (/^padding(_\d+)?$/.test(member.name)) padding.push({ offsetBytes, sizeBytes });
    else
      fields.push({
        cName: member.name,
        offsetBytes,
        type,
        ...(count === undefined ? {} : { count }),
      });
    expectedOffset = offsetBytes + sizeBytes;
  }
  refuseHole(where, expectedOffset, struct.size ?? 0);
  return { sizeBytes: struct.size ?? 0, fields, padding };
}

function refuseHole(where: string, expected: number, actual: number): void {
  if (expected === actual) return;
  const size = actual - expected;
  throw new Error(`${where} has a hole of ${size} bytes at ${expected}: name it padding`);
}

function fieldType(
  btf: Btf,
  id: number | undefined,
  place: string,
): { type: FieldType; count?: number; sizeBytes: number } {
  const { type, bigEndian } = btf.resolve(id);
  if (type.kind === 'ARRAY') {
    const element = fieldType(btf, type.type_id, place);
    if (element.count !== undefined) throw new Error(`${place}: arrays of arrays do not cross`);
    const count = type.nr_elems ?? 0;
    return { type: element.type, count, sizeBytes: element.sizeBytes * count };
  }
  if (type.kind === 'STRUCT') return { type: { struct: type.name }, sizeBytes: type.size ?? 0 };
  return { type: scalarType(type, bigEndian, place), sizeBytes: type.size ?? 0 };
}

/** The name of an integer's or enum's layout; everything else is refused. */
export function scalarType(type: BtfType, bigEndian: boolean, place: string): ScalarType {
  const bits = (type.size ?? 0) * 8;
  if (type.kind === 'ENUM' && bits === 32) return 'u32';
  if (type.kind !== 'INT' || ![8, 16, 32, 64].includes(bits) || type.encoding === 'BOOL') {
    throw new Error(`${place}: ${type.kind.toLowerCase()} ${type.name} does not cross`);
  }
  // The width of `long` differs between the machine and the BPF target's host tools.
  if (/\blong\b/.test(type.name) && !type.name.includes('long long')) {
    throw new Error(`${place}: ${type.name} has no fixed width`);
  }
  if (bigEndian) return `be${bits}` as ScalarType;
  return `${type.encoding === 'SIGNED' ? 's' : 'u'}${bits}` as ScalarType;
}
