/**
 * Packets through the gateway of a lab, all the time: one stream out, which every ruleset of a test
 * lets pass, and one in, which none does. A moment without rules shows in the second, a moment
 * without forwarding in the first.
 */
import { startPacketGenerator } from '../../lab/packet-generator.ts';
import { startPacketSink } from '../../lab/packet-sink.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { addresses, type GatehouseLab, macs, output, TIMEOUT_MS } from './gatehouse-lab.ts';

export interface ProbeCount {
  /** That reached the gateway: a busy machine loses some on the link before. */
  readonly sent: number;
  readonly arrived: number;
}

export interface ProbeResult {
  readonly outbound: ProbeCount;
  readonly inbound: ProbeCount;
  /** Outbound ones that the gateway sent and the link behind it lost. */
  readonly lostOutside: number;
  readonly seconds: number;
}

export interface PacketProbe extends AsyncDisposable {
  /** Of each direction, so far. */
  arrived(): { readonly outbound: number; readonly inbound: number };
  stop(): Promise<ProbeResult>;
}

/** How long the last packets may take, and then some. */
const LAST_ARRIVAL_MS = 5_000;

/**
 * Internet and laptop see no other UDP or TCP packet while it runs: the counters swallow them.
 *
 * @param options.framesPerSecond in each direction
 * @param options.durationMsMax it ends by itself then
 */
export async function startPacketProbe(
  place: GatehouseLab,
  options: { readonly framesPerSecond: number; readonly durationMsMax: number },
): Promise<PacketProbe> {
  await using cleanup = new AsyncDisposableStack();
  const at = (host: 'internet' | 'gateway' | 'laptop', name = 'eth0') => ({
    interface: name,
    networkNamespace: place[host].namespacePath,
  });
  await place.fixNeighbours();
  const atInternet = cleanup.use(startPacketSink(at('internet')));
  const atLaptop = cleanup.use(startPacketSink(at('laptop')));
  const before = await countsAtGateway(place);
  const outbound = await startPacketGenerator({
    ...options,
    sender: at('laptop'),
    receiver: at('gateway', 'lan0'),
    sourceMac: macs.laptop,
    destinationMac: macs.lan,
    pattern: newFlows(addresses.laptop, addresses.internet),
  });
  cleanup.defer(async () => {
    await outbound.stop();
  });
  const inbound = await startPacketGenerator({
    ...options,
    sender: at('internet'),
    receiver: at('gateway', 'wan0'),
    sourceMac: macs.internet,
    destinationMac: macs.wan,
    pattern: newFlows(addresses.internet, addresses.laptop),
  });
  cleanup.defer(async () => {
    await inbound.stop();
  });
  const kept = cleanup.move();
  const arrived = () => ({
    outbound: atInternet.counted().frames,
    inbound: atLaptop.counted().frames,
  });
  return {
    arrived,
    stop: async () => {
      const [{ seconds }] = await Promise.all([outbound.stop(), inbound.stop()]);
      const since = async () => {
        const now = await countsAtGateway(place);
        return {
          outbound: { sent: now.inside - before.inside, arrived: arrived().outbound },
          inbound: { sent: now.outside - before.outside, arrived: arrived().inbound },
          lostOutside: now.lostOutside - before.lostOutside,
          seconds,
        };
      };
      // Nothing is under way any more when nothing is missing, or after a while.
      const isWhole = (result: ProbeResult) => missingOutbound(result) === 0;
      await waitFor('the last packets', since, {
        timeoutMs: LAST_ARRIVAL_MS,
        until: isWhole,
      }).catch(() => undefined);
      const result = await since();
      await kept.disposeAsync();
      return result;
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/** Packets that were allowed out and that the gateway did not let through. */
export function missingOutbound({ outbound, lostOutside }: ProbeResult): number {
  return outbound.sent - outbound.arrived - lostOutside;
}

interface InterfaceCounts {
  readonly stats64: {
    readonly rx: { readonly packets: number };
    readonly tx: { readonly dropped: number };
  };
}

/** Nobody but the probes sends anything there. */
async function countsAtGateway({ gateway }: GatehouseLab) {
  const counts = async (name: string) => {
    const text = await output(gateway, 'ip', '-s', '-j', 'link', 'show', name);
    return (JSON.parse(text) as [InterfaceCounts])[0].stats64;
  };
  const [inside, outside] = [await counts('lan0'), await counts('wan0')];
  return {
    inside: inside.rx.packets,
    outside: outside.rx.packets,
    lostOutside: outside.tx.dropped,
  };
}

/** Packets that arrive from now on. */
export async function waitForPackets(
  probe: PacketProbe,
  direction: 'outbound' | 'inbound',
  count: number,
): Promise<void> {
  const before = probe.arrived()[direction];
  await waitFor(`${count} packets ${direction}`, () => probe.arrived()[direction], {
    timeoutMs: TIMEOUT_MS,
    until: (arrived) => arrived >= before + count,
  });
}

/** So many flows that nearly every packet is one that conntrack has never seen. */
function newFlows(source: string, destination: string) {
  return {
    protocol: 'udp',
    source: { address: source, port: 1_024, portCount: 60_000 },
    destination: { address: destination, port: 9 },
    frameBytes: 60,
  } as const;
}
