/** Far more than a name of ours has. */
const LENGTH_MAX = 64;

/**
 * A name that came from outside, for people: names of hosts and interfaces may hold line breaks and
 * whatever else would change the text around them.
 */
export function printable(text: string): string {
  return text.replace(/[^!-~]/gu, '?').slice(0, LENGTH_MAX);
}
