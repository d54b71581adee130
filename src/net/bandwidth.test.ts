import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bandwidth, formatBandwidth, parseBandwidth, requireBandwidth } from './bandwidth.ts';

test('every bandwidth is read back from its text', () => {
  const thousands = fc
    .tuple(fc.nat(99_999), fc.nat(9))
    .map(([digits, zeros]) => digits * 10 ** zeros);
  fc.assert(
    fc.property(fc.oneof(fc.nat(2 ** 31), thousands), (bits) => {
      const rate = bandwidth(bits);
      assert.equal(parseBandwidth(formatBandwidth(rate)), rate);
    }),
  );
});

test('units are decimal, and speeds that are sold are written as they are sold', () => {
  for (const [text, bits] of [
    ['0bit/s', 0],
    ['64kbit/s', 64_000],
    ['100Mbit/s', 100_000_000],
    ['2.5Gbit/s', 2_500_000_000],
    ['1Tbit/s', 1_000_000_000_000],
  ] as const) {
    assert.equal(requireBandwidth(text), bits);
    assert.equal(formatBandwidth(bandwidth(bits)), text);
  }
});

test('what is no bandwidth, or none in whole bits, is refused', () => {
  for (const text of [
    '',
    '1',
    '1G',
    '1Gb/s',
    '1GB/s',
    '1gbit/s',
    '1 Gbit/s',
    '1,5Gbit/s',
    '1.Gbit/s',
    '.5Gbit/s',
    '1.2345Gbit/s',
    '0.5bit/s',
    '-1Mbit/s',
    '01Mbit/s',
    '999999999999999Tbit/s',
  ]) {
    assert.equal(parseBandwidth(text), undefined, text);
  }
});
