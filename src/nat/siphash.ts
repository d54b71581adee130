/**
 * SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF"): one round a word of
 * message, three at the end. The NAT's tables are spread by it, so that nobody who does not know
 * the key can aim at one bucket.
 */

const MASK = (1n << 64n) - 1n;

/**
 * @param key two words, as the 16 bytes of the key read little-endian
 * @returns 64 bits
 */
export function sipHash13(key: readonly [bigint, bigint], message: Uint8Array): bigint {
  const state: State = [
    key[0] ^ 0x736f6d6570736575n,
    key[1] ^ 0x646f72616e646f6dn,
    key[0] ^ 0x6c7967656e657261n,
    key[1] ^ 0x7465646279746573n,
  ];
  for (let at = 0; at + 8 <= message.length; at += 8) absorb(state, word(message, at));
  const tail = word(message, message.length - (message.length % 8));
  absorb(state, (BigInt(message.length & 0xff) << 56n) | tail);
  state[2] ^= 0xffn;
  for (let round = 0; round < 3; round++) mix(state);
  return state[0] ^ state[1] ^ state[2] ^ state[3];
}

type State = [bigint, bigint, bigint, bigint];

/** Eight bytes little-endian, or those that are left. */
function word(message: Uint8Array, at: number): bigint {
  let value = 0n;
  for (let byte = Math.min(8, message.length - at) - 1; byte >= 0; byte--) {
    value = (value << 8n) | BigInt(message[at + byte] ?? 0);
  }
  return value;
}

function absorb(state: State, value: bigint): void {
  state[3] ^= value;
  mix(state);
  state[0] ^= value;
}

function mix(state: State): void {
  let [a, b, c, d] = state;
  a = (a + b) & MASK;
  b = rotated(b, 13n) ^ a;
  a = rotated(a, 32n);
  c = (c + d) & MASK;
  d = rotated(d, 16n) ^ c;
  a = (a + d) & MASK;
  d = rotated(d, 21n) ^ a;
  c = (c + b) & MASK;
  b = rotated(b, 17n) ^ c;
  c = rotated(c, 32n);
  state[0] = a;
  state[1] = b;
  state[2] = c;
  state[3] = d;
}

function rotated(value: bigint, by: bigint): bigint {
  return ((value << by) | (value >> (64n - by))) & MASK;
}
