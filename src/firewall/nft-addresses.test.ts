import assert from 'node:assert/strict';
import { BlockList, isIPv6, SocketAddress } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  asPrefix,
  formatAddresses,
  formatNftAddress,
  mergeAddressRanges,
  parseAddresses,
} from './nft-addresses.ts';

function canonical(text: string): string | undefined {
  const range = parseAddresses(text);
  return range && formatAddresses(range);
}

test('prefixes are read and printed as nft prints them', () => {
  const texts = {
    '10.77.0.1/24': '10.77.0.0/24',
    '10.77.0.1': '10.77.0.1',
    '10.77.0.1/32': '10.77.0.1',
    '0.0.0.0/0': '0.0.0.0/0',
    '2001:DB8:0:0:1:0:0:1': '2001:db8::1:0:0:1',
    '2001:db8:1::66/64': '2001:db8:1::/64',
    '::/0': '::/0',
    '::1': '::1',
    '::ffff:192.0.2.1': '::ffff:192.0.2.1',
    '::ffff:0:0/96': '::ffff:0.0.0.0/96',
    '::1.2.3.4': '::1.2.3.4',
    '1:0:0:2:0:0:0:3': '1:0:0:2::3',
    '1:2:3:4:5:6:7:8': '1:2:3:4:5:6:7:8',
    'fe80::': 'fe80::',
  };
  for (const [text, expected] of Object.entries(texts)) assert.equal(canonical(text), expected);
});

test('what is no prefix is refused', () => {
  const texts = [
    ...['', '10.0.0', '10.0.0.01', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/8/8'],
    ...['10.0.0.0/-1', '10.0.0.0/8 ', 'example.net', ':', ':::', '1::2::3', '::1%eth0', '::/129'],
    ...['1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7::8', '12345::', 'g::', '1.2.3.4::'],
    ...['::1.2.3', '::1.2.3.4:5', '1:2:3:4:5:6:7:1.2.3.4', '10.0.0.1-10.0.0.2'],
  ];
  for (const text of texts) assert.equal(parseAddresses(text), undefined, text);
});

test("IPv6 addresses read and print as Node's own library reads and prints them", () => {
  const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const bits = groups.reduce((sum, word) => (sum << 16n) | BigInt(word), 0n);
      const text = formatNftAddress({ family: 6, bits });
      assert.ok(isIPv6(text), text);
      assert.equal(new SocketAddress({ address: text, family: 'ipv6' }).address, text);
      assert.deepEqual(parseAddresses(text), {
        first: { family: 6, bits },
        last: { family: 6, bits },
      });
    }),
  );
});

test('merged ranges hold the same addresses, in order and apart', () => {
  const prefix = fc
    .tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 24, max: 32 }))
    .map(([host, length]) => `192.0.2.${host}/${length}`);
  fc.assert(
    fc.property(fc.array(prefix, { maxLength: 12 }), (texts) => {
      const list = new BlockList();
      const parsed = texts.map((text) => {
        const [address = '', length] = text.split('/');
        list.addSubnet(address, Number(length), 'ipv4');
        const range = parseAddresses(text);
        assert.ok(range !== undefined);
        assert.equal(asPrefix(range)?.length, Number(length));
        return range;
      });
      const merged = mergeAddressRanges(parsed);
      for (const [index, range] of merged.entries()) {
        const before = merged[index - 1];
        assert.ok(before === undefined || range.first.bits > before.last.bits + 1n);
      }
      for (let host = 0n; host < 256n; host++) {
        const bits = 0xc000_0200n + host;
        const isIn = merged.some(({ first, last }) => first.bits <= bits && bits <= last.bits);
        assert.equal(isIn, list.check(formatNftAddress({ family: 4, bits }), 'ipv4'));
      }
    }),
  );
});
