/** Which frames go back from the hold interface, and where (bpf/gateway/fragment-return.bpf.c). */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { fragmentReturnObject } from '../../src/abi/fragment-return.generated.ts';
import { FragmentReturnCounter } from '../../src/abi/layouts.generated.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import { rawIp, withBytes } from '../../src/testing/nat-packets.ts';

const TC_ACT_SHOT = 2;
const TC_ACT_REDIRECT = 7;
/** Every byte of it counts. */
const INTERFACE_INDEX = 0x0102_0304;

let object: BpfObject<typeof fragmentReturnObject>;
let counted: number[];

before(() => {
  object = loadBpfObject(fragmentReturnObject);
  object.maps.fragmentReturnInterfaces.update(INTERFACE_INDEX, 1);
});

after(() => object.close());

beforeEach(() => {
  counted = counts();
});

/** Returned, dropped as foreign, dropped for its interface. */
function counts(): number[] {
  const { returned, droppedForeign, droppedInterface } = FragmentReturnCounter;
  return [returned, droppedForeign, droppedInterface].map((index) => {
    const perCpu = object.maps.fragmentReturnCounters.lookup(index) ?? [];
    return Number(perCpu.reduce((sum, count) => sum + count, 0n));
  });
}

function grown(): number[] {
  return counts().map((count, index) => count - (counted[index] ?? 0));
}

/** @param source the Ethernet source address */
function verdictOf(source: readonly number[]): number {
  const data = withBytes(rawIp('203.0.113.10 > 198.51.100.1', 17), 6, source);
  const result = object.programs.returnFragment.testRun({ data });
  assert.deepEqual(Buffer.from(result.data), Buffer.from(data));
  return result.returnValue;
}

test('a frame that names an interface of the NAT goes there unchanged', () => {
  assert.equal(verdictOf([0x02, 0x67, 1, 2, 3, 4]), TC_ACT_REDIRECT);
  assert.deepEqual(grown(), [1, 0, 0]);
});

for (const [what, source] of [
  ['the index the other way round', [0x02, 0x67, 4, 3, 2, 1]],
  ['another index', [0x02, 0x67, 1, 2, 3, 5]],
  ['no index', [0x02, 0x67, 0, 0, 0, 0]],
] as const) {
  test(`a frame that names ${what} is dropped`, () => {
    assert.equal(verdictOf(source), TC_ACT_SHOT);
    assert.deepEqual(grown(), [0, 0, 1]);
  });
}

for (const source of [
  [0x02, 0x68, 1, 2, 3, 4],
  [0x03, 0x67, 1, 2, 3, 4],
  [0, 0, 0, 0, 0, 0],
  [255, 255, 255, 255, 255, 255],
]) {
  test(`a frame from ${Buffer.from(source).toString('hex')} is dropped`, () => {
    assert.equal(verdictOf(source), TC_ACT_SHOT);
    assert.deepEqual(grown(), [0, 1, 0]);
  });
}

test('an interface that is taken out of the map gets nothing any more', () => {
  const { fragmentReturnInterfaces: map } = object.maps;
  map.delete(INTERFACE_INDEX);
  assert.equal(verdictOf([0x02, 0x67, 1, 2, 3, 4]), TC_ACT_SHOT);
  map.update(INTERFACE_INDEX, 1);
  assert.equal(verdictOf([0x02, 0x67, 1, 2, 3, 4]), TC_ACT_REDIRECT);
});
