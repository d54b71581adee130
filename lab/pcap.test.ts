import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodePcap } from './pcap.ts';

/** Written by tcpdump 4.99.3 with `-s 20`: one ARP request, cut from 42 bytes to 20. */
const TCPDUMP_FILE = Buffer.from(
  'd4c3b2a10200040000000000000000001400000001000000e648026b786c0c00140000002a000000' +
    'ffffffffffff02c336ecb3290806000108000604',
  'hex',
);

test('a file of tcpdump gives its packets with time, bytes and length on the wire', () => {
  assert.deepEqual(decodePcap(TCPDUMP_FILE), [
    {
      timestampUs: 1_795_311_846_814_200,
      bytes: TCPDUMP_FILE.subarray(40),
      originalBytes: 42,
    },
  ]);
});

test('a file that is still being written gives the packets that are complete', () => {
  for (let length = 0; length < TCPDUMP_FILE.length; length += 1) {
    assert.deepEqual(decodePcap(TCPDUMP_FILE.subarray(0, length)), [], `${length} bytes`);
  }
  const second = Buffer.concat([TCPDUMP_FILE, TCPDUMP_FILE.subarray(24, -1)]);
  assert.equal(decodePcap(second).length, 1);
});

test('bytes of another kind are refused', () => {
  assert.throws(() => decodePcap(Buffer.alloc(24, 'pcapng')), /no capture file.*70636170/);
});
