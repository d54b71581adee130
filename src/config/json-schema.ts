/** The part of JSON Schema that the config's schema is written in, for programs that read it. */
import type { TSchema } from 'typebox';

export interface JsonSchema {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly description?: string;
  readonly default?: unknown;
  readonly examples?: readonly string[];
  /** Our own: what a number counts. */
  readonly unit?: string;
  /** Our own: what a pattern means, as a phrase. */
  readonly means?: string;

  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  /** One pattern for every key. */
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly maxProperties?: number;

  readonly items?: JsonSchema;
  readonly minItems?: number;
  readonly maxItems?: number;

  readonly enum?: readonly string[];
  readonly const?: string | number;
  readonly format?: string;
  readonly pattern?: string;
  readonly maxLength?: number;
  readonly formatMinimum?: string;
  readonly formatMaximum?: string;

  readonly minimum?: number;
  readonly maximum?: number;

  readonly anyOf?: readonly JsonSchema[];
}

/** A TypeBox schema is JSON Schema, but its type keeps the keywords to itself. */
export function asJsonSchema(schema: TSchema): JsonSchema {
  return schema as JsonSchema;
}

/** The schema that the key of an object belongs to. @returns undefined for an unknown key */
export function schemaOfKey(schema: JsonSchema, key: string): JsonSchema | undefined {
  const { properties = {}, patternProperties = {} } = schema;
  if (Object.hasOwn(properties, key)) return properties[key];
  const [pattern, value] = Object.entries(patternProperties)[0] ?? [];
  return pattern !== undefined && new RegExp(pattern).test(key) ? value : undefined;
}
