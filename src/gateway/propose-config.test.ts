import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../config/parse-config.ts';
import { parsePrefix, prefixesOverlap, requireInterfaceAddress } from '../net/prefix.ts';
import { anyText } from '../testing/any-text.ts';
import type {
  AddressFacts,
  InterfaceFacts,
  InterfaceKind,
  NetworkFacts,
  RouteFacts,
} from './network-facts.ts';
import { planConfig } from './propose-config.ts';

function ethernet(name: string, ...addresses: readonly AddressFacts[]): InterfaceFacts {
  return { name, kind: { kind: 'ethernet' }, state: 'up', addresses };
}

function given(address: string): AddressFacts {
  return { address, scope: 'global', isDynamic: true };
}

function fixed(address: string): AddressFacts {
  return { address, scope: 'global', isDynamic: false };
}

function linkLocal(address: string): AddressFacts {
  return { address, scope: 'link', isDynamic: false };
}

function route(destination: string, by: string, change: Partial<RouteFacts> = {}): RouteFacts {
  const facts = { metric: 0, protocol: 'static', isInMainTable: true, family: 4 } as const;
  return { destination, interface: by, ...facts, ...change };
}

const home: NetworkFacts = {
  hostname: 'gate',
  interfaces: [
    { name: 'lo', kind: { kind: 'loopback' }, state: 'unknown', addresses: [fixed('127.0.0.1/8')] },
    ethernet('eth0', given('198.51.100.7/24'), linkLocal('fe80::1/64')),
    ethernet('eth1', linkLocal('fe80::2/64')),
  ],
  routes: [
    route('default', 'eth0', { gateway: '198.51.100.254', metric: 100, protocol: 'dhcp' }),
    route('198.51.100.0/24', 'eth0'),
  ],
  resolvers: ['198.51.100.53'],
};

function textOf(facts: NetworkFacts): string {
  const { text, reason } = planConfig(facts);
  return text ?? assert.fail(reason);
}

function configOf(facts: NetworkFacts) {
  const { config, problems } = parseConfig(textOf(facts), { fileName: 'proposal' });
  return config ?? assert.fail(JSON.stringify(problems));
}

function reasonOf(facts: NetworkFacts): string {
  return planConfig(facts).reason ?? assert.fail('it made a proposal');
}

test('a machine with two cards gets a config that explains itself', () => {
  assert.equal(
    textOf(home),
    `# A config for gate, proposed by looking at its network. Change what is wrong.
version: 1

# The default route to 198.51.100.254 leads by eth0, so that is the way to the internet.
# Its address, today 198.51.100.7/24, was given for a time, so DHCP asks for it.
wan:
  interface: eth0
  address: dhcp

networks:
  # eth1 has no address and no other task, so it is the network inside.
  lan:
    interfaces: [eth1]
    # 10.77.0.0/24 is the first network of the private ones; clients get a hundred of its
    # addresses, and the rest is for fixed ones.
    address: 10.77.0.1/24
    dhcp: { range: 10.77.0.100-10.77.0.199, lease: 12h }

# The resolvers are those that this machine itself asks (/etc/resolv.conf).
# Take them out to use whatever the DHCP of the provider names.
dns:
  upstreams: [198.51.100.53]
  domain: lan

# The API and the web page: for the network inside and for this machine itself.
api:
  listen: [10.77.0.1:8443, 127.0.0.1:8443]
`,
  );
});

test('the sentences of the comments are told to whoever does not look into the file', () => {
  const { text, choices } = planConfig(home) as { text: string; choices: readonly string[] };
  const words = text.replaceAll(/\n *# /g, ' ').replaceAll(/\s+/g, ' ');
  for (const choice of choices) assert.ok(words.includes(choice), choice);
  assert.ok(choices.length >= 5);
});

test('a fixed address stays, with its router', () => {
  const interfaces = [ethernet('eth0', fixed('203.0.113.9/29')), ethernet('eth1')];
  const routes = [route('default', 'eth0', { gateway: '203.0.113.14' })];
  const { wan } = configOf({ ...home, interfaces, routes });
  assert.deepEqual(wan, {
    interface: 'eth0',
    address: '203.0.113.9/29',
    gateway: '203.0.113.14',
  });
});

test('of several addresses the one counts that the route uses, else the one with the router', () => {
  const interfaces = [
    ethernet('eth0', fixed('203.0.113.9/29'), fixed('192.0.2.9/24'), fixed('192.0.2.10/24')),
    ethernet('eth1'),
  ];
  const gateway = { gateway: '192.0.2.1' };
  const byRouter = configOf({ ...home, interfaces, routes: [route('default', 'eth0', gateway)] });
  assert.equal(byRouter.wan?.address, '192.0.2.10/24');
  const preferring = { ...gateway, preferredSource: '192.0.2.9' };
  const byRoute = configOf({ ...home, interfaces, routes: [route('default', 'eth0', preferring)] });
  assert.equal(byRoute.wan?.address, '192.0.2.9/24');
});

test('the default route with the lowest metric that a config can hold leads to the internet', () => {
  const tunnel: InterfaceKind = { kind: 'virtual', word: 'wireguard' };
  const facts = {
    ...home,
    interfaces: [
      ...home.interfaces,
      { name: 'wg0', kind: tunnel, state: 'unknown', addresses: [fixed('10.0.0.2/32')] },
      ethernet('eth2', given('192.0.2.5/24')),
    ],
    routes: [
      ...home.routes,
      route('default', 'wg0', { metric: 50 }),
      route('default', 'eth2', { metric: 200, gateway: '192.0.2.1' }),
      route('default', 'eth1', { metric: 1, isInMainTable: false }),
    ],
  };
  const text = textOf(facts);
  assert.equal(configOf(facts).wan?.interface, 'eth0');
  assert.match(text, /# Not wg0, by which a default route leads: it is of the kind wireguard/);
  assert.match(text, /# Not eth2: its default route has metric 200, which comes later\./);
  assert.match(text, /# Not eth2: it has the address 192\.0\.2\.5\/24 already\./);
});

test('where only IPv6 leads to the internet, DHCP asks for an IPv4 address', () => {
  const facts: NetworkFacts = {
    ...home,
    interfaces: [ethernet('eth0', given('2001:db8::7/64')), ethernet('eth1')],
    routes: [route('default', 'eth0', { family: 6, gateway: 'fe80::1' })],
  };
  assert.deepEqual(configOf(facts).wan, { interface: 'eth0', address: 'dhcp' });
});

test('what has another task is not taken for the network inside, and a comment says why', () => {
  const virtual = (word: string): InterfaceKind => ({ kind: 'virtual', word });
  const veth: InterfaceKind = { kind: 'veth' };
  const of = (name: string, kind: InterfaceKind, change: Partial<InterfaceFacts> = {}) => ({
    ...ethernet(name),
    kind,
    ...change,
  });
  const cases: readonly (readonly [InterfaceFacts, RegExp])[] = [
    [ethernet('eth2', fixed('192.0.2.1/24')), /Not eth2: it has the address 192\.0\.2\.1\/24/],
    [ethernet('eth2', given('2001:db8::2/64')), /Not eth2: it has the address 2001:db8::2\/64/],
    [{ ...ethernet('eth2'), master: 'br0' }, /Not eth2: it is a part of br0/],
    [of('docker0', virtual('bridge')), /Not docker0: it is made by software \(bridge\)/],
    [of('tun0', virtual('tun')), /Not tun0: it is made by software \(tun\)/],
    [of('wlan0', { kind: 'wireless' }), /Not wlan0: it is wireless/],
    [of('veth1a2b3c4', veth), /Not veth1a2b3c4: it looks like the end of a container/],
    [ethernet('a b'), /Not a\?b: a config cannot hold such a name/],
  ];
  for (const [other, why] of cases) {
    const facts = { ...home, interfaces: [...home.interfaces, other] };
    assert.deepEqual(configOf(facts).networks['lan']?.interfaces, ['eth1'], other.name);
    assert.match(textOf(facts), why);
  }
  const vlan = of('eth2.7', virtual('vlan'), { carrier: 'eth2' });
  const carrier = { ...home, interfaces: [...home.interfaces, ethernet('eth2'), vlan] };
  assert.match(textOf(carrier), /Not eth2: it carries eth2\.7/);
});

test('several free interfaces are bridged, those without a link included', () => {
  const idle = { ...ethernet('eth3'), state: 'down' };
  const pair: InterfaceFacts = { ...ethernet('lan0'), kind: { kind: 'veth' } };
  const facts = { ...home, interfaces: [...home.interfaces, pair, idle, ethernet('eth2')] };
  assert.deepEqual(configOf(facts).networks['lan']?.interfaces, ['eth1', 'eth2', 'eth3', 'lan0']);
  assert.match(textOf(facts), /they are bridged to one network\.\n {2}# Without a link.*: eth3\./);
});

test('a network has at most sixteen interfaces, and the bridge is called otherwise than the wan', () => {
  const many = Array.from({ length: 20 }, (_, number) => ethernet(`lan${number}`));
  const facts = {
    ...home,
    interfaces: [ethernet('br-lan', given('198.51.100.7/24')), ...many],
    routes: [route('default', 'br-lan', { gateway: '198.51.100.254' })],
  };
  const { networks } = configOf(facts);
  assert.equal(networks['inside']?.interfaces.length, 16);
  assert.match(textOf(facts), /Not lan9: a network has at most 16\./);
});

test('the private network overlaps nothing, and what was passed over is named with its owner', () => {
  const facts = {
    ...home,
    interfaces: [
      ...home.interfaces,
      ethernet('eth2', fixed('10.77.0.9/16')),
      ethernet('eth3', fixed('10.0.0.1/24')),
    ],
    routes: [
      ...home.routes,
      route('10.1.0.0/16', 'eth2', { isInMainTable: false, gateway: '10.2.0.1' }),
      // How a VPN takes the whole internet without touching the default route.
      route('0.0.0.0/1', 'tun0'),
    ],
    resolvers: ['10.3.0.53'],
  };
  assert.equal(configOf(facts).networks['lan']?.address, '10.4.0.1/24');
  const text = textOf(facts);
  for (const why of [
    'Not 10.77.0.0/24: it overlaps the address 10.77.0.9/16 of eth2.',
    'Not 10.0.0.0/24: it overlaps the address 10.0.0.1/24 of eth3.',
    'Not 10.1.0.0/24: it overlaps the route 10.1.0.0/16 by eth2.',
    'Not 10.2.0.0/24: it overlaps the router 10.2.0.1.',
    'Not 10.3.0.0/24: it overlaps the resolver 10.3.0.53.',
  ]) {
    assert.ok(text.includes(`    # ${why}\n`), `${why}\n${text}`);
  }
});

test('where the tens are taken the seventeens follow, and then 192.168', () => {
  const taken = [route('10.0.0.0/8', 'eth0'), route('172.16.0.0/12', 'eth0')];
  const second = { ...home, routes: [...home.routes, ...taken.slice(0, 1)] };
  assert.equal(configOf(second).networks['lan']?.address, '172.16.0.1/24');
  assert.match(textOf(second), /Not 10\.77\.0\.0\/24 and 255 more of the list: it overlaps the/);
  const third = { ...home, routes: [...home.routes, ...taken] };
  assert.equal(configOf(third).networks['lan']?.address, '192.168.0.1/24');
  const all = { ...third, routes: [...third.routes, route('192.168.0.0/16', 'eth0')] };
  assert.match(reasonOf(all), /^No private network is free\..*Write the section networks by hand/);
});

test('loopback resolvers are not taken, and the others once each', () => {
  const resolvers = ['127.0.0.53', '192.0.2.53', '::1', '192.0.2.53', '2001:db8::53', 'fe80::1%e'];
  const facts = { ...home, resolvers };
  assert.deepEqual(configOf(facts).dns?.upstreams, ['192.0.2.53', '2001:db8::53']);
  assert.match(textOf(facts), /# Not taken from there: 127\.0\.0\.53, ::1, fe80::1%e, which only/);
});

test('without resolvers DHCP names them, and beside a fixed address the file says what is missing', () => {
  const none = { ...home, resolvers: ['127.0.0.53'] };
  assert.deepEqual(configOf(none).dns?.upstreams, []);
  const interfaces = [ethernet('eth0', fixed('203.0.113.9/29')), ethernet('eth1')];
  const routes = [route('default', 'eth0', { gateway: '203.0.113.14' })];
  const alone = { ...none, interfaces, routes };
  assert.equal(configOf(alone).dns, undefined);
  assert.match(textOf(alone), /\n# dns: \{ upstreams: \[ADDRESS\], domain: lan \}\n/);
});

test('without a default route, a second card or a router there is a reason and a way out', () => {
  assert.match(reasonOf({ ...home, routes: [] }), /no default route\. Connect.*dhclient INTERFACE/);
  const one = { ...home, interfaces: home.interfaces.slice(0, 2) };
  assert.match(reasonOf(one), /besides eth0\. Connect a second network card; or/);
  const interfaces = [ethernet('eth0', fixed('203.0.113.9/29')), ethernet('eth1')];
  const unnumbered = { ...home, interfaces, routes: [route('default', 'eth0')] };
  assert.match(reasonOf(unnumbered), /eth0.*the route names no router\. Write the section wan/);
  const astray = [route('default', 'eth0', { gateway: '192.0.2.1' })];
  assert.match(
    reasonOf({ ...home, interfaces, routes: astray }),
    /router 192\.0\.2\.1 does not lie/,
  );
});

const octet = fc.integer({ min: 0, max: 255 });
const ipv4 = fc.tuple(octet, octet, octet, octet).map((octets) => octets.join('.'));
const privateIpv4 = fc.oneof(
  fc.tuple(octet, octet, octet).map(([b, c, d]) => `10.${b}.${c}.${d}`),
  fc.tuple(octet, octet).map(([c, d]) => `192.168.${c}.${d}`),
);
const someIpv4 = fc.oneof(ipv4, privateIpv4);
const ipv6 = fc.constantFrom('2001:db8::1', 'fe80::1', '::1', 'fd00::2');
const someAddress = fc.oneof(
  fc.tuple(someIpv4, fc.integer({ min: 0, max: 32 })),
  fc.tuple(ipv6, fc.constantFrom(64, 128)),
);
const strangeText = fc.oneof(
  anyText({ maxLength: 20 }),
  fc.constantFrom('null', '1', '1e3', 'true', '~', '-', 'a: b', '#x', 'br-lan', 'lo', 'x\ny: 1'),
);
const interfaceName = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('eth0', 'eth1', 'eth2', 'lan0', 'wlan0', 'veth12ab34c') },
  { weight: 1, arbitrary: strangeText },
);
const interfaceKind: fc.Arbitrary<InterfaceKind> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom({ kind: 'ethernet' } as const) },
  fc.constantFrom('veth', 'bond', 'wireless', 'loopback').map((kind) => ({ kind }) as const),
  fc
    .oneof(fc.constantFrom('vlan', 'bridge'), strangeText)
    .map((word) => ({ kind: 'virtual', word }) as const),
);
const addressFacts = fc.record({
  address: someAddress.map(([address, length]) => `${address}/${length}`),
  scope: fc.constantFrom('global', 'link', 'host'),
  isDynamic: fc.boolean(),
});
const optionalKeys = ['macAddress', 'master', 'carrier'] as const;
const interfaceFacts: fc.Arbitrary<InterfaceFacts> = fc.record(
  {
    name: interfaceName,
    kind: interfaceKind,
    state: fc.constantFrom('up', 'down', 'unknown'),
    macAddress: fc.constant('02:00:00:00:00:01'),
    master: interfaceName,
    carrier: interfaceName,
    addresses: fc.array(addressFacts, { maxLength: 3 }),
  },
  { requiredKeys: ['name', 'kind', 'state', 'addresses'] },
);
const bareInterface = interfaceFacts.map((facts) => {
  const entries = Object.entries(facts).filter(([key]) => !optionalKeys.some((one) => one === key));
  return Object.fromEntries(entries) as unknown as InterfaceFacts;
});
const routeFacts: fc.Arbitrary<RouteFacts> = fc.record(
  {
    family: fc.constantFrom(4, 6),
    destination: fc.oneof(
      fc.constant('default'),
      someAddress.map(([address, length]) => `${address}/${length}`),
    ),
    interface: interfaceName,
    gateway: fc.oneof(someIpv4, ipv6, strangeText),
    metric: fc.nat({ max: 3 }),
    protocol: fc.constantFrom('dhcp', 'static'),
    isInMainTable: fc.boolean(),
    preferredSource: someIpv4,
  },
  {
    requiredKeys: ['family', 'destination', 'interface', 'metric', 'protocol', 'isInMainTable'],
  },
);
const networkFacts: fc.Arbitrary<NetworkFacts> = fc.record({
  hostname: strangeText,
  interfaces: fc.uniqueArray(fc.oneof(bareInterface, interfaceFacts), {
    maxLength: 8,
    selector: ({ name }) => name,
  }),
  routes: fc.array(routeFacts, { maxLength: 10 }),
  resolvers: fc.array(fc.oneof(someIpv4, ipv6, strangeText), { maxLength: 4 }),
});

test('whatever the machine is like, a proposal is a config without problems, or there is a reason', () => {
  let proposalCount = 0;
  fc.assert(
    fc.property(networkFacts, (facts) => {
      const { text, reason } = planConfig(facts);
      if (text === undefined) {
        assert.notEqual(reason, '');
        assert.doesNotMatch(reason, /^No config fits/, reason);
        return;
      }
      proposalCount++;
      const { config, problems } = parseConfig(text, { fileName: 'proposal' });
      assert.deepEqual(problems, undefined);
      const [network] = Object.values(config?.networks ?? {});
      const { prefix } = requireInterfaceAddress(network?.address ?? '');
      for (const { destination } of facts.routes) {
        const other = parsePrefix(destination);
        if (other === undefined || other.length < 8) continue;
        assert.equal(prefixesOverlap(prefix, other), false, destination);
      }
      for (const { address } of facts.interfaces.flatMap(({ addresses }) => addresses)) {
        const { prefix: other } = requireInterfaceAddress(address);
        assert.equal(prefixesOverlap(prefix, other), false, address);
      }
      assert.ok(text.split('\n').every((line) => line.length <= 200));
    }),
    { numRuns: 1500 },
  );
  assert.ok(proposalCount > 50, `${proposalCount} proposals`);
});

test('the order of the facts does not change the proposal', () => {
  const shuffled = networkFacts.chain((facts) => {
    const { interfaces, routes } = facts;
    const all = <T>(items: readonly T[]) =>
      fc.shuffledSubarray([...items], { minLength: items.length });
    return fc
      .tuple(all(interfaces), all(routes))
      .map(([others, ways]) => [facts, { ...facts, interfaces: others, routes: ways }] as const);
  });
  fc.assert(
    fc.property(shuffled, ([facts, other]) => {
      assert.deepEqual(planConfig(other), planConfig(facts));
    }),
    { numRuns: 500 },
  );
});
