import type { FrameCounter } from '../src/abi/layouts.generated.ts';

export interface FrameCount {
  readonly frames: number;
  readonly bytes: number;
}

/** What all CPUs counted together; nothing when the map has no value. */
export function frameCount(perCpu: readonly FrameCounter[] | undefined): FrameCount {
  const counters = perCpu ?? [];
  return {
    frames: counters.reduce((sum, counter) => sum + Number(counter.frames), 0),
    bytes: counters.reduce((sum, counter) => sum + Number(counter.bytes), 0),
  };
}
