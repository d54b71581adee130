import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../config/parse-config.ts';
import type { Config } from '../config/schema.ts';
import {
  type FastPathFacts,
  fastPathInForce,
  fastPathOf,
  fastPathsOf,
  obstacleIn,
  type PortFacts,
} from './fast-path.ts';

test('each interface has the fast path that the config asks for, and the reason', () => {
  const text = `version: 1
networks:
  lan: { interfaces: [lan0], address: 10.77.0.1/24 }
  guests: { interfaces: [lan1], address: 10.78.0.1/24 }
dataplane: { fastPath: off, interfaces: { lan0: { fastPath: tc }, lan1: { fastPath: xdp } } }
`;
  const config = configOf(text);
  const asked = ['lan0', 'lan1', 'wan0'].map((name) => fastPathOf(config, name, card));
  const reason = 'as the config says';
  assert.deepEqual(asked, [
    { at: 'tc', reason },
    { at: 'xdp', reason },
    { at: 'off', reason },
  ]);
  const pair = fastPathOf(config, 'lan1', { ...noCard, kind: 'veth' });
  assert.equal(pair.at, 'xdp');
  assert.match(pair.reason, /as the config says; .* checksums/);
});

test('of itself, the fast path is at XDP where a card with native XDP queues plainly', () => {
  assert.deepEqual(auto(card), { at: 'xdp', reason: 'since its driver has it' });
  const others: readonly (readonly [PortFacts | undefined, RegExp])[] = [
    [undefined, /until it is there/],
    [{ ...noCard, kind: 'veth' }, /virtual interface \(veth\)/],
    [noCard, /virtual interface$/],
    [{ ...card, kind: 'vlan' }, /virtual interface \(vlan\)/],
    [{ ...card, driver: 'virtio_net' }, /virtual machine's \(virtio_net\)/],
    [{ ...card, isWireless: true }, /wireless/],
    [{ ...card, sharedWith: 'lan0.7' }, /lan0\.7 has packets of it/],
    [{ ...card, queueing: 'htb' }, /queue \(htb\)/],
    [{ ...card, isNative: false }, /\(ice\) has no native XDP/],
    [noAnswer, /the kernel does not tell/],
  ];
  for (const [facts, reason] of others) {
    assert.equal(auto(facts).at, 'tc', `${reason}`);
    assert.match(auto(facts).reason, reason);
  }
  for (const queueing of ['noqueue', 'mq', 'pfifo_fast', 'fq', 'fq_codel']) {
    assert.equal(auto({ ...card, queueing }).at, 'xdp', queueing);
  }
});

test('one interface at XDP would be alone there, two are not', () => {
  const paths = (ports: Record<string, PortFacts>) =>
    [...fastPathsOf(autoConfig, new Map(Object.entries(ports)))].map(([name, { at, reason }]) => [
      name,
      `${at} ${reason}`,
    ]);
  assert.deepEqual(paths({ a: card, b: noCard }), [
    ['a', 'tc since at XDP it would be alone'],
    ['b', 'tc since it is a virtual interface'],
  ]);
  assert.deepEqual(paths({ a: card, b: card, c: noCard }), [
    ['a', 'xdp since its driver has it'],
    ['b', 'xdp since its driver has it'],
    ['c', 'tc since it is a virtual interface'],
  ]);
});

test('what cannot be at XDP after all is at tc, and says why', () => {
  const planned = { at: 'xdp', reason: 'as the config says' } as const;
  const off = { at: 'off', reason: 'as the config says' } as const;
  const refused = { state: 'refused', why: 'since the program mine is at XDP there' } as const;
  assert.deepEqual(fastPathInForce(planned, { state: 'attached' }), planned);
  assert.deepEqual(fastPathInForce(planned, refused), { at: 'tc', reason: refused.why });
  assert.equal(fastPathInForce(planned, undefined).at, 'tc');
  assert.deepEqual(fastPathInForce(off, undefined), off);
});

function configOf(text: string): Config {
  const { config, problems } = parseConfig(text, { fileName: 'x' });
  return config ?? assert.fail(JSON.stringify(problems));
}

const autoConfig = configOf('version: 1\n');
const auto = (facts: PortFacts | undefined) => fastPathOf(autoConfig, 'eth0', facts);
const noCard: PortFacts = { isWireless: false, queueing: 'noqueue', isNative: true };
const card: PortFacts = { ...noCard, driver: 'ice', queueing: 'mq' };
const noAnswer: PortFacts = { driver: 'ice', isWireless: false, queueing: 'mq' };

const none: FastPathFacts = { others: [], isIpsecUsed: false, isRoutedByMark: false };
const docker = { table: 'ip filter', owner: 'docker', seesForwarded: true };

test('rules of others that may judge forwarded packets are in the way, and named', () => {
  const harmless = { table: 'inet f2b', owner: 'fail2ban', seesForwarded: false };
  assert.equal(obstacleIn(none), undefined);
  assert.equal(obstacleIn({ ...none, others: [harmless] }), undefined);
  const mine = { table: 'inet mine', seesForwarded: true };
  assert.equal(
    obstacleIn({ ...none, others: [harmless, docker, mine] }),
    'since table ip filter (docker) and 1 more may judge forwarded packets',
  );
  const long = { table: 'x'.repeat(5_000), seesForwarded: true };
  assert.ok((obstacleIn({ ...none, others: [long] })?.length ?? 0) < 300);
});

test('IPsec and routing by marks are in the way, and the first obstacle is told', () => {
  const ipsec = 'since IPsec policies may apply to forwarded packets';
  const marks = 'since routing rules go by packet marks';
  assert.equal(obstacleIn({ ...none, isIpsecUsed: true }), ipsec);
  assert.equal(obstacleIn({ ...none, isRoutedByMark: true }), marks);
  const both = { isIpsecUsed: true, isRoutedByMark: true };
  assert.equal(obstacleIn({ ...none, ...both }), ipsec);
  assert.match(obstacleIn({ others: [docker], ...both }) ?? '', /docker/);
});
