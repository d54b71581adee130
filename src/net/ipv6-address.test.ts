import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv6Address, ipv6Address, parseIpv6Address } from './ipv6-address.ts';

function canonical(text: string): string | undefined {
  const address = parseIpv6Address(text);
  return address === undefined ? undefined : formatIpv6Address(address);
}

test('every address is read back from its text', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), (bits) => {
      const address = ipv6Address(bits);
      assert.equal(parseIpv6Address(formatIpv6Address(address)), address);
    }),
  );
});

test('addresses full of zeros are read back, too', () => {
  const group = fc.constantFrom(0, 0, 0, 1, 0xffff);
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const bits = groups.reduce((sum, one) => (sum << 16n) | BigInt(one), 0n);
      assert.equal(parseIpv6Address(formatIpv6Address(ipv6Address(bits))), bits);
    }),
  );
});

test('what is read is what the C library reads', () => {
  const word = fc.constantFrom(
    '0',
    '1',
    'ffff',
    '00a',
    '10000',
    'g',
    '',
    ':',
    '192.0.2.1',
    '1.2.3',
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 10 }), (words) => {
      const text = words.join(':');
      assert.equal(parseIpv6Address(text) !== undefined, isIPv6(text), text);
    }),
    { numRuns: 1000 },
  );
});

test('the examples of RFC 4291 §2.2 are read', () => {
  for (const [text, wanted] of [
    ['ABCD:EF01:2345:6789:ABCD:EF01:2345:6789', 'abcd:ef01:2345:6789:abcd:ef01:2345:6789'],
    ['2001:DB8:0:0:8:800:200C:417A', '2001:db8::8:800:200c:417a'],
    ['FF01:0:0:0:0:0:0:101', 'ff01::101'],
    ['0:0:0:0:0:0:0:1', '::1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['0:0:0:0:0:0:13.1.68.3', '::d01:4403'],
    ['::FFFF:129.144.52.38', '::ffff:129.144.52.38'],
  ] as const) {
    assert.equal(canonical(text), wanted);
  }
});

test('the examples of RFC 5952 §4 are written as it asks', () => {
  for (const [text, wanted] of [
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::AAAA', '2001:db8::aaaa'],
  ] as const) {
    assert.equal(canonical(text), wanted);
  }
});

test('what is no address, or has a zone, is refused', () => {
  for (const text of [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8:9',
    '::1:2:3:4:5:6:7:8',
    '12345::',
    'fe80::1%eth0',
    '[::1]',
    ' ::1',
    '::1 ',
    '::ffff:01.2.3.4',
    '::1.2.3.4:5',
    '1.2.3.4::',
    '::１',
    `::${'0'.repeat(60)}`,
  ]) {
    assert.equal(parseIpv6Address(text), undefined, text);
  }
});
