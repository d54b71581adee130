/**
 * Sends IPv4 frames of many flows through an interface of the lab, 1–2 million a second on one
 * core, by the kernel's live-frame test run (`bpf/lab/packet-generator.bpf.c`).
 *
 * The frames leave the interface as if its host had sent them, without passing the host's stack.
 * The other end of a veth takes them only with an XDP program on it or with GRO switched on
 * (`ethtool -K … gro on`): `receiver` names it and the generator switches GRO on there.
 */
import { Worker } from 'node:worker_threads';
import { GeneratorLimits, type GeneratorSettings } from '../src/abi/layouts.generated.ts';
import { packetGeneratorObject } from '../src/abi/packet-generator.generated.ts';
import { loadBpfObject } from '../src/linux/bpf-object.ts';
import { runCommand } from '../src/linux/command-runner.ts';
import { inNetworkNamespace, interfaceIndex } from '../src/linux/libc.ts';
import { requireIpv4Address } from '../src/net/ipv4-address.ts';
import { tcpFrame, udpFrame } from '../src/testing/packet-builder.ts';
import { foldSum, internetSum } from '../src/wire/internet-checksum.ts';
import { type FrameCount, frameCount } from './frame-count.ts';
import type { LabInterface } from './lab-host.ts';
import type { GeneratorRun, GeneratorTimes } from './packet-generator-worker.ts';

/** Addresses and ports count up from the first, addresses faster. */
export interface FlowPattern {
  readonly protocol: 'udp' | 'tcp-syn';
  readonly source: EndpointRange;
  readonly destination: EndpointRange;
  /** With the Ethernet header, without the checksum behind it: 60 is a "64-byte" frame. */
  readonly frameBytes: number;
  /**
   * `every`: each source endpoint with each destination endpoint is a flow. `in-step`: the i-th
   * source with the i-th destination, whichever of the two are fewer from their first again.
   * Default: `every`.
   */
  readonly combinations?: 'every' | 'in-step';
  /** Uses so many of the combinations. Default: all, at most 2^32 − 1. */
  readonly flowCount?: number;
  readonly order?: 'in-turn' | 'random';
}

export interface EndpointRange {
  readonly address: string;
  readonly addressCount?: number;
  readonly port: number;
  readonly portCount?: number;
}

export interface GeneratorOptions {
  /** The interface that sends: its frames must fit its MTU. */
  readonly sender: LabInterface;
  /** The veth's other end, where GRO is switched on. Absent when that has an XDP program. */
  readonly receiver?: LabInterface;
  readonly sourceMac: string;
  readonly destinationMac: string;
  readonly pattern: FlowPattern;
  /** Default: as fast as it goes. */
  readonly framesPerSecond?: number;
  /** The generator ends by itself after so many frames or so long, whichever comes first. */
  readonly framesMax?: number;
  readonly durationMsMax: number;
  /**
   * So many frames go out in one call of the kernel, with no pause between them; `stop` waits for
   * its end. Default: what takes some 300 ms. Each call begins with some 20 ms without frames.
   */
  readonly framesPerCall?: number;
  /** The generator runs on this CPU, and with it what the kernel does with its frames at once. */
  readonly cpu?: number;
}

/** Frames that were made. What arrived, the other end says: a {@link startPacketSink} there. */
export interface GeneratorResult extends FrameCount, GeneratorTimes {}

export interface PacketGenerator {
  /** Resolves when the limits are reached or after {@link stop}. */
  readonly finished: Promise<GeneratorResult>;
  stop(): Promise<GeneratorResult>;
}

/** @throws LinuxError when the interface is missing; RangeError when the pattern cannot be */
export async function startPacketGenerator(options: GeneratorOptions): Promise<PacketGenerator> {
  requirePossible(options.pattern);
  const template = templateFrame(options);
  if (options.receiver !== undefined) await switchGroOn(options.receiver);
  const index = inNetworkNamespace(options.sender.networkNamespace, () =>
    interfaceIndex(options.sender.interface),
  );
  const object = loadBpfObject(packetGeneratorObject);
  object.maps.generatorSettings.update(0, generatorSettings(template, options.pattern, index));

  const stopFlag = new Int32Array(new SharedArrayBuffer(4));
  const run: GeneratorRun = {
    programFd: object.programs.generateFrame.fd,
    counterFd: object.maps.generatedFrames.fd,
    networkNamespace: options.sender.networkNamespace,
    template,
    framesPerSecond: options.framesPerSecond,
    framesMax: options.framesMax,
    durationMsMax: options.durationMsMax,
    framesPerCall: options.framesPerCall,
    cpu: options.cpu,
    stopFlag,
  };
  const finished = runWorker(run)
    .then((times) => ({ ...frameCount(object.maps.generatedFrames.lookup(0)), ...times }))
    .finally(() => object.close());
  return {
    finished,
    stop: () => {
      Atomics.store(stopFlag, 0, 1);
      return finished;
    },
  };
}

function runWorker(run: GeneratorRun): Promise<GeneratorTimes> {
  const { promise, resolve, reject } = Promise.withResolvers<GeneratorTimes>();
  const worker = new Worker(new URL('./packet-generator-worker.ts', import.meta.url), {
    workerData: run,
  });
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', (code) => reject(new Error(`the generator ended with code ${code}`)));
  return promise;
}

async function switchGroOn(receiver: LabInterface): Promise<void> {
  const result = await runCommand(['ethtool', '-K', receiver.interface, 'gro', 'on'], {
    timeoutMs: 5_000,
    networkNamespace: receiver.networkNamespace,
  });
  if (!result.success) {
    throw new Error(`cannot switch GRO on at ${receiver.interface}: ${result.stderr}`);
  }
}

/** A page less the room that the kernel keeps before and behind a frame of a test run. */
const FRAME_BYTES_MAX = 3_500;

/** Everything that the program would otherwise cut off or wrap silently. */
function requirePossible({ source, destination, frameBytes, flowCount }: FlowPattern): void {
  requireInteger('frameBytes', frameBytes, GeneratorLimits.frameBytesMin, FRAME_BYTES_MAX);
  if (flowCount !== undefined) requireInteger('flowCount', flowCount, 1, 0xffff_ffff);
  for (const [name, range] of Object.entries({ source, destination })) {
    const { addressCount = 1, port, portCount = 1 } = range;
    const addressesLeft = 2 ** 32 - requireIpv4Address(range.address);
    requireInteger(`${name}.addressCount`, addressCount, 1, addressesLeft);
    requireInteger(`${name}.port`, port, 0, 0xffff);
    requireInteger(`${name}.portCount`, portCount, 1, 0x10000 - port);
  }
}

function requireInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new RangeError(`${name} is ${value}, not an integer from ${min} to ${max}`);
}

/** A whole frame of the first flow. */
function templateFrame(options: GeneratorOptions): Uint8Array<ArrayBuffer> {
  const { pattern, sourceMac, destinationMac } = options;
  const headerBytes = pattern.protocol === 'udp' ? 42 : 54;
  const common = {
    sourceMac,
    destinationMac,
    source: pattern.source.address,
    destination: pattern.destination.address,
    sourcePort: pattern.source.port,
    destinationPort: pattern.destination.port,
    payload: new Uint8Array(pattern.frameBytes - headerBytes),
  };
  return pattern.protocol === 'udp' ? udpFrame(common) : tcpFrame({ ...common, flags: 2 });
}

function generatorSettings(
  template: Uint8Array<ArrayBuffer>,
  pattern: FlowPattern,
  outgoingIndex: number,
): GeneratorSettings {
  const transportChecksumOffset = pattern.protocol === 'udp' ? 40 : 50;
  const zeroed = template.slice();
  // What the program fills in: IPv4 checksum, both addresses, both ports, transport checksum.
  zeroed.fill(0, 24, 38);
  zeroed.fill(0, transportChecksumOffset, transportChecksumOffset + 2);
  const { source, destination } = pattern;
  const counts = {
    sourceAddressCount: source.addressCount ?? 1,
    sourcePortCount: source.portCount ?? 1,
    destinationAddressCount: destination.addressCount ?? 1,
    destinationPortCount: destination.portCount ?? 1,
  };
  const sources = counts.sourceAddressCount * counts.sourcePortCount;
  const destinations = counts.destinationAddressCount * counts.destinationPortCount;
  const isInStep = pattern.combinations === 'in-step';
  const combinations = isInStep ? Math.max(sources, destinations) : sources * destinations;
  return {
    header: zeroed.slice(0, GeneratorLimits.headerBytes),
    sourceAddress: requireIpv4Address(source.address),
    destinationAddress: requireIpv4Address(destination.address),
    sourcePort: source.port,
    destinationPort: destination.port,
    transportChecksumOffset,
    ...counts,
    flowCount: Math.min(pattern.flowCount ?? combinations, combinations, 0xffff_ffff),
    networkSum: littleEndianSum(zeroed.subarray(14, 34)),
    transportSum: littleEndianSum(transportBytes(zeroed)),
    interfaceIndex: outgoingIndex,
    isRandom: pattern.order === 'random' ? 1 : 0,
    isInStep: isInStep ? 1 : 0,
  };
}

/** Pseudo-header with zero addresses (RFC 9293 §3.1) and segment. */
function transportBytes(zeroed: Uint8Array<ArrayBuffer>): Uint8Array {
  const view = new DataView(zeroed.buffer);
  const segment = zeroed.subarray(34, 14 + view.getUint16(16));
  const bytes = new Uint8Array(4 + segment.length);
  bytes[1] = zeroed[23] ?? 0;
  new DataView(bytes.buffer).setUint16(2, segment.length);
  bytes.set(segment, 4);
  return bytes;
}

/** The kernel program adds words as the CPU reads them, which RFC 1071 §2(B) allows. */
function littleEndianSum(bytes: Uint8Array): number {
  const sum = foldSum(internetSum(bytes));
  return ((sum & 0xff) << 8) | (sum >>> 8);
}
