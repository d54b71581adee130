import assert from 'node:assert/strict';
import { BlockList } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpAddress, requireIpAddress } from './ip-address.ts';
import {
  formatInterfaceAddress,
  formatPrefix,
  isHostAddress,
  lastAddressOf,
  parseInterfaceAddress,
  parsePrefix,
  prefixesOverlap,
  prefixHasAddress,
  prefixOf,
  requireInterfaceAddress,
  requirePrefix,
} from './prefix.ts';

const address = fc
  .constantFrom<[4 | 6, number]>([4, 32], [6, 128])
  .chain(([family, width]) =>
    fc
      .tuple(fc.bigInt({ min: 0n, max: 2n ** BigInt(width) - 1n }), fc.nat(width))
      .map(([bits, length]) => ({ address: { family, bits }, length })),
  );

test('every prefix and every address of an interface is read back from its text', () => {
  fc.assert(
    fc.property(address, ({ address, length }) => {
      const prefix = prefixOf(address, length);
      assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
      const both = { address, prefix };
      assert.deepEqual(parseInterfaceAddress(formatInterfaceAddress(both)), both);
    }),
  );
});

test('an address lies in a prefix exactly where another implementation says so', () => {
  fc.assert(
    fc.property(address, address, (one, other) => {
      const prefix = prefixOf(one.address, one.length);
      const list = new BlockList();
      const family = one.address.family === 4 ? 'ipv4' : 'ipv6';
      list.addSubnet(formatIpAddress(prefix), prefix.length, family);
      for (const candidate of [one.address, other.address]) {
        if (candidate.family !== prefix.family) {
          assert.equal(prefixHasAddress(prefix, candidate), false);
          continue;
        }
        const wanted = list.check(formatIpAddress(candidate), family);
        assert.equal(prefixHasAddress(prefix, candidate), wanted);
      }
    }),
  );
});

test('two prefixes overlap where one holds an end of the other', () => {
  fc.assert(
    fc.property(address, address, (one, other) => {
      const left = prefixOf(one.address, one.length);
      const right = prefixOf(other.address, other.length);
      const wanted = prefixHasAddress(left, right) || prefixHasAddress(right, left);
      assert.equal(prefixesOverlap(left, right), wanted);
      assert.equal(prefixesOverlap(right, left), wanted);
    }),
  );
});

test('a prefix with bits behind its length is refused, an address alone is its own', () => {
  assert.equal(parsePrefix('192.0.2.1/24'), undefined);
  assert.equal(parsePrefix('2001:db8::1/64'), undefined);
  assert.equal(formatPrefix(requirePrefix('192.0.2.1')), '192.0.2.1/32');
  assert.equal(formatPrefix(requirePrefix('2001:db8::1')), '2001:db8::1/128');
});

test('what is no prefix is refused', () => {
  for (const text of [
    '',
    '/',
    '/24',
    '192.0.2.0/',
    '192.0.2.0/33',
    '192.0.2.0/024',
    '192.0.2.0/-1',
    '192.0.2.0/24/24',
    '192.0.2.0/255.255.255.0',
    '192.0.2/24',
    '2001:db8::/129',
    '192.0.2.0 /24',
    '192.0.2.0/2４',
  ]) {
    assert.equal(parsePrefix(text), undefined, text);
    assert.equal(parseInterfaceAddress(text), undefined, text);
  }
  assert.equal(parseInterfaceAddress('192.0.2.1'), undefined);
});

test("a host has neither the network's first address nor IPv4's broadcast address", () => {
  const of = (text: string) => isHostAddress(requireInterfaceAddress(text));
  assert.deepEqual(['10.0.0.0/24', '10.0.0.255/24', '2001:db8::/64'].map(of), [
    false,
    false,
    false,
  ]);
  assert.deepEqual(['10.0.0.1/24', '2001:db8::ffff:ffff:ffff:ffff/64'].map(of), [true, true]);
  assert.deepEqual(['10.0.0.0/31', '10.0.0.1/31', '10.0.0.9/32'].map(of), [true, true, true]);
});

test('the last address of a prefix is its highest', () => {
  assert.deepEqual(lastAddressOf(requirePrefix('10.0.0.0/23')), requireIpAddress('10.0.1.255'));
  assert.deepEqual(lastAddressOf(requirePrefix('::1/128')), requireIpAddress('::1'));
});
