/**
 * Writes `src/abi/*.generated.ts` from the BTF of the compiled BPF objects: every struct and enum
 * that crosses between kernel and user space, and for each object its maps and programs.
 *
 * What crosses: the keys and values of maps, and what a header of `bpf/abi/` names by ABI_EXPORT.
 * A struct that breaks the rules of `bpf/abi/abi.h` (holes, bit-fields, pointers, unions, plain
 * `long`) is refused with its name, field and reason.
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BtfType, type ExportedTypes, exportedTypes, readBtf } from './generate-abi/btf.ts';
import { renderLayouts } from './generate-abi/render-layouts.ts';
import { renderObject } from './generate-abi/render-object.ts';

const repository = fileURLToPath(new URL('..', import.meta.url));

/**
 * @param objectPaths compiled objects; each name (without folder and `.o`) becomes a file
 * @returns file name → content. Two objects that define one type name differently are an error.
 */
export async function generateAbiFrom(
  objectPaths: readonly string[],
): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const all: ExportedTypes = { structs: new Map(), enums: new Map() };
  for (const path of [...objectPaths].sort()) {
    const btf = await readBtf(path);
    const name = basename(path, '.o');
    mergeTypes(all, exportedTypes(btf), name);
    files.set(`${name}.generated.ts`, renderObject(name, btf));
  }
  files.set('layouts.generated.ts', renderLayouts(all));
  return files;
}

/** What the committed files of `src/abi/` must be: path from the repository's root → content. */
export async function generateAbi(): Promise<Map<string, string>> {
  const folder = join(repository, 'build/bpf');
  const objects = readdirSync(folder).filter((file) => file.endsWith('.o'));
  const files = await generateAbiFrom(objects.map((file) => join(folder, file)));
  return new Map([...files].map(([name, content]) => [join('src/abi', name), content]));
}

function mergeTypes(all: ExportedTypes, more: ExportedTypes, objectName: string): void {
  mergeInto(all.structs, more.structs, objectName);
  mergeInto(all.enums, more.enums, objectName);
}

function mergeInto<T extends BtfType | object>(
  all: Map<string, T>,
  more: ReadonlyMap<string, T>,
  objectName: string,
): void {
  for (const [name, type] of more) {
    const known = all.get(name);
    if (known !== undefined && JSON.stringify(known) !== JSON.stringify(type)) {
      throw new Error(`${objectName}.o defines ${name} differently from another object`);
    }
    all.set(name, type);
  }
}

/** Writes them, and removes what is no longer among them. */
export async function writeAbi(): Promise<void> {
  const folder = join(repository, 'src/abi');
  mkdirSync(folder, { recursive: true });
  const files = await generateAbi();
  for (const stale of readdirSync(folder).filter((file) => file.endsWith('.generated.ts'))) {
    if (!files.has(join('src/abi', stale))) rmSync(join(folder, stale));
  }
  for (const [path, content] of files) writeFileSync(join(repository, path), content);
}

if (import.meta.main) await writeAbi();
