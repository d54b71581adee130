/** Times on a wall clock as values: minutes since midnight. */

declare const timeOfDayBrand: unique symbol;
/** Minutes since midnight, 0 to 1439. */
export type TimeOfDay = number & { readonly [timeOfDayBrand]: true };

/** Reads `00:00` to `23:59`, always two and two digits. @returns undefined otherwise */
export function parseTimeOfDay(text: string): TimeOfDay | undefined {
  const [, hours, minutes] = /^([01][0-9]|2[0-3]):([0-5][0-9])$/.exec(text) ?? [];
  if (hours === undefined || minutes === undefined) return undefined;
  return (Number(hours) * 60 + Number(minutes)) as TimeOfDay;
}

export function formatTimeOfDay(time: TimeOfDay): string {
  return [Math.floor(time / 60), time % 60].map((part) => String(part).padStart(2, '0')).join(':');
}
