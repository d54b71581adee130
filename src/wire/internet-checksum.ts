/**
 * The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit
 * words. Sums are kept unfolded, so that parts of a packet can be summed apart and added.
 */

/** Words are read with the first byte high. A last odd byte counts as if a zero followed it. */
export function internetSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let at = 0; at + 1 < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  }
  if (bytes.length % 2 === 1) sum += (bytes[bytes.length - 1] ?? 0) << 8;
  return sum;
}

/** Carries folded in: 16 bits whose complement is the checksum. */
export function foldSum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

export function internetChecksum(bytes: Uint8Array, initial = 0): number {
  return foldSum(internetSum(bytes, initial)) ^ 0xffff;
}
