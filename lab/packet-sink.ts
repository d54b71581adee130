/** Counts and drops the UDP and TCP frames that arrive at an interface of the lab. */
import { packetSinkObject } from '../src/abi/packet-sink.generated.ts';
import { attachXdp, type XdpMode } from '../src/linux/attach.ts';
import { loadBpfObject } from '../src/linux/bpf-object.ts';
import { type FrameCount, frameCount } from './frame-count.ts';
import type { LabInterface } from './lab-host.ts';

export interface PacketSink extends Disposable {
  readonly mode: XdpMode;
  /** What arrived since the start, over all queues. */
  counted(): FrameCount;
  stop(): void;
}

export function startPacketSink(target: LabInterface): PacketSink {
  using cleanup = new DisposableStack();
  const object = cleanup.use(loadBpfObject(packetSinkObject));
  const attachment = attachXdp(object.programs.sinkFrame, target);
  cleanup.defer(() => attachment.detach());
  const kept = cleanup.move();
  const stop = (): void => kept.dispose();
  return {
    mode: attachment.mode,
    counted: () => frameCount(object.maps.sunkFrames.lookup(0)),
    stop,
    [Symbol.dispose]: stop,
  };
}
