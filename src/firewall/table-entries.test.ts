import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Prefix, prefixOf, requirePrefix } from '../net/prefix.ts';
import type { Ruleset } from './ruleset.ts';
import { type SetChange, TableEntries } from './table-entries.ts';
import { formatTablePrefix, outermostPrefixes } from './table-prefixes.ts';

function rulesetWith(addresses: readonly Prefix[]): Ruleset {
  const outermost = outermostPrefixes(addresses);
  const set = (family: 4 | 6) => ({
    table: 'bad',
    family,
    prefixes: outermost.filter((prefix) => prefix.family === family),
  });
  return { sets: [set(4), set(6)], chains: [] };
}

/** `-10.0.0.1 +10.0.0.0/8`, in order. */
function inWords(changes: readonly SetChange[] | undefined): string {
  const words = (changes ?? []).flatMap(({ removed, added }) => [
    ...removed.map((prefix) => `-${formatTablePrefix(prefix)}`),
    ...added.map((prefix) => `+${formatTablePrefix(prefix)}`),
  ]);
  return words.sort().join(' ');
}

const address = (text: string) => ({ prefix: requirePrefix(text) });

test('what lies in another entry is no change, and comes back when that one goes', () => {
  const entries = new TableEntries();
  entries.follow(rulesetWith([requirePrefix('192.0.2.0/24')]));
  assert.equal(inWords(entries.add('bad', address('192.0.2.7'))), '');
  assert.equal(inWords(entries.add('bad', address('10.0.0.1'))), '+10.0.0.1');
  assert.equal(inWords(entries.add('bad', address('10.0.0.0/24'))), '+10.0.0.0/24 -10.0.0.1');
  assert.equal(inWords(entries.add('bad', address('10.0.0.0/8'))), '+10.0.0.0/8 -10.0.0.0/24');
  assert.equal(inWords(entries.remove('bad', requirePrefix('10.0.0.0/24'))), '');
  const back = inWords(entries.remove('bad', requirePrefix('10.0.0.0/8')));
  assert.equal(back, '+10.0.0.1 -10.0.0.0/8');
  assert.equal(inWords(entries.remove('bad', requirePrefix('192.0.2.7'))), '');
  assert.equal(entries.remove('bad', requirePrefix('192.0.2.7')), undefined);
  assert.equal(entries.remove('bad', requirePrefix('192.0.2.0/24')), undefined);
});

test('entries end when their time is over, those of one moment as one change', () => {
  const entries = new TableEntries();
  entries.follow(rulesetWith([]));
  entries.add('bad', { ...address('10.0.0.0/8'), expiresAt: 100 });
  entries.add('bad', { ...address('10.0.0.1'), expiresAt: 100 });
  entries.add('bad', { ...address('10.0.0.2'), expiresAt: 200 });
  entries.add('bad', { ...address('2001:db8::1'), expiresAt: 100 });
  assert.equal(entries.nextExpiry(), 100);
  assert.deepEqual(entries.expire(99), { expired: [], changes: [] });
  const { expired, changes } = entries.expire(100);
  assert.equal(expired.length, 3);
  assert.equal(inWords(changes), '+10.0.0.2 -10.0.0.0/8 -2001:db8::1');
  assert.equal(entries.nextExpiry(), 200);
  entries.add('bad', address('10.0.0.2'));
  assert.equal(entries.nextExpiry(), undefined, 'it stays without an end now');
  assert.equal(entries.count, 1);
});

const prefix = fc
  .tuple(fc.constantFrom(4 as const, 6 as const), fc.nat(0x3f), fc.integer({ min: 25, max: 32 }))
  .map(([family, bits, length]) => prefixOf({ family, bits: BigInt(bits) }, length));
const step = fc.oneof(
  fc.record({
    kind: fc.constant('add' as const),
    prefix,
    expiresAt: fc.option(fc.nat(50), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('remove' as const), prefix }),
  fc.record({ kind: fc.constant('expire' as const), now: fc.nat(50) }),
  fc.record({ kind: fc.constant('follow' as const), fixed: fc.array(prefix, { maxLength: 6 }) }),
);

test('a set that takes every change has at any time what the table has, and no overlap', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const entries = new TableEntries();
      const kernel = new Set<string>();
      let fixed: readonly Prefix[] = [];
      entries.follow(rulesetWith(fixed));
      const perform = (changes: readonly SetChange[]) => {
        for (const change of changes) {
          for (const one of change.removed) assert.ok(kernel.delete(formatTablePrefix(one)));
          for (const one of change.added) {
            assert.equal(one.family, change.family);
            assert.ok(!kernel.has(formatTablePrefix(one)));
            kernel.add(formatTablePrefix(one));
          }
        }
      };
      for (const one of steps) {
        if (one.kind === 'follow') {
          fixed = one.fixed;
          kernel.clear();
          for (const set of entries.follow(rulesetWith(fixed)).sets ?? []) {
            for (const there of set.prefixes) kernel.add(formatTablePrefix(there));
          }
        } else if (one.kind === 'expire') perform(entries.expire(one.now).changes);
        else if (one.kind === 'remove') perform(entries.remove('bad', one.prefix) ?? []);
        else {
          const { expiresAt } = one;
          const time = expiresAt === undefined ? {} : { expiresAt };
          perform(entries.add('bad', { prefix: one.prefix, ...time }));
        }
        const all = [...fixed, ...entries.entriesOf('bad').map((entry) => entry.prefix)];
        const expected = outermostPrefixes(all).map(formatTablePrefix);
        assert.deepEqual([...kernel].sort(), expected.sort());
        assert.equal(entries.count, entries.entriesOf('bad').length);
      }
    }),
  );
});

test('entries of a table that the ruleset has no sets of wait for one that has', () => {
  const entries = new TableEntries();
  entries.follow({ chains: [] });
  entries.add('bad', address('10.0.0.1'));
  entries.add('gone', address('10.0.0.2'));
  const { sets } = entries.follow(rulesetWith([requirePrefix('10.0.0.0/31')]));
  assert.deepEqual(
    sets?.map(({ prefixes }) => prefixes.map(formatTablePrefix)),
    [['10.0.0.0/31'], []],
  );
  assert.deepEqual(entries.tables, ['bad', 'gone']);
});

test('what a prefix lies in is told: the widest entry, or itself', () => {
  const entries = new TableEntries();
  entries.follow(rulesetWith([requirePrefix('10.0.0.0/8')]));
  entries.add('bad', address('10.1.0.0/16'));
  entries.add('bad', address('192.0.2.1'));
  const cover = (text: string) => entries.coverOf('bad', requirePrefix(text));
  assert.deepEqual(cover('10.1.2.3'), requirePrefix('10.0.0.0/8'));
  assert.deepEqual(cover('192.0.2.1'), requirePrefix('192.0.2.1'));
  assert.equal(cover('192.0.2.2'), undefined);
  assert.equal(entries.coverOf('none', requirePrefix('::1')), undefined);
});
