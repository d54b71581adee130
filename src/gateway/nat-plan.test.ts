import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatClass, NatFiltering } from '../abi/layouts.generated.ts';
import { exampleConfig } from '../config/example-config.ts';
import { parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { requireInterfaceAddress } from '../net/prefix.ts';
import {
  chooseWanAddress,
  externalCount,
  externalPlaces,
  natSizes,
  placesIn,
  planNat,
  tickAt,
  ticksOfMilliseconds,
} from './nat-plan.ts';

function configOf(text: string): Config {
  const { config, problems } = parseConfig(text, { fileName: 'gatehouse.yaml' });
  assert.ok(config, JSON.stringify(problems));
  return config;
}

const ip = requireIpv4Address;
const on = requireInterfaceAddress;
const dhcp = configOf(`version: 1
wan: { interface: wan0, address: dhcp }
networks:
  lan: { interfaces: [a, b], address: 192.168.1.1/24 }
  guests: { interfaces: [c], address: 10.78.0.1/16, nat: { mode: route } }
portForwards: [{ protocol: udp, port: 6000-6009, to: 192.168.1.9:7000 }]
nat: { externalAddresses: [203.0.113.7] }
`);

test('the example of the reference has this plan', () => {
  const { ticks, ...plan } = planNat(configOf(exampleConfig), {});
  const shared = { filtering: NatFiltering.endpointIndependent };
  assert.deepEqual(plan, {
    wanInterface: 'wan0',
    isWanPublic: true,
    hasWanFastPath: true,
    insideInterfaces: ['lan0', 'lan1'],
    externals: [
      { address: ip('198.51.100.1'), isMain: true, ...shared },
      { address: ip('198.51.100.2'), isMain: false, ...shared },
      {
        address: ip('198.51.100.3'),
        isMain: false,
        oneToOne: ip('10.77.0.22'),
        filtering: NatFiltering.addressAndPortDependent,
      },
    ],
    networks: [
      { name: 'lan', interface: 'lan0', prefix: ip('10.77.0.0'), gateway: ip('10.77.0.1') },
      { name: 'guests', interface: 'lan1', prefix: ip('10.78.0.0'), gateway: ip('10.78.0.1') },
    ].map((network) => {
      const mask = ip('255.255.255.0');
      return { ...network, mask, hasFastPath: true, translates: true, ...shared };
    }),
    overlapping: [],
    forwards: [
      {
        class: NatClass.tcp,
        ports: { first: 8080, last: 8080 },
        internalAddress: ip('10.77.0.20'),
        internalPortFirst: 80,
      },
      {
        class: NatClass.udp,
        ports: { first: 6000, last: 6009 },
        internalAddress: ip('10.77.0.21'),
        internalPortFirst: 6000,
      },
    ],
    pool: { first: 1_024, last: 61_439 },
    limits: {
      sessions: 1_000_000,
      sessionsPerHost: 65_536,
      mappingsPerHost: 16_384,
      unansweredPerMapping: 1_024,
    },
  });
  assert.deepEqual(ticks, {
    udp: 280,
    udpUnanswered: 28,
    tcpOpening: 224,
    tcpEstablished: 6930,
    tcpClosing: 224,
    icmp: 56,
    other: 559,
    unconfirmed: 5,
    fragment: 28,
  });
});

test('with DHCP the address is the one that was found, and none before', () => {
  const found = planNat(dhcp, { wanAddress: on('203.0.113.5/24') });
  const addressesOf = ({ externals }: typeof found) => externals.map(({ address }) => address);
  assert.deepEqual(addressesOf(found), [ip('203.0.113.5'), ip('203.0.113.7')]);
  assert.deepEqual(addressesOf(planNat(dhcp, {})), [ip('203.0.113.7')]);
  const same = planNat(dhcp, { wanAddress: on('203.0.113.7/24') });
  assert.deepEqual(
    same.externals.map(({ isMain }) => isMain),
    [true],
  );
});

test('survive-78 RFC 4787 REQ-7: a network that overlaps the WAN is left out, the others stay', () => {
  for (const [wanAddress, overlapping, networks] of [
    ['192.168.1.77/24', ['lan'], ['guests']],
    ['192.168.1.129/25', ['lan'], ['guests']],
    ['192.168.0.9/16', ['lan'], ['guests']],
    ['10.78.3.4/32', ['guests'], ['lan']],
    ['192.168.2.77/24', [], ['lan', 'guests']],
  ] as const) {
    const plan = planNat(dhcp, { wanAddress: on(wanAddress) });
    assert.deepEqual(plan.overlapping, overlapping);
    assert.deepEqual(
      plan.networks.map(({ name }) => name),
      networks,
    );
  }
});

test('bridged networks are translated on their bridge, routed ones keep their addresses', () => {
  const { insideInterfaces, networks } = planNat(dhcp, {});
  assert.deepEqual(insideInterfaces, ['br-lan', 'c']);
  assert.deepEqual(
    networks.map(({ translates }) => translates),
    [true, false],
  );
  assert.deepEqual(
    networks.map(({ mask }) => mask),
    [ip('255.255.255.0'), ip('255.255.0.0')],
  );
});

test('without a WAN there is nothing to translate to', () => {
  const text = 'version: 1\nnetworks: { lan: { interfaces: [a], address: 10.0.0.1/8 } }\n';
  const { wanInterface, externals } = planNat(configOf(text), { wanAddress: on('1.2.3.4/24') });
  assert.deepEqual([wanInterface, externals], [undefined, []]);
});

test('nothing ends before its time', () => {
  assert.equal(ticksOfMilliseconds(0), 0);
  assert.equal(ticksOfMilliseconds(1), 1);
  for (const seconds of [30, 60, 240, 300, 7_440, 604_800]) {
    assert.ok((ticksOfMilliseconds(seconds * 1_000) * 2 ** 30) / 1e9 >= seconds);
  }
  assert.equal(tickAt(0n), 0);
  assert.equal(tickAt(2n ** 30n - 1n), 0);
  assert.equal(tickAt(5n * 2n ** 30n), 5);
});

test('tables have room for the sessions, and for an address that comes before one goes', () => {
  const sizes = natSizes(1_000_001, 2);
  assert.deepEqual(sizes, { sessionBuckets: 125_001, mappings: 393_216, mappingBuckets: 131_072 });
  assert.equal(placesIn(sizes), 2);
  assert.deepEqual([1, 2, 3, 4, 7, 8, 15, 16].map(externalPlaces), [2, 4, 4, 8, 8, 16, 16, 16]);
  assert.equal(externalCount(configOf(exampleConfig)), 3);
});

test('the address of the WAN is kept while it is there, and when the cable is pulled', () => {
  const one = on('203.0.113.5/24');
  const other = on('203.0.113.6/24');
  assert.equal(chooseWanAddress([], undefined), undefined);
  assert.equal(chooseWanAddress([one, other], undefined), one);
  assert.deepEqual(chooseWanAddress([one, other], other), other);
  assert.equal(chooseWanAddress([], one), one);
  assert.equal(chooseWanAddress([other], one), other);
  const linkLocal = on('169.254.7.7/16');
  assert.equal(chooseWanAddress([linkLocal, one], undefined), one);
  assert.equal(chooseWanAddress([linkLocal], undefined), undefined);
  assert.equal(chooseWanAddress([linkLocal], one), one);
});
