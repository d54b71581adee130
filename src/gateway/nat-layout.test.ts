import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatSession } from '../abi/layouts.generated.ts';
import { digestOf, natLayout } from './nat-layout.ts';

test('a field that moves, and one that means something else, make another layout', () => {
  const { killed, refreshed } = NatSession.fields;
  const digests = [
    { killed, refreshed },
    { killed: refreshed, refreshed: killed },
    { killed: { ...killed, type: 'u16' }, refreshed },
    { killed },
  ].map(digestOf);
  assert.equal(new Set(digests).size, 4);
  assert.equal(digestOf({ killed, refreshed }), digests[0]);
});

test('the layout is a number that empty tables do not have', () => {
  assert.ok(Number.isInteger(natLayout) && natLayout > 0 && natLayout < 2 ** 32);
});
