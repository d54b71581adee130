/** Programs on real interfaces of the lab: counting, exchanging under load, refusing. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import { type FlowPattern, startPacketGenerator } from '../../lab/packet-generator.ts';
import { sendThroughRing } from '../../lab/packet-ring.ts';
import { startPacketSink } from '../../lab/packet-sink.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { protocolCountersObject } from '../../src/abi/protocol-counters.generated.ts';
import { attachTc, attachXdp } from '../../src/linux/attach.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import { possibleCpuCount } from '../../src/linux/libbpf.ts';
import { udpFrame } from '../../src/testing/packet-builder.ts';
import { protocolCounts } from '../../src/traffic/protocol-counts.ts';

type Counters = BpfObject<typeof protocolCountersObject>;

/** Without IPv6, so that nobody sends what the test did not ask for. */
const quiet = { 'net.ipv6.conf.all.disable_ipv6': '1', 'net.ipv6.conf.default.disable_ipv6': '1' };

let lab: Lab;
let left: LabHost;
let right: LabHost;

before(async () => {
  lab = await Lab.start(
    {
      hosts: {
        left: { addresses: { eth0: ['192.0.2.1/24'] }, sysctls: quiet },
        right: { addresses: { eth0: ['192.0.2.2/24'] }, sysctls: quiet },
      },
      links: {
        wire: {
          ends: ['left:eth0', 'right:eth0'],
          macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
        },
      },
    },
    { name: 'attach' },
  );
  left = lab.host('left');
  right = lab.host('right');
});

after(() => lab.stop());

function target(host: LabHost, name = 'eth0') {
  return { interface: name, networkNamespace: host.namespacePath };
}

async function output(host: LabHost, ...argv: [string, ...string[]]): Promise<string> {
  const result = await host.run(argv, { timeoutMs: 20_000 });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

/** What the kernel itself counted at the interface. */
async function received(host: LabHost): Promise<{ packets: number; bytes: number }> {
  const text = await output(host, 'ip', '-s', '-j', 'link', 'show', 'eth0');
  const [link] = JSON.parse(text) as [{ stats64: { rx: { packets: number; bytes: number } } }];
  return link.stats64.rx;
}

function counted(object: Counters, direction: 'ingress' | 'egress' = 'ingress') {
  const rows = protocolCounts(object.maps.protocolCounters.entries(), new Map());
  const own = rows.filter((row) => row.direction === direction);
  return {
    packets: Number(own.reduce((sum, row) => sum + row.packets, 0n)),
    bytes: Number(own.reduce((sum, row) => sum + row.bytes, 0n)),
    protocols: new Map(own.map((row) => [row.protocol, Number(row.packets)])),
  };
}

function generate(options: { frames: number; framesPerSecond?: number; withReceiver: boolean }) {
  return startPacketGenerator({
    sender: target(left),
    ...(options.withReceiver ? { receiver: target(right) } : {}),
    sourceMac: '02:00:00:00:00:01',
    destinationMac: '02:00:00:00:00:02',
    pattern: {
      protocol: 'udp',
      source: { address: '192.0.2.1', port: 1000, portCount: 50 },
      destination: { address: '192.0.2.2', port: 9 },
      frameBytes: 128,
    },
    framesMax: options.frames,
    durationMsMax: 30_000,
    ...(options.framesPerSecond === undefined ? {} : { framesPerSecond: options.framesPerSecond }),
  });
}

for (const hook of ['XDP', 'tcx', 'clsact'] as const) {
  test(`at ${hook}, every packet of a link is counted as the interface counts it`, async () => {
    using object = loadBpfObject(protocolCountersObject);
    const { countProtocolsXdp, countProtocolsTcIngress } = object.programs;
    const before = await received(right);
    const attachment =
      hook === 'XDP'
        ? attachXdp(countProtocolsXdp, target(right), { mode: 'native' })
        : attachTc(countProtocolsTcIngress, target(right), 'ingress', 'counting', { hook });
    await output(left, 'ping', '-c', '20', '-i', '0.01', '-s', '1000', '192.0.2.2');
    const generator = await generate({ frames: 5_000, withReceiver: hook !== 'XDP' });
    const sent = await generator.finished;
    assert.equal(sent.frames, 5_000);
    const { packets, bytes, protocols } = await waitFor(
      'all frames counted',
      () => counted(object),
      { timeoutMs: 10_000, until: (now) => (now.protocols.get('ipv4/udp') ?? 0) >= 5_000 },
    );
    attachment.detach();
    const now = await received(right);

    assert.equal(protocols.get('ipv4/udp'), 5_000);
    assert.equal(protocols.get('ipv4/icmp'), 20);
    assert.equal(packets, now.packets - before.packets);
    // Not compared with the interface's bytes: veth counts some packets without their header.
    const arpPackets = protocols.get('arp') ?? 0;
    assert.equal(bytes, 5_000 * 128 + 20 * (14 + 20 + 8 + 1_000) + arpPackets * 42);
    assert.equal(object.maps.uncountedPackets.lookup(0)?.[0], 0n);
  });

  test(`at ${hook}, exchanging the program 200 times under load misses no packet`, async () => {
    using first = loadBpfObject(protocolCountersObject);
    using second = loadBpfObject(protocolCountersObject);
    const program = hook === 'XDP' ? 'countProtocolsXdp' : 'countProtocolsTcIngress';
    const attachment =
      hook === 'XDP'
        ? attachXdp(first.programs[program], target(right), { mode: 'native' })
        : attachTc(first.programs[program], target(right), 'ingress', 'counting', { hook });
    const before = await received(right);
    const generator = await generate({
      frames: 1_000_000_000,
      framesPerSecond: 50_000,
      withReceiver: hook !== 'XDP',
    });
    const total = () => counted(first).packets + counted(second).packets;
    for (let round = 0; round < 200; round++) {
      const seen = total();
      const object = round % 2 === 0 ? second : first;
      attachment.replace(object.programs[program]);
      await waitFor('packets under the new program', () => total() > seen, { timeoutMs: 10_000 });
    }
    await generator.stop();
    const packets = await waitFor(
      'counts at rest',
      async () => ({ counted: total(), received: (await received(right)).packets }),
      {
        timeoutMs: 10_000,
        until: (now) => now.counted === now.received - before.packets,
      },
    );
    attachment.detach();
    assert.ok(counted(first).packets > 0 && counted(second).packets > 0);
    assert.equal(packets.counted, packets.received - before.packets);
  });
}

test('a driver without native XDP gets generic, and the attachment says why', () => {
  using object = loadBpfObject(protocolCountersObject);
  const attachment = attachXdp(object.programs.countProtocolsXdp, target(left, 'lo'));
  assert.equal(attachment.mode, 'generic');
  assert.match(attachment.fallbackReason ?? '', /native XDP: EOPNOTSUPP/);
  attachment.detach();
  assert.throws(
    () => attachXdp(object.programs.countProtocolsXdp, target(left, 'lo'), { mode: 'native' }),
    /EOPNOTSUPP/,
  );
});

test("somebody else's XDP program is neither replaced nor detached", async () => {
  using object = loadBpfObject(protocolCountersObject);
  using stranger = loadBpfObject(protocolCountersObject);
  const program = object.programs.countProtocolsXdp;
  const theirs = stranger.programs.countProtocolsXdp;
  const attachment = attachXdp(theirs, target(left));
  assert.throws(() => attachXdp(program, target(left)), /EBUSY|EEXIST/);

  const ours = attachXdp(program, target(right));
  ours.detach();
  const taken = attachXdp(theirs, target(right));
  assert.throws(() => ours.detach(), /detach count_protocols_xdp from eth0/);
  assert.throws(() => ours.replace(program), /replace count_protocols_xdp/);
  assert.match(
    await output(right, 'ip', '-d', 'link', 'show', 'eth0'),
    RegExp(`id ${theirs.id}\\b`),
  );
  taken.detach();
  attachment.detach();
});

test('an interface that does not exist is named', () => {
  using object = loadBpfObject(protocolCountersObject);
  const nowhere = target(left, 'wan7');
  assert.throws(() => attachXdp(object.programs.countProtocolsXdp, nowhere), /wan7: ENODEV/);
  assert.throws(
    () => attachTc(object.programs.countProtocolsTcIngress, nowhere, 'ingress'),
    /wan7: ENODEV/,
  );
});

test('generated frames have real checksums and spread over all flows', async () => {
  const capture = await right.capture('eth0', { filter: 'tcp or udp' });
  // Each CPU that the generator's thread runs on goes through the flows by itself.
  const framesEach = 120 * 2 * possibleCpuCount;
  for (const protocol of ['udp', 'tcp-syn'] as const) {
    const generator = await startPacketGenerator({
      sender: target(left),
      receiver: target(right),
      sourceMac: '02:00:00:00:00:01',
      destinationMac: '02:00:00:00:00:02',
      pattern: {
        protocol,
        source: { address: '192.0.2.255', addressCount: 3, port: 65_000, portCount: 2 },
        destination: { address: '198.51.100.254', addressCount: 4, port: 80, portCount: 5 },
        frameBytes: 67,
      },
      framesMax: framesEach,
      framesPerSecond: 10_000,
      durationMsMax: 10_000,
    });
    await generator.finished;
  }
  await capture.waitForFrames(2 * framesEach, 10_000);
  await capture.stop();
  const packets = await capture.packets(
    [
      ...(['ip.checksum.status', 'udp.checksum.status', 'tcp.checksum.status'] as const),
      ...(['frame.len', 'ip.src', 'ip.dst', 'ip.proto'] as const),
      ...(['udp.srcport', 'udp.dstport', 'tcp.srcport', 'tcp.dstport'] as const),
    ],
    {
      preferences: {
        'ip.check_checksum': 'TRUE',
        'udp.check_checksum': 'TRUE',
        'tcp.check_checksum': 'TRUE',
      },
    },
  );
  const good = '1';
  for (const packet of packets) {
    const { 'frame.len': length, 'ip.checksum.status': network } = packet;
    assert.equal(length, '67');
    assert.equal(network, good);
    assert.equal(packet['udp.checksum.status'] || packet['tcp.checksum.status'], good);
  }
  const flows = new Set(
    packets.map(({ 'frame.len': _, ...flow }) => Object.values(flow).join(' ')),
  );
  assert.equal(packets.length, 2 * framesEach);
  assert.equal(flows.size, 2 * 3 * 2 * 4 * 5);
});

for (const [name, change, complaint] of [
  ['no flow', { flowCount: 0 }, /flowCount is 0/],
  ['no address', { source: { address: '192.0.2.1', addressCount: 0, port: 1 } }, /addressCount/],
  ['half a port', { source: { address: '192.0.2.1', port: 1, portCount: 2.5 } }, /portCount/],
  ['ports beyond 65,535', { source: { address: '192.0.2.1', port: 65_530, portCount: 7 } }, /7/],
  [
    'addresses beyond the last',
    { source: { address: '255.255.255.255', addressCount: 2, port: 1 } },
    /source\.addressCount is 2/,
  ],
  ['a frame too short', { frameBytes: 59 }, /frameBytes is 59/],
  ['a frame too long', { frameBytes: 3_501 }, /frameBytes is 3501/],
] as const) {
  test(`a pattern with ${name} is refused`, async () => {
    const pattern: FlowPattern = {
      protocol: 'udp',
      source: { address: '192.0.2.1', port: 1 },
      destination: { address: '192.0.2.2', port: 9 },
      frameBytes: 60,
      ...change,
    };
    const options = { sourceMac: '02:00:00:00:00:01', destinationMac: '02:00:00:00:00:02' };
    await assert.rejects(
      startPacketGenerator({ ...options, sender: target(left), pattern, durationMsMax: 1 }),
      complaint,
    );
  });
}

test('generators and sinks that cannot start hold no descriptors', async () => {
  const held = () => readdirSync('/proc/self/fd').length;
  const options = { sourceMac: '02:00:00:00:00:01', destinationMac: '02:00:00:00:00:02' };
  const pattern: FlowPattern = {
    protocol: 'udp',
    source: { address: '192.0.2.1', port: 1 },
    destination: { address: '192.0.2.2', port: 9 },
    frameBytes: 60,
  };
  const round = async () => {
    const sender = target(left, 'wan7');
    const started = startPacketGenerator({ ...options, sender, pattern, durationMsMax: 1 });
    await assert.rejects(started, /wan7: ENODEV/);
    assert.throws(() => startPacketSink(target(left, 'wan7')), /wan7: ENODEV/);
  };
  await round();
  const before = held();
  for (let count = 0; count < 20; count++) await round();
  assert.equal(held(), before);
});

test('headers that lie outside the linear part of a packet are read all the same', async () => {
  using object = loadBpfObject(protocolCountersObject);
  const attachment = attachTc(object.programs.countProtocolsTcEgress, target(left), 'egress');
  const frame = udpFrame({
    source: '192.0.2.1',
    destination: '192.0.2.2',
    sourcePort: 1,
    destinationPort: 2,
  });
  left.enter(() => sendThroughRing('eth0', frame));
  attachment.detach();
  const { protocols } = counted(object, 'egress');
  assert.deepEqual([...protocols], [['ipv4/udp', 1]]);
});

test('a sink counts what is sent and lets ARP and ping through', async () => {
  using sink = startPacketSink(target(right));
  assert.equal(sink.mode, 'native');
  const generator = await generate({ frames: 2_000, withReceiver: false });
  await generator.finished;
  await waitFor('all frames sunk', () => sink.counted().frames === 2_000, { timeoutMs: 10_000 });
  assert.equal(sink.counted().bytes, 2_000 * 128);
  await output(left, 'ip', 'neigh', 'flush', 'dev', 'eth0');
  await output(left, 'ping', '-c', '1', '192.0.2.2');
  assert.equal(sink.counted().frames, 2_000);
});
