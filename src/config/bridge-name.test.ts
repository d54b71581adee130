import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bridgeNameOf } from './bridge-name.ts';
import { namePattern } from './schema-fields.ts';
import { textFormats } from './text-formats.ts';

test('a short name is kept whole', () => {
  assert.equal(bridgeNameOf('lan'), 'br-lan');
  assert.equal(bridgeNameOf('twelve_bytes'), 'br-twelve_bytes');
});

test('a longer name is cut, and names that begin alike have bridges of their own', () => {
  assert.equal(bridgeNameOf('guests_of_the_house'), 'br-gue-0po22dr0');
  const names = Array.from({ length: 10_000 }, (_, index) => `guests_of_floor_${index}`);
  assert.equal(new Set(names.map(bridgeNameOf)).size, names.length);
});

test('every name of a network gives a name that an interface can have', () => {
  fc.assert(
    fc.property(fc.stringMatching(new RegExp(namePattern)), (name) => {
      const bridge = bridgeNameOf(name);
      assert.equal(textFormats['interface-name'].parse(bridge), bridge);
      assert.equal(bridgeNameOf(name), bridge);
      assert.equal(bridge.slice(3).includes('-'), name.length > 12);
    }),
  );
});
