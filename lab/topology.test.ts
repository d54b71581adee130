import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import {
  inBothDirections,
  type LinkDescription,
  type Topology,
  validateTopology,
} from './topology.ts';

/** The faults of two hosts with one link, changed by the caller. */
function faultsOf(change: { link?: Partial<LinkDescription>; hosts?: Topology['hosts'] }) {
  return validateTopology({
    hosts: { a: {}, b: {}, ...change.hosts },
    links: { x: { ends: ['a:eth0', 'b:eth0'], ...change.link } },
  });
}

test('a good topology has no fault', () => {
  assert.deepEqual(faultsOf({}), []);
  assert.deepEqual(faultsOf({ link: { impairment: inBothDirections({ delayMs: 1 }, 3) } }), []);
});

const faulty: readonly (readonly [string, Parameters<typeof faultsOf>[0], readonly string[]])[] = [
  [
    'an end at an unknown host',
    { link: { ends: ['a:eth0', 'c:eth0'] } },
    ["links.x.ends[1]: there is no host 'c'"],
  ],
  [
    'an end without an interface',
    { link: { ends: ['a:eth0', 'b'] } },
    ["links.x.ends[1]: '' is no interface name"],
  ],
  [
    'an interface name that the kernel would refuse',
    { link: { ends: ['a:with space', 'b:sixteen-letters!'] } },
    [
      "links.x.ends[0]: 'with space' is no interface name",
      "links.x.ends[1]: the interface name 'sixteen-letters!' is longer than 15 bytes",
    ],
  ],
  [
    'an interface that is there twice',
    { hosts: { a: { bridges: { eth0: [], lo: [] } } } },
    [
      'hosts.a.bridges.eth0: the interface a:eth0 exists already',
      'hosts.a.bridges.lo: the interface a:lo exists already',
    ],
  ],
  [
    'bad Ethernet addresses',
    { link: { macs: ['01:00:00:00:00:01', '02:00'] } },
    [
      "links.x.macs[0]: '01:00:00:00:00:01' is no Ethernet address of a station",
      "links.x.macs[1]: '02:00' is no Ethernet address of a station",
    ],
  ],
  [
    'one Ethernet address for both ends',
    { link: { macs: ['02:00:00:00:00:01', '02:00:00:00:00:01'] } },
    ['links.x.macs[1]: 02:00:00:00:00:01 is the address of a:eth0 too'],
  ],
  [
    'an impossible MTU',
    { link: { mtu: 67 } },
    ['links.x.mtu: 67 is not between 68 and 65535 bytes'],
  ],
  [
    'unfinished checksums on an impaired link',
    { link: { checksumOffload: 'on', impairment: {} } },
    ['links.x.checksumOffload: an impaired link cannot carry unfinished checksums'],
  ],
  [
    'an impossible impairment',
    { link: { impairment: { seed: 1.5, secondToFirst: { lossPercent: 101 } } } },
    [
      'links.x.impairment.seed: 1.5 is no integer of 32 bits',
      'links.x.impairment.secondToFirst.lossPercent: 101 is not between 0 and 100',
    ],
  ],
  [
    'bad host names',
    { hosts: { 'No Name': {}, '../a': {} } },
    [
      "hosts.No Name: a host's name is 1 to 32 of a-z, 0-9 and -, starting with a letter",
      "hosts.../a: a host's name is 1 to 32 of a-z, 0-9 and -, starting with a letter",
    ],
  ],
  [
    'bad addresses',
    {
      hosts: {
        a: { addresses: { eth0: ['10.0.0.1', '10.0.0.256/24', '2001:db8::1/129', '10.0.0.1/33'] } },
        b: { addresses: { eth1: [], eth0: ['10.0.0.1/24', '10.0.0.1/24', '10.0.0.1/24 dev lo'] } },
      },
    },
    [
      "hosts.a.addresses.eth0: '10.0.0.1' is no address with a prefix length",
      "hosts.a.addresses.eth0: '10.0.0.256/24' is no address with a prefix length",
      "hosts.a.addresses.eth0: '2001:db8::1/129' is no address with a prefix length",
      "hosts.a.addresses.eth0: '10.0.0.1/33' is no address with a prefix length",
      'hosts.b.addresses.eth1: there is no such interface',
      "hosts.b.addresses.eth0: '10.0.0.1/24' stands there twice",
      "hosts.b.addresses.eth0: '10.0.0.1/24 dev lo' is no address with a prefix length",
    ],
  ],
  [
    'bridges with bad ports',
    { hosts: { a: { bridges: { br0: ['eth0', 'eth1'], br1: ['eth0', 'br0'] } } } },
    [
      "hosts.a.bridges.br0: no link ends at 'eth1' here",
      "hosts.a.bridges.br1: 'eth0' is a port of br0 already",
      "hosts.a.bridges.br1: no link ends at 'br0' here",
    ],
  ],
  [
    'bad routes',
    {
      hosts: {
        a: {
          routes: [
            { to: '10.0.0.0', via: '10.0.0.1' },
            { to: 'default' },
            { to: 'default', via: 'gateway' },
            { to: 'default', interface: 'wan' },
          ],
        },
      },
    },
    [
      "hosts.a.routes[0].to: '10.0.0.0' is neither 'default' nor a prefix",
      "hosts.a.routes[1]: a route needs 'via' or 'interface'",
      "hosts.a.routes[2].via: 'gateway' is no address",
      "hosts.a.routes[3].interface: there is no interface 'wan' here",
    ],
  ],
  [
    'settings outside of the network',
    {
      hosts: { a: { sysctls: { 'kernel.panic': '1', 'net/../kernel/panic': '1', 'net.x': '\n' } } },
    },
    [
      "hosts.a.sysctls: 'kernel.panic' is no key below net.",
      "hosts.a.sysctls: 'net/../kernel/panic' is no key below net.",
      'hosts.a.sysctls.net.x: a value is one line',
    ],
  ],
];

for (const [what, change, faults] of faulty) {
  test(`${what}: each fault is named with its place`, () => {
    assert.deepEqual(faultsOf(change), faults);
  });
}

test('the ready-made topologies are good', async () => {
  const folder = new URL('./topologies/', import.meta.url);
  const files = readdirSync(folder).filter((file) => file.endsWith('.ts'));
  assert.notEqual(files.length, 0);
  for (const file of files) {
    const module: Record<string, unknown> = await import(new URL(file, folder).href);
    const topologies = Object.entries(module).filter(([name]) => name.endsWith('Topology'));
    assert.notEqual(topologies.length, 0, file);
    for (const [name, topology] of topologies) {
      assert.deepEqual(validateTopology(topology as Topology), [], name);
    }
  }
});
