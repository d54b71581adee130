/** Structs and enums as TypeScript: one file for all objects, so that a type exists once. */
import type { ExportedField, ExportedStruct, ExportedTypes } from './btf.ts';
import { camelCase, header, pascalCase } from './source-text.ts';

export function renderLayouts(types: ExportedTypes): string {
  const bodies = [
    ...[...types.enums].sort(byName).map(([name, values]) => renderEnum(name, values)),
    ...inDependencyOrder(types.structs).map(([name, struct]) => renderStruct(name, struct)),
  ];
  const source = bodies.join('\n');
  const imports = ['array', 'bytes'].filter((name) => new RegExp(`\\b${name}\\(`).test(source));
  const scalars = [...new Set(source.match(/\barray\((?:[us]\d+|be\d+),/g) ?? [])].map((match) =>
    match.slice('array('.length, -1),
  );
  const names = [...imports, ...scalars].sort();
  const usesStructs = types.structs.size > 0;
  const importLine =
    names.length === 0
      ? usesStructs
        ? "import type { StructLayout } from './layout.ts';\n\n"
        : ''
      : `import { ${importedNames(names)} } from './layout.ts';\n\n`;
  return `${header}${importLine}${source}`;
}

/** As the formatter wants them: by name, without regard to case. */
function importedNames(names: readonly string[]): string {
  const all = [...names, 'StructLayout'].sort((a, b) =>
    a.toLowerCase() < b.toLowerCase() ? -1 : 1,
  );
  return all.map((name) => (name === 'StructLayout' ? `type ${name}` : name)).join(', ');
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}

/** A struct behind those it contains, since a `const` is used by the ones below it. */
function inDependencyOrder(
  structs: ReadonlyMap<string, ExportedStruct>,
): readonly [string, ExportedStruct][] {
  const ordered = new Map<string, ExportedStruct>();
  const visit = (name: string): void => {
    const struct = structs.get(name);
    if (struct === undefined || ordered.has(name)) return;
    for (const field of struct.fields) {
      if (typeof field.type === 'object') visit(field.type.struct);
    }
    ordered.set(name, struct);
  };
  for (const name of [...structs.keys()].sort()) visit(name);
  return [...ordered];
}

function renderEnum(name: string, values: Readonly<Record<string, number>>): string {
  const prefix = `${name.toUpperCase()}_`;
  const lines = Object.entries(values).map(([constant, value]) => {
    if (!constant.startsWith(prefix)) {
      throw new Error(`enum ${name}: ${constant} does not start with ${prefix}`);
    }
    return `  ${camelCase(constant.slice(prefix.length).toLowerCase())}: ${value},`;
  });
  const type = pascalCase(name);
  return `/** \`enum ${name}\` */
export const ${type} = {
${lines.join('\n')}
} as const;
export type ${type} = (typeof ${type})[keyof typeof ${type}];
`;
}

function renderStruct(name: string, struct: ExportedStruct): string {
  const type = pascalCase(name);
  const { fields, padding } = struct;
  const each = (render: (field: ExportedField) => string): string => fields.map(render).join('\n');
  const paddingLines = padding
    .map((gap) => `    { offsetBytes: ${gap.offsetBytes}, sizeBytes: ${gap.sizeBytes} },`)
    .join('\n');
  return `/** \`struct ${name}\`, ${struct.sizeBytes} bytes */
export interface ${type} {
${each((field) => `  readonly ${camelCase(field.cName)}: ${typeScriptType(field)};`)}
}

export const ${type}: StructLayout<${type}> = {
  cName: '${name}',
  sizeBytes: ${struct.sizeBytes},
  fields: {
${each((field) => `    ${camelCase(field.cName)}: ${fieldLayout(field)},`)}
  },
  padding: [${padding.length === 0 ? '' : `\n${paddingLines}\n  `}],
  decode: (view, at) => ({
${each((field) => `    ${camelCase(field.cName)}: ${decodeExpression(field)},`)}
  }),
  encode: (value, view, at) => {
${[each(encodeStatement), ...padding.map(zeroStatement)].join('\n')}
  },
};
`;
}

function typeScriptType(field: ExportedField): string {
  if (isBytes(field)) return 'Uint8Array';
  const element =
    typeof field.type === 'object'
      ? pascalCase(field.type.struct)
      : field.type.endsWith('64')
        ? 'bigint'
        : 'number';
  return field.count === undefined ? element : `readonly ${element}[]`;
}

function isBytes(field: ExportedField): boolean {
  return field.count !== undefined && (field.type === 'u8' || field.type === 's8');
}

function fieldLayout({ cName, offsetBytes, type, count }: ExportedField): string {
  const typeText = typeof type === 'object' ? `{ struct: '${type.struct}' }` : `'${type}'`;
  const countText = count === undefined ? '' : `, count: ${count}`;
  return `{ cName: '${cName}', offsetBytes: ${offsetBytes}, type: ${typeText}${countText} }`;
}

/** An expression that is a codec, for fields that no single DataView method reads. */
function codecExpression(field: ExportedField): string | undefined {
  if (isBytes(field)) return `bytes(${field.count})`;
  const element = typeof field.type === 'object' ? pascalCase(field.type.struct) : field.type;
  if (field.count !== undefined) return `array(${element}, ${field.count})`;
  return typeof field.type === 'object' ? element : undefined;
}

function place(offsetBytes: number): string {
  return offsetBytes === 0 ? 'at' : `at + ${offsetBytes}`;
}

function decodeExpression(field: ExportedField): string {
  const at = place(field.offsetBytes);
  const codec = codecExpression(field);
  if (codec !== undefined) return `${codec}.decode(view, ${at})`;
  const { method, order } = viewMethod(field);
  return `view.get${method}(${at}${order})`;
}

function encodeStatement(field: ExportedField): string {
  const at = place(field.offsetBytes);
  const value = `value.${camelCase(field.cName)}`;
  const codec = codecExpression(field);
  if (codec !== undefined) return `    ${codec}.encode(${value}, view, ${at});`;
  const { method, order } = viewMethod(field);
  return `    view.set${method}(${at}, ${value}${order});`;
}

function zeroStatement(gap: { offsetBytes: number; sizeBytes: number }): string {
  const start =
    gap.offsetBytes === 0 ? 'view.byteOffset + at' : `view.byteOffset + ${place(gap.offsetBytes)}`;
  return `    new Uint8Array(view.buffer, ${start}, ${gap.sizeBytes}).fill(0);`;
}

/** DataView's method for a scalar and the argument that asks for little-endian. */
function viewMethod(field: ExportedField): { method: string; order: string } {
  const type = field.type as string;
  const bits = Number(type.replace(/\D/g, ''));
  const sign = type.startsWith('s') ? 'Int' : 'Uint';
  const order = type.startsWith('be') || bits === 8 ? '' : ', true';
  return { method: bits === 64 ? `Big${sign}64` : `${sign}${bits}`, order };
}
