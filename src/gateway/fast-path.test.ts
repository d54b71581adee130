import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../config/parse-config.ts';
import { type FastPathFacts, fastPathOf, obstacleIn } from './fast-path.ts';

test('each interface has the fast path that the config asks for, and the reason', () => {
  const text = `version: 1
networks:
  lan: { interfaces: [lan0], address: 10.77.0.1/24 }
  guests: { interfaces: [lan1], address: 10.78.0.1/24 }
dataplane: { fastPath: off, interfaces: { lan0: { fastPath: tc }, lan1: { fastPath: xdp } } }
`;
  const { config, problems } = parseConfig(text, { fileName: 'x' });
  assert.ok(config, JSON.stringify(problems));
  const asked = ['lan0', 'lan1', 'wan0'].map((name) => fastPathOf(config, name));
  assert.deepEqual(asked, [
    { at: 'tc', reason: 'as the config says' },
    { at: 'tc', reason: 'since there is none at XDP yet' },
    { at: 'off', reason: 'as the config says' },
  ]);
});

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
