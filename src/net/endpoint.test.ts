import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatEndpoint, parseEndpoint } from './endpoint.ts';

test('every endpoint is read back from its text', () => {
  const address = fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((bits) => ({ family: 4 as const, bits })),
    fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((bits) => ({ family: 6 as const, bits })),
  );
  fc.assert(
    fc.property(address, fc.integer({ min: 1, max: 65_535 }), (address, port) => {
      assert.deepEqual(parseEndpoint(formatEndpoint({ address, port })), { address, port });
    }),
  );
});

test('what is no endpoint is refused', () => {
  for (const text of [
    '',
    '10.0.0.1',
    '10.0.0.1:',
    ':80',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    '10.0.0.1:080',
    '10.0.0.1:80:80',
    '[10.0.0.1]:80',
    '2001:db8::1:80',
    '[2001:db8::1]',
    '[2001:db8::1]80',
    '[[::1]]:80',
    'localhost:80',
    '10.0.0.1:http',
    ' 10.0.0.1:80',
  ]) {
    assert.equal(parseEndpoint(text), undefined, text);
  }
});
