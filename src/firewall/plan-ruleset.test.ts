import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { homeModel } from '../testing/firewall-models.ts';
import type { FirewallModel } from './firewall-model.ts';
import { formatRuleset } from './format-ruleset.ts';
import { defaultPosture, planRuleset, safeRuleset } from './plan-ruleset.ts';
import type { Ruleset } from './ruleset.ts';

/** Whole listings, as nft prints them; test/namespaces/nft-listing.test.ts holds nft to that. */
const golden = [
  ['default-posture', 'the default posture offers and forwards nothing', defaultPosture()],
  [
    'home-conntrack',
    'a home whose forwarded traffic conntrack follows',
    planRuleset(homeModel('conntrack')),
  ],
  [
    'home-sessions',
    'a home whose sessions are known by the mark, each rule once for the replies',
    planRuleset(homeModel('sessions')),
  ],
  [
    'home-safe',
    'the panic button leaves SSH, API, DHCP, DNS and outbound to inside networks',
    safeRuleset(homeModel('conntrack')),
  ],
  [
    'home-safe-sessions',
    'the panic button leaves the same with sessions, and nobody opens one from the WAN',
    safeRuleset(homeModel('sessions')),
  ],
] as const;

for (const [file, title, ruleset] of golden) {
  test(`${title} (${file}.nft)`, () => {
    const expected = readFileSync(join(import.meta.dirname, 'golden', `${file}.nft`), 'utf8');
    assert.equal(formatRuleset(ruleset), expected);
  });
}

function chainText(ruleset: Ruleset, name: string): string {
  const chains = ruleset.chains.filter((chain) => chain.name === name);
  return formatRuleset({ chains });
}

const bare: FirewallModel = {
  forwardedTraffic: 'conntrack',
  wan: { interface: 'wan0', dhcpClient: false },
  networks: [{ name: 'lan', interfaces: ['lan0'], addresses: ['10.77.0.1/24'], inside: true }],
  services: [],
  rules: [],
};

test('a rule to any network never opens the gateway itself', () => {
  const open = { name: 'open', action: 'accept' } as const;
  for (const to of [{}, { to: 'any' }]) {
    const ruleset = planRuleset({ ...bare, rules: [{ ...open, ...to }] });
    assert.doesNotMatch(chainText(ruleset, 'input'), /rule open/);
    assert.match(chainText(ruleset, 'forward'), /\t\tcounter accept comment "rule open"\n/);
  }
});

test('a rule to the gateway stands before its services and judges nothing that is forwarded', () => {
  const services = [{ name: 'dns', protocols: ['udp'], ports: [53] }] as const;
  const rules = [{ name: 'no_dns', action: 'drop', from: 'lan', to: 'gateway' }] as const;
  const ruleset = planRuleset({ ...bare, services, rules });
  assert.match(chainText(ruleset, 'input'), /rule no_dns(.|\n)*service dns/);
  assert.doesNotMatch(chainText(ruleset, 'forward'), /no_dns/);
});

test('without a WAN nothing is outbound, and no rule names its interface', () => {
  const { wan: _, ...inside } = bare;
  assert.doesNotMatch(formatRuleset(planRuleset(inside)), /outbound|martians|oifname/);
});

test('a network that is not inside gets neither services nor a way out', () => {
  const networks = bare.networks.map((network) => ({ ...network, inside: false }));
  const services = [{ name: 'dns', protocols: ['udp'], ports: [53] }] as const;
  const text = formatRuleset(planRuleset({ ...bare, networks, services }));
  assert.doesNotMatch(text, /service|outbound/);
});

test('in sessions, the reply to what is rejected is dropped, and nothing is logged twice', () => {
  const rules = [{ name: 'no', action: 'reject', from: 'lan', log: true }] as const;
  const ruleset = planRuleset({ ...bare, forwardedTraffic: 'sessions', rules });
  const replies = chainText(ruleset, 'forward_replies');
  assert.match(replies, /\t\toifname "lan0" counter drop comment "rule no\/reply"\n/);
  assert.doesNotMatch(replies, /log prefix|reject/);
});

test('only the sources that can be nowhere and our own are martians, unless the model says', () => {
  const text = chainText(planRuleset(bare), 'prerouting');
  assert.match(text, /10\.77\.0\.0\/24/);
  assert.doesNotMatch(text, /10\.0\.0\.0\/8|192\.168|fc00/);
});

test('a model with a fault is no ruleset, and the error names the place', () => {
  const rules = [{ name: 'to_moon', action: 'accept', to: 'moon' }] as const;
  assert.throws(() => planRuleset({ ...bare, rules }), {
    name: 'RangeError',
    message: 'a ruleset of rules[0].to: "moon" is no network',
  });
});
