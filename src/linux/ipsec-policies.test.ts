import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blocksForwarded, hasPoliciesOfForwarded } from './ipsec-policies.ts';

const viewOf = (hex: string) =>
  new DataView(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')).buffer);

/** As Linux 6.18 answers: flags, six counts, and the thresholds of its hash tables. */
const answerWith = (counts: string) =>
  viewOf(`00000000 1c000100 ${counts} 0c00020007000000 00001000 0600030020200000 0600040080800000`);

test('policies for out and forward may apply to forwarded packets, those for in and of sockets not', () => {
  const none = '00000000';
  const one = '01000000';
  const isFound = (...counts: string[]) => hasPoliciesOfForwarded(answerWith(counts.join('')));
  assert.equal(isFound(none, none, none, none, none, none), false);
  assert.equal(isFound(one, none, none, one, one, one), false);
  assert.equal(isFound(none, one, none, none, none, none), true);
  assert.equal(isFound(none, none, one, none, none, none), true);
  assert.equal(isFound(none, '00000080', none, none, none, none), true);
});

test('an answer about policies without counts, or with fewer, is refused', () => {
  for (const hex of ['', '000000', '00000000', '00000000 08000200 01000000']) {
    assert.equal(hasPoliciesOfForwarded(viewOf(hex)), undefined, hex);
  }
  const fiveCounts = `00000000 18000100 ${'00000000'.repeat(5)}`;
  assert.equal(hasPoliciesOfForwarded(viewOf(fiveCounts)), undefined);
});

test('what blocks without a policy is told by direction: in, forward, out', () => {
  assert.equal(blocksForwarded(viewOf('02020200')), false);
  assert.equal(blocksForwarded(viewOf('000000')), false);
  assert.equal(blocksForwarded(viewOf('01020200')), false);
  assert.equal(blocksForwarded(viewOf('02010200')), true);
  assert.equal(blocksForwarded(viewOf('02020100')), true);
  assert.equal(blocksForwarded(viewOf('0202')), undefined);
});
