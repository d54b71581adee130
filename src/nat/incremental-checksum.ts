/**
 * Checksums after a change of some bytes that they cover (RFC 1624), equal to the last bit to what
 * the kernel's `csum_replace4` and `inet_proto_csum_replace4` leave behind. A checksum that was
 * wrong stays wrong by the same difference.
 */
import { foldSum, internetSum } from '../wire/internet-checksum.ts';

/** Sums of the 16-bit words that were there, and of those that are there now; unfolded. */
export interface ChangedWords {
  readonly before: number;
  readonly after: number;
}

/**
 * RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
 *
 * @returns 0 to 0xfffe: of the two forms of zero this is always the one with all bits clear
 */
export function updatedChecksum(checksum: number, { before, after }: ChangedWords): number {
  const sum = (checksum ^ 0xffff) + (foldSum(before) ^ 0xffff) + foldSum(after);
  return (foldSum(sum) || 0xffff) ^ 0xffff;
}

/** UDP's, where zero means that there is none (RFC 768) and stays. */
export function updatedUdpChecksum(checksum: number, change: ChangedWords): number {
  return checksum === 0 ? 0 : updatedChecksum(checksum, change) || 0xffff;
}

/** The two words of an IPv4 address. */
export function addressWords(address: number): number {
  return (address >>> 16) + (address & 0xffff);
}

/** Whether the bytes, their checksum among them, sum to zero. */
export function isChecksumRight(bytes: Uint8Array): boolean {
  return foldSum(internetSum(bytes)) === 0xffff;
}
