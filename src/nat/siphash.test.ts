import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sipHash13 } from './siphash.ts';

/** The bytes 0, 1, 2 … */
function counting(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index);
}

/** As the test of Rust's core library (`coretests/tests/hash/sip.rs`) writes its results. */
function littleEndian(hex: string): bigint {
  return Buffer.from(hex, 'hex').readBigUInt64LE();
}

/** Of that test: key 00, 01 … 0f. */
const rustVectors: readonly (readonly [number, string])[] = [
  [0, 'dcc40f055801acab'],
  [1, '93ca577df39bf4c9'],
  [4, '2883d388605775cf'],
  [7, '4011b19b987d92d3'],
  [8, '8e9a298d11959036'],
  [15, '5699512a6dd820d3'],
  [16, '668b907d1add4fcc'],
  [17, '0cd8db639068f29c'],
  [63, 'a8b3bbb76290199d'],
];

for (const [length, expected] of rustVectors) {
  test(`hashes ${length} bytes as the reference does`, () => {
    const key = [0x0706050403020100n, 0x0f0e0d0c0b0a0908n] as const;
    assert.equal(sipHash13(key, counting(length)), littleEndian(expected));
  });
}

/** What `std::hash::DefaultHasher` of Rust 1.95 answers, whose key is zero. */
const zeroKeyVectors: readonly (readonly [number, bigint])[] = [
  [0, 0xd1fba762150c532cn],
  [1, 0x68a914128e01e473n],
  [16, 0x8972188433a5c5b7n],
  [31, 0x169739443111d49bn],
];

for (const [length, expected] of zeroKeyVectors) {
  test(`hashes ${length} bytes with a key of zeros as Rust's hasher does`, () => {
    assert.equal(sipHash13([0n, 0n], counting(length)), expected);
  });
}
