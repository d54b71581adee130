import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeNetlinkAttributes,
  decodeNetlinkMessages,
  encodeNetlinkMessage,
} from './netlink-message.ts';

const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const viewOf = (hex: string) => new DataView(bytesOf(hex).buffer);
const hexOf = (view: DataView<ArrayBuffer>) =>
  Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('hex');
const attributesIn = (hex: string, structBytes: number) =>
  [...(decodeNetlinkAttributes(viewOf(hex), structBytes) ?? assert.fail())].map(
    ([type, value]) => [type, hexOf(value)] as const,
  );

test('a message is encoded with its length, and read as it was', () => {
  const body = Uint8Array.of(1, 2, 3);
  const bytes = encodeNetlinkMessage({ type: 0x25, flags: 0x301, sequence: 7, body });
  assert.equal(Buffer.from(bytes).toString('hex'), '13000000250001030700000000000000010203');
  const [message, ...more] = decodeNetlinkMessages(bytes) ?? assert.fail();
  assert.ok(message);
  const { type, flags, sequence } = message;
  assert.deepEqual([type, flags, sequence, more], [0x25, 0x301, 7, []]);
  assert.equal(hexOf(message.body), '010203');
});

test('messages follow each other at multiples of four', () => {
  const first = '11000000 2000 0200 01000000 00000000 aa 000000';
  const second = '14000000 0300 0200 01000000 00000000 00000000';
  const messages = decodeNetlinkMessages(bytesOf(first + second)) ?? assert.fail();
  const read = messages.map(({ type, body }) => [type, hexOf(body)]);
  assert.deepEqual(read, [
    [0x20, 'aa'],
    [0x03, '00000000'],
  ]);
  assert.deepEqual(decodeNetlinkMessages(new Uint8Array()), []);
});

test('attributes are those that Linux 6.18 sent about a routing rule', () => {
  const rule =
    '02000000 64000001 00000000 08000f0064000000 08000e00ffffffff 0500150000000000 ' +
    '08000600fd7f0000 08000a002a000000 08001000ffffffff';
  assert.deepEqual(attributesIn(rule, 12), [
    [0x0f, '64000000'],
    [0x0e, 'ffffffff'],
    [0x15, '00'],
    [0x06, 'fd7f0000'],
    [0x0a, '2a000000'],
    [0x10, 'ffffffff'],
  ]);
});

test('the flags in the type of an attribute do not count', () => {
  assert.deepEqual(attributesIn('0800 0ac0 01000000', 0), [[0x0a, '01000000']]);
});

const badMessages: Readonly<Record<string, string>> = {
  'a header that is cut': '10000000 2000 0200 01000000 000000',
  'a length of zero': '00000000 2000 0200 01000000 00000000',
  'a length below the header': '0f000000 2000 0200 01000000 00000000',
  'a length beyond the end': '14000000 2000 0200 01000000 00000000 aa',
  'the longest length': 'ffffffff 2000 0200 01000000 00000000',
};
for (const [name, hex] of Object.entries(badMessages)) {
  test(`messages with ${name} are refused`, () => {
    assert.equal(decodeNetlinkMessages(bytesOf(hex)), undefined);
  });
}

const badAttributes: Readonly<Record<string, string>> = {
  'no struct before them': '000000',
  'a header that is cut': '00000000 0800 0a',
  'a length of zero': '00000000 0000 0a00 00000000',
  'a length below the header': '00000000 0300 0a00 00000000',
  'a length beyond the end': '00000000 0900 0a00 00000000',
};
for (const [name, hex] of Object.entries(badAttributes)) {
  test(`attributes with ${name} are refused`, () => {
    assert.equal(decodeNetlinkAttributes(viewOf(hex), 4), undefined);
  });
}

test('whatever the bytes are, reading them ends, and stays within them', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(20), (bytes, structBytes) => {
      const copy = Uint8Array.from(bytes);
      const messages = decodeNetlinkMessages(copy) ?? [];
      assert.ok(messages.length * 16 <= copy.length);
      const values = decodeNetlinkAttributes(new DataView(copy.buffer), structBytes);
      for (const value of values?.values() ?? []) {
        assert.ok(value.byteOffset + value.byteLength <= copy.length);
      }
    }),
  );
});
