/** An object's maps and programs as TypeScript. */
import type { Btf, BtfMap } from './btf.ts';
import { scalarType } from './btf.ts';
import { camelCase, header, pascalCase } from './source-text.ts';

/** `enum bpf_map_type` of linux/bpf.h, as far as objects define such maps. */
const mapTypes = new Map([
  [1, 'hash'],
  [2, 'array'],
  [3, 'prog-array'],
  [5, 'percpu-hash'],
  [6, 'percpu-array'],
  [9, 'lru-hash'],
  [10, 'lru-percpu-hash'],
  [11, 'lpm-trie'],
  [14, 'devmap'],
  [16, 'cpumap'],
  [17, 'xskmap'],
  [22, 'queue'],
  [23, 'stack'],
  [25, 'devmap-hash'],
  [27, 'ringbuf'],
  [30, 'bloom-filter'],
  [31, 'user-ringbuf'],
]);

const perCpuTypes = new Set(['percpu-hash', 'percpu-array', 'lru-percpu-hash']);

export function renderObject(name: string, btf: Btf): string {
  const maps = btf.maps().map((map) => renderMap(btf, map));
  const programs = btf
    .programs()
    .map((program) => `    ${camelCase(program)}: '${program}',\n`)
    .join('');
  const source = maps.map((map) => map.source).join('');
  const codecs = new Set(maps.flatMap((map) => map.codecs));
  return `${header}${importsOf(codecs)}/** \`build/bpf/${name}.o\` */
export const ${camelCase(name.replaceAll('-', '_'))}Object = {
  name: '${name}',
  maps: {
${source}  },
  programs: {
${programs}  },
} as const satisfies BpfObjectSpec;
`;
}

function importsOf(codecs: ReadonlySet<string>): string {
  const structs = [...codecs].filter((codec) => /^[A-Z]/.test(codec)).sort();
  const scalars = [...codecs].filter((codec) => !/^[A-Z]/.test(codec)).sort();
  const layouts =
    structs.length === 0 ? '' : `import { ${structs.join(', ')} } from './layouts.generated.ts';\n`;
  const names = ['type BpfObjectSpec', ...scalars].join(', ');
  const form = scalars.length === 0 ? `type { BpfObjectSpec }` : `{ ${names} }`;
  return `import ${form} from './layout.ts';\n${layouts}\n`;
}

function renderMap(btf: Btf, map: BtfMap): { source: string; codecs: readonly string[] } {
  const type = mapTypes.get(map.type);
  if (type === undefined) throw new Error(`map ${map.name}: type ${map.type} is not known here`);
  const head = `    ${camelCase(map.name)}: {\n      kind: `;
  if (type === 'ringbuf' || type === 'user-ringbuf') {
    return {
      source: `${head}'ring-buffer',
      name: '${map.name}',
      sizeBytes: ${map.maxEntries},
    },
`,
      codecs: [],
    };
  }
  const key = codecOf(btf, {
    id: map.keyTypeId,
    size: map.keySizeBytes,
    place: `${map.name}, key`,
  });
  const value = codecOf(btf, {
    id: map.valueTypeId,
    size: map.valueSizeBytes,
    place: `${map.name}, value`,
  });
  return {
    source: `${head}'${perCpuTypes.has(type) ? 'per-cpu' : 'key-value'}',
      name: '${map.name}',
      type: '${type}',
      maxEntries: ${map.maxEntries},
      flags: ${map.flags},
      key: ${key},
      value: ${value},
    },
`,
    codecs: [key, value].map((codec) => codec.replace(/\(.*/, '')),
  };
}

function codecOf(
  btf: Btf,
  what: { id: number | undefined; size: number | undefined; place: string },
): string {
  if (what.id === undefined) return `bytes(${what.size ?? 0})`;
  const { type, bigEndian } = btf.resolve(what.id);
  if (type.kind === 'STRUCT') return pascalCase(type.name);
  return scalarType(type, bigEndian, `map ${what.place}`);
}
