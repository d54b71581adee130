/** The lab's generator: which flows it makes, and in what order. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import { type FlowPattern, startPacketGenerator } from '../../lab/packet-generator.ts';

const TIMEOUT_MS = 20_000;
/** As tshark says it. */
const GOOD = '1';

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

test('IPv6 counts up by the last 32 bits of addresses, with right checksums', async () => {
  const source = { address: '2001:db8::ffff', addressCount: 2, port: 1_000 };
  const destination = { address: '2001:db8:1::1', port: 80, portCount: 2 };
  const sent = await flowsOf({ frameBytes: 70, source, destination }, 5);
  const [first, second] = ['[2001:db8::ffff]:1000 > ', '[2001:db8::1:0]:1000 > '];
  const to = '[2001:db8:1::1]';
  const inTurn = [`${first}${to}:80`, `${second}${to}:80`, `${first}${to}:81`, `${second}${to}:81`];
  assert.deepEqual(sent, [...inTurn, ...inTurn.slice(0, 1)]);
});

test('addresses of both families in one flow are refused', async () => {
  const destination = { address: '2001:db8:1::1', port: 80 };
  await assert.rejects(flowsOf({ destination }, 1), /192.0.2.1 cannot talk to 2001:db8:1::1/);
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
  const addresses = ['ip.src', 'ip.dst', 'ipv6.src', 'ipv6.dst'] as const;
  const fields = [...addresses, 'udp.srcport', 'udp.dstport', 'udp.checksum.status'] as const;
  const preferences = { 'udp.check_checksum': 'TRUE' };
  const packets = await capture.packets(fields, { preferences });
  return packets.map((packet) => {
    assert.equal(packet['udp.checksum.status'], GOOD);
    const place = (ipv4: string, ipv6: string) => (ipv4 === '' ? `[${ipv6}]` : ipv4);
    const from = place(packet['ip.src'], packet['ipv6.src']);
    const to = place(packet['ip.dst'], packet['ipv6.dst']);
    return `${from}:${packet['udp.srcport']} > ${to}:${packet['udp.dstport']}`;
  });
}
