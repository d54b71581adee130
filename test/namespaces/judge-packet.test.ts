/**
 * judgePacket against the kernel: the same rulesets, the same packets. Each rule of ours counts, so
 * the counters that a packet moves are the rules that it met, and what leaves the gateway is what
 * was accepted. What the judge cannot know, conntrack's opinion, a table of the test asks for.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { seededRandom } from '../../lab/seeded-random.ts';
import { waitFor } from '../../lab/wait-for.ts';
import {
  type FirewallModel,
  type FirewallRule,
  findModelFaults,
  type Protocol,
} from '../../src/firewall/firewall-model.ts';
import { judgePacket, type MatchedRule } from '../../src/firewall/judge-packet.ts';
import { markOf } from '../../src/firewall/packet-mark.ts';
import { defaultPosture, planRuleset, safeRuleset } from '../../src/firewall/plan-ruleset.ts';
import { formatRuleComment } from '../../src/firewall/rule-comment.ts';
import type { Ruleset } from '../../src/firewall/ruleset.ts';
import { formatIpAddress } from '../../src/net/ip-address.ts';
import { homeModel, modelWithRules } from '../../src/testing/firewall-models.ts';
import { ipFrame, ipPacket } from '../../src/testing/ip-frame.ts';
import { JudgedGateway, states, TIMEOUT_MS } from './judged-gateway.ts';
import {
  aimed,
  answerTo,
  anyPacket,
  anyTrafficClass,
  groupPackets,
  homePackets,
  martians,
  pick,
  ports,
  type Random,
  type Sent,
  sessionPackets,
  tablePackets,
  toPort,
  trafficClassOf,
} from './judged-packets.ts';

let gateway: JudgedGateway;

/** Anew for each ruleset, since conntrack would remember. */
beforeEach(async () => {
  gateway = await JudgedGateway.start('judgepacket');
});

afterEach(() => gateway.stop());

interface Meeting {
  /** `CHAIN COMMENT` of each rule that counted it. */
  readonly met: readonly string[];
  readonly action: string;
  readonly connection: string | undefined;
  readonly counters: ReadonlyMap<string, number>;
}

/** Sends one packet and compares. @param before the counters until now */
async function compare(
  sent: Sent,
  ruleset: Ruleset,
  before: ReadonlyMap<string, number>,
): Promise<Meeting> {
  gateway.drain();
  gateway.writeFrame(sent.facts.inputInterface, ipFrame(sent.frame));
  const observe = async () => {
    const counters = await gateway.readCounters();
    const moved = [...counters].filter(([rule, count]) => count !== before.get(rule));
    for (const [rule, count] of moved) assert.equal(count, (before.get(rule) ?? 0) + 1, rule);
    const rules = moved.map(([rule]) => rule);
    const connection = states.find((state) => rules.includes(`states ${state}`));
    const facts = { ...sent.facts, connection: connection ?? 'new' };
    const verdict = judgePacket(ruleset, facts);
    const expected = verdict.matched.map(nameOf);
    const met = rules.filter((rule) => !rule.startsWith('states '));
    return { met, expected, action: verdict.action, connection, counters };
  };
  const meeting = await waitFor(`the rules for ${describe(sent)}`, observe, {
    timeoutMs: TIMEOUT_MS,
    intervalMs: 2,
    until: ({ met, expected }) => withoutLogs(met) === withoutLogs(expected),
  });
  const out = sent.facts.outputInterface;
  if (out !== undefined && meeting.action === 'accept') {
    const description = `${describe(sent)} to leave by ${out}`;
    await waitFor(description, () => hasPassed(sent, out), { timeoutMs: TIMEOUT_MS });
  } else {
    assert.ok(out === undefined || !hasPassed(sent, out), `${describe(sent)} has left`);
  }
  return meeting;
}

function nameOf({ chain, origin }: MatchedRule): string {
  return `${chain} ${formatRuleComment(origin)}`;
}

/** A limit may keep a packet out of the log. */
function withoutLogs(rules: readonly string[]): string {
  return rules
    .filter((rule) => !/[/-]log(:|$)/.test(rule))
    .sort()
    .join('\n');
}

function describe({ facts, frame }: Sent): string {
  const { inputInterface, outputInterface = 'here', source, destination } = facts;
  const ends = `${formatIpAddress(source)} > ${formatIpAddress(destination)}`;
  const { quoted, ...content } = { quoted: undefined, ...frame.content };
  const about = quoted === undefined ? '' : ' about another';
  return (
    `${inputInterface} > ${outputInterface}, ${ends}, hop limit ${frame.hopLimit}, ` +
    `mark ${markOf(facts)}, ${JSON.stringify(content)}${about}`
  );
}

/** Whether the packet is among the frames that wait there: all behind the header is as it was. */
function hasPassed(sent: Sent, interfaceName: string): boolean {
  const headerBytes = sent.facts.source.family === 4 ? 20 : 40;
  // Without the fields that a router changes: time to live and checksum stand before the addresses.
  const unchanged = headerBytes === 20 ? 12 : 8;
  const wanted = Buffer.from(ipPacket(sent.frame)).subarray(unchanged);
  for (;;) {
    const frame = gateway.readFrame(interfaceName);
    if (frame === undefined) return false;
    const found = Buffer.from(frame).subarray(14 + unchanged, 14 + unchanged + wanted.length);
    if (found.equals(wanted)) return true;
  }
}

interface Comparison {
  readonly ruleset: Ruleset;
  readonly seed: number;
  readonly packetCount: number;
  /** Sent before those that chance makes. */
  readonly packets?: readonly Sent[];
  /** Default: packets of every kind. */
  readonly makePacket?: (random: Random) => Sent;
}

interface Summary {
  /** Of packets with each opinion of conntrack, and with each verdict. */
  readonly counts: ReadonlyMap<string, number>;
  /** Rules that no packet met. */
  readonly missed: readonly string[];
}

async function compareMany(comparison: Comparison): Promise<Summary> {
  const { ruleset, seed, packetCount, packets = [], makePacket = anyPacket } = comparison;
  await gateway.apply(ruleset);
  const random = seededRandom(seed);
  const rules = ruleset.chains.flatMap((chain) =>
    chain.rules.map(({ origin }) => nameOf({ chain: chain.name, origin })),
  );
  const hasMartianRules = rules.some((rule) => rule.includes('built-in martians'));
  const missed = new Set(rules);
  const counts = new Map<string, number>();
  const waiting: Sent[] = [...packets, ...groupPackets];
  let acceptedCount = 0;
  let counters = await gateway.readCounters();
  for (let index = 0; index < packetCount; index++) {
    const sent = waiting.pop() ?? makePacket(random);
    // Where no rule of ours refuses such a source, the kernel's routing does, and tells nobody.
    if (!hasMartianRules && martians.includes(formatIpAddress(sent.facts.source))) continue;
    const meeting = await compare(sent, ruleset, counters);
    counters = meeting.counters;
    for (const rule of meeting.met) missed.delete(rule);
    for (const word of [meeting.action, meeting.connection ?? 'dropped before']) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const trafficClass = anyTrafficClass(random);
    if (meeting.action === 'accept') acceptedCount++;
    // Answers may be answered, too, but not for ever.
    const isAnswered = meeting.action === 'accept' && acceptedCount % 2 === 0;
    const answer = isAnswered
      ? answerTo(sent, { isError: acceptedCount % 6 === 0, trafficClass })
      : undefined;
    if (answer !== undefined) waiting.push(answer);
  }
  return { counts, missed: [...missed] };
}

/** What no packet of this test can meet: it has no loopback, and conntrack knows every error. */
const unreachable = [
  'input built-in loopback',
  'input built-in icmp-errors/ipv4',
  'input built-in icmp-errors/ipv6',
];

function assertCounts(counts: Summary['counts'], least: Readonly<Record<string, number>>): void {
  for (const [word, count] of Object.entries(least)) {
    assert.ok((counts.get(word) ?? 0) >= count, `${word}: ${counts.get(word)} of ${count}`);
  }
}

/** Whose rules name no table: what those refuse would meet none of the others. */
function plainHome(forwardedTraffic: FirewallModel['forwardedTraffic']): FirewallModel {
  const { tables: _, ...model } = homeModel(forwardedTraffic);
  const rules = model.rules.filter(({ source = [], destination = [] }) => {
    return ![...source, ...destination].some((text) => text.startsWith('@'));
  });
  return { ...model, rules };
}

test('a home followed by conntrack judges packets as the judge does, by every rule', async () => {
  const ruleset = planRuleset(plainHome('conntrack'));
  const options = { seed: 1, packetCount: 200, packets: homePackets };
  const { counts, missed } = await compareMany({ ruleset, ...options });
  assert.deepEqual(missed, unreachable);
  assertCounts(counts, { accept: 30, drop: 80, reject: 10, new: 100, established: 4, related: 1 });
  assertCounts(counts, { invalid: 20, untracked: 6, 'dropped before': 3 });
});

test('a home followed by sessions judges packets as the judge does, by every rule', async () => {
  const ruleset = planRuleset(plainHome('sessions'));
  const replies = homePackets
    .map((sent) =>
      answerTo(sent, { isError: false, trafficClass: trafficClassOf({ packetKind: 'reply' }) }),
    )
    .filter((answer) => answer !== undefined);
  const packets = [...sessionPackets, ...replies, ...homePackets];
  const { counts, missed } = await compareMany({ ruleset, seed: 2, packetCount: 400, packets });
  assert.deepEqual(missed, [
    ...unreachable,
    // The WAN of this home has no such sources, whoever they want to speak to.
    'forward_requests built-in unique-local/from-wan-source',
    // Nobody sends so much here that a limit is reached.
    'forward built-in full/drop',
  ]);
  assertCounts(counts, { accept: 50, drop: 80, reject: 10, untracked: 80, new: 40, invalid: 10 });
});

for (const forwardedTraffic of ['conntrack', 'sessions'] as const) {
  test(`tables judge packets as the judge does, with ${forwardedTraffic}`, async () => {
    const ruleset = planRuleset(homeModel(forwardedTraffic));
    const options = { seed: 6, packetCount: 150, packets: [...tablePackets, ...homePackets] };
    const { counts, missed } = await compareMany({ ruleset, ...options });
    const named = missed.filter((name) => /rule (no_trouble|gateway_shut|friends_in)/.test(name));
    const isSessions = forwardedTraffic === 'sessions';
    const chain = isSessions ? 'forward_requests' : 'forward';
    const inward = ['ipv4-2', 'ipv4-3', 'ipv4-4', 'ipv6'];
    assert.deepEqual(named, [
      // The table of friends is empty, and what is in that of trouble is not in the server network.
      ...['ipv4-2-tcp', 'ipv4-2', 'ipv6-2-tcp', 'ipv6-2'].map((part) => {
        return `input rule gateway_shut/${part}`;
      }),
      ...inward.map((part) => `${chain} rule friends_in/${part}`),
      ...(isSessions ? inward.map((part) => `forward_replies rule friends_in/${part}-reply`) : []),
    ]);
    assertCounts(counts, { accept: 10, drop: 40, reject: 3 });
  });
}

for (const [title, ruleset] of [
  ['the default posture', defaultPosture()],
  ['the safe ruleset', safeRuleset(homeModel('conntrack'))],
] as const) {
  test(`${title} judges packets as the judge does, by every rule`, async () => {
    const options = { seed: 3, packetCount: 60, packets: homePackets };
    const { counts, missed } = await compareMany({ ruleset, ...options });
    assert.deepEqual(missed, unreachable);
    assertCounts(counts, { accept: 5, drop: 20 });
  });
}

for (const [seed, forwardedTraffic] of [
  [4, 'conntrack'],
  [5, 'sessions'],
] as const) {
  test(`random rules judge packets as the judge does, with ${forwardedTraffic}`, async () => {
    const random = seededRandom(seed);
    const home = homeModel(forwardedTraffic);
    const rules = Array.from({ length: 60 }, (_, index) => anyRule(random, index)).filter(
      (rule) => findModelFaults({ ...home, rules: [rule] }).length === 0,
    );
    const ruleset = planRuleset({ ...home, rules });
    const { counts } = await compareMany({ ruleset, seed, packetCount: 100 });
    assertCounts(counts, { accept: 20, drop: 20, reject: 5 });
  });
}

test('of many rules, the one that a packet meets is the one that the judge names', async () => {
  const names = Array.from({ length: 300 }, (_, index) => `r${index}`);
  const { rules } = modelWithRules(names);
  const ruleset = planRuleset({ ...homeModel('conntrack'), rules });
  const makePacket = (random: Random) => {
    const index = Math.floor(random() * names.length);
    const port = index + 1 + pick(random, [0, 0, 1, 2, -1]);
    const destination = `198.51.${Math.trunc(index / 256)}.${index % 256}`;
    return aimed('br-lan', '10.77.0.9', 'wan0', destination, toPort('tcp', port));
  };
  const { counts, missed } = await compareMany({ ruleset, seed: 6, packetCount: 50, makePacket });
  assertCounts(counts, { accept: 10, drop: 10 });
  const metCount = names.length - missed.filter((rule) => rule.startsWith('forward rule')).length;
  assert.ok(metCount >= 10, `${metCount}`);
});

function anyRule(random: Random, index: number): FirewallRule {
  const sometimes = <T extends object>(part: T): T | object => (random() < 0.4 ? part : {});
  const ends = ['lan', 'guests', 'dmz', 'wan', 'any'] as const;
  const prefixes = [
    ...['10.77.0.0/26', '10.77.0.64/26', '10.78.0.0/24', '192.0.2.0/24', '0.0.0.0/0'],
    ...['2001:db8:1::/64', '2001:db8::/33', '::/0', '10.79.0.8/30', '198.51.100.254'],
  ];
  const some = <T>(values: readonly T[]) => [pick(random, values), pick(random, values)];
  const withPorts: readonly Protocol[] = ['tcp', 'udp', 'sctp'];
  const others: readonly Protocol[] = ['icmp', 'icmpv6', 'esp', 'ah', 'gre', 'tcp'];
  const port = () => {
    const first = pick(random, ports);
    return { first, last: first + pick(random, [0, 1, 100]) };
  };
  const protocols =
    random() < 0.5
      ? { protocols: some(withPorts), ports: [port(), port()] }
      : { protocols: some(others) };
  return {
    name: `r${index}`,
    action: pick(random, ['accept', 'drop', 'reject'] as const),
    ...sometimes({ from: pick(random, ends) }),
    ...sometimes({ to: pick(random, [...ends, 'gateway']) }),
    ...sometimes({ source: some(prefixes) }),
    ...sometimes({ destination: some(prefixes) }),
    ...(random() < 0.8 ? protocols : {}),
  };
}
