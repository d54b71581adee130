import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatSettings as Layout } from '../abi/layouts.generated.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { natTestSettings } from '../testing/nat-test-settings.ts';
import {
  interfaceIndexOf,
  maskOf,
  natSettingsLayout,
  networkIndexOf,
  networkOf,
  ticksForSeconds,
  withInterfaces,
} from './nat-settings.ts';

const place = { sessionBucketCount: 64, mappingBucketCount: 128 };

test('a time in ticks is never shorter than asked for', () => {
  assert.equal(ticksForSeconds(0), 0);
  assert.equal(ticksForSeconds(1), 1);
  assert.equal(ticksForSeconds(300), 280);
  assert.ok(ticksForSeconds(7440) * 2 ** 30 >= 7440e9);
});

test('an inside address is found in its network, and others in none', () => {
  assert.equal(networkIndexOf(natTestSettings, requireIpv4Address('10.78.0.255')), 1);
  assert.equal(networkOf(natTestSettings, requireIpv4Address('192.0.2.7'))?.isTranslated, false);
  assert.equal(networkIndexOf(natTestSettings, requireIpv4Address('10.80.0.1')), undefined);
});

test('masks cover no bit and every bit', () => {
  assert.deepEqual([maskOf(0), maskOf(24) >>> 0, maskOf(32) >>> 0], [0, 0xffff_ff00, 0xffff_ffff]);
});

test('an address belongs to the interface of its network, and any other to that of the WAN', () => {
  const settings = withInterfaces(natTestSettings, { wan: 9, networks: [5, 0, 7, 8] });
  const belongsTo = (address: string) => interfaceIndexOf(settings, requireIpv4Address(address));
  assert.equal(belongsTo('10.77.0.255'), 5);
  assert.equal(belongsTo('10.78.0.2'), 0);
  assert.equal(belongsTo('192.0.2.2'), 8);
  assert.equal(belongsTo('10.80.0.1'), 9);
  assert.equal(belongsTo('203.0.113.1'), 9);
});

test('the kernel programs are told of interfaces, and of no fast path', () => {
  const interfaces = { wan: 9, networks: [5, 0, 7, 8] };
  const settings = { ...withInterfaces(natTestSettings, interfaces), wanIsPublic: true };
  const { networks, ...layout } = natSettingsLayout(settings, place);
  assert.deepEqual([layout.wanInterface, layout.wanIsPublic, layout.wanFastPath], [9, 1, 0]);
  assert.deepEqual(
    networks.slice(0, 5).map((network) => [network.interface, network.fastPath]),
    [
      [5, 0],
      [0, 0],
      [7, 0],
      [8, 0],
      [0, 0],
    ],
  );
});

test('settings survive the way through the layout of the kernel programs', () => {
  const view = new DataView(new ArrayBuffer(Layout.sizeBytes));
  const layout = natSettingsLayout(natTestSettings, { ...place, fixedNowNs: 5n });
  Layout.encode(layout, view, 0);
  const read = Layout.decode(view, 0);
  assert.deepEqual(read, layout);
  assert.equal(read.externals[1]?.oneToOne, requireIpv4Address('10.77.0.9'));
  assert.deepEqual(
    read.networks.slice(0, 4).map(({ mask, translate, filtering }) => [mask, translate, filtering]),
    [
      [0xffff_ff00, 1, 0],
      [0xffff_ff00, 1, 1],
      [0xffff_ff00, 1, 2],
      [0xffff_ff00, 0, 0],
    ],
  );
});
