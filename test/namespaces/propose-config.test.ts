/** A config proposed for real interfaces. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Lab, type LabHost } from '../../lab/lab.ts';
import type { Topology } from '../../lab/topology.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { proposeConfig } from '../../src/linux/propose-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'gatehouse-proposal-'));
after(() => rmSync(folder, { recursive: true }));
const resolverFile = join(folder, 'resolv.conf');
writeFileSync(resolverFile, '# a comment\nnameserver 198.51.100.53\nnameserver 127.0.0.1\n');

/** Only bounds a hang. */
const TIMEOUT_MS = 20_000;

const topology: Topology = {
  hosts: {
    internet: { addresses: { eth0: ['198.51.100.254/24'] } },
    office: { addresses: { eth0: ['10.77.5.2/16'] } },
    gate: {
      addresses: {
        wan0: ['198.51.100.1/24', '2001:db8::1/64'],
        office0: ['10.77.5.1/16'],
      },
      bridges: { br0: ['port0'] },
      routes: [
        { to: 'default', via: '198.51.100.254' },
        { to: '10.0.0.0/15', via: '10.77.5.2' },
      ],
    },
    one: {},
    two: {},
    three: {},
  },
  links: {
    wan: { ends: ['internet:eth0', 'gate:wan0'] },
    office: { ends: ['office:eth0', 'gate:office0'] },
    one: { ends: ['gate:lan0', 'one:eth0'] },
    two: { ends: ['gate:lan1', 'two:eth0'] },
    three: { ends: ['gate:port0', 'three:eth0'] },
  },
};

async function run(host: LabHost, ...argv: [string, ...string[]]): Promise<void> {
  const result = await host.run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, `${argv.join(' ')}: ${result.stderr}`);
}

test('the interfaces of a machine are found, and each has its place or a reason', async () => {
  await using lab = await Lab.start(topology);
  const gate = lab.host('gate');
  const place = { networkNamespace: gate.namespacePath, resolverFile };
  const proposal = await proposeConfig(place);
  assert.ok(proposal.success, JSON.stringify(proposal));
  const { config, problems } = parseConfig(proposal.text, { fileName: 'proposal' });
  assert.deepEqual(problems, undefined);
  assert.deepEqual(config?.wan, {
    interface: 'wan0',
    address: '198.51.100.1/24',
    gateway: '198.51.100.254',
  });
  assert.deepEqual(config?.networks['lan']?.interfaces, ['lan0', 'lan1']);
  assert.equal(config?.networks['lan']?.address, '10.2.0.1/24');
  assert.deepEqual(config?.dns?.upstreams, ['198.51.100.53']);
  for (const why of [
    /# Not 10\.77\.0\.0\/24: it overlaps the address 10\.77\.5\.1\/16 of office0\./,
    /# Not 10\.0\.0\.0\/24 and 1 more of the list: it overlaps the route 10\.0\.0\.0\/15 by/,
    /# Not br0: it is made by software \(bridge\)\./,
    /# Not office0: it has the address 10\.77\.5\.1\/16 already\./,
    /# Not port0: it is a part of br0\./,
  ]) {
    assert.match(proposal.text, why);
  }
});

test('an address with a lifetime is asked for by DHCP, and a machine without a way out is told so', async () => {
  await using lab = await Lab.start(topology);
  const gate = lab.host('gate');
  const place = { networkNamespace: gate.namespacePath, resolverFile };
  const lifetime = ['valid_lft', '3600', 'preferred_lft', '3600'];
  await run(gate, 'ip', 'address', 'change', '198.51.100.1/24', 'dev', 'wan0', ...lifetime);
  const proposal = await proposeConfig(place);
  assert.ok(proposal.success, JSON.stringify(proposal));
  const { config } = parseConfig(proposal.text, { fileName: 'proposal' });
  assert.deepEqual(config?.wan, { interface: 'wan0', address: 'dhcp' });
  await run(gate, 'ip', 'route', 'delete', 'default');
  const none = await proposeConfig(place);
  assert.ok(!none.success);
  assert.match(none.reason, /there is no default route/);
});

test('a route over two links is read, and one without any is not', async () => {
  await using lab = await Lab.start(topology);
  const gate = lab.host('gate');
  await run(gate, 'ip', 'route', 'delete', 'default');
  const hops = ['nexthop', 'via', '198.51.100.254', 'nexthop', 'via', '10.77.5.2'];
  await run(gate, 'ip', 'route', 'add', 'default', ...hops);
  await run(gate, 'ip', 'route', 'add', 'blackhole', '10.2.0.0/24');
  const proposal = await proposeConfig({ networkNamespace: gate.namespacePath, resolverFile });
  assert.ok(proposal.success, JSON.stringify(proposal));
  const { config } = parseConfig(proposal.text, { fileName: 'proposal' });
  // Both links are as good; the first by name is taken.
  assert.equal(config?.wan?.interface, 'office0');
});
