import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NatFastPath, NatFiltering, NatSettings } from '../abi/layouts.generated.ts';
import { parseConfig } from '../config/parse-config.ts';
import { requireIpv4Address } from '../net/ipv4-address.ts';
import { requireInterfaceAddress } from '../net/prefix.ts';
import { type NatPlan, planNat } from './nat-plan.ts';
import {
  type NatPort,
  type NextSettings,
  nextSettings,
  withInterfaces,
  withoutFastPath,
  withoutGone,
} from './nat-settings.ts';

const ip = requireIpv4Address;
const NOBODY = 0xffff_ffff;

interface Wish {
  /** The first is the WAN's own. */
  readonly externals: readonly string[];
  /** External and internal addresses. */
  readonly oneToOne?: readonly (readonly [string, string])[];
  /** The third octet of 10.77.x.0/24, `r` behind it for a routed one. */
  readonly networks: readonly string[];
}

function planOf({ externals, oneToOne = [], networks }: Wish): NatPlan {
  const [main, ...more] = externals;
  const section = {
    version: 1,
    wan: { interface: 'wan0', address: 'dhcp' },
    networks: Object.fromEntries(
      networks.map((text) => {
        const octet = text.replace('r', '');
        const mode = text.endsWith('r') ? 'route' : 'translate';
        const address = `10.77.${octet}.1/24`;
        return [`n${octet}`, { interfaces: [`lan${octet}`], address, nat: { mode } }];
      }),
    ),
    nat: {
      externalAddresses: more,
      oneToOne: oneToOne.map(([external, internal]) => ({ external, internal })),
    },
  };
  const { config, problems } = parseConfig(JSON.stringify(section), { fileName: 'x' });
  assert.ok(config, JSON.stringify(problems));
  const wanAddress = main === undefined ? undefined : requireInterfaceAddress(`${main}/24`);
  return planNat(config, { wanAddress });
}

/** Its address ends with its number. */
function portOf(index: number, isAtXdp = false): NatPort {
  return { index, mac: Uint8Array.of(2, 0, 0, 0, 0, index), isAtXdp };
}

function settle(wish: Wish, previous?: NatSettings, places = 4): NextSettings {
  const frame = { hashKey: [1n, 2n], sessionBucketCount: 128, mappingBucketCount: 65_536 };
  const ports = new Map([
    ['lan1', portOf(7)],
    ['wan0', portOf(8, true)],
  ]);
  const rest = { places, ports, pickupUntilTick: 99, previous };
  return nextSettings(planOf(wish), { ...frame, ...rest });
}

/** `address` and, for one-to-one, `=host`; `-` for what is vacant. */
function externalsIn({ settings }: NextSettings): string[] {
  return settings.externals.slice(0, settings.externalCount).map(({ address, oneToOne }) => {
    if (oneToOne === NOBODY) return address === 0 ? '-' : `gone ${address & 0xff}`;
    return oneToOne === 0 ? `${address & 0xff}` : `${address & 0xff}=${oneToOne & 0xff}`;
  });
}

function networksIn({ settings }: NextSettings): string[] {
  return settings.networks.slice(0, settings.networkCount).map(({ prefix, translate }) => {
    return prefix === 1 ? '-' : `${(prefix >>> 8) & 0xff}${translate === 1 ? '' : 'r'}`;
  });
}

test('new tables get everything in the order of the config', () => {
  const next = settle({
    externals: ['203.0.113.1', '203.0.113.2'],
    oneToOne: [['203.0.113.3', '10.77.1.9']],
    networks: ['1', '2r'],
  });
  assert.deepEqual(externalsIn(next), ['1', '2', '3=9']);
  assert.deepEqual(networksIn(next), ['1', '2r']);
  assert.equal(next.mainPlace, 0);
  assert.deepEqual([next.gonePlaces, next.areNetworksOthers, next.left], [[], false, []]);
  const { hashKey, sessionBucketCount, pickupUntilTick, poolFirst, poolLast } = next.settings;
  assert.deepEqual(
    { hashKey, sessionBucketCount, pickupUntilTick, poolFirst, poolLast },
    {
      hashKey: [1n, 2n],
      sessionBucketCount: 128,
      pickupUntilTick: 99,
      poolFirst: 1_024,
      poolLast: 61_439,
    },
  );
});

test('interfaces have their numbers while they are there', () => {
  const wish = { externals: ['203.0.113.1'], networks: ['1', '2r'] };
  const { settings } = settle(wish);
  const numbers = (of: NatSettings) => [
    of.wanInterface,
    ...of.networks.map((one) => one.interface),
  ];
  assert.deepEqual(numbers(settings).slice(0, 4), [8, 7, 0, 0]);
  const later = withInterfaces(settings, planOf(wish), new Map([['lan2', portOf(9)]]));
  assert.deepEqual(numbers(later).slice(0, 4), [0, 0, 9, 0]);
});

test('what is at XDP goes fast there and at tc, by the addresses of the interfaces of now', () => {
  const wish = { externals: ['203.0.113.1'], networks: ['1', '2r'] };
  const { settings } = settle(wish);
  const told = (of: NatSettings) => [
    [of.wanFastPath, of.wanMac.at(-1)],
    ...of.networks.slice(0, 2).map((one) => [one.fastPath, one.mac.at(-1)]),
  ];
  const { tc, xdp } = NatFastPath;
  assert.deepEqual(told(settings), [
    [tc | xdp, 8],
    [tc, 7],
    [tc, 0],
  ]);
  const ports = new Map([['lan2', portOf(9, true)]]);
  const later = withInterfaces(settings, planOf(wish), ports);
  assert.deepEqual(told(later), [
    [tc, 0],
    [tc, 0],
    [tc | xdp, 9],
  ]);
  const slow = withInterfaces(withoutFastPath(settings), planOf(wish), ports);
  assert.deepEqual(told(slow), [
    [0, 0],
    [0, 0],
    [0, 9],
  ]);
});

test('the fast path is where the config does not switch it off', () => {
  const text = `version: 1
wan: { interface: wan0, address: 203.0.113.1/24, gateway: 203.0.113.9 }
networks:
  a: { interfaces: [a0], address: 10.77.1.1/24 }
  b: { interfaces: [b0], address: 10.77.2.1/24 }
dataplane: { fastPath: off, interfaces: { wan0: { fastPath: auto }, b0: { fastPath: xdp } } }
`;
  const { config, problems } = parseConfig(text, { fileName: 'x' });
  assert.ok(config, JSON.stringify(problems));
  const plan = planNat(config, {});
  assert.equal(plan.hasWanFastPath, true);
  assert.equal(plan.isWanPublic, true);
  assert.deepEqual(
    plan.networks.map(({ name, hasFastPath }) => [name, hasFastPath]),
    [
      ['a', false],
      ['b', true],
    ],
  );
});

test('settings have the form that the kernel reads', () => {
  const { settings } = settle({ externals: ['203.0.113.1'], networks: ['1'] });
  const view = new DataView(new ArrayBuffer(NatSettings.sizeBytes));
  NatSettings.encode(settings, view, 0);
  assert.deepEqual(NatSettings.decode(view, 0), settings);
  const at = NatSettings.fields.externals.offsetBytes;
  assert.deepEqual([...new Uint8Array(view.buffer, at, 4)], [203, 0, 113, 1]);
});

test("survive-77 another WAN address takes another place; the old one is nobody's until it is free", () => {
  const networks = ['1'];
  const first = settle({ externals: ['203.0.113.1'], networks });
  const second = settle({ externals: ['203.0.113.2'], networks }, first.settings);
  assert.deepEqual(externalsIn(second), ['gone 1', '2']);
  assert.deepEqual([second.gonePlaces, second.goneAddresses], [[0], [ip('203.0.113.1')]]);
  assert.equal(second.mainPlace, 1);
  assert.equal(second.settings.externals[0]?.filtering, NatFiltering.addressAndPortDependent);
  const settled = withoutGone(second.settings);
  assert.deepEqual(externalsIn({ ...second, settings: settled }), ['-', '2']);
  const third = settle({ externals: ['203.0.113.3'], networks }, settled, 2);
  assert.deepEqual([externalsIn(third), third.gonePlaces], [['3', 'gone 2'], [1]]);
});

test('an address that comes back while its sessions still end is told by one place alone', () => {
  const networks = ['1'];
  const first = settle({ externals: ['203.0.113.1'], networks });
  const second = settle({ externals: ['203.0.113.2'], networks }, first.settings);
  const third = settle({ externals: ['203.0.113.1'], networks }, second.settings);
  const addresses = third.settings.externals.map(({ address }) => address);
  assert.equal(addresses.filter((address) => address === ip('203.0.113.1')).length, 1);
  assert.deepEqual(third.gonePlaces, [0, 1]);
});

test('an address that changes its owner takes another place', () => {
  const wish = { externals: ['203.0.113.1', '203.0.113.2'], networks: ['1'] };
  const first = settle(wish);
  const oneToOne = [['203.0.113.2', '10.77.1.9']] as const;
  const second = settle({ ...wish, externals: ['203.0.113.1'], oneToOne }, first.settings);
  assert.deepEqual(externalsIn(second), ['1', '-', '2=9']);
  assert.deepEqual(second.gonePlaces, [1]);
});

test('networks keep their places; one that changes its mode takes another', () => {
  const externals = ['203.0.113.1'];
  const first = settle({ externals, networks: ['1', '2', '3'] });
  const fewer = settle({ externals, networks: ['3', '1'] }, first.settings);
  assert.deepEqual([networksIn(fewer), fewer.areNetworksOthers], [['1', '-', '3'], true]);
  const more = settle({ externals, networks: ['1', '3', '4'] }, fewer.settings);
  assert.deepEqual([networksIn(more), more.areNetworksOthers], [['1', '4', '3'], false]);
  const routed = settle({ externals, networks: ['1r', '3', '4'] }, more.settings);
  assert.deepEqual([networksIn(routed), routed.areNetworksOthers], [['-', '4', '3', '1r'], true]);
});

test('whatever changes, nothing that stays moves, and nothing is lost while there is room', () => {
  const octet = fc.integer({ min: 1, max: 6 });
  const wish = fc.record({
    externals: fc
      .uniqueArray(octet, { minLength: 1, maxLength: 3 })
      .map((all) => all.map((one) => `203.0.113.${one}`)),
    networks: fc.uniqueArray(octet, { minLength: 1 }).map((all) => all.map(String)),
  });
  fc.assert(
    fc.property(fc.array(wish, { minLength: 2, maxLength: 8 }), fc.boolean(), (wishes, settles) => {
      let previous: NatSettings | undefined;
      for (const one of wishes) {
        const next = settle(one, previous);
        const { settings } = next;
        assert.deepEqual(next.left, []);
        for (const text of one.externals) {
          const isIt = ({ address, oneToOne }: { address: number; oneToOne: number }) =>
            address === ip(text) && oneToOne === 0;
          const place = settings.externals.findIndex(isIt);
          assert.ok(place >= 0 && place < settings.externalCount);
          const before = previous?.externals.findIndex(isIt) ?? -1;
          if (before >= 0) assert.equal(place, before);
        }
        for (const text of one.networks) {
          const isIt = ({ prefix }: { prefix: number }) => prefix === ip(`10.77.${text}.0`);
          const place = settings.networks.findIndex(isIt);
          assert.ok(place >= 0 && place < settings.networkCount);
          const before = previous?.networks.findIndex(isIt) ?? -1;
          if (before >= 0) assert.equal(place, before);
        }
        previous = settles ? withoutGone(settings) : settings;
      }
    }),
  );
});

test('what does not fit into the tables is left, and told', () => {
  const wish = { externals: ['203.0.113.1', '203.0.113.2', '203.0.113.3'], networks: ['1'] };
  const { left, settings } = settle(wish, undefined, 2);
  assert.equal(settings.externalCount, 2);
  assert.deepEqual(
    left.map(({ address }) => address),
    [ip('203.0.113.3')],
  );
});
