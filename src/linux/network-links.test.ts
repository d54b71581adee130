import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkLinkIn } from './network-links.ts';

const viewOf = (hex: string) =>
  new DataView(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')).buffer);

/** As Linux 6.18 tells of one end of a pair, without what nobody asks for. */
const struct = '00000100030000000210000000000000';
const name = '0700030076300000';
const noop = '090006006e6f6f7000000000';
const pair = `${struct} ${name} 0800050002000000 ${noop} 0a000100eac58bea7ad30000`;
const veth = '10001200 09000100 7665746800000000';
const noXdp = '0c002b00 0500020000000000';

test('an interface is told by number, name, address, kind and queue', () => {
  assert.deepEqual(networkLinkIn(viewOf(`${pair} ${noXdp} ${veth}`)), {
    index: 3,
    name: 'v0',
    address: Uint8Array.of(0xea, 0xc5, 0x8b, 0xea, 0x7a, 0xd3),
    kind: 'veth',
    queueing: 'noop',
    lower: 2,
  });
});

test('a program at XDP and a bridge are told by their numbers', () => {
  const xdp = '1c002b00 0500020001000000 0800040007000000 0800050007000000';
  const master = '08000a0009000000';
  const link = networkLinkIn(viewOf(`${pair} ${xdp} ${master}`));
  assert.deepEqual([link?.xdpProgramId, link?.master, link?.kind], [7, 9, undefined]);
});

test('an interface without a link-layer address has an empty one', () => {
  assert.deepEqual(networkLinkIn(viewOf(`${struct} ${name}`))?.address, new Uint8Array());
});

test('an answer without a name, or whose lengths do not fit, is refused', () => {
  assert.equal(networkLinkIn(viewOf(struct)), undefined);
  assert.equal(networkLinkIn(viewOf('0000010003')), undefined);
  assert.equal(networkLinkIn(viewOf(`${struct} 1700030076300000`)), undefined);
});
