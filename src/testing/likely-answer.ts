/** What a real peer would answer to a segment, mostly, so that connections come about at random. */
import type { SeededRandom } from './seeded-random.ts';

export interface LikelyAnswer {
  readonly flags: string;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly payloadBytes: number;
}

/** @param segment from its TCP header on, which is whole */
export function likelyAnswer(random: SeededRandom, segment: Uint8Array): LikelyAnswer {
  const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
  const asked = segment[13] ?? 0;
  const controls = (asked & 1) + ((asked >> 1) & 1);
  const payloadBytes = Math.max(0, segment.length - ((segment[12] ?? 0) >> 4) * 4);
  const isOpening = (asked & 0x16) === 2;
  return {
    flags: isOpening ? 'SA' : random.pick(['A', 'A', 'A', 'PA', 'FA', 'R', 'RA', 'S']),
    sequence: isOpening ? random.pick([0, 1, 70_000]) : view.getUint32(8),
    acknowledgement: (view.getUint32(4) + controls + payloadBytes) >>> 0,
    payloadBytes: random.pick([0, 0, 5]),
  };
}
