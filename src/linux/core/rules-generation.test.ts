import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextGeneration, raiseGeneration } from './rules-generation.ts';

test('each change of the rules has a number that no packet under way can carry', () => {
  assert.equal(nextGeneration(0), 1);
  assert.equal(nextGeneration(7), 8);
  assert.equal(nextGeneration(0xff), 0x101);
  assert.equal(nextGeneration(0xffff_fffe), 0xffff_ffff);
  assert.equal(nextGeneration(0xffff_ffff), 1);
});

test('raising it writes the next number', () => {
  const values = new Map([[0, 4]]);
  const map = {
    lookup: (key: number) => values.get(key),
    update: (key: number, value: number) => values.set(key, value).has(key),
  };
  raiseGeneration(map);
  raiseGeneration(map);
  assert.equal(values.get(0), 6);
});
