/** Counts and drops the UDP and TCP frames that arrive at an interface of the lab. */
import { packetSinkObject } from '../src/abi/packet-sink.generated.ts';
import { attachXdp, type XdpMode } from '../src/linux/attach.ts';
import { loadBpfObject } from '../src/linux/bpf-object.ts';
import type { InterfaceInNamespace } from './packet-generator.ts';

export interface PacketSink extends Disposable {
  readonly mode: XdpMode;
  /** What arrived since the start, over all queues. */
  counted(): { readonly frames: number; readonly bytes: number };
  stop(): void;
}

export function startPacketSink(place: InterfaceInNamespace): PacketSink {
  const object = loadBpfObject(packetSinkObject);
  const attachment = attachXdp(object.programs.sinkFrame, {
    interface: place.interface,
    networkNamespace: place.namespacePath,
  });
  const stop = (): void => {
    attachment.detach();
    object.close();
  };
  return {
    mode: attachment.mode,
    counted: () => {
      const perCpu = object.maps.sunkFrames.lookup(0) ?? [];
      return {
        frames: perCpu.reduce((sum, counter) => sum + Number(counter.frames), 0),
        bytes: perCpu.reduce((sum, counter) => sum + Number(counter.bytes), 0),
      };
    },
    stop,
    [Symbol.dispose]: stop,
  };
}
