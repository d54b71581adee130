import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { anyText } from '../testing/any-text.ts';
import { homeModel, modelWithRules, ruleNames } from '../testing/firewall-models.ts';
import { type FirewallModel, type FirewallRule, findModelFaults } from './firewall-model.ts';

const home = homeModel('conntrack');

function faultsOf(change: Partial<FirewallModel>): string[] {
  return findModelFaults({ ...home, ...change }).map(({ path, message }) => `${path}: ${message}`);
}

function faultsOfRule(rule: Partial<FirewallRule>): string[] {
  return faultsOf({ rules: [{ name: 'r', action: 'drop', ...rule }] });
}

test('a whole home has no faults, with either way of following forwarded traffic', () => {
  assert.deepEqual(findModelFaults(home), []);
  assert.deepEqual(findModelFaults(homeModel('sessions')), []);
  assert.deepEqual(findModelFaults(modelWithRules(ruleNames(10_000))), []);
});

test('every fault names its place and the rejected value', () => {
  assert.deepEqual(faultsOfRule({ name: 'a b' }), [
    'rules[0].name: "a b" is no name: a letter or _, then at most 31 letters, digits or _',
  ]);
  assert.deepEqual(faultsOfRule({ from: 'moon', to: 'gateways' }), [
    'rules[0].from: "moon" is no network',
    'rules[0].to: "gateways" is no network',
  ]);
  assert.deepEqual(faultsOfRule({ source: ['example.net', '10.0.0.0/33', '::1%eth0'] }), [
    'rules[0].source[0]: "example.net" is no address or prefix',
    'rules[0].source[1]: "10.0.0.0/33" is no address or prefix',
    'rules[0].source[2]: "::1%eth0" is no address or prefix',
  ]);
  assert.deepEqual(faultsOfRule({ ports: [{ first: 80, last: 80 }] }), [
    'rules[0].ports: stands without a protocol',
  ]);
  assert.deepEqual(faultsOfRule({ protocols: ['esp'], ports: [{ first: 9, last: 8 }] }), [
    'rules[0].protocols[0]: esp has no ports',
    'rules[0].ports[0]: 9-8 is no range of ports',
  ]);
  assert.deepEqual(faultsOf({ networks: [...home.networks, ...home.networks.slice(0, 1)] }), [
    'networks[3].name: "lan" is there already',
    'networks[3].interfaces[0]: "br-lan" belongs to the network "lan"',
  ]);
});

test('a rule that no packet can match is a fault, not a rule', () => {
  const noFamily = 'matches no packet: source, destination and protocols share no address family';
  const impossible: readonly Partial<FirewallRule>[] = [
    { source: ['10.0.0.1'], destination: ['2001:db8::1'] },
    { source: ['10.0.0.1'], protocols: ['icmpv6'] },
    { destination: ['::/0'], protocols: ['icmp'] },
  ];
  for (const rule of impossible) assert.deepEqual(faultsOfRule(rule), [`rules[0]: ${noFamily}`]);
  const [empty = ''] = faultsOfRule({ source: [] });
  assert.match(empty, /^rules\[0\]\.source: is empty/);
});

test('interfaces with the marks of nft, and names with a meaning, are refused', () => {
  for (const name of ['eth*', '', 'sixteen-letters-', 'a"b', 'a b', '-a']) {
    const networks = [{ name: 'x', interfaces: [name], addresses: [], inside: true }];
    assert.match(
      faultsOf({ networks, rules: [], services: [] })[0] ?? '',
      /no name of an interface/,
    );
  }
  for (const name of ['wan', 'any', 'gateway']) {
    const networks = [{ name, interfaces: ['eth9'], addresses: [], inside: true }];
    assert.match(faultsOf({ networks, rules: [], services: [] })[0] ?? '', /meaning of its own/);
  }
});

test('more of anything than its limit is a fault', () => {
  const many = modelWithRules(ruleNames(10_001));
  assert.deepEqual(findModelFaults(many), [
    { path: 'rules', message: 'has 10001 entries; at most 10000 are possible' },
  ]);
  const source = Array.from({ length: 257 }, (_, index) => `10.0.${index % 256}.1`);
  assert.match(faultsOfRule({ source })[0] ?? '', /at most 256 are possible/);
});

test('tables that rules name are there, and are few enough to be looked up one by one', () => {
  const tables = Array.from({ length: 9 }, (_, index) => ({
    name: `t${index}`,
    addresses: ['192.0.2.1', '2001:db8::/32'],
  }));
  const all = tables.map(({ name }) => `@${name}`);
  const faultsWith = (rules: readonly FirewallRule[]) =>
    findModelFaults({ ...modelWithRules([]), tables, rules });
  const rule = { name: 'r', action: 'drop' } as const;
  assert.deepEqual(faultsWith([{ ...rule, source: all.slice(1) }]), []);
  assert.deepEqual(faultsWith([{ ...rule, destination: ['10.0.0.0/8', '@none'] }]), [
    { path: 'rules[0].destination[1]', message: '"@none" is no table' },
  ]);
  assert.deepEqual(faultsWith([{ ...rule, source: all }]), [
    { path: 'rules[0].source', message: 'names 9 tables; at most 8 are possible' },
  ]);
  const many = ruleNames(200).map((name) => ({
    ...rule,
    name,
    source: all.slice(1),
    destination: all.slice(1),
  }));
  assert.deepEqual(faultsWith(many), [
    {
      path: 'rules',
      message: 'are 12800, one for each pair of tables; at most 10000 are possible',
    },
  ]);
  const addresses = Array.from({ length: 10_001 }, () => '192.0.2.1/24');
  const [limit, first] = findModelFaults({
    ...modelWithRules([]),
    tables: [{ name: 'large', addresses }],
  });
  assert.equal(limit?.message, 'has 10001 entries; at most 10000 are possible');
  assert.equal(first?.message, '"192.0.2.1/24" is no address or prefix');
});

test('a table has addresses of both families, so a rule with it matches packets of either', () => {
  const tables = [{ name: 'bad', addresses: [] }];
  const rule = { name: 'r', action: 'drop', source: ['@bad'] } as const;
  for (const protocols of [['icmp'], ['icmpv6'], ['tcp']] as const) {
    const model = { ...modelWithRules([]), tables, rules: [{ ...rule, protocols }] };
    assert.deepEqual(findModelFaults(model), []);
  }
});

test('whatever a comment holds, it is a fault or one line that nft can print in quotes', () => {
  fc.assert(
    fc.property(anyText({ maxLength: 80 }), (comment) => {
      const isFault = faultsOfRule({ comment }).length > 0;
      const isLine = /^[^"\\\p{Cc}\u2028\u2029]+$/u.test(comment);
      assert.ok(isFault || (isLine && new TextEncoder().encode(comment).length <= 64));
    }),
  );
});
