/** Writes plain values as the text of a config file. */
import { isList, isPlainObject, type PlainValue } from './plain-value.ts';

export type QuoteStyle = 'plain' | 'single' | 'double';

/** Wider flow collections are written as a block. */
const FLOW_COLUMNS_MAX = 100;
export const INDENT_COLUMNS = 2;

/**
 * What stands behind `key:`, from there on: ` value`, or a line break and a block.
 *
 * @param indent columns of the key
 */
export function renderAfterKey(value: PlainValue, indent: number, lineBreak: string): string {
  const flow = renderFlow(value);
  if (isFlat(value) && indent + flow.length < FLOW_COLUMNS_MAX) return ` ${flow}`;
  const inner = indent + INDENT_COLUMNS;
  return `${lineBreak}${' '.repeat(inner)}${renderBlock(value, inner, lineBreak)}`;
}

/** @param indent columns in front of each line but the first */
export function renderBlock(value: PlainValue, indent: number, lineBreak: string): string {
  const separator = `${lineBreak}${' '.repeat(indent)}`;
  if (isList(value) && value.length > 0) {
    return value
      .map((item) => `- ${renderItem(item, indent + INDENT_COLUMNS, lineBreak)}`)
      .join(separator);
  }
  if (isPlainObject(value) && Object.keys(value).length > 0) {
    return Object.entries(value)
      .map(([key, item]) => `${renderKey(key)}:${renderAfterKey(item, indent, lineBreak)}`)
      .join(separator);
  }
  return renderFlow(value);
}

/**
 * What stands behind `- `: on one line as long as it fits.
 *
 * @param indent columns of the item itself
 */
export function renderItem(item: PlainValue, indent: number, lineBreak: string): string {
  const flow = renderFlow(item);
  const fits = indent + flow.length < FLOW_COLUMNS_MAX;
  return fits ? flow : renderBlock(item, indent, lineBreak);
}

export function renderFlow(value: PlainValue): string {
  if (isList(value)) return `[${value.map(renderFlow).join(', ')}]`;
  if (!isPlainObject(value)) return renderScalar(value, { style: 'plain', isInFlow: true });
  const entries = Object.entries(value).map(
    ([key, item]) => `${renderKey(key)}: ${renderFlow(item)}`,
  );
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

export function renderKey(key: string): string {
  return renderScalar(key, { style: 'plain', isInFlow: true });
}

/** In the wanted style where that can say it; only texts have quotes. */
export function renderScalar(
  value: string | number | boolean | null,
  { style, isInFlow }: { readonly style: QuoteStyle; readonly isInFlow: boolean },
): string {
  if (typeof value !== 'string') return String(value);
  const isPrintable = value.search(unprintable) < 0;
  if (style === 'single' && isPrintable) return `'${value.replaceAll("'", "''")}'`;
  return style === 'plain' && isPlainText(value, isInFlow) ? value : renderEscaped(value);
}

/** Control, format, unassigned characters, and those that separate lines. */
const unprintable = /[\p{C}\p{Zl}\p{Zp}]/u;

/** JSON's form is one of YAML's; what else cannot be seen is escaped, too. */
function renderEscaped(value: string): string {
  return JSON.stringify(value).replace(new RegExp(unprintable, 'gu'), (character) => {
    const code = (character.codePointAt(0) ?? 0).toString(16);
    return code.length <= 4 ? `\\u${code.padStart(4, '0')}` : `\\U${code.padStart(8, '0')}`;
  });
}

/** Lists and objects of scalars only. */
function isFlat(value: PlainValue): boolean {
  if (isList(value)) return value.every((item) => !isList(item) && !isPlainObject(item));
  if (!isPlainObject(value)) return true;
  return Object.values(value).every((item) => !isPlainObject(item) && isFlat(item));
}

/** What the core schema of YAML 1.2 (§10.3.2) takes for something else than text. */
const otherScalars = [
  /^(|~|null|Null|NULL|true|True|TRUE|false|False|FALSE)$/,
  /^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$/,
  /^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$/,
  /^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$/,
];

/** YAML 1.2 §7.3.3, a little stricter: no first character that could be an indicator. */
function isPlainText(text: string, isInFlow: boolean): boolean {
  if (unprintable.test(text) || otherScalars.some((form) => form.test(text))) return false;
  if (/^[\s\-?:,[\]{}#&*!|>'"%@`]|\s$|:\s|:$|\s#|^\.\.\.$/.test(text)) return false;
  return !isInFlow || !/[,[\]{}]/.test(text);
}
