import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ruleGoesByMark } from './routing-rules.ts';

const viewOf = (hex: string) =>
  new DataView(Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex')).buffer);

/** As Linux 6.18 tells of `ip rule add … table 100`. */
const ruleWith = (attributes: string) =>
  viewOf(
    '02000000 64000001 00000000 08000f0064000000 08000e00ffffffff 0500150000000000 ' +
      `08000600fd7f0000 ${attributes}`,
  );

test('a rule goes by marks when its mask has a bit, whatever mark it wants', () => {
  const rules: readonly (readonly [string, string, boolean])[] = [
    ['fwmark 0x2a', '08000a002a000000 08001000ffffffff', true],
    ['fwmark 0/1', '0800100001000000', true],
    ['fwmark 5/0', '08000a0005000000 0800100000000000', false],
    ['a mark without a mask', '08000a0005000000', true],
    ['iif lo dport 5', '070003006c6f0000 08001800 05000500 06001d00ffff0000', false],
    ['from all', '', false],
  ];
  for (const [name, attributes, expected] of rules) {
    assert.equal(ruleGoesByMark(ruleWith(attributes)), expected, name);
  }
});

test('a rule whose lengths do not fit is refused', () => {
  assert.equal(ruleGoesByMark(viewOf('02000000 64000001 000000')), undefined);
  assert.equal(ruleGoesByMark(ruleWith('06001000 ffff0000')), undefined);
  assert.equal(ruleGoesByMark(ruleWith('0c001000 ffffffff')), undefined);
});
