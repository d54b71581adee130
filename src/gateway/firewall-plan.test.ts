import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { exampleConfig } from '../config/example-config.ts';
import { RULES_TOTAL_MAX } from '../config/judge-firewall.ts';
import { parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import { type FirewallModel, findModelFaults, RULES_MAX } from '../firewall/firewall-model.ts';
import { formatRuleset } from '../firewall/format-ruleset.ts';
import { arbitraryConfigText } from '../testing/config-texts.ts';
import { type FirewallPlanOptions, firewallModelOf, planConfiguration } from './firewall-plan.ts';

const fileName = 'gatehouse.yaml';

function configOf(text: string): Config {
  const { config, problems } = parseConfig(text, { fileName });
  assert.ok(config, JSON.stringify(problems));
  return config;
}

function modelOf(text: string): FirewallModel {
  return firewallModelOf(configOf(text));
}

/** Martians of the example with another WAN. */
function martiansOf(wan: string): readonly string[] | undefined {
  const pattern = / {2}address: 198.51.100.1\/24 .*\n {2}gateway: .*\n/;
  assert.match(exampleConfig, pattern);
  const model = modelOf(exampleConfig.replace(pattern, `  ${wan}\n`));
  return model.wan?.martians;
}

test('the example of the reference has this model', () => {
  const port = (first: number, last = first) => ({ first, last });
  assert.deepEqual(modelOf(exampleConfig), {
    networks: [
      { name: 'lan', interfaces: ['lan0'], addresses: ['10.77.0.1/24'], inside: true },
      { name: 'guests', interfaces: ['lan1'], addresses: ['10.78.0.1/24'], inside: true },
    ],
    wan: {
      interface: 'wan0',
      dhcpClient: false,
      martians: ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'],
    },
    tables: [{ name: 'nuisances', addresses: ['192.0.2.66', '2001:db8:66::/48'] }],
    rules: [
      {
        name: 'guests_send_no_mail',
        action: 'drop',
        from: 'guests',
        protocols: ['tcp'],
        ports: [port(25)],
      },
      {
        name: 'guests_reach_the_printer',
        action: 'accept',
        from: 'guests',
        to: 'lan',
        destination: ['10.77.0.9'],
        protocols: ['tcp'],
        ports: [port(631), port(9100, 9102)],
      },
      { name: 'guests_stay_out', action: 'reject', from: 'guests', to: 'lan', log: true },
      { name: 'no_nuisances', action: 'drop', destination: ['@nuisances'] },
    ],
    services: [
      { name: 'dhcp', protocols: ['udp'], ports: [67, 547], networks: ['lan', 'guests'] },
      { name: 'dns', protocols: ['tcp', 'udp'], ports: [53] },
      { name: 'ssh', protocols: ['tcp'], ports: [22] },
      { name: 'api', protocols: ['tcp'], ports: [8443], networks: ['lan'] },
    ],
    forwardedTraffic: 'conntrack',
  });
});

test('a config of nothing but its version offers nothing', () => {
  assert.deepEqual(modelOf('version: 1\n'), {
    networks: [],
    tables: [],
    rules: [],
    services: [],
    forwardedTraffic: 'conntrack',
  });
});

test('several interfaces are one bridge', () => {
  const text = exampleConfig.replace('[lan0]', '[lan0, lan2]');
  assert.deepEqual(modelOf(text).networks[0]?.interfaces, ['br-lan']);
});

test('private sources are martians on a public WAN, and never where they can be honest', () => {
  const all = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'];
  assert.deepEqual(martiansOf('address: 203.0.113.5/29\n  gateway: 203.0.113.1'), all);
  for (const wan of [
    'address: dhcp',
    'address: 192.168.1.5/24\n  gateway: 192.168.1.1',
    'address: 172.31.255.5/30\n  gateway: 172.31.255.6',
    'address: 100.64.3.5/24\n  gateway: 100.64.3.1',
    'address: 203.0.113.5/32\n  gateway: 172.31.1.1',
  ]) {
    assert.equal(martiansOf(wan), undefined, wan);
  }
});

test('only features that are on, by no schedule, have rules', () => {
  const feature = 'enabled: true\n';
  assert.ok(exampleConfig.includes(feature));
  const names = (text: string) => modelOf(text).rules.map(({ name }) => name);
  assert.ok(names(exampleConfig).includes('guests_send_no_mail'));
  for (const other of ['enabled: false\n', `${feature}      schedule: homework\n`]) {
    const text = exampleConfig.replace(feature, other);
    assert.ok(!names(text).includes('guests_send_no_mail'), other);
  }
});

test('each port of the API is offered to the networks in which it listens', () => {
  const api = (listen: string) =>
    modelOf(exampleConfig.replace('[10.77.0.1:8443, 127.0.0.1:8443]', listen)).services.filter(
      ({ name }) => name.startsWith('api'),
    );
  const service = (name: string, ports: number[], ...networks: string[]) => {
    return { name, protocols: ['tcp'], ports, networks };
  };
  assert.deepEqual(api('[127.0.0.1:8443, "[::1]:80"]'), []);
  assert.deepEqual(api('[198.51.100.1:8443]'), []);
  for (const everywhere of ['0.0.0.0', '"[::]']) {
    const end = everywhere.startsWith('"') ? '"' : '';
    assert.deepEqual(api(`[${everywhere}:8443${end}]`), [service('api', [8443], 'guests', 'lan')]);
  }
  assert.deepEqual(api('[10.77.0.1:8443, 10.78.0.1:80, 10.77.0.1:81, "[::]:82"]'), [
    service('api', [8443, 81], 'lan'),
    service('api_2', [80], 'guests'),
    service('api_3', [82], 'guests', 'lan'),
  ]);
});

test('safe mode offers every port of the API to every network, and knows no rule', () => {
  const listen = '[10.77.0.1:8443, 10.78.0.1:80]';
  const text = exampleConfig.replace('[10.77.0.1:8443, 127.0.0.1:8443]', listen);
  const lines = formatRuleset(planConfiguration(configOf(text), { safe: true }));
  assert.match(lines, /iifname \{ "lan0", "lan1" \} tcp dport \{ 80, 8443 \} .*"service api"/);
  assert.doesNotMatch(lines, /"rule /);
  assert.match(formatRuleset(planConfiguration(configOf(text), { safe: false })), /"rule /);
});

test('who forwards is what the caller says, in the rules and in safe mode', () => {
  const config = configOf(exampleConfig);
  assert.equal(
    firewallModelOf(config, { forwardedTraffic: 'sessions' }).forwardedTraffic,
    'sessions',
  );
  for (const safe of [true, false]) {
    const text = (options: FirewallPlanOptions) =>
      formatRuleset(planConfiguration(config, { safe, ...options }));
    assert.match(text({ forwardedTraffic: 'sessions' }), /chain forward_replies/);
    assert.doesNotMatch(text({ forwardedTraffic: 'conntrack' }), /forward_replies|notrack/);
    assert.equal(text({}), text({ forwardedTraffic: 'conntrack' }));
  }
});

test('with sessions, each network of the example sends its own sources alone', () => {
  const ruleset = planConfiguration(configOf(exampleConfig), {
    safe: false,
    forwardedTraffic: 'sessions',
  });
  const text = formatRuleset(ruleset);
  assert.match(
    text,
    /iifname "lan0" ip saddr != 0\.0\.0\.0 ip saddr != 10\.77\.0\.0\/24 counter drop/,
  );
  assert.match(
    text,
    /iifname "lan1" ip saddr != 0\.0\.0\.0 ip saddr != 10\.78\.0\.0\/24 counter drop/,
  );
});

test('both sides have the same limit of rules', () => {
  assert.equal(RULES_TOTAL_MAX, RULES_MAX);
});

test('the largest config has a model without faults', () => {
  const networks = Array.from({ length: 64 }, (_, index) => {
    const name = `n${'x'.repeat(29)}${String(index).padStart(2, '0')}`;
    const ports = Array.from({ length: 16 }, (_, port) => `port-of-${index}-${port}`);
    const dhcp = `dhcp: { range: 10.${index}.1.0-10.${index}.1.9 }`;
    return `  ${name}: { interfaces: [${ports.join(', ')}], address: 10.${index}.0.1/16, ${dhcp} }`;
  });
  const long = (index: number) => `r${'x'.repeat(26)}${String(index).padStart(5, '0')}`;
  const addresses = (first: number) =>
    Array.from({ length: 256 }, (_, index) =>
      index % 2 === 0 ? `192.0.${first}.${index}` : `"2001:db8:${first}::${index}"`,
    ).join(', ');
  const ports = Array.from({ length: 64 }, (_, index) => `${index * 100 + 1}-${index * 100 + 90}`);
  const comment = 'ü'.repeat(32);
  const wide = [
    `    - { name: ${long(0)}, action: reject, from: wan, to: gateway`,
    `source: [${addresses(1)}]`,
    `destination: [${addresses(2)}]`,
    `protocol: sctp, ports: [${ports.join(', ')}], log: true, comment: ${comment} }`,
  ].join(', ');
  const rules = Array.from(
    { length: 9_999 },
    (_, index) => `    - { name: ${long(index + 1)}, action: drop, to: gateway }`,
  );
  const listen = Array.from({ length: 16 }, (_, index) => `10.${index}.0.1:${8000 + index}`);
  const model = modelOf(
    [
      'version: 1',
      'wan: { interface: wan-abcdefghijk, address: dhcp }',
      'dns: {}',
      `api: { listen: [${listen.join(', ')}] }`,
      'networks:',
      ...networks,
      'firewall:',
      '  rules:',
      wide,
      ...rules,
      '',
    ].join('\n'),
  );
  assert.equal(model.networks.length, 64);
  assert.equal(new Set(model.networks.flatMap(({ interfaces }) => interfaces)).size, 64);
  assert.equal(model.services.length, 19);
  assert.deepEqual(findModelFaults(model), []);
});

test('whatever the reader takes has a model without faults, and a ruleset', () => {
  let taken = 0;
  fc.assert(
    fc.property(arbitraryConfigText(), (text) => {
      const { config } = parseConfig(text, { fileName });
      if (config === undefined) return;
      taken++;
      assert.deepEqual(findModelFaults(firewallModelOf(config)), [], text);
      for (const safe of [true, false]) {
        planConfiguration(config, { safe });
        planConfiguration(config, { safe, forwardedTraffic: 'sessions' });
      }
    }),
    { numRuns: 400 },
  );
  assert.ok(taken > 100, `the reader took ${taken} of 400 texts`);
});
