import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Alarms } from './alarms.ts';

test('every alarm is logged whole, and the newest hundred are kept, cut to a length', () => {
  const logged: string[] = [];
  const alarms = new Alarms((text) => logged.push(text));
  for (let number = 1; number <= 250; number++) alarms.raise(`${number} ${'x'.repeat(5_000)}`);
  assert.equal(logged.length, 250);
  assert.equal(logged[0]?.length, 5_002);
  assert.equal(alarms.list.length, 100);
  assert.ok(alarms.list[0]?.text.startsWith('151 '));
  assert.ok(alarms.list.at(-1)?.text.startsWith('250 '));
  assert.ok(alarms.list.every(({ text }) => text.length === 1_000));
});
