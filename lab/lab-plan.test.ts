import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planLab } from './lab-plan.ts';
import { type Topology, TopologyError } from './topology.ts';

const office: Topology = {
  hosts: {
    router: {
      addresses: { br0: ['10.0.0.1/24', '2001:db8::1/64'], wan: ['192.0.2.1/30'] },
      bridges: { br0: ['lan0'] },
      routes: [{ to: 'default', via: '192.0.2.2' }],
      sysctls: { 'net.ipv4.ip_forward': '1', 'net/ipv4/conf/wan.10/rp_filter': '0' },
    },
    desk: {
      addresses: { eth0: ['10.0.0.2/24'] },
      routes: [
        { to: 'default', via: '10.0.0.1' },
        { to: 'default', via: '2001:db8::1', interface: 'eth0' },
        { to: '198.51.100.0/24', interface: 'eth0' },
      ],
    },
    isp: { addresses: { eth0: ['192.0.2.2/30'] } },
  },
  links: {
    lan: {
      ends: ['router:lan0', 'desk:eth0'],
      macs: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
      mtu: 1400,
      checksumOffload: 'off',
    },
    wan: {
      ends: ['router:wan', 'isp:eth0'],
      macs: ['02:00:00:00:00:03', '02:00:00:00:00:04'],
      impairment: { seed: 7, firstToSecond: { delayMs: 5 } },
    },
  },
};

test('a topology becomes the commands that bring it up', () => {
  const plan = planLab(office, 'lab-00000000');
  assert.deepEqual(
    [...plan.namespaces],
    [
      ['router', 'gh-lab-00000000-router'],
      ['desk', 'gh-lab-00000000-desk'],
      ['isp', 'gh-lab-00000000-isp'],
    ],
  );
  assert.deepEqual(plan.makeNamespaces, [
    'netns add gh-lab-00000000-router',
    'netns add gh-lab-00000000-desk',
    'netns add gh-lab-00000000-isp',
  ]);
  assert.deepEqual(plan.makeLinks, [
    'link add name lan0 index 11 address 02:00:00:00:00:01 mtu 1400 ' +
      'netns gh-lab-00000000-router type veth ' +
      'peer name eth0 index 12 address 02:00:00:00:00:02 mtu 1400 netns gh-lab-00000000-desk',
  ]);
  assert.deepEqual(plan.impairedLinks, [
    {
      name: 'wan',
      ends: [
        { host: 'router', interfaceName: 'wan' },
        { host: 'isp', interfaceName: 'eth0' },
      ],
      impairment: { seed: 7, firstToSecond: { delayMs: 5 } },
    },
  ]);
  assert.deepEqual(
    [...plan.makeBridges],
    [
      [
        'router',
        [
          'link add name br0 address 02:cd:77:79:25:f1 type bridge ' +
            'stp_state 0 forward_delay 0 mcast_snooping 0',
          'link set dev lan0 master br0',
        ],
      ],
    ],
  );
  assert.deepEqual(plan.hostSysctls.get('router'), [
    { path: '/proc/sys/net/ipv4/ip_forward', value: '1' },
    { path: '/proc/sys/net/ipv4/conf/wan.10/rp_filter', value: '0' },
  ]);
  assert.deepEqual(plan.checksumCommands, [
    { host: 'router', argv: ['ethtool', '-K', 'lan0', 'tx', 'off'] },
    { host: 'desk', argv: ['ethtool', '-K', 'eth0', 'tx', 'off'] },
  ]);
  assert.deepEqual(
    [...plan.awaitedInterfaces],
    [
      ['router', ['lan0', 'wan', 'br0']],
      ['desk', ['eth0']],
      ['isp', ['eth0']],
    ],
  );
  assert.deepEqual(
    [...plan.configureHosts],
    [
      [
        'router',
        [
          'link set dev wan txqueuelen 10000 address 02:00:00:00:00:03',
          'link set dev lo up',
          'link set dev lan0 up',
          'link set dev wan up',
          'link set dev br0 up',
          'address add 10.0.0.1/24 dev br0',
          'address add 2001:db8::1/64 dev br0 nodad',
          'address add 192.0.2.1/30 dev wan',
          'route add default via 192.0.2.2',
        ],
      ],
      [
        'desk',
        [
          'link set dev lo up',
          'link set dev eth0 up',
          'address add 10.0.0.2/24 dev eth0',
          'route add default via 10.0.0.1',
          'route add ::/0 via 2001:db8::1 dev eth0',
          'route add 198.51.100.0/24 dev eth0',
        ],
      ],
      [
        'isp',
        [
          'link set dev eth0 txqueuelen 10000 address 02:00:00:00:00:04',
          'link set dev lo up',
          'link set dev eth0 up',
          'address add 192.0.2.2/30 dev eth0',
        ],
      ],
    ],
  );
});

test('made Ethernet addresses depend on the ends alone, and are those of stations', () => {
  const topology: Topology = {
    hosts: { a: {}, b: {} },
    links: { x: { ends: ['a:eth0', 'b:eth0'] } },
  };
  const [line] = planLab(topology, 'lab-00000000').makeLinks;
  const [sameLine] = planLab(topology, 'lab-00000001').makeLinks;
  assert.equal(sameLine, line?.replaceAll('00000000', '00000001'));
  const macs = line?.match(/[0-9a-f]{2}(:[0-9a-f]{2}){5}/g) ?? [];
  assert.equal(new Set(macs).size, 2);
  for (const mac of macs) assert.match(mac, /^02:/);
});

test('planning a wrong topology throws all its faults', () => {
  const wrong: Topology = { hosts: { A: {} }, links: { x: { ends: ['b:1', 'c:1'] } } };
  assert.throws(
    () => planLab(wrong, 'lab-00000000'),
    (error) => error instanceof TopologyError && error.faults.length === 3,
  );
});
