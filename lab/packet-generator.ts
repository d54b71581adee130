/**
 * Sends IPv4 or IPv6 frames of many flows through an interface of the lab, 1–2 million a second on
 * one core, by the kernel's live-frame test run (`bpf/lab/packet-generator.bpf.c`).
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
import { requireIpAddress } from '../src/net/ip-address.ts';
import { ipv6Address } from '../src/net/ipv6-address.ts';
import { ipv6 } from '../src/testing/ipv6-packets.ts';
import { tcpFrame, udpFrame } from '../src/testing/packet-builder.ts';
import { foldSum, internetSum } from '../src/wire/internet-checksum.ts';
import { type FrameCount, frameCount } from './frame-count.ts';
import type { LabInterface } from './lab-host.ts';
import type { GeneratorRun, GeneratorTimes } from './packet-generator-worker.ts';

/**
 * Addresses and ports count up from the first, addresses faster, those of IPv6 by their last 32
 * bits.
 */
export interface FlowPattern {
  /** TCP over IPv4 only. */
  readonly protocol: 'udp' | 'tcp-syn';
  readonly source: EndpointRange;
  readonly destination: EndpointRange;
  /**
   * With the Ethernet header, without the checksum behind it: 60 is a "64-byte" frame, 62 the least
   * with IPv6.
   */
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
function requirePossible(pattern: FlowPattern): void {
  const { source, destination, frameBytes, flowCount } = pattern;
  const isIpv6 = familyOf(pattern) === 6;
  if (isIpv6 && pattern.protocol !== 'udp') throw new RangeError('TCP is made over IPv4 only');
  const leastBytes = isIpv6 ? GeneratorLimits.ipv6HeaderBytes : GeneratorLimits.frameBytesMin;
  requireInteger('frameBytes', frameBytes, leastBytes, FRAME_BYTES_MAX);
  if (flowCount !== undefined) requireInteger('flowCount', flowCount, 1, 0xffff_ffff);
  for (const [name, range] of Object.entries({ source, destination })) {
    const { addressCount = 1, port, portCount = 1 } = range;
    const addressesLeft = 2 ** 32 - lastBits(range.address);
    requireInteger(`${name}.addressCount`, addressCount, 1, addressesLeft);
    requireInteger(`${name}.port`, port, 0, 0xffff);
    requireInteger(`${name}.portCount`, portCount, 1, 0x10000 - port);
  }
}

function requireInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new RangeError(`${name} is ${value}, not an integer from ${min} to ${max}`);
}

/** @throws RangeError when the two ends have addresses of different families */
function familyOf({ source, destination }: FlowPattern): 4 | 6 {
  const [family, other] = [source, destination].map(
    ({ address }) => requireIpAddress(address).family,
  );
  if (family === undefined || family !== other) {
    throw new RangeError(`${source.address} cannot talk to ${destination.address}`);
  }
  return family;
}

/** Those that count up. */
function lastBits(address: string): number {
  return Number(requireIpAddress(address).bits & 0xffff_ffffn);
}

/** A whole frame of the first flow. */
function templateFrame(options: GeneratorOptions): Uint8Array<ArrayBuffer> {
  const { pattern, sourceMac, destinationMac } = options;
  if (familyOf(pattern) === 6) return ipv6TemplateFrame(options);
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

/** With UDP, whose ports and checksum the program writes. */
function ipv6TemplateFrame(options: GeneratorOptions): Uint8Array<ArrayBuffer> {
  const { pattern, sourceMac, destinationMac } = options;
  const payload = new Uint8Array(pattern.frameBytes - IPV6_TRANSPORT_AT);
  new DataView(payload.buffer).setUint16(4, payload.length);
  return ipv6({
    source: ipv6Address(requireIpAddress(pattern.source.address).bits),
    destination: ipv6Address(requireIpAddress(pattern.destination.address).bits),
    nextHeader: UDP,
    payload,
    sourceMac,
    destinationMac,
  });
}

const UDP = 17;
/** Offsets in a frame. */
const IPV6_AT = 14;
const IPV6_TRANSPORT_AT = IPV6_AT + 40;
const IPV6_UDP_CHECKSUM_AT = IPV6_TRANSPORT_AT + 6;

interface FixedPart {
  /** The frame's first bytes, without what the program fills in. */
  readonly header: Uint8Array;
  readonly transportChecksumOffset: number;
  readonly networkSum: number;
  readonly transportSum: number;
}

function fixedPart(template: Uint8Array<ArrayBuffer>, pattern: FlowPattern): FixedPart {
  return familyOf(pattern) === 6 ? fixedIpv6Part(template) : fixedIpv4Part(template, pattern);
}

function fixedIpv6Part(template: Uint8Array<ArrayBuffer>): FixedPart {
  const zeroed = template.slice();
  // The last 32 bits of both addresses. The pseudo-header has the others (RFC 8200 §8.1).
  zeroed.fill(0, IPV6_AT + 20, IPV6_AT + 24);
  zeroed.fill(0, IPV6_AT + 36, IPV6_AT + 40);
  const segment = zeroed.subarray(IPV6_TRANSPORT_AT);
  const pseudoHeader = new Uint8Array(40);
  pseudoHeader.set(zeroed.subarray(IPV6_AT + 8, IPV6_TRANSPORT_AT));
  new DataView(pseudoHeader.buffer).setUint32(32, segment.length);
  pseudoHeader[39] = UDP;
  return {
    header: zeroed.slice(0, GeneratorLimits.ipv6HeaderBytes),
    transportChecksumOffset: IPV6_UDP_CHECKSUM_AT,
    networkSum: 0,
    transportSum: littleEndianSum(Uint8Array.from([...pseudoHeader, ...segment])),
  };
}

function fixedIpv4Part(template: Uint8Array<ArrayBuffer>, { protocol }: FlowPattern): FixedPart {
  const transportChecksumOffset = protocol === 'udp' ? 40 : 50;
  const zeroed = template.slice();
  // IPv4 checksum, both addresses, both ports, transport checksum.
  zeroed.fill(0, 24, 38);
  zeroed.fill(0, transportChecksumOffset, transportChecksumOffset + 2);
  const header = new Uint8Array(GeneratorLimits.ipv6HeaderBytes);
  header.set(zeroed.subarray(0, GeneratorLimits.ipv4HeaderBytes));
  return {
    header,
    transportChecksumOffset,
    networkSum: littleEndianSum(zeroed.subarray(14, 34)),
    transportSum: littleEndianSum(transportBytes(zeroed)),
  };
}

function generatorSettings(
  template: Uint8Array<ArrayBuffer>,
  pattern: FlowPattern,
  outgoingIndex: number,
): GeneratorSettings {
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
    ...fixedPart(template, pattern),
    sourceAddress: lastBits(source.address),
    destinationAddress: lastBits(destination.address),
    sourcePort: source.port,
    destinationPort: destination.port,
    ...counts,
    flowCount: Math.min(pattern.flowCount ?? combinations, combinations, 0xffff_ffff),
    interfaceIndex: outgoingIndex,
    isRandom: pattern.order === 'random' ? 1 : 0,
    isInStep: isInStep ? 1 : 0,
    isIpv6: familyOf(pattern) === 6 ? 1 : 0,
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
