import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Prefix, prefixOf, requirePrefix } from '../net/prefix.ts';
import {
  formatNftPrefix,
  formatTablePrefix,
  outermostPrefixes,
  PrefixSet,
} from './table-prefixes.ts';

const prefixes = fc.array(
  fc
    .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(0xff), fc.integer({ min: 22, max: 32 }))
    .map(([family, bits, length]) => prefixOf({ family, bits: BigInt(bits) << 2n }, length)),
  { maxLength: 30 },
);

function liesIn(inner: Prefix, outer: Prefix): boolean {
  const { family, bits } = inner;
  if (family !== outer.family || inner.length <= outer.length) return false;
  return prefixOf({ family, bits }, outer.length).bits === outer.bits;
}

function texts(some: readonly Prefix[]): string[] {
  return some.map(formatTablePrefix).sort();
}

test('of prefixes that lie in others the outermost are left, in order and each once', () => {
  const few = ['10.0.0.0/8', '10.1.0.0/16', '192.0.2.1', '::/0', '192.0.2.1/32', '10.0.0.0/8'];
  assert.deepEqual(outermostPrefixes(few.map(requirePrefix)).map(formatTablePrefix), [
    ...['10.0.0.0/8', '192.0.2.1', '::/0'],
  ]);
  fc.assert(
    fc.property(prefixes, (all) => {
      const outermost = all.filter((one) => !all.some((other) => liesIn(one, other)));
      assert.deepEqual(texts(outermostPrefixes(all)), [...new Set(texts(outermost))]);
    }),
  );
});

test('a set knows what lies in a prefix and in what a prefix lies, whatever came and went', () => {
  fc.assert(
    fc.property(prefixes, prefixes, prefixes, (added, removed, asked) => {
      const set = new PrefixSet();
      for (const one of added) set.add(one);
      for (const one of removed) set.delete(one);
      const gone = texts(removed);
      const left = new Map(added.map((one) => [formatTablePrefix(one), one]));
      for (const text of gone) left.delete(text);
      assert.deepEqual(texts([...set]), [...left.keys()].sort());
      for (const one of asked) {
        assert.equal(set.has(one), left.has(formatTablePrefix(one)));
        assert.equal(
          set.covers(one),
          [...left.values()].some((other) => liesIn(one, other)),
        );
        const within = [...left.values()].filter((other) => liesIn(other, one));
        assert.deepEqual(texts(set.within(one)), texts(within));
      }
    }),
  );
});

test('single addresses stand without a length, and as nft writes them where it is asked', () => {
  for (const [text, inNft] of [
    ['192.0.2.1', '192.0.2.1'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['::102:304', '::1.2.3.4'],
    ['2001:db8::/32', '2001:db8::/32'],
  ] as const) {
    assert.equal(formatTablePrefix(requirePrefix(text)), text);
    assert.equal(formatNftPrefix(requirePrefix(text)), inNft);
  }
});
