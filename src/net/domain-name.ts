/** Names of hosts and domains as text: letters, digits and hyphens between dots. */

/** RFC 1035 §2.3.4: 255 bytes on the wire are 253 characters without the final dot. */
const NAME_LENGTH_MAX = 253;
const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Reads a host name by RFC 1123 §2.1 into lower case, without a final dot. A name whose last label
 * is a number, decimal or `0x…`, is refused: some readers take it as an address (RFC 3696 §2).
 *
 * @returns undefined for everything else, so also for Unicode: write `xn--…`
 */
export function parseDomainName(text: string): string | undefined {
  if (!/^[\x21-\x7e]+$/.test(text)) return undefined;
  const name = text.toLowerCase();
  const labels = name.split('.');
  if (name.length > NAME_LENGTH_MAX || !labels.every((one) => label.test(one))) return undefined;
  return /^([0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1) ?? '') ? undefined : name;
}
