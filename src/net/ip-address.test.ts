import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatIpAddress,
  isLoopback,
  isSameAddress,
  isUnspecified,
  parseIpAddress,
  requireIpAddress,
} from './ip-address.ts';

test('either family is read and written', () => {
  for (const text of ['192.0.2.1', '0.0.0.0', '2001:db8::1', '::']) {
    assert.equal(formatIpAddress(requireIpAddress(text)), text);
  }
});

test('an IPv4 address and an IPv6 address of the same number differ', () => {
  const four = requireIpAddress('0.0.0.1');
  const six = requireIpAddress('::1');
  assert.equal(four.bits, six.bits);
  assert.equal(isSameAddress(four, six), false);
  assert.equal(isSameAddress(six, requireIpAddress('0::1')), true);
});

test('loopback is 127.0.0.0/8 and ::1, nothing else', () => {
  const loopback = ['127.0.0.1', '127.255.255.255', '::1'];
  const others = ['126.255.255.255', '128.0.0.0', '::2', '0.0.0.1', '::7f00:1'];
  for (const text of loopback) assert.equal(isLoopback(requireIpAddress(text)), true, text);
  for (const text of others) assert.equal(isLoopback(requireIpAddress(text)), false, text);
});

test('the unspecified address of each family is known', () => {
  assert.equal(isUnspecified(requireIpAddress('0.0.0.0')), true);
  assert.equal(isUnspecified(requireIpAddress('::')), true);
  assert.equal(isUnspecified(requireIpAddress('::1')), false);
});

test('what is no address is refused, with its text', () => {
  for (const text of ['', 'localhost', '010.0.0.1', '1.2.3', '1', '::g', '1.2.3.4/8']) {
    assert.equal(parseIpAddress(text), undefined, text);
  }
  assert.throws(() => requireIpAddress('1.2.3'), /not an IP address: "1.2.3"/);
});
