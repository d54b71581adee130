import assert from 'node:assert/strict';
import { test } from 'node:test';
import { waitFor } from './wait-for.ts';

test('waiting returns the first value that counts, zero and the empty text included', async () => {
  const values = [undefined, null, false, 0];
  let asked = 0;
  const value = await waitFor('zero', () => values[asked++], { timeoutMs: 10_000, intervalMs: 0 });
  assert.equal(value, 0);
  assert.equal(asked, 4);
  assert.equal(await waitFor('text', async () => '', { timeoutMs: 0 }), '');
});

test('the time limit names what was waited for and what was seen last', async () => {
  const never = waitFor('the moon', () => undefined, { timeoutMs: 20, intervalMs: 1 });
  await assert.rejects(never, /waited 20 ms for the moon; last seen: undefined/);
});

test('a value is judged by the caller and shown when it never suits', async () => {
  let count = 0;
  const until = (value: number) => value === 3;
  assert.equal(await waitFor('three', () => ++count, { timeoutMs: 10_000, until }), 3);
  const stuck = waitFor('three', () => 4, { timeoutMs: 5, intervalMs: 1, until });
  await assert.rejects(stuck, /waited 5 ms for three; last seen: 4/);
});

test('an error of the condition ends the waiting', async () => {
  const broken = () => {
    throw new Error('broken');
  };
  await assert.rejects(waitFor('x', broken, { timeoutMs: 10_000 }), /^Error: broken$/);
});
