import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PacketKind } from '../abi/layouts.generated.ts';
import { requireIpAddress } from '../net/ip-address.ts';
import { homeModel } from '../testing/firewall-models.ts';
import type { FirewallModel, FirewallRule } from './firewall-model.ts';
import { formatRuleset } from './format-ruleset.ts';
import { judgePacket, type PacketFacts, type Verdict } from './judge-packet.ts';
import type { PacketKindName, PacketKnowledge } from './packet-mark.ts';
import { planRuleset, safeRuleset } from './plan-ruleset.ts';
import { formatRuleComment } from './rule-comment.ts';
import type { Ruleset } from './ruleset.ts';

const ends = {
  lan: { interface: 'br-lan', ipv4: '10.77.0.9', ipv6: '2001:db8:1::9' },
  guests: { interface: 'guest0', ipv4: '10.78.0.9', ipv6: '2001:db8:4::9' },
  wan: { interface: 'wan0', ipv4: '192.0.2.7', ipv6: '2001:db8:f::7' },
} as const;
type End = keyof typeof ends;

/** TCP between two ends, to port 443, opening what conntrack has not seen. */
function forwarded(
  from: End,
  to: End,
  { family = 4, ...facts }: Partial<PacketFacts> & { readonly family?: 4 | 6 } = {},
): PacketFacts {
  return {
    inputInterface: ends[from].interface,
    outputInterface: ends[to].interface,
    source: requireIpAddress(ends[from][`ipv${family}`]),
    destination: requireIpAddress(ends[to][`ipv${family}`]),
    protocol: 'tcp',
    sourcePort: 50_000,
    destinationPort: 443,
    connection: 'new',
    toThisHost: false,
    ...facts,
  };
}

function withRules(...rules: FirewallRule[]): Ruleset {
  return planRuleset({ ...homeModel('sessions'), rules });
}

function describe({ action, by }: Verdict): string {
  if (by === undefined) return `${action} by policy`;
  return `${action} in ${by.chain} by ${formatRuleComment(by.origin)}`;
}

function judged(ruleset: Ruleset, facts: PacketFacts): string {
  return describe(judgePacket(ruleset, facts));
}

const open = withRules();
const everyKind = Object.keys(PacketKind) as PacketKindName[];
/** What the programs say of whoever opens a session from outside. */
const inward = ['mapped', 'portForward'] as const;

const verdictsWithoutRules: readonly (readonly [string, End, End, PacketKnowledge])[] = [
  ['accept in forward_requests by built-in outbound', 'lan', 'wan', { packetKind: 'request' }],
  ['accept in forward_replies by built-in outbound/reply', 'wan', 'lan', { packetKind: 'reply' }],
  ['accept in forward_requests by built-in mapped', 'wan', 'lan', { packetKind: 'mapped' }],
  ['accept in forward_requests by built-in mapped', 'wan', 'lan', { packetKind: 'portForward' }],
  ['accept in forward_replies by built-in mapped/reply', 'lan', 'wan', { packetKind: 'reply' }],
  ['drop in forward_requests by built-in rest', 'wan', 'lan', { packetKind: 'request' }],
  ['drop in forward_requests by built-in rest', 'lan', 'guests', { packetKind: 'request' }],
  ['drop in forward_requests by built-in rest', 'lan', 'guests', { packetKind: 'mapped' }],
  ['drop in forward_replies by built-in rest', 'lan', 'guests', { packetKind: 'reply' }],
  ['accept in forward by built-in related', 'wan', 'lan', { packetKind: 'related' }],
  ['reject in forward by built-in full/reject', 'lan', 'wan', { packetKind: 'full' }],
  ['reject in forward by built-in stray/reject', 'lan', 'wan', { packetKind: 'stray' }],
];

for (const [expected, from, to, knowledge] of verdictsWithoutRules) {
  test(`without rules, ${knowledge.packetKind} from ${from} to ${to}: ${expected}`, () => {
    assert.equal(judged(open, forwarded(from, to, knowledge)), expected);
  });
}

test('who may come in from the WAN may come from inside by the external address, and back', () => {
  for (const [from, to] of [
    ['lan', 'guests'],
    ['lan', 'lan'],
  ] as const) {
    for (const packetKind of inward) {
      const request = forwarded(from, to, { packetKind, isHairpin: true });
      assert.equal(judged(open, request), 'accept in forward_requests by built-in hairpin');
    }
    const reply = forwarded(to, from, { packetKind: 'reply', isHairpin: true });
    assert.equal(judged(open, reply), 'accept in forward_replies by built-in hairpin/reply');
    const direct = forwarded(from, to, { packetKind: 'request', isHairpin: true });
    assert.equal(judged(open, direct), 'drop in forward_requests by built-in rest');
  }
});

test('what is approved is asked about no more', () => {
  const blocked = withRules({ name: 'block_all', action: 'drop' });
  for (const packetKind of ['request', 'reply', 'mapped', 'portForward'] as const) {
    const knowledge = { packetKind, isApproved: true } as const;
    const [from, to]: [End, End] = packetKind === 'request' ? ['lan', 'wan'] : ['wan', 'lan'];
    const facts = forwarded(from, to, knowledge);
    assert.equal(judged(blocked, facts), 'accept in forward by built-in approved');
    const { matched } = judgePacket(blocked, facts);
    assert.deepEqual(
      matched.map(({ chain }) => chain),
      ['prerouting', 'forward'],
    );
  }
});

test('a network has only its own sources', () => {
  const borrowed = forwarded('guests', 'wan', {});
  const spoofed = { ...borrowed, source: forwarded('lan', 'wan', {}).source };
  assert.equal(judgePacket(open, spoofed).action, 'drop');
});

test('what passed is not followed by conntrack, whatever its kind', () => {
  for (const packetKind of everyKind) {
    const { matched } = judgePacket(open, forwarded('lan', 'wan', { packetKind }));
    const [first] = matched;
    assert.deepEqual(first?.origin, { kind: 'built-in', name: 'untracked' });
  }
});

const block: FirewallRule = { name: 'block_inbound', action: 'drop', from: 'wan' };

test('survive-72 full cone and port forwards are open, until a rule blocks what the WAN opens', () => {
  const blocked = withRules(block);
  for (const packetKind of inward) {
    const facts = forwarded('wan', 'lan', { packetKind });
    assert.equal(judged(open, facts), 'accept in forward_requests by built-in mapped');
    assert.equal(judged(blocked, facts), 'drop in forward_requests by rule block_inbound');
    // The answers of a session that was open before the rule came.
    const reply = forwarded('lan', 'wan', { packetKind: 'reply' });
    assert.equal(judged(blocked, reply), 'drop in forward_replies by rule block_inbound/reply');
  }
});

test('survive-72 a rule that blocks inbound stops no answer to inside, and nobody inside', () => {
  const blocked = withRules(block);
  for (const [from, to, knowledge] of [
    ['lan', 'wan', { packetKind: 'request' }],
    ['wan', 'lan', { packetKind: 'reply' }],
    ['wan', 'lan', { packetKind: 'related' }],
    ['guests', 'lan', { packetKind: 'mapped', isHairpin: true }],
    ['lan', 'guests', { packetKind: 'reply', isHairpin: true }],
  ] as const) {
    const { action } = judgePacket(blocked, forwarded(from, to, knowledge));
    assert.equal(action, 'accept', `${from} to ${to}, ${knowledge.packetKind}`);
  }
});

test('survive-72 a rule before the block lets one inside endpoint be reached', () => {
  const server: FirewallRule = {
    name: 'server',
    action: 'accept',
    from: 'wan',
    destination: ['10.77.0.9'],
    protocols: ['tcp'],
    ports: [{ first: 443, last: 443 }],
  };
  const ruleset = withRules(server, block);
  for (const packetKind of inward) {
    const facts = forwarded('wan', 'lan', { packetKind });
    assert.equal(judged(ruleset, facts), 'accept in forward_requests by rule server');
    const other = { ...facts, destinationPort: 444 };
    assert.equal(judged(ruleset, other), 'drop in forward_requests by rule block_inbound');
  }
});

test('in safe mode nobody opens a session from outside, by whatever kind', () => {
  const safe = safeRuleset(homeModel('sessions'));
  for (const packetKind of everyKind.filter((kind) => kind !== 'reply' && kind !== 'related')) {
    const { action } = judgePacket(safe, forwarded('wan', 'lan', { packetKind }));
    assert.notEqual(action, 'accept', packetKind);
    const hairpin = forwarded('guests', 'lan', { packetKind, isHairpin: true });
    assert.notEqual(judgePacket(safe, hairpin).action, 'accept', packetKind);
  }
  for (const facts of [
    forwarded('lan', 'wan'),
    forwarded('wan', 'lan', { packetKind: 'reply' }),
    forwarded('wan', 'lan', { packetKind: 'related' }),
  ]) {
    assert.equal(judgePacket(safe, facts).action, 'accept');
  }
});

test('IPv6 is judged with conntrack as before, and no mark opens anything', () => {
  const sessions = planRuleset(homeModel('sessions'));
  const conntrack = planRuleset(homeModel('conntrack'));
  for (const packetKind of everyKind) {
    for (const isHairpin of [false, true]) {
      for (const connection of ['new', 'established', 'related', 'invalid'] as const) {
        for (const [from, to] of [
          ['lan', 'wan'],
          ['wan', 'lan'],
          ['lan', 'guests'],
        ] as const) {
          const facts = { family: 6, packetKind, isHairpin, connection } as const;
          const packet = forwarded(from, to, facts);
          const now = judgePacket(sessions, packet);
          const before = judgePacket(conntrack, packet);
          assert.equal(now.action, before.action);
          assert.deepEqual(now.by?.origin, before.by?.origin);
        }
      }
    }
  }
});

test('every SYN has its MSS judged first, of both families and both directions', () => {
  for (const packet of [
    forwarded('lan', 'wan', { isSyn: true }),
    forwarded('wan', 'lan', { isSyn: true, packetKind: 'reply' }),
    forwarded('lan', 'wan', { isSyn: true, family: 6 }),
  ]) {
    const inForward = judgePacket(open, packet).matched.filter(({ chain }) => chain === 'forward');
    assert.equal(inForward[0]?.origin.name, 'mss');
  }
  const { matched } = judgePacket(open, forwarded('lan', 'wan'));
  assert.ok(matched.every(({ origin }) => origin.name !== 'mss'));
});

test('from a network come only its own sources, or none yet', () => {
  const drops = (from: End, source: string) => {
    const packet = { ...forwarded(from, 'wan'), source: requireIpAddress(source) };
    return judged(open, packet) === `drop in prerouting by built-in martians/inside: ${from}`;
  };
  assert.ok(!drops('lan', '10.77.0.255'));
  assert.ok(!drops('lan', '0.0.0.0'));
  for (const source of ['10.78.0.9', '192.0.2.7', '0.0.0.1', '127.0.0.1', '255.255.255.255']) {
    assert.ok(drops('lan', source), source);
  }
  assert.ok(drops('guests', '10.77.0.9'));
  const ipv6 = forwarded('lan', 'wan', { family: 6, source: requireIpAddress('2001:db8:99::1') });
  assert.equal(judged(open, ipv6), 'accept in forward_requests by built-in outbound');
});

test('a network without IPv4 addresses has no IPv4 martians of its own', () => {
  const lan = { name: 'lan', interfaces: ['lan0'], inside: true };
  const network = (addresses: readonly string[]): FirewallModel => ({
    networks: [{ ...lan, addresses }],
    rules: [],
    services: [],
    forwardedTraffic: 'sessions',
  });
  assert.doesNotMatch(formatRuleset(planRuleset(network(['2001:db8:1::1/64']))), /martians/);
  assert.doesNotMatch(formatRuleset(planRuleset(network([]))), /martians/);
  const several = formatRuleset(planRuleset(network(['10.77.0.1/24', '10.77.1.1/24'])));
  assert.match(
    several,
    /iifname "lan0" ip saddr != 0\.0\.0\.0 ip saddr != 10\.77\.0\.0\/23 counter drop/,
  );
});

test('without a WAN nothing comes in by a mapping', () => {
  const { wan: _, ...model } = { ...homeModel('sessions'), rules: [] };
  assert.doesNotMatch(formatRuleset(planRuleset(model)), /built-in (mapped|hairpin|outbound)/);
});
