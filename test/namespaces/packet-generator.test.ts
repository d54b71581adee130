/** The lab's generator: which flows it makes, and in what order. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import { type FlowPattern, startPacketGenerator } from '../../lab/packet-generator.ts';

const TIMEOUT_MS = 20_000;

/** Without IPv6, so that nobody sends what the test did not ask for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };
const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02'] as const;

let lab: Lab;

before(async () => {
  lab = await Lab.start(
    {
      hosts: { left: { sysctls: quiet }, right: { sysctls: quiet } },
      links: { wire: { ends: ['left:eth0', 'right:eth0'], macs } },
    },
    { name: 'generator' },
  );
});

after(() => lab.stop());

/** Two addresses with three ports each, to three addresses with two ports each. */
const endpoints = {
  source: { address: '192.0.2.1', addressCount: 2, port: 1_000, portCount: 3 },
  destination: { address: '198.51.100.1', addressCount: 3, port: 80, portCount: 2 },
} as const;

const sources = [
  '192.0.2.1:1000',
  '192.0.2.2:1000',
  '192.0.2.1:1001',
  '192.0.2.2:1001',
  '192.0.2.1:1002',
  '192.0.2.2:1002',
];
const destinations = [
  '198.51.100.1:80',
  '198.51.100.2:80',
  '198.51.100.3:80',
  '198.51.100.1:81',
  '198.51.100.2:81',
  '198.51.100.3:81',
];

test('on one CPU, every source meets each destination in turn', async () => {
  const every = destinations.flatMap((to) => sources.map((from) => `${from} > ${to}`));
  assert.deepEqual(await flowsOf({}, 40), [...every, ...every.slice(0, 4)]);
});

test('in step, the first source talks to the first destination, the second to the second', async () => {
  const inStep = sources.map((from, index) => `${from} > ${destinations[index]}`);
  const sent = await flowsOf({ combinations: 'in-step' }, 8);
  assert.deepEqual(sent, [...inStep, ...inStep.slice(0, 2)]);
});

test('in step, the side with fewer endpoints begins again', async () => {
  const destination = { address: '198.51.100.1', addressCount: 2, port: 80 };
  const sent = await flowsOf({ combinations: 'in-step', destination }, 7);
  const expected = [0, 1, 2, 3, 4, 5, 0].map(
    (from, index) => `${sources[from]} > ${destinations[[0, 1, 0, 1, 0, 1, 0][index] ?? 0]}`,
  );
  assert.deepEqual(sent, expected);
});

test('a limit of frames holds over several calls of the kernel', async () => {
  const sent = await flowsOf({}, 10, { framesPerCall: 4 });
  assert.equal(sent.length, 10);
});

test('a CPU that is not there is refused', async () => {
  await assert.rejects(flowsOf({}, 1, { cpu: 4_095 }), /keep the packet generator on CPU 4095/);
});

async function flowsOf(
  pattern: Partial<FlowPattern>,
  frameCount: number,
  options: { readonly cpu?: number; readonly framesPerCall?: number } = {},
): Promise<string[]> {
  const place = (host: string) => ({
    interface: 'eth0',
    networkNamespace: lab.host(host).namespacePath,
  });
  const capture = await lab.host('right').capture('eth0', { filter: 'udp' });
  const generator = await startPacketGenerator({
    sender: place('left'),
    receiver: place('right'),
    sourceMac: macs[0],
    destinationMac: macs[1],
    pattern: { ...endpoints, protocol: 'udp', frameBytes: 60, ...pattern },
    framesMax: frameCount,
    durationMsMax: TIMEOUT_MS,
    cpu: 0,
    ...options,
  });
  try {
    await generator.finished;
    await capture.waitForFrames(frameCount, TIMEOUT_MS);
  } finally {
    await capture.stop();
  }
  const fields = ['ip.src', 'udp.srcport', 'ip.dst', 'udp.dstport'] as const;
  const packets = await capture.packets(fields);
  return packets.map(
    (packet) =>
      `${packet['ip.src']}:${packet['udp.srcport']} > ${packet['ip.dst']}:${packet['udp.dstport']}`,
  );
}
