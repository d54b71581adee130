/** Lengths of time as values: whole milliseconds. */

declare const durationBrand: unique symbol;
/** Milliseconds, a whole number and never negative. */
export type Duration = number & { readonly [durationBrand]: true };

/** Largest first. A day is 24 hours, whatever the clock on the wall does. */
const units = [
  ['w', 604_800_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
  ['ms', 1],
] as const;

/** @throws RangeError for what is no whole number of milliseconds, or negative */
export function duration(milliseconds: number): Duration {
  if (!Number.isSafeInteger(milliseconds) || milliseconds < 0) {
    throw new RangeError(`not a duration in milliseconds: ${milliseconds}`);
  }
  return milliseconds as Duration;
}

/**
 * One number with one unit: `500ms`, `60s`, `30m`, `12h`, `7d`, `2w`. No sign, no fraction, no
 * white space, no leading zero; a bare number has no unit and is refused.
 *
 * @returns undefined for everything else
 */
export function parseDuration(text: string): Duration | undefined {
  const [, digits = '', unit] = /^(0|[1-9][0-9]{0,15})(ms|[smhdw])$/.exec(text) ?? [];
  const size = units.find(([name]) => name === unit)?.[1];
  if (size === undefined) return undefined;
  const milliseconds = Number(digits) * size;
  return Number.isSafeInteger(milliseconds) ? duration(milliseconds) : undefined;
}

/** As {@link parseDuration}, for text that was checked before. @throws RangeError */
export function requireDuration(text: string): Duration {
  const parsed = parseDuration(text);
  if (parsed === undefined) throw new RangeError(`not a duration: ${JSON.stringify(text)}`);
  return parsed;
}

/** In the largest unit that leaves a whole number: 60,000 ms is `1m`, 90,000 ms is `90s`. */
export function formatDuration(milliseconds: Duration): string {
  const fitting = units.find(([, size]) => milliseconds >= size && milliseconds % size === 0);
  const [name, size] = fitting ?? ['s', 1000];
  return `${milliseconds / size}${name}`;
}
