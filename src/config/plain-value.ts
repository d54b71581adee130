/** Values as JSON has them, without places in a file. */
import type { ConfigPath } from './config-path.ts';

export type PlainValue =
  | string
  | number
  | boolean
  | null
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue };

export type PlainObject = { readonly [key: string]: PlainValue };

export function isPlainObject(value: PlainValue | undefined): value is PlainObject {
  return typeof value === 'object' && value !== null && !isList(value);
}

export function isList(value: PlainValue | undefined): value is readonly PlainValue[] {
  return Array.isArray(value);
}

/** Whatever the order of keys is. */
export function isSameValue(left: PlainValue | undefined, right: PlainValue | undefined): boolean {
  if (isList(left) && isList(right)) {
    return left.length === right.length && left.every((item, at) => isSameValue(item, right[at]));
  }
  if (isPlainObject(left) && isPlainObject(right)) {
    const keys = Object.keys(left);
    const sameKeys =
      keys.length === Object.keys(right).length && keys.every((key) => Object.hasOwn(right, key));
    return sameKeys && keys.every((key) => isSameValue(left[key], right[key]));
  }
  return left === right;
}

/**
 * The whole with another value at the path. Missing keys on the way are made; an index may be that
 * of an item, or one more.
 *
 * @param value undefined removes what stands at the path
 * @returns undefined where the path leads through something else, or there is nothing to remove
 */
export function withValueAt(
  whole: PlainValue,
  path: ConfigPath,
  value: PlainValue | undefined,
): PlainValue | undefined {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (typeof step === 'number') {
    if (!isList(whole) || step > whole.length) return undefined;
    const item = whole[step];
    const inner = rest.length === 0 ? value : withValueAt(item ?? {}, rest, value);
    if (inner === undefined && (rest.length > 0 || item === undefined)) return undefined;
    return whole.toSpliced(step, 1, ...(inner === undefined ? [] : [inner]));
  }
  const object = whole ?? {};
  if (!isPlainObject(object)) return undefined;
  const item = Object.hasOwn(object, step) ? object[step] : undefined;
  if (value === undefined && item === undefined) return undefined;
  const inner = rest.length === 0 ? value : withValueAt(item ?? {}, rest, value);
  if (inner === undefined && rest.length > 0) return undefined;
  const entries = Object.entries(object).filter(([key]) => key !== step || inner !== undefined);
  if (inner === undefined) return Object.fromEntries(entries);
  return Object.fromEntries([...entries, [step, inner]]);
}
