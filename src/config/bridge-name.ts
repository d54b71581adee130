/** How the bridge of a network with several interfaces is called. */

/** The kernel's limit for names of interfaces is 15 bytes; `br-` takes three. */
const WHOLE_NAME_BYTES_MAX = 12;

/**
 * `br-lan` for the network `lan`. A name that is too long is cut to three characters and told apart
 * by 40 bits of its hash: `br-gue-0po22dr0`. Names of networks have no hyphen, so none is written
 * like a cut one. Whoever reads configs refuses those in which two still clash.
 *
 * @param networkName as the config's schema takes it: at most 32 letters, digits and `_`
 */
export function bridgeNameOf(networkName: string): string {
  if (networkName.length <= WHOLE_NAME_BYTES_MAX) return `br-${networkName}`;
  return `br-${networkName.slice(0, 3)}-${hashOf(networkName)}`;
}

/** FNV-1a of 64 bits, folded to 40, as eight digits of base 32. */
function hashOf(text: string): string {
  let hash = 0xcbf2_9ce4_8422_2325n;
  for (const character of text) {
    hash ^= BigInt(character.codePointAt(0) ?? 0);
    hash = BigInt.asUintN(64, hash * 0x100_0000_01b3n);
  }
  const folded = BigInt.asUintN(40, hash ^ (hash >> 40n));
  return folded.toString(32).padStart(8, '0');
}
