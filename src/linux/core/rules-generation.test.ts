import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GENERATION_PLACES, generationPlaceOf } from '../../nat/generations.ts';
import { digestOf } from '../../nat/ipv6-digest.ts';
import { requireAddressRange } from '../../net/address-range.ts';
import { requireIpv4Address } from '../../net/ipv4-address.ts';
import { parseIpv6Address } from '../../net/ipv6-address.ts';
import {
  ADDRESSES_MAX,
  nextGeneration,
  raiseAddressGenerations,
  raiseGeneration,
} from './rules-generation.ts';

test('each change of the rules has a number, which is never the one of no rules', () => {
  assert.equal(nextGeneration(0), 1);
  assert.equal(nextGeneration(0xff), 0x100);
  assert.equal(nextGeneration(0xffff_fffe), 0xffff_ffff);
  assert.equal(nextGeneration(0xffff_ffff), 1);
});

test('raising it writes the next number', () => {
  const values = new Map([[0, 4]]);
  const map = {
    lookup: (key: number) => values.get(key),
    update: (key: number, value: number) => values.set(key, value).has(key),
  };
  raiseGeneration(map);
  raiseGeneration(map);
  assert.equal(values.get(0), 6);
});

const hashKey = [1n, 2n] as const;

function placesOfNone(): Uint32Array<ArrayBuffer> {
  return new Uint32Array(new ArrayBuffer(GENERATION_PLACES * 4));
}

function raise(places: Uint32Array<ArrayBuffer>, ...ranges: readonly string[]): boolean {
  return raiseAddressGenerations(
    { memory: places.buffer, hashKey },
    ranges.map(requireAddressRange),
  );
}

function sumOf(places: Uint32Array): number {
  return places.reduce((sum, number) => sum + number, 0);
}

test('a change about addresses raises the number of each of them, and no other', () => {
  const places = placesOfNone();
  assert.ok(raise(places, '10.77.0.2-10.77.0.4', '255.255.255.255-255.255.255.255'));
  const changed = ['10.77.0.2', '10.77.0.3', '10.77.0.4', '255.255.255.255'];
  for (const address of changed) {
    assert.equal(places[generationPlaceOf(requireIpv4Address(address))], 1, address);
  }
  assert.equal(sumOf(places), changed.length);
  assert.ok(raise(places, '10.77.0.3-10.77.0.3'));
  assert.equal(places[generationPlaceOf(requireIpv4Address('10.77.0.3'))], 2);
  assert.equal(sumOf(places), changed.length + 1);
});

test('of IPv6, the numbers of digests are raised', () => {
  const places = placesOfNone();
  assert.ok(raise(places, '2001:db8::1-2001:db8::2'));
  for (const text of ['2001:db8::1', '2001:db8::2']) {
    const { digest } = digestOf(hashKey, parseIpv6Address(text) ?? assert.fail());
    assert.equal(places[generationPlaceOf(digest)], 1, text);
  }
  assert.equal(sumOf(places), 2);
});

test('the number of an address goes on behind the largest', () => {
  const places = placesOfNone().fill(0xffff_ffff);
  assert.ok(raise(places, '10.77.0.2-10.77.0.2'));
  assert.equal(places[generationPlaceOf(requireIpv4Address('10.77.0.2'))], 0);
});

test('a change about more addresses than are told apart raises none', () => {
  const places = placesOfNone();
  assert.ok(raise(places));
  assert.ok(!raise(places, '10.0.0.0-10.0.15.255', '10.77.0.2-10.77.0.2'));
  assert.ok(!raise(places, '0.0.0.0-255.255.255.255'));
  assert.ok(!raise(places, '10.77.0.2-10.77.0.2', '2001:db8::-2001:db8::fff'));
  assert.equal(sumOf(places), 0);
  assert.ok(raise(places, '10.0.0.0-10.0.15.255'));
  assert.equal(sumOf(places), ADDRESSES_MAX);
});
