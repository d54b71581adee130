import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requireIpAddress } from '../net/ip-address.ts';
import { homeModel } from '../testing/firewall-models.ts';
import { judgePacket, type PacketFacts, type Verdict } from './judge-packet.ts';
import { defaultPosture, planRuleset, safeRuleset } from './plan-ruleset.ts';
import { formatRuleComment } from './rule-comment.ts';
import type { ChainHook, Match, Ruleset, RulesetRule, Statement } from './ruleset.ts';

/** A packet in words: `tcp lan0 10.77.0.9 > wan0 192.0.2.7:22`; `facts` is what they leave out. */
function packet(words: string, facts: Partial<PacketFacts> = {}): PacketFacts {
  const pattern =
    /^(\w+) (\S+) (\S+) > (?:(\S+) )?(?:\[(\S+)\]|([0-9.]+)|([0-9a-f:]+(?=$)))(?::(\d+))?$/;
  const [, protocol, from, source, to, bracketed, dotted, bare, port] = pattern.exec(words) ?? [];
  const destination = bracketed ?? dotted ?? bare;
  assert.ok(protocol !== undefined && from !== undefined, words);
  return {
    inputInterface: from,
    ...(to === undefined ? {} : { outputInterface: to }),
    toThisHost: to === undefined,
    source: requireIpAddress(source ?? ''),
    destination: requireIpAddress(destination ?? ''),
    protocol: protocol as PacketFacts['protocol'],
    ...(port === undefined ? {} : { destinationPort: Number(port), sourcePort: 50_000 }),
    connection: 'new',
    ...facts,
  };
}

function describe({ action, by }: Verdict): string {
  return by === undefined
    ? `${action} by policy`
    : `${action} in ${by.chain} by ${formatRuleComment(by.origin)}`;
}

const home = planRuleset(homeModel('conntrack'));

for (const [words, expected, facts] of [
  ['tcp br-lan 10.77.0.9 > 10.77.0.1:22', 'accept in input by service ssh'],
  ['tcp br-lan 10.77.0.200 > 10.77.0.1:22', 'drop in input by rule no_admin/ipv4'],
  ['tcp guest1 10.78.0.9 > 10.77.0.1:22', 'drop in input by built-in rest'],
  ['tcp lo 10.77.0.1 > 10.77.0.1:22', 'accept in input by built-in loopback'],
  ['tcp wan0 10.77.0.9 > 10.77.0.1:22', 'drop in prerouting by built-in martians/ipv4'],
  ['udp wan0 192.0.2.7 > 198.51.100.1:51820', 'accept in input by rule wireguard'],
  ['udp wan0 2001:db8:9::1 > [2001:db8:1::1]:51820', 'drop in input by built-in rest'],
  [
    'tcp br-lan 10.77.0.200 > 10.77.0.1:22',
    'accept in input by built-in established',
    { connection: 'established' },
  ],
  [
    'tcp br-lan 10.77.0.9 > 10.77.0.1:22',
    'drop in input by built-in invalid',
    { connection: 'invalid' },
  ],
  ['icmp wan0 192.0.2.7 > 198.51.100.1', 'accept in input by built-in ping/ipv4', { icmpType: 8 }],
  ['icmp wan0 192.0.2.7 > 198.51.100.1', 'drop in input by built-in rest', { icmpType: 13 }],
  [
    'icmpv6 wan0 fe80::1 > fe80::2',
    'accept in input by built-in neighbour-discovery',
    { icmpType: 135, hopLimit: 255 },
  ],
  [
    'icmpv6 wan0 fe80::1 > fe80::2',
    'drop in input by built-in rest',
    { icmpType: 135, hopLimit: 254 },
  ],
  // The type of another family's protocol means nothing.
  ['icmpv6 wan0 192.0.2.7 > 198.51.100.1', 'drop in input by built-in rest', { icmpType: 128 }],
  [
    'udp wan0 198.51.100.254 > 255.255.255.255:68',
    'accept in input by built-in dhcp-client/ipv4',
    { sourcePort: 67, toGroup: true },
  ],
  ['tcp br-lan 10.77.0.9 > wan0 192.0.2.7:443', 'accept in forward by built-in outbound'],
  ['tcp guest0 10.78.0.9 > wan0 192.0.2.7:443', 'reject in forward by rule no_quic/tcp'],
  ['udp guest0 10.78.0.9 > wan0 192.0.2.7:443', 'reject in forward by rule no_quic'],
  ['tcp guest0 10.78.0.9 > br-lan 10.77.0.9:80', 'drop in forward by built-in rest'],
  ['other br-lan 10.77.0.9 > guest0 10.78.0.9', 'drop in forward by built-in rest'],
  ['esp br-lan 10.77.0.9 > guest0 10.78.0.9', 'accept in forward by rule tunnels'],
] as const) {
  test(`${words} ${JSON.stringify(facts ?? {})}: ${expected}`, () => {
    assert.equal(describe(judgePacket(home, packet(words, facts))), expected);
  });
}

test('a table that a rule names matches what is in it, and an empty one nothing', () => {
  const tables = (addresses: readonly string[]) => [{ name: 'bad', addresses }];
  const rules = [{ name: 'no_bad', action: 'drop', source: ['@bad'] } as const];
  const verdict = (words: string, addresses: readonly string[], part = 'request') => {
    const isReply = part === 'reply';
    const model = { ...homeModel('sessions'), tables: tables(addresses), rules };
    const facts = { packetKind: isReply ? 'reply' : 'request' } as const;
    return describe(judgePacket(planRuleset(model), packet(words, facts)));
  };
  const out = 'tcp br-lan 10.77.0.9 > wan0 192.0.2.7:22';
  const reply = 'tcp wan0 192.0.2.7 > br-lan 10.77.0.9:22';
  const outbound = 'accept in forward_requests by built-in outbound';
  assert.equal(verdict(out, []), outbound);
  assert.equal(verdict(out, ['10.77.0.8', '192.0.2.7', '2001:db8::/32']), outbound);
  assert.equal(verdict(out, ['10.77.0.0/28']), 'drop in forward_requests by rule no_bad/ipv4');
  assert.equal(
    verdict(reply, ['10.77.0.9'], 'reply'),
    'drop in forward_replies by rule no_bad/ipv4-reply',
  );
  assert.equal(
    verdict(reply, ['192.0.2.7'], 'reply'),
    'accept in forward_replies by built-in outbound/reply',
  );
  assert.throws(
    () =>
      judgePacket(
        { ...planRuleset({ ...homeModel('sessions'), tables: tables([]), rules }), sets: [] },
        packet(out),
      ),
    /a rule names a table bad; there is none/,
  );
});

test('what matched on the way is told in order, with what only logs', () => {
  const verdict = judgePacket(home, packet('tcp br-lan 10.77.0.66 > wan0 192.0.2.7:443'));
  assert.deepEqual(
    verdict.matched.map(({ origin }) => `${origin.name}/${origin.part ?? ''}`),
    ['block_tv/ipv4-log', 'block_tv/ipv4'],
  );
  assert.equal(verdict.by, verdict.matched.at(-1));
});

test('a broadcast is not tracked either, since it is to no address of this host', () => {
  const sessions = planRuleset(homeModel('sessions'));
  const discover = packet('udp br-lan 0.0.0.0 > 255.255.255.255:67', {
    toGroup: true,
    connection: 'invalid',
  });
  assert.equal(describe(judgePacket(sessions, discover)), 'accept in input by service dhcp');
  assert.equal(describe(judgePacket(home, discover)), 'drop in input by built-in invalid');
});

test('the default posture takes pings and what belongs to itself, and forwards nothing', () => {
  const posture = defaultPosture();
  const ping = packet('icmp eth0 192.0.2.7 > 192.0.2.1', { icmpType: 8 });
  assert.equal(judgePacket(posture, ping).action, 'accept');
  for (const words of ['tcp eth0 192.0.2.7 > 192.0.2.1:22', 'tcp a 192.0.2.7 > b 192.0.2.9:22']) {
    for (const connection of ['new', 'established'] as const) {
      const isOwnReply = connection === 'established' && !words.includes('> b');
      const { action } = judgePacket(posture, packet(words, { connection }));
      assert.equal(action, isOwnReply ? 'accept' : 'drop', `${words} ${connection}`);
    }
  }
});

test('the safe ruleset lets insiders in and out, whatever the rules say', () => {
  const safe = safeRuleset(homeModel('conntrack'));
  for (const words of [
    'tcp br-lan 10.77.0.200 > 10.77.0.1:22',
    'tcp guest0 10.78.0.9 > 10.77.0.1:8443',
    'udp guest0 10.78.0.9 > wan0 192.0.2.7:443',
  ]) {
    assert.equal(judgePacket(safe, packet(words)).action, 'accept', words);
  }
});

const hook: ChainHook = { name: 'input', priority: 'filter', policy: 'accept' };

function rule(name: string, statement: Statement, ...matches: Match[]): RulesetRule {
  return { origin: { kind: 'rule', name }, matches, statement };
}

const toInput = packet('tcp eth0 192.0.2.7 > 192.0.2.1:22');

test('what falls through the chain that it was sent to meets the policy, not the next rule', () => {
  const ruleset: Ruleset = {
    chains: [
      {
        name: 'input',
        hook,
        rules: [rule('go', { kind: 'goto', chain: 'aside' }), rule('never', { kind: 'drop' })],
      },
      {
        name: 'aside',
        rules: [rule('other', { kind: 'drop' }, { kind: 'protocol', protocols: ['udp'] })],
      },
    ],
  };
  const verdict = judgePacket(ruleset, toInput);
  assert.equal(describe(verdict), 'accept by policy');
  assert.deepEqual(
    verdict.matched.map(({ origin }) => origin.name),
    ['go'],
  );
});

test('chains of one hook are passed by priority, and each can refuse', () => {
  const early = { ...hook, priority: 'raw' } as const;
  const chains = [
    { name: 'late', hook, rules: [rule('late', { kind: 'drop' })] },
    { name: 'early', hook: early, rules: [rule('early', { kind: 'accept' })] },
  ];
  const verdict = judgePacket({ chains }, toInput);
  assert.equal(describe(verdict), 'drop in late by rule late');
  assert.deepEqual(
    verdict.matched.map(({ chain }) => chain),
    ['early', 'late'],
  );
  const closed = [{ name: 'late', hook: { ...hook, policy: 'drop' as const }, rules: [] }];
  assert.equal(describe(judgePacket({ chains: closed }, toInput)), 'drop by policy');
  assert.equal(describe(judgePacket({ chains: [] }, toInput)), 'accept by policy');
});

test('a negated address matches every other one of its family', () => {
  const ranges = [{ first: requireIpAddress('192.0.2.0'), last: requireIpAddress('192.0.2.9') }];
  const match: Match = { kind: 'source', ranges, negated: true };
  const chains = [{ name: 'input', hook, rules: [rule('r', { kind: 'drop' }, match)] }];
  const actionFor = (words: string) => judgePacket({ chains }, packet(words)).action;
  assert.equal(actionFor('tcp eth0 192.0.2.7 > 192.0.2.1:22'), 'accept');
  assert.equal(actionFor('tcp eth0 192.0.2.10 > 192.0.2.1:22'), 'drop');
  assert.equal(actionFor('tcp eth0 2001:db8::1 > [2001:db8::2]:22'), 'accept');
});

test('a mark is compared by the masked bits as a whole', () => {
  const isMapped: Match = { kind: 'mark', mask: 0x1c0, values: [0x80] };
  const either: Match = { kind: 'mark', mask: 0x3c0, values: [0x280, 0x2c0] };
  const actionFor = (match: Match, facts: Partial<PacketFacts>) => {
    const chains = [{ name: 'input', hook, rules: [rule('r', { kind: 'drop' }, match)] }];
    return judgePacket({ chains }, { ...toInput, ...facts }).action;
  };
  assert.equal(actionFor(isMapped, { packetKind: 'mapped' }), 'drop');
  assert.equal(actionFor(isMapped, { packetKind: 'mapped', isHairpin: true }), 'drop');
  // Its bits include those of the other.
  assert.equal(actionFor(isMapped, { packetKind: 'portForward' }), 'accept');
  assert.equal(actionFor(isMapped, {}), 'accept');
  assert.equal(actionFor(either, { packetKind: 'portForward', isHairpin: true }), 'drop');
  assert.equal(actionFor(either, { packetKind: 'portForward' }), 'accept');
});

test('a port is compared only with a packet that has one, of the protocol that the rule names', () => {
  const ports = (protocol: 'tcp' | 'udp' | 'th'): Match => ({
    kind: 'destination-port',
    protocol,
    ranges: [{ first: 20, last: 22 }],
  });
  const actionFor = (match: Match, facts: PacketFacts) => {
    const chains = [{ name: 'input', hook, rules: [rule('r', { kind: 'drop' }, match)] }];
    return judgePacket({ chains }, facts).action;
  };
  assert.equal(actionFor(ports('tcp'), toInput), 'drop');
  assert.equal(actionFor(ports('th'), toInput), 'drop');
  assert.equal(actionFor(ports('udp'), toInput), 'accept');
  assert.equal(actionFor(ports('th'), packet('esp eth0 192.0.2.7 > 192.0.2.1')), 'accept');
});

test('a ruleset that nft would refuse is an error of whoever made it', () => {
  const to = (chain: string) => rule('go', { kind: 'goto', chain });
  const rulesets: [Ruleset, RegExp][] = [
    [{ chains: [{ name: 'input', hook, rules: [to('none')] }] }, /a chain none; there is none/],
    [{ chains: [{ name: 'input', hook, rules: [to('input')] }] }, /input leads to itself/],
    [
      {
        chains: [
          {
            name: 'input',
            hook,
            rules: [
              rule('x', { kind: 'drop' }, { kind: 'icmp-type', family: 4, types: ['hello'] }),
            ],
          },
        ],
      },
      /no number is known of the ICMP type hello/,
    ],
  ];
  const ping = packet('icmp eth0 192.0.2.7 > 192.0.2.1', { icmpType: 8 });
  for (const [ruleset, message] of rulesets) {
    assert.throws(() => judgePacket(ruleset, ping), message);
  }
});

test('every ICMP type that a ruleset of ours names has a number', () => {
  for (const protocol of ['icmp', 'icmpv6'] as const) {
    const source = protocol === 'icmp' ? '192.0.2.7' : 'fe80::7';
    const facts = packet(`${protocol} eth0 ${source} > ${source}`, {
      icmpType: 255,
      hopLimit: 255,
    });
    assert.equal(describe(judgePacket(home, facts)), 'drop in input by built-in rest');
  }
});
