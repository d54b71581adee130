/**
 * The parts that the schema of the config is made of. Every one is plain JSON Schema; besides its
 * keywords, `unit` names what a number counts, and `formatMinimum` and `formatMaximum` limit texts
 * whose format can be measured.
 *
 * The schema describes the config as the program sees it: with every default filled in. In a file a
 * key that has a default may be left out.
 */
import {
  type TArray,
  type TInteger,
  type TObject,
  type TProperties,
  type TSchema,
  type TString,
  Type,
} from 'typebox';
import { type TextFormatName, textFormats } from './text-formats.ts';

/** What the reference says of a field. */
export type FieldOptions<Value> = {
  /** One or two sentences. */
  readonly description: string;
  /** Stands for the field where the file does not name it. */
  readonly default?: Value;
};

export function section<Properties extends TProperties>(
  properties: Properties,
  options: FieldOptions<object>,
): TObject<Properties> {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

/** A key that may be absent and then has no value. */
export const optional = Type.Optional;

/** A text of one of the formats in text-formats.ts. */
export function text(
  format: TextFormatName,
  options: FieldOptions<string> & {
    readonly formatMinimum?: string;
    readonly formatMaximum?: string;
  },
): TString {
  const { pattern, lengthMax, example } = textFormats[format];
  return Type.String({ format, pattern, maxLength: lengthMax, examples: [example], ...options });
}

export function integer(
  options: FieldOptions<number> & {
    readonly minimum: number;
    readonly maximum: number;
    readonly unit: string;
  },
): TInteger {
  return Type.Integer(options);
}

export function yesOrNo(options: FieldOptions<boolean>) {
  return Type.Boolean(options);
}

export function oneOf<const Words extends readonly string[]>(
  words: Words,
  options: FieldOptions<Words[number]>,
) {
  return Type.Enum<[...Words]>([...words], options);
}

/** A text of a format, or one of a few words. */
export function wordOrText<const Word extends string>(
  word: Word,
  format: TextFormatName,
  options: FieldOptions<string>,
) {
  const { pattern, lengthMax, example } = textFormats[format];
  const other = Type.String({ format, pattern, maxLength: lengthMax, examples: [example] });
  return Type.Union([Type.Literal(word), other], options);
}

/** A port, or several as `a-b`. */
export function portOrRange(options: FieldOptions<number | string>) {
  const { pattern, lengthMax, example } = textFormats['port-range'];
  const port = Type.Integer({ minimum: 1, maximum: 65_535, unit: 'port' });
  const range = Type.String({
    format: 'port-range',
    pattern,
    maxLength: lengthMax,
    examples: [example],
  });
  return Type.Union([port, range], options);
}

export function listOf<Item extends TSchema>(
  item: Item,
  options: FieldOptions<readonly unknown[]> & {
    readonly minItems?: number;
    readonly maxItems: number;
  },
): TArray<Item> {
  return Type.Array(item, options);
}

/** Names that people give to things: they reach nft, files and messages as they are. */
export const namePattern = '^[A-Za-z_][A-Za-z0-9_]{0,31}$';
/** As {@link namePattern}, for messages. */
export const nameMeans = 'a name: a letter or _, then at most 31 letters, digits or _';

export function name(options: FieldOptions<string>): TString {
  return Type.String({ pattern: namePattern, maxLength: 32, means: nameMeans, ...options });
}

/** Where traffic comes from or goes to: a network of ours by name, or one of the reserved words. */
export function place(options: FieldOptions<string>): TString {
  const means = 'the name of a network, or one of the words in the description';
  return Type.String({ pattern: namePattern, maxLength: 32, means, ...options });
}

/** Things by the names that people give them. */
export function named<Value extends TSchema>(
  value: Value,
  options: FieldOptions<object> & { readonly maxProperties: number },
) {
  const key = Type.String({ pattern: namePattern });
  return Type.Record(key, value, { additionalProperties: false, ...options });
}

/** Settings by the name of an interface. */
export function byInterface<Value extends TSchema>(
  value: Value,
  options: FieldOptions<object> & { readonly maxProperties: number },
) {
  const key = Type.String({ pattern: textFormats['interface-name'].pattern });
  return Type.Record(key, value, { additionalProperties: false, ...options });
}
