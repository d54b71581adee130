/** The lab's own tools: how fast the generator sends and the sink takes. */
import { Lab } from '../lab/lab.ts';
import { startPacketGenerator } from '../lab/packet-generator.ts';
import { startPacketSink } from '../lab/packet-sink.ts';
import { type BenchRow, medians } from './table.ts';

const ROUND_MS = 2_000;
const ROUNDS = 5;

export async function benchLab(): Promise<readonly BenchRow[]> {
  await using lab = await Lab.start(
    {
      hosts: {
        left: { addresses: { eth0: ['192.0.2.1/24'] } },
        right: { addresses: { eth0: ['192.0.2.2/24'] } },
      },
      links: {
        wire: {
          ends: ['left:eth0', 'right:eth0'],
          macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
        },
      },
    },
    { name: 'bench' },
  );
  const place = (host: string) => ({
    interface: 'eth0',
    networkNamespace: lab.host(host).namespacePath,
  });
  const server = lab.host('right').spawn(['iperf3', '-s', '--forceflush']);
  await server.waitForOutput(/listening/, 10_000);

  const generatorRate = async (flowCount: number): Promise<number> => {
    // For the time of the measurement only: it would also drop what iperf3 sends.
    using sink = startPacketSink(place('right'));
    const generator = await startPacketGenerator({
      sender: place('left'),
      sourceMac: '02:00:00:00:00:01',
      destinationMac: '02:00:00:00:00:02',
      pattern: {
        protocol: 'udp',
        source: { address: '192.0.2.1', port: 1_024, portCount: 1_000 },
        destination: { address: '198.51.100.1', addressCount: 100, port: 9 },
        frameBytes: 60,
        flowCount,
      },
      durationMsMax: ROUND_MS,
    });
    const { seconds } = await generator.finished;
    return sink.counted().frames / seconds;
  };
  const { few, many, iperf } = await medians(ROUNDS, {
    few: () => generatorRate(1_000),
    many: () => generatorRate(100_000),
    iperf: () => iperfRate(lab),
  });
  const row = (flows: string, rate: number): BenchRow => ({
    what: `60-byte UDP frames of ${flows} flows, generated and sunk`,
    figure: `${(rate / 1e3).toFixed(0)} kpps`,
    peer: `iperf3 -u with 16-byte payloads, sent: ${(iperf / 1e3).toFixed(0)} kpps`,
    ratio: rate / iperf,
  });
  return [row('1,000', few), row('100,000', many)];
}

/** What an ordinary load generator sends as fast as it can. */
async function iperfRate(lab: Lab): Promise<number> {
  const seconds = ROUND_MS / 1_000;
  const argv = ['iperf3', '-c', '192.0.2.2', '-u', '-b', '0', '-l', '16', '-J'] as const;
  const result = await lab.host('left').run([...argv, '-t', `${seconds}`], { timeoutMs: 30_000 });
  const report = JSON.parse(result.stdout || '{}') as {
    end?: { sum?: { packets: number; seconds: number } };
    error?: string;
  };
  const sum = report.end?.sum;
  if (sum === undefined) throw new Error(`iperf3: ${report.error ?? result.stderr}`);
  return sum.packets / sum.seconds;
}
