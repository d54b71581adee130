import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Value } from 'typebox/value';
import { asJsonSchema, type JsonSchema } from './json-schema.ts';
import { defaultOf } from './judge-shape.ts';
import { CONFIG_VERSION, configSchema } from './schema.ts';
import { textFormatOf } from './text-formats.ts';
import { CONFIG_DEPTH_MAX } from './text-limits.ts';

/** Every schema within the config's, with the path of a value that it judges. */
function allSchemas(): { path: string; schema: JsonSchema; depth: number }[] {
  const found: { path: string; schema: JsonSchema; depth: number }[] = [];
  const visit = (schema: JsonSchema, path: string, depth: number): void => {
    found.push({ path, schema, depth });
    const inner = { ...schema.properties, ...schema.patternProperties };
    for (const [key, value] of Object.entries(inner)) visit(value, `${path}.${key}`, depth + 1);
    if (schema.items !== undefined) visit(schema.items, `${path}[]`, depth + 1);
  };
  visit(asJsonSchema(configSchema), '', 0);
  return found;
}

test('every key has a description of a sentence', () => {
  for (const { path, schema } of allSchemas()) {
    assert.match(schema.description ?? '', /^[A-Z`].*\.$/, path);
  }
});

test('every value has a bound', () => {
  const isBounded = (schema: JsonSchema): boolean => {
    if (schema.anyOf !== undefined) return schema.anyOf.every(isBounded);
    if (schema.enum !== undefined || schema.const !== undefined) return true;
    if (schema.type === 'string') {
      return schema.maxLength !== undefined && /^\^.*\$$/.test(schema.pattern ?? '');
    }
    if (schema.type === 'array') return schema.maxItems !== undefined;
    if (schema.type === 'integer') {
      return (
        schema.minimum !== undefined && schema.maximum !== undefined && schema.unit !== undefined
      );
    }
    if (schema.type === 'boolean') return true;
    return schema.properties !== undefined || schema.maxProperties !== undefined;
  };
  for (const { path, schema } of allSchemas()) assert.ok(isBounded(schema), path);
});

test('no object takes keys that it does not name', () => {
  for (const { path, schema } of allSchemas()) {
    if (schema.type !== 'object') continue;
    assert.equal((schema as { additionalProperties?: unknown }).additionalProperties, false, path);
  }
});

test('every format exists, and its limits are values of it', () => {
  for (const { path, schema } of allSchemas()) {
    for (const one of [schema, ...(schema.anyOf ?? [])]) {
      const { format, formatMinimum, formatMaximum } = one;
      if (format === undefined) continue;
      assert.notEqual(textFormatOf(format), undefined, path);
      for (const limit of [formatMinimum, formatMaximum]) {
        if (limit === undefined) continue;
        assert.notEqual(textFormatOf(format)?.measure?.(limit), undefined, `${path}: ${limit}`);
      }
    }
  }
});

test('every default is a value of its own schema', () => {
  for (const { path, schema } of allSchemas()) {
    if (schema.default === undefined) continue;
    assert.deepEqual([...Value.Errors(schema, defaultOf(schema))], [], path);
  }
});

test('the smallest config is the version alone, and its defaults are a whole config', () => {
  const filled = {
    version: CONFIG_VERSION,
    ...(defaultOf({ ...asJsonSchema(configSchema), default: {} }) as object),
  };
  assert.deepEqual([...Value.Errors(configSchema, filled)], []);
});

test('the deepest value fits into the depth that a file may have', () => {
  const deepest = Math.max(...allSchemas().map(({ depth }) => depth));
  assert.ok(deepest < CONFIG_DEPTH_MAX, `${deepest}`);
});
