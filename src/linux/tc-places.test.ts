import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KERNEL_NAME_LENGTH_MAX } from './kernel-objects.ts';
import { type TcPlace, tcPlaceOf, tcPlaces, tcPlacesBefore } from './tc-places.ts';

const places = Object.entries(tcPlaces) as [TcPlace, (typeof tcPlaces)[TcPlace]][];

test('a program is of one place, by its name in C and by what the kernel keeps of it', () => {
  for (const [place, { programs }] of places) {
    assert.ok(programs.length > 0);
    for (const name of programs) {
      assert.equal(tcPlaceOf(name), place);
      assert.equal(tcPlaceOf(name.slice(0, KERNEL_NAME_LENGTH_MAX)), place);
    }
  }
  assert.equal(tcPlaceOf('cil_from_netdev'), undefined);
  assert.equal(tcPlaceOf('nat_'), undefined);
  assert.equal(tcPlaceOf(''), undefined);
});

test('no two places share a priority or a handle, and counting comes before the NAT', () => {
  for (const key of ['priority', 'handle'] as const) {
    assert.equal(new Set(places.map(([, place]) => place[key])).size, places.length);
  }
  assert.deepEqual(tcPlacesBefore('counting'), []);
  assert.deepEqual(tcPlacesBefore('nat'), ['counting']);
  assert.deepEqual(tcPlacesBefore('fragments'), ['counting', 'nat']);
});
