/** `@blocked`: the addresses of the table `blocked`, where a prefix could stand. */

const pattern = /^@([A-Za-z_][A-Za-z0-9_]{0,31})$/;

/** @returns the table's name; undefined for everything else, prefixes among them */
export function parseTableReference(text: string): string | undefined {
  return pattern.exec(text)?.[1];
}
