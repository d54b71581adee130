import assert from 'node:assert/strict';
import { test } from 'node:test';
import { xdpFeaturesIn } from './xdp-features.ts';

const viewOf = (hex: string) =>
  new DataView(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')).buffer);

/** As Linux 6.18 tells of a virtio_net without a program: basic, redirect, and frames in parts. */
const answerWith = (features: string) =>
  viewOf(`01010000 0800010004000000 0c000300${features} 0c00050000000000 00000000`);

test('what a driver does at XDP is told by bits', () => {
  const none = { isNative: false, mayRedirect: false, takesRedirected: false };
  const cases = [
    ['0000000000000000', none],
    ['0100000000000000', { ...none, isNative: true }],
    ['2300000000000000', { isNative: true, mayRedirect: true, takesRedirected: false }],
    ['4700000000000000', { isNative: true, mayRedirect: true, takesRedirected: true }],
  ] as const;
  for (const [bits, features] of cases) {
    assert.deepEqual(xdpFeaturesIn(answerWith(bits)), [4, features], bits);
  }
});

test('an answer of another form is refused', () => {
  assert.equal(xdpFeaturesIn(viewOf('0101')), undefined);
  assert.equal(xdpFeaturesIn(viewOf('01010000 0800010004000000')), undefined);
  assert.equal(xdpFeaturesIn(viewOf('01010000 0800010004000000 0800030001000000')), undefined);
});
