import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Impairment } from '../../lab/impairment.ts';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { findProcesses } from '../../lab/ownership.ts';
import { inBothDirections } from '../../lab/topology.ts';
import { waitFor } from '../../lab/wait-for.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 30_000;

async function startPair(impairment: Impairment): Promise<Lab> {
  const lab = await Lab.start({
    hosts: {
      left: { addresses: { eth0: ['10.0.0.1/24'] } },
      right: { addresses: { eth0: ['10.0.0.2/24'] } },
    },
    links: { wire: { ends: ['left:eth0', 'right:eth0'], impairment: {} } },
  });
  // The neighbours know each other before anything is lost, so that only the echoes are counted.
  const first = await ping(lab.host('left'), { count: 1, intervalS: 1 });
  assert.equal(first.received, 1);
  await lab.link('wire').impair(inBothDirections(impairment));
  return lab;
}

interface PingStatistics {
  readonly received: number;
  readonly rttMinMs: number;
}

async function ping(
  host: LabHost,
  options: { count: number; intervalS: number },
): Promise<PingStatistics> {
  const { count, intervalS } = options;
  const argv = ['ping', '-q', '-c', `${count}`, '-i', `${intervalS}`, '-W', '2'] as const;
  const { stdout } = await host.run([...argv, '10.0.0.2'], { timeoutMs: TIMEOUT_MS });
  const [, received] = /, (\d+) received/.exec(stdout) ?? [];
  const [, rttMinMs] = /rtt min[^=]*= ([\d.]+)\//.exec(stdout) ?? [];
  return { received: Number(received), rttMinMs: Number(rttMinMs) };
}

test('loss loses its share of the echoes, one direction at a time', async () => {
  await using lab = await startPair({});
  const wire = lab.link('wire');
  await wire.impair({ firstToSecond: { lossPercent: 20 } });
  const { received } = await ping(lab.host('left'), { count: 500, intervalS: 0.002 });
  // 500 tries of 20 %: six standard deviations are 54.
  assert.ok(received > 346 && received < 454, `${received} of 500 came back`);
  const { firstToSecond, secondToFirst } = await wire.counters();
  const lost = 500 - received;
  assert.ok(Math.abs(firstToSecond.drops.lost - lost) <= 5, `${firstToSecond.drops.lost} counted`);
  assert.equal(secondToFirst.drops.lost, 0);

  await wire.impair({ firstToSecond: {} });
  assert.equal((await ping(lab.host('left'), { count: 100, intervalS: 0.002 })).received, 100);
});

test('delay adds to the round trip in each direction', async () => {
  await using lab = await startPair({ delayMs: 40 });
  const { received, rttMinMs } = await ping(lab.host('left'), { count: 5, intervalS: 0.01 });
  assert.equal(received, 5);
  assert.ok(rttMinMs >= 80, `${rttMinMs} ms is less than two delays`);
  assert.ok(rttMinMs < 400, `${rttMinMs} ms is more than two delays`);
});

test('reordering lets later frames overtake, and loses none', async () => {
  await using lab = await startPair({});
  const right = lab.host('right');
  const sequenceNumbers = async () => {
    const capture = await right.capture('eth0', { filter: 'icmp[icmptype] = icmp-echo' });
    await ping(lab.host('left'), { count: 300, intervalS: 0.002 });
    const frames = await capture.waitForFrames(300, TIMEOUT_MS);
    await capture.stop();
    // After 14 bytes of Ethernet, 20 of IPv4 and 6 of ICMP.
    return frames.map(({ bytes }) => Buffer.from(bytes).readUInt16BE(40));
  };
  const inOrder = Array.from({ length: 300 }, (_, index) => index + 1);
  assert.deepEqual(await sequenceNumbers(), inOrder);

  await lab.link('wire').impair({ firstToSecond: { reorderPercent: 30, reorderByMs: 20 } });
  const reordered = await sequenceNumbers();
  const overtaken = reordered.filter((number, index) => number < (reordered[index - 1] ?? 0));
  assert.ok(overtaken.length > 20, `${overtaken.length} of 300 were overtaken`);
  assert.deepEqual(
    reordered.toSorted((a, b) => a - b),
    inOrder,
  );
});

test('a congested link drops what its queue cannot hold, and carries its rate', async () => {
  await using lab = await startPair({ rateBitsPerSecond: 2_000_000, queueBytes: 15_000 });
  const server = lab.host('right').spawn(['iperf3', '-s', '-1', '--forceflush']);
  await server.waitForOutput(/listening/, TIMEOUT_MS);
  const client = ['iperf3', '-c', '10.0.0.2', '-u', '-b', '10M', '-l', '1000', '-t', '2', '-J'];
  const result = await lab
    .host('left')
    .run(client as [string, ...string[]], { timeoutMs: TIMEOUT_MS });
  const { lost_packets: lost, packets } = JSON.parse(result.stdout).end.sum;
  // Five times the rate is offered, so four fifths are too much.
  assert.ok(lost / packets > 0.6 && lost / packets < 0.9, `${lost} of ${packets} lost`);
  const { firstToSecond, secondToFirst } = await lab.link('wire').counters();
  assert.ok(firstToSecond.drops['queue-full'] >= lost);
  assert.equal(firstToSecond.drops.lost, 0);
  assert.equal(secondToFirst.drops['queue-full'], 0);
});

test('an impossible change is refused by name, and the link goes on as before', async () => {
  await using lab = await startPair({});
  const change = lab.link('wire').impair({ secondToFirst: { lossPercent: 200 } });
  await assert.rejects(change, /cannot impair link 'wire': secondToFirst.lossPercent: 200 is not/);
  assert.equal((await ping(lab.host('left'), { count: 1, intervalS: 1 })).received, 1);
});

test('the devices of a link vanish with its process', async () => {
  await using lab = await startPair({});
  const [pid, ...others] = findProcesses(lab.instance);
  assert.ok(pid !== undefined && others.length === 0);
  process.kill(pid, 'SIGKILL');
  const interfaces = async () => {
    const shown = await lab
      .host('left')
      .run(['ip', '-json', 'link', 'show'], { timeoutMs: TIMEOUT_MS });
    return (JSON.parse(shown.stdout) as { ifname: string }[]).map(({ ifname }) => ifname);
  };
  const until = (names: string[]) => !names.includes('eth0');
  await waitFor('eth0 of left to vanish', interfaces, { timeoutMs: TIMEOUT_MS, until });
  await assert.rejects(lab.link('wire').counters(), /ended without printing/);
});
