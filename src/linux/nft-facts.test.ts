import assert from 'node:assert/strict';
import { test } from 'node:test';
import { otherFirewallsOf } from './nft-facts.ts';

function chain(family: string, table: string, name: string, hook?: string) {
  return { chain: { family, table, name, handle: 1, ...(hook === undefined ? {} : { hook }) } };
}

function listing(...chains: readonly object[]): string {
  return JSON.stringify({ nftables: [{ metainfo: { version: '1.0.6' } }, ...chains] });
}

test("tables of others that see packets are named with their owner's name", () => {
  const text = listing(
    chain('inet', 'gatehouse', 'input', 'input'),
    chain('ip', 'nat', 'PREROUTING', 'prerouting'),
    chain('ip', 'nat', 'DOCKER'),
    chain('ip6', 'filter', 'ufw6-user-input'),
    chain('ip6', 'filter', 'INPUT', 'input'),
    chain('inet', 'firewalld', 'filter_INPUT', 'input'),
    chain('inet', 'mine', 'forward', 'forward'),
    chain('inet', 'idle', 'unused'),
    chain('ip', 'gatehouse', 'input', 'input'),
  );
  assert.deepEqual(otherFirewallsOf(text), [
    { owner: 'firewalld', table: 'inet firewalld', seesForwarded: false },
    { table: 'inet mine', seesForwarded: true },
    { table: 'ip gatehouse', seesForwarded: false },
    { owner: 'docker', table: 'ip nat', seesForwarded: true },
    { owner: 'ufw', table: 'ip6 filter', seesForwarded: false },
  ]);
});

test('a kernel without rules has no other firewall', () => {
  assert.deepEqual(otherFirewallsOf(listing()), []);
});
