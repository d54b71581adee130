/**
 * Reads capture files of the classic format, as tcpdump writes them on the machine that runs this
 * (https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/):
 *
 *   file header, 24 bytes: magic (4), version (4), reserved (8), snap length (4), link type (4)
 *   then per packet: seconds (4), microseconds (4), captured bytes (4), original bytes (4), data
 */
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const FILE_HEADER_BYTES = 24;
const PACKET_HEADER_BYTES = 16;

export interface CapturedFrame {
  /** Microseconds since 1970. */
  readonly timestampUs: number;
  readonly bytes: Uint8Array;
  /** Length on the wire; `bytes` may be cut. */
  readonly originalBytes: number;
}

/**
 * The complete packets of a file. One that is not all there ends the list, since its writer may
 * still be at it.
 *
 * @throws Error when the bytes are no capture of this kind
 */
export function decodePcap(file: Uint8Array): CapturedFrame[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < FILE_HEADER_BYTES) return [];
  if (view.getUint32(0, true) !== MAGIC_MICROSECONDS) {
    throw new Error(`no capture file: it begins with ${view.getUint32(0).toString(16)}`);
  }
  const frames: CapturedFrame[] = [];
  for (let offset = FILE_HEADER_BYTES; offset + PACKET_HEADER_BYTES <= file.length; ) {
    const seconds = view.getUint32(offset, true);
    const microseconds = view.getUint32(offset + 4, true);
    const capturedBytes = view.getUint32(offset + 8, true);
    const originalBytes = view.getUint32(offset + 12, true);
    const start = offset + PACKET_HEADER_BYTES;
    offset = start + capturedBytes;
    if (offset > file.length) break;
    const timestampUs = seconds * 1_000_000 + microseconds;
    frames.push({ timestampUs, bytes: file.subarray(start, offset), originalBytes });
  }
  return frames;
}
