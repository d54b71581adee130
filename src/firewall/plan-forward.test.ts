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

/** The same kinds as IPv4, but for what only translation has. */
const ipv6Verdicts: readonly (readonly [string, End, End, PacketKnowledge])[] = [
  ...verdictsWithoutRules,
  ['drop in forward by built-in stray/wan', 'wan', 'lan', { packetKind: 'stray' }],
  ['drop in forward_requests by built-in rest', 'guests', 'lan', { packetKind: 'mapped' }],
];

for (const [expected, from, to, knowledge] of ipv6Verdicts) {
  test(`of IPv6, ${knowledge.packetKind} from ${from} to ${to}: ${expected}`, () => {
    assert.equal(judged(open, forwarded(from, to, { family: 6, ...knowledge })), expected);
  });
}

test('IPv6 that is forwarded is not followed by conntrack, and what it says is not asked', () => {
  for (const connection of ['new', 'established', 'related', 'invalid'] as const) {
    const packet = forwarded('wan', 'lan', { family: 6, connection });
    const { matched, action } = judgePacket(open, packet);
    assert.deepEqual(matched[0]?.origin, { kind: 'built-in', name: 'untracked' });
    assert.equal(action, 'drop');
  }
});

test('there is no hairpin over IPv6', () => {
  const packet = forwarded('lan', 'guests', { family: 6, packetKind: 'mapped', isHairpin: true });
  assert.equal(judged(open, packet), 'drop in forward_requests by built-in rest');
});

test('RFC 6092 REC-5, rfc6092-rec6: a source is by the interface that the routes lead to it by', () => {
  for (const [from, to] of [
    ['lan', 'wan'],
    ['guests', 'wan'],
    ['wan', 'lan'],
  ] as const) {
    for (const packetKind of everyKind) {
      const facts = { family: 6, packetKind, isSourceElsewhere: true } as const;
      const expected = `drop in forward by built-in martians/way: ${from}`;
      assert.equal(judged(open, forwarded(from, to, facts)), expected);
    }
    const ipv4 = forwarded(from, to, { packetKind: 'related', isSourceElsewhere: true });
    assert.equal(judged(open, ipv4), 'accept in forward by built-in related');
  }
});

test('RFC 6092 REC-3: no address that nobody can have crosses, whatever the rules say', () => {
  const anything = withRules({ name: 'anything', action: 'accept' });
  for (const address of ['::7', '::ffff:10.0.0.1', '100::1', '2001:1f::1', 'fec0::1']) {
    for (const [from, to] of [
      ['lan', 'wan'],
      ['wan', 'lan'],
    ] as const) {
      for (const end of ['source', 'destination'] as const) {
        const packet = { ...forwarded(from, to, { family: 6 }), [end]: requireIpAddress(address) };
        assert.equal(judgePacket(anything, packet).action, 'drop', `${address} as ${end}`);
      }
    }
  }
});

test('RFC 6092 REC-7: unique local addresses cross the WAN only by a rule of the config', () => {
  const local = requireIpAddress('fd00::9');
  const allowed = withRules({ name: 'local', action: 'accept', from: 'lan', to: 'wan' });
  for (const end of ['source', 'destination'] as const) {
    const out = { ...forwarded('lan', 'wan', { family: 6 }), [end]: local };
    const expected = `drop in forward_requests by built-in unique-local/to-wan-${end}`;
    assert.equal(judged(open, out), expected);
    assert.equal(judged(allowed, out), 'accept in forward_requests by rule local');
  }
  const inward = forwarded('wan', 'lan', { family: 6, packetKind: 'mapped' });
  const refused = judged(open, { ...inward, destination: local });
  assert.equal(refused, 'drop in forward_requests by built-in unique-local/from-wan-destination');
});

/** Every type, by what becomes of it from inside to the WAN and back. */
function icmpTypes(...ranges: readonly (readonly [number, number])[]): number[] {
  return ranges.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, index) => first + index),
  );
}
const ofLinks = icmpTypes([130, 137], [141, 143], [148, 149], [151, 153]);
const unsound = [...icmpTypes([100, 101], [138, 140], [200, 201]), 127, 255];
const errors = icmpTypes([1, 4]);

function icmpv6(from: End, to: End, icmpType: number, knowledge: PacketKnowledge = {}) {
  const { sourcePort: _, destinationPort: __, ...facts } = forwarded(from, to, { family: 6 });
  return { ...facts, ...knowledge, protocol: 'icmpv6', icmpType } as const;
}

test('rfc4890-s4.3.3 what is said on one link is never forwarded, whatever the rules say', () => {
  const anything = withRules({ name: 'anything', action: 'accept' });
  for (const type of ofLinks) {
    for (const packetKind of everyKind) {
      const out = judged(anything, icmpv6('lan', 'wan', type, { packetKind }));
      assert.equal(out, 'drop in forward by built-in icmpv6-of-links', `${type}`);
    }
  }
});

test('rfc4890-s4.3.5 node information, renumbering and experiments cross only by a rule', () => {
  const allowed = withRules({ name: 'lab', action: 'accept', from: 'lan', protocols: ['icmpv6'] });
  for (const type of unsound) {
    const out = icmpv6('lan', 'wan', type);
    assert.equal(judged(open, out), 'drop in forward_requests by built-in icmpv6-unsound');
    assert.equal(judged(allowed, out), 'accept in forward_requests by rule lab');
    assert.equal(judgePacket(open, icmpv6('wan', 'lan', type)).action, 'drop');
  }
});

test('rfc4890-s4.3.1 rfc4890-s4.3.2 errors about what lives cross, RFC 6092 REC-10 others do not', () => {
  for (const type of errors) {
    for (const [from, to] of [
      ['lan', 'wan'],
      ['wan', 'lan'],
    ] as const) {
      const live = icmpv6(from, to, type, { packetKind: 'related' });
      assert.equal(judged(open, live), 'accept in forward by built-in related');
      const other = judged(open, icmpv6(from, to, type));
      assert.equal(other, 'drop in forward_requests by built-in icmpv6-unrelated');
    }
  }
});

test('rfc4890-s4.3.1 whoever pings a host inside is let in, unless a rule says otherwise', () => {
  const ping = icmpv6('wan', 'lan', 128);
  assert.equal(judged(open, ping), 'accept in forward_requests by built-in ping/inward');
  const pong = icmpv6('lan', 'wan', 129, { packetKind: 'reply' });
  assert.equal(judged(open, pong), 'accept in forward_replies by built-in mapped/reply');
  const blocked = withRules(block);
  assert.equal(judged(blocked, ping), 'drop in forward_requests by rule block_inbound');
  assert.equal(judgePacket(open, icmpv6('wan', 'lan', 129)).action, 'drop');
});

test('rfc4890-s4.3.4 types that nobody has defined go out, and come in by a rule alone', () => {
  const known = new Set([...ofLinks, ...unsound, ...errors, 128]);
  const allowed = withRules({ name: 'in', action: 'accept', from: 'wan', protocols: ['icmpv6'] });
  for (const type of icmpTypes([5, 254]).filter((one) => !known.has(one))) {
    const out = judged(open, icmpv6('lan', 'wan', type));
    assert.equal(out, 'accept in forward_requests by built-in outbound', `${type}`);
    const back = icmpv6('wan', 'lan', type);
    assert.equal(judged(open, back), 'drop in forward_requests by built-in rest', `${type}`);
    assert.equal(judged(allowed, back), 'accept in forward_requests by rule in', `${type}`);
  }
});

test('RFC 6092 REC-21, rfc6092-rec22 rfc6092-rec24: IPsec comes in unless a rule says otherwise', () => {
  const facts = { family: 6 } as const;
  const packets = [
    { ...forwarded('wan', 'lan', { ...facts, protocol: 'esp' }) },
    { ...forwarded('wan', 'lan', { ...facts, protocol: 'ah' }) },
    { ...forwarded('wan', 'lan', { ...facts, protocol: 'udp', destinationPort: 500 }) },
  ];
  for (const packet of packets) {
    assert.match(judged(open, packet), /^accept in forward_requests by built-in ipsec/);
    const blocked = judged(withRules(block), packet);
    assert.equal(blocked, 'drop in forward_requests by rule block_inbound');
    const ends = {
      source: requireIpAddress('192.0.2.7'),
      destination: requireIpAddress('10.77.0.9'),
    };
    assert.equal(judgePacket(open, { ...packet, ...ends }).action, 'drop');
  }
  const fromGuests = forwarded('guests', 'lan', { ...facts, protocol: 'esp' });
  assert.equal(judgePacket(open, fromGuests).action, 'drop');
});

test('in safe mode nobody opens a session from outside over IPv6, by ping and IPsec neither', () => {
  const safe = safeRuleset(homeModel('sessions'));
  for (const packet of [
    icmpv6('wan', 'lan', 128),
    forwarded('wan', 'lan', { family: 6, protocol: 'esp' }),
    forwarded('wan', 'lan', { family: 6, protocol: 'udp', destinationPort: 500 }),
    forwarded('wan', 'lan', { family: 6, packetKind: 'mapped' }),
  ]) {
    assert.equal(judged(safe, packet), 'drop in forward_requests by built-in rest');
  }
  const out = judged(safe, forwarded('lan', 'wan', { family: 6 }));
  assert.equal(out, 'accept in forward_requests by built-in outbound');
});

test('RFC 6092 REC-49: one rule makes the firewall transparent', () => {
  const transparent = withRules({ name: 'transparent', action: 'accept' });
  for (const packetKind of ['request', 'mapped', 'reply', 'related'] as const) {
    for (const [from, to] of [
      ['lan', 'wan'],
      ['wan', 'lan'],
    ] as const) {
      const { action } = judgePacket(transparent, forwarded(from, to, { family: 6, packetKind }));
      assert.equal(action, 'accept');
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
  for (const addresses of [['2001:db8:1::1/64'], []]) {
    assert.doesNotMatch(formatRuleset(planRuleset(network(addresses))), /martians\/inside/);
  }
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
