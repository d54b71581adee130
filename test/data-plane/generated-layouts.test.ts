/**
 * The generated layouts against a C compiler: the same values, written by C and by TypeScript,
 * must be the same bytes. For every struct that crosses, and for a sample with every kind of field.
 */
import assert from 'node:assert/strict';
import { copyFileSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import type { FieldLayout, ScalarType, StructLayout } from '../../src/abi/layout.ts';
import { type Argv, describeFailure, runCommand } from '../../src/linux/command-runner.ts';
import { buildBpf } from '../../tools/build-bpf.ts';
import { generateAbiFrom } from '../../tools/generate-abi.ts';

type Value = Readonly<Record<string, unknown>>;
type Layout = StructLayout<Value>;

const repository = join(import.meta.dirname, '../..');
const samples = join(import.meta.dirname, 'layouts');
const folder = mkdtempSync(join(tmpdir(), 'gatehouse-layouts-'));
const writer = join(folder, 'writer');

let layouts: ReadonlyMap<string, Layout>;
let sampleModule: Record<string, unknown>;
let sampleObject: Record<string, unknown>;

before(async () => {
  await buildBpf({ sourceFolder: samples, objectFolder: folder });
  const files = await generateAbiFrom([join(folder, 'sample.o')]);
  for (const [name, content] of files) writeFileSync(join(folder, name), content);
  copyFileSync(join(repository, 'src/abi/layout.ts'), join(folder, 'layout.ts'));
  sampleModule = await import(join(folder, 'layouts.generated.ts'));
  sampleObject = await import(join(folder, 'sample.generated.ts'));
  const committed = await import('../../src/abi/layouts.generated.ts');
  layouts = new Map(
    [...Object.values(sampleModule), ...Object.values(committed)]
      .filter((value) => isLayout(value))
      .map((layout) => [layout.cName, layout]),
  );
  await compileWriter();
});

after(() => rmSync(folder, { recursive: true }));

function isLayout(value: unknown): value is Layout {
  return typeof value === 'object' && value !== null && 'cName' in value;
}

test('C and TypeScript write the same bytes for the same values, and read them back', async () => {
  assert.ok(layouts.size >= 5, `${layouts.size} structs`);
  for (const layout of layouts.values()) {
    const batch = fc.array(anyValue(layout), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(batch, async (values) => {
        const fromC = await writeByC(layout, values);
        values.forEach((value, index) => {
          const bytes = new Uint8Array(layout.sizeBytes).fill(0xff);
          layout.encode(value, new DataView(bytes.buffer), 0);
          const at = index * layout.sizeBytes;
          assert.deepEqual(bytes, fromC.slice(at, at + layout.sizeBytes), layout.cName);
          for (const gap of layout.padding) {
            bytes.fill(0xa5, gap.offsetBytes, gap.offsetBytes + gap.sizeBytes);
          }
          assert.deepEqual(layout.decode(new DataView(bytes.buffer), 0), value);
        });
      }),
      { numRuns: 25 },
    );
  }
});

test('padding is told with its place and is no field', () => {
  const { sample_record: record, sample_endpoint: endpoint } = Object.fromEntries(layouts);
  assert.deepEqual(endpoint?.padding, [{ offsetBytes: 6, sizeBytes: 2 }]);
  assert.equal(record?.padding.length, 2);
  assert.ok(!Object.keys(record?.fields ?? {}).some((name) => name.startsWith('padding')));
});

test('enums become constants without their prefix', () => {
  assert.deepEqual(sampleModule['SampleKind'], { firstOne: 1, last: 2_000_000_000 });
});

test('an object tells its maps and programs, with sizes where C gave no types', () => {
  const { maps, programs } = sampleObject['sampleObject'] as {
    maps: Record<
      string,
      { type: string; key: { sizeBytes: number }; value: { sizeBytes: number } }
    >;
    programs: unknown;
  };
  assert.deepEqual(programs, { sampleProgram: 'sample_program' });
  assert.deepEqual(
    Object.entries(maps).map(([name, map]) => [
      name,
      map.type,
      map.key.sizeBytes,
      map.value.sizeBytes,
    ]),
    [
      ['sampleMap', 'hash', 8, 4],
      ['sampleSizes', 'lpm-trie', 8, 12],
    ],
  );
});

for (const [what, fields, complaint] of [
  ['a hole', '__u8 a; __u32 b;', /struct broken has a hole of 3 bytes at 1/],
  ['a hole at the end', '__u32 a; __u8 b;', /hole of 3 bytes at 5/],
  ['a bit-field', '__u32 a : 3; __u32 b : 29;', /field a: bit-fields/],
  ['a pointer', 'void *a;', /field a: ptr .*does not cross/],
  ['a union', 'union { __u32 b; __u16 c[2]; } a;', /field a: union .*does not cross/],
  ['a long', 'long a;', /field a: long( int)? has no fixed width/],
  ['a bool', '_Bool a;', /field a: int _Bool does not cross/],
  ['an array of arrays', '__u8 a[2][2];', /field a: arrays of arrays/],
] as const) {
  test(`a struct with ${what} is refused by name`, async () => {
    const source = mkdtempSync(join(folder, 'broken-'));
    const abi = join(repository, 'bpf/abi/abi.h');
    writeFileSync(
      join(source, 'broken.bpf.c'),
      `#include "${abi}"\nstruct broken { ${fields} };\nABI_EXPORT(struct, broken);\n`,
    );
    await buildBpf({ sourceFolder: source, objectFolder: source });
    await assert.rejects(generateAbiFrom([join(source, 'broken.o')]), complaint);
  });
}

test('an enum constant that no reader would tell right is refused', async () => {
  const source = mkdtempSync(join(folder, 'broken-'));
  const abi = join(repository, 'bpf/abi/abi.h');
  writeFileSync(
    join(source, 'broken.bpf.c'),
    `#include "${abi}"\nenum broken { BROKEN_LARGE = 4000000000u };\nABI_EXPORT(enum, broken);\n`,
  );
  await buildBpf({ sourceFolder: source, objectFolder: source });
  const objects = [join(source, 'broken.o')];
  await assert.rejects(generateAbiFrom(objects), /enum broken: BROKEN_LARGE lies beyond/);
});

test('one name with two layouts in two objects is refused', async () => {
  const source = mkdtempSync(join(folder, 'twice-'));
  const abi = join(repository, 'bpf/abi/abi.h');
  for (const [name, type] of [
    ['first', '__u32'],
    ['second', '__u64'],
  ]) {
    writeFileSync(
      join(source, `${name}.bpf.c`),
      `#include "${abi}"\nstruct twice { ${type} a; };\nABI_EXPORT(struct, twice);\n`,
    );
  }
  await buildBpf({ sourceFolder: source, objectFolder: source });
  const objects = [join(source, 'first.o'), join(source, 'second.o')];
  await assert.rejects(generateAbiFrom(objects), /second\.o defines twice differently/);
});

/** Any value of a struct. */
function anyValue(layout: Layout): fc.Arbitrary<Value> {
  const fields = Object.entries(layout.fields).map(([name, field]) => [name, fieldValue(field)]);
  return fc.record(Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>, {
    noNullPrototype: true,
  });
}

function fieldValue({ type, count }: FieldLayout): fc.Arbitrary<unknown> {
  if (count !== undefined && (type === 'u8' || type === 's8')) {
    return fc.uint8Array({ minLength: count, maxLength: count });
  }
  const element: fc.Arbitrary<unknown> =
    typeof type === 'object' ? anyValue(nested(type)) : scalarValue(type);
  return count === undefined ? element : fc.array(element, { minLength: count, maxLength: count });
}

function nested(type: { readonly struct: string }): Layout {
  return layouts.get(type.struct) ?? assert.fail(`no layout of ${type.struct}`);
}

function scalarValue(type: ScalarType): fc.Arbitrary<number | bigint> {
  const bits = Number(type.replace(/\D/g, ''));
  const signed = type.startsWith('s');
  if (bits === 64) {
    return signed
      ? fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
      : fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  }
  const [min, max] = signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1];
  return fc.integer({ min, max });
}

/** Every scalar of a value, in the order of the fields, as the 64 bits that the C program takes. */
function scalarsOf(layout: Layout, value: Value): bigint[] {
  return Object.entries(layout.fields).flatMap(([name, { type }]) => {
    const elements = [value[name]].flatMap((each) =>
      Array.isArray(each) || each instanceof Uint8Array ? [...each] : [each],
    );
    return elements.flatMap((element) =>
      typeof type === 'object'
        ? scalarsOf(nested(type), element as Value)
        : [BigInt.asUintN(64, BigInt(element as number | bigint))],
    );
  });
}

async function writeByC(layout: Layout, values: readonly Value[]): Promise<Uint8Array> {
  const input = BigUint64Array.from(values.flatMap((value) => scalarsOf(layout, value)));
  const hex = await run([writer, layout.cName], new Uint8Array(input.buffer));
  const output = new Uint8Array(Buffer.from(hex, 'hex'));
  assert.equal(output.length, values.length * layout.sizeBytes);
  return output;
}

async function run(argv: Argv, input?: Uint8Array): Promise<string> {
  const options = { timeoutMs: 60_000, ...(input === undefined ? {} : { input }) };
  const result = await runCommand(argv, options);
  assert.ok(result.success, describeFailure(argv, result));
  return result.stdout;
}

/** A program that reads scalars and writes the struct that its argument names, in hexadecimal. */
async function compileWriter(): Promise<void> {
  const headers = [...globSync(join(repository, 'bpf/abi/*.h')), join(samples, 'sample.h')];
  const source = `
#define _DEFAULT_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <stdio.h>
#include <string.h>
${headers.map((header) => `#include "${header}"`).join('\n')}

static int ended;
static unsigned long long next(void)
{
  unsigned long long value = 0;
  if (fread(&value, sizeof(value), 1, stdin) != 1) ended = 1;
  return value;
}
${[...layouts.values()].map(writerFunction).join('\n')}
int main(int argc, char **argv)
{
  if (argc != 2) return 2;
${[...layouts.keys()].map(dispatch).join('\n')}
  return 3;
}
`;
  const path = join(folder, 'writer.c');
  writeFileSync(path, source);
  const include = ['-I', join(repository, 'bpf')];
  await run(['clang', '-O1', '-w', ...include, '-o', writer, path]);
}

function dispatch(name: string): string {
  return `  if (!strcmp(argv[1], "${name}")) return write_${name}();`;
}

function writerFunction(layout: Layout): string {
  return `static int write_${layout.cName}(void)
{
  for (;;) {
    struct ${layout.cName} value;
    memset(&value, 0, sizeof(value));
${assignments(layout, 'value')}
    if (ended) return 0;
    for (size_t at = 0; at < sizeof(value); at++) printf("%02x", ((unsigned char *)&value)[at]);
  }
}
`;
}

function assignments(layout: Layout, target: string): string {
  return Object.values(layout.fields)
    .flatMap(({ cName, type, count }) => {
      const places =
        count === undefined
          ? [`${target}.${cName}`]
          : Array.from({ length: count }, (_, index) => `${target}.${cName}[${index}]`);
      return places.map((place) =>
        typeof type === 'object'
          ? assignments(nested(type), place)
          : `    ${place} = ${networkOrder(type)}(next());`,
      );
    })
    .join('\n');
}

function networkOrder(type: ScalarType): string {
  return type.startsWith('be') ? `hto${type}` : '';
}
