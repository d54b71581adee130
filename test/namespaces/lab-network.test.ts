import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { Lab } from '../../lab/lab.ts';
import { homeTopology } from '../../lab/topologies/home.ts';
import type { Topology } from '../../lab/topology.ts';
import type { Argv } from '../../src/linux/command-runner.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 20_000;

function ping(address: string): Argv {
  return ['ping', '-c', '1', '-W', '10', address];
}

/** Two hosts at one wire. */
function pair(link: Partial<NonNullable<Topology['links']>[string]> = {}): Topology {
  return {
    hosts: {
      left: { addresses: { eth0: ['10.0.0.1/24', '2001:db8::1/64'] } },
      right: { addresses: { eth0: ['10.0.0.2/24', '2001:db8::2/64'] } },
    },
    links: { wire: { ends: ['left:eth0', 'right:eth0'], ...link } },
  };
}

test('two hosts reach each other through a bridge as soon as the lab is up', async () => {
  await using lab = await Lab.start({
    hosts: {
      switch: { bridges: { br0: ['port1', 'port2'] } },
      left: { addresses: { eth0: ['10.0.0.1/24', '2001:db8::1/64'] } },
      right: { addresses: { eth0: ['10.0.0.2/24', '2001:db8::2/64'] } },
    },
    links: {
      one: { ends: ['left:eth0', 'switch:port1'] },
      two: { ends: ['switch:port2', 'right:eth0'] },
    },
  });
  for (const address of ['10.0.0.2', '2001:db8::2']) {
    const result = await lab.host('left').run(ping(address), { timeoutMs: TIMEOUT_MS });
    assert.match(result.stdout, /1 received/, address);
  }
});

test('routes, sysctls, MTU and Ethernet addresses are as described', async () => {
  await using lab = await Lab.start({
    hosts: {
      left: {
        addresses: { eth0: ['10.0.0.2/24'] },
        routes: [{ to: 'default', via: '10.0.0.1' }],
      },
      router: {
        addresses: { one: ['10.0.0.1/24'], two: ['10.0.1.1/24'] },
        sysctls: { 'net.ipv4.ip_forward': '1', 'net.ipv4.conf.two.rp_filter': '2' },
      },
      right: {
        addresses: { eth0: ['10.0.1.2/24'] },
        routes: [{ to: '10.0.0.0/24', via: '10.0.1.1' }],
      },
    },
    links: {
      first: {
        ends: ['left:eth0', 'router:one'],
        macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
        mtu: 1300,
      },
      second: { ends: ['router:two', 'right:eth0'] },
    },
  });
  const routed = await lab.host('left').run(ping('10.0.1.2'), { timeoutMs: TIMEOUT_MS });
  assert.match(routed.stdout, /ttl=63/);
  const settings = ['net.ipv4.conf.two.rp_filter', 'net.ipv4.conf.one.send_redirects'] as const;
  const read = await lab
    .host('router')
    .run(['sysctl', '-n', ...settings], { timeoutMs: TIMEOUT_MS });
  assert.equal(read.stdout, '2\n0\n');
  for (const [host, interfaceName, mac] of [
    ['left', 'eth0', '02:00:00:00:00:01'],
    ['router', 'one', '02:00:00:00:00:02'],
  ] as const) {
    const argv = ['ip', '-json', 'link', 'show', interfaceName] as const;
    const shown = await lab.host(host).run(argv, { timeoutMs: TIMEOUT_MS });
    const [{ mtu, address }] = JSON.parse(shown.stdout);
    assert.deepEqual({ mtu, address }, { mtu: 1300, address: mac });
  }
});

test('two labs of the same description stand side by side, and each stops alone', async () => {
  const [one, two] = await Promise.all([Lab.start(pair()), Lab.start(pair())]);
  await using first = one;
  await using second = two;
  assert.notEqual(first.instance, second.instance);
  const captured = await second.host('right').capture('eth0', { filter: 'icmp' });
  await first.host('left').run(ping('10.0.0.2'), { timeoutMs: TIMEOUT_MS });
  await first.stop();
  assert.equal(existsSync(first.host('left').namespacePath), false);
  const result = await second.host('left').run(ping('10.0.0.2'), { timeoutMs: TIMEOUT_MS });
  assert.equal(result.success, true);
  // Echo and reply of the second lab, and nothing of the first.
  assert.equal((await captured.waitForFrames(2, TIMEOUT_MS)).length, 2);
});

/** What a capture at the receiver says of a datagram's checksum: 1 is right, 0 is wrong. */
async function checksumStatus(topology: Topology): Promise<Record<string, string>[]> {
  await using lab = await Lab.start(topology);
  const capture = await lab.host('right').capture('eth0', { filter: 'udp port 9' });
  const source = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.send('some text', 9, '10.0.0.2', () => socket.close());`;
  const sent = await lab
    .host('left')
    .run([process.execPath, '-e', source], { timeoutMs: TIMEOUT_MS });
  assert.equal(sent.success, true, sent.stderr);
  await capture.waitForFrames(1, TIMEOUT_MS);
  const preferences = { 'udp.check_checksum': 'TRUE' };
  return await capture.packets(['ip.src', 'udp.checksum.status'], { preferences });
}

test('with checksum offload a frame crosses the link with its checksum unfinished', async () => {
  for (const link of [{}, { checksumOffload: 'on' } as const]) {
    const packets = await checksumStatus(pair(link));
    assert.deepEqual(packets, [{ 'ip.src': '10.0.0.1', 'udp.checksum.status': '0' }]);
  }
});

test('without checksum offload, or on an impaired link, the checksum is real', async () => {
  for (const link of [{ checksumOffload: 'off' } as const, { impairment: {} }]) {
    const packets = await checksumStatus(pair(link));
    assert.deepEqual(packets, [{ 'ip.src': '10.0.0.1', 'udp.checksum.status': '1' }]);
  }
});

test('a capture holds what its filter selects, up to its limit of packets', async () => {
  await using lab = await Lab.start(pair());
  const right = lab.host('right');
  const requests = await right.capture('eth0', { filter: 'icmp[icmptype] = icmp-echo' });
  const limited = await right.capture('eth0', { filter: 'icmp', packetCountMax: 3 });
  const argv = ['ping', '-c', '5', '-i', '0.01', '-p', 'c0ffee', '10.0.0.2'] as const;
  await lab.host('left').run(argv, { timeoutMs: TIMEOUT_MS });
  const frames = await requests.waitForFrames(5, TIMEOUT_MS);
  assert.equal(frames.length, 5);
  assert.ok(Buffer.from(frames[0]?.bytes ?? []).includes('c0ffeec0ffee', 0, 'hex'));
  const packets = await requests.packets(['icmp.seq', 'ip.src', 'tcp.port']);
  assert.deepEqual(packets[4], { 'icmp.seq': '5', 'ip.src': '10.0.0.1', 'tcp.port': '' });
  assert.equal((await limited.waitForFrames(3, TIMEOUT_MS)).length, 3);
  assert.ok((await limited.stop()).length > 0);
  assert.equal(limited.frames().length, 3);
});

test('a capture with a filter that tcpdump refuses fails with its words', async () => {
  await using lab = await Lab.start(pair());
  const refused = lab.host('right').capture('eth0', { filter: 'port nonsense' });
  await assert.rejects(refused, /unknown port 'nonsense'/);
});

test('processes of the description run in their host and are ready when the lab is', async () => {
  const source = `
    const { createServer } = require('node:net');
    createServer((socket) => socket.end(process.env.WORD))
      .listen(7, '10.0.0.2', () => console.log('listening'));`;
  const topology = pair();
  await using lab = await Lab.start({
    ...topology,
    hosts: {
      ...topology.hosts,
      right: {
        ...topology.hosts['right'],
        processes: [
          { argv: [process.execPath, '-e', source], env: { WORD: 'hello' }, ready: /listening/ },
        ],
      },
    },
  });
  const client = "require('node:net').connect(7, '10.0.0.2').pipe(process.stdout)";
  const asked = await lab
    .host('left')
    .run([process.execPath, '-e', client], { timeoutMs: TIMEOUT_MS });
  assert.equal(asked.stdout, 'hello');
  const [server] = lab.host('right').processes;
  await lab.stop();
  assert.equal((await server?.exited)?.signal, 'SIGTERM');
});

test('a lab that cannot come up says which command failed and leaves nothing', async () => {
  const broken: Topology = {
    hosts: {
      left: { addresses: { eth0: ['10.0.0.1/24'] }, routes: [{ to: 'default', via: '10.9.9.9' }] },
      right: {},
    },
    links: { wire: { ends: ['left:eth0', 'right:eth0'], impairment: {} } },
  };
  const seen = new Set<string>();
  const onCommand = (argv: Argv) => seen.add(argv[0]);
  const name = `broken${randomBytes(3).toString('hex')}`;
  const failed = Lab.start(broken, { name, onCommand });
  await assert.rejects(failed, /at 'ip route add default via 10.9.9.9'/);
  assert.ok(seen.has('ip'));
  const left = [...readdirSync('/run/netns'), ...readdirSync('/run/gatehouse-lab')];
  assert.deepEqual(
    left.filter((file) => file.includes(name)),
    [],
  );
  const noSuchKey: Topology = { hosts: { left: { sysctls: { 'net.ipv4.none': '1' } } } };
  await assert.rejects(Lab.start(noSuchKey), /cannot write '1' to .*ipv4.none in left: ENOENT/);
  const failing: Topology = {
    hosts: { left: { processes: [{ argv: ['false'], ready: /ready/ }] } },
  };
  await assert.rejects(Lab.start(failing), /false ended without printing/);
});

test('the home comes up with a bridge for two machines and a way to the internet', async () => {
  await using lab = await Lab.start(homeTopology);
  const gateway = lab.host('gateway');
  const far = await gateway.run(ping('203.0.113.80'), { timeoutMs: TIMEOUT_MS });
  assert.equal(far.success, true, far.stdout);
  const laptop = lab.host('laptop');
  const address = ['ip', 'address', 'add', '10.77.0.5/24', 'dev', 'eth0'] as const;
  assert.equal((await laptop.run(address, { timeoutMs: TIMEOUT_MS })).success, true);
  const near = await laptop.run(ping('10.77.0.1'), { timeoutMs: TIMEOUT_MS });
  assert.equal(near.success, true, near.stdout);
});

test('a function runs inside a host, and the thread comes back', async () => {
  await using lab = await Lab.start(pair());
  const here = () => readlinkSync('/proc/thread-self/ns/net');
  const before = here();
  const left = lab.host('left').enter(here);
  assert.notEqual(left, before);
  assert.notEqual(lab.host('right').enter(here), left);
  assert.equal(here(), before);
});

test('asking for what the lab does not have names it', async () => {
  await using lab = await Lab.start(pair());
  assert.throws(() => lab.host('middle'), /the lab has no host 'middle'/);
  assert.throws(() => lab.link('wire'), /the lab has no link 'wire' with an impairment/);
});
