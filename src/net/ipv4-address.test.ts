import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIpv4Address, ipv4Address, parseIpv4Address } from './ipv4-address.ts';

test('every address is read back from its text', () => {
  fc.assert(
    fc.property(fc.nat(0xffff_ffff), (bits) => {
      const address = ipv4Address(bits);
      assert.equal(parseIpv4Address(formatIpv4Address(address)), address);
    }),
  );
});

test('the first octet is the highest', () => {
  assert.equal(parseIpv4Address('192.0.2.1'), 0xc000_0201);
  assert.equal(formatIpv4Address(ipv4Address(0xffff_fffe)), '255.255.255.254');
});

test('text that another reader could take for another address is refused', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '1.2.3.256',
    '0x1.2.3.4',
    '1.2.3.4 ',
    '1..3.4',
    '1e1.2.3.4',
    '-1.2.3.4',
    '１.2.3.4',
  ]) {
    assert.equal(parseIpv4Address(text), undefined, text);
  }
});
