/**
 * The NAT's kernel programs: the cases that their twin goes through, and packets at random, which
 * twin and programs must treat alike to the last byte, bit of the mark and counter.
 *
 * A longer walk: NAT_WALK_STEPS=100000 NAT_WALK_SEED=7 NAT_WALK_SEEDS=3 in the environment.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { inspect } from 'node:util';
import { NatSettings } from '../../src/abi/layouts.generated.ts';
import { requireIpAddress } from '../../src/net/ip-address.ts';
import { requireIpv4Address } from '../../src/net/ipv4-address.ts';
import { runNatCase, settingsOf } from '../../src/testing/nat-case.ts';
import { natCases } from '../../src/testing/nat-cases.ts';
import { describeFrame, udp } from '../../src/testing/nat-packets.ts';
import { natTestSettings } from '../../src/testing/nat-test-settings.ts';
import { NatWalk, type WalkStep } from '../../src/testing/nat-walk.ts';
import {
  FIRST_TICK,
  type NatUnderTest,
  type TestedOutcome,
  twinUnderTest,
} from '../../src/testing/tested-nat.ts';
import { KernelNat, type KernelNatOptions } from './kernel-nat.ts';

const STEPS = Number(process.env['NAT_WALK_STEPS'] ?? 5000);
const FIRST_SEED = Number(process.env['NAT_WALK_SEED'] ?? 1);
const SEEDS = Number(process.env['NAT_WALK_SEEDS'] ?? 1);
/** So often all sessions are compared, with their bytes, times and endpoints. */
const STEPS_PER_LISTING = 50;
/** So many are printed when the two differ: what led there is rarely older. */
const STEPS_SHOWN = Number(process.env['NAT_WALK_SHOWN'] ?? 40);

const kernel = new KernelNat();
after(() => kernel[Symbol.dispose]());

for (const natCase of natCases) {
  test(`kernel program: ${natCase.name}`, () => {
    const { portForwards = [], sessionCountMax } = natCase;
    const buckets = sessionCountMax === undefined ? {} : { sessionBucketCount: 1 };
    kernel.start({ settings: settingsOf(natCase), portForwards, ...buckets });
    runNatCase(kernel, natCase);
  });
}

test('survive-86 sessions live by the monotonic clock, which no change of the time of day moves', () => {
  kernel.start({ settings: natTestSettings });
  const before = monotonicTick();
  kernel.setTick(1);
  const settings = kernel.object.maps.natSettings.mapMemory();
  settings.view.setBigUint64(NatSettings.fields.fixedNowNs.offsetBytes, 0n, true);
  settings.unmap();
  kernel.handle({ hook: 'wan-egress', bytes: udp('10.77.0.2:5000 > 198.51.100.1:53') });
  const [session] = kernel.sessions();
  assert.ok(session !== undefined);
  assert.equal(session.untilTick - session.createdTick, natTestSettings.times.udp + 1);
  // The kernel reads its coarse clock, which is one timer interrupt behind at most.
  assert.ok(session.createdTick >= before - 1, `${session.createdTick} after ${before}`);
  assert.ok(session.createdTick <= monotonicTick());
});

test('the bytes of both ends of a session are counted beyond 4 GiB', () => {
  kernel.start({ settings: natTestSettings });
  const { natSessions } = kernel.object.maps;
  kernel.handle({ hook: 'wan-egress', bytes: udp('10.77.0.2:5000 > 198.51.100.1:53') });
  for (const [index, bucket] of natSessions.entries()) {
    const bytes = { lowBytes: 0xffff_fff0, highBytes: 0xffff_ffff, highBytesAbove: 7 };
    const slots = bucket.slots.map((session) => ({ ...session, ...bytes }));
    natSessions.update(index, { ...bucket, slots });
  }
  kernel.handle({ hook: 'wan-egress', bytes: udp('10.77.0.2:5000 > 198.51.100.1:53') });
  kernel.handle({ hook: 'wan-ingress', bytes: udp('198.51.100.1:53 > 203.0.113.1:5000') });
  const [session] = kernel.sessions();
  assert.equal(session?.opener.bytes, 0xffff_fff0 + 28);
  assert.equal(session?.responder.bytes, 7 * 2 ** 32 + 0xffff_ffff + 28);
});

test('sessions that their first bucket has no room for are found, counted and forgotten', () => {
  kernel.start({ settings: natTestSettings, sessionBucketCount: 4 });
  const send = (port: number) => {
    const bytes = udp(`10.77.0.2:5000 > 198.51.100.1:${port}`);
    return kernel.handle({ hook: 'wan-egress', bytes }).counts;
  };
  const ports = Array.from({ length: 52 }, (_, index) => 100 + index);
  for (const port of ports) assert.equal(send(port).sessionsOpened, 1);
  const { away, guests } = sessionsAway();
  assert.notEqual(away, 0);
  assert.equal(guests, away);
  for (const port of ports) assert.deepEqual(send(port), { translated: 1 });
  kernel.killSessions();
  // Some take the places of dead ones before the sweep.
  for (const port of ports.slice(0, 20)) send(port + 1_000);
  const between = sessionsAway();
  assert.equal(between.guests, between.away);
  kernel.setTick(FIRST_TICK + natTestSettings.times.udp + 2);
  assert.deepEqual(sessionsAway(), { away: 0, guests: 0 });
});

test('addresses of IPv6, of which a host has many, make the quotas of no IPv4 host forgotten', () => {
  kernel.start({ settings: natTestSettings });
  kernel.handle({ hook: 'wan-egress', bytes: udp('10.77.0.2:5000 > 198.51.100.1:53') });
  for (const end of [2, 3, 4]) {
    const bytes = udp(`[2001:db8:77::${end}]:5000 > [2001:db8:9::1]:53`);
    assert.equal(kernel.handle({ hook: 'wan-egress', bytes }).counts.sessionsOpened, 1);
  }
  const { natHosts, natSixHosts } = kernel.object.maps;
  const counts = () =>
    [natHosts, natSixHosts].map((map) => [...map.entries()].map(([, { sessions }]) => sessions));
  assert.equal(counts()[0]?.length, 1);
  assert.ok((counts()[1]?.length ?? 0) > 0);
  kernel.killSessions();
  kernel.setTick(FIRST_TICK + natTestSettings.times.udp + 2);
  assert.deepEqual(new Set(counts().flat()), new Set([0]));
});

/** As the buckets that miss them count them, and as those that have them do. */
function sessionsAway(): { readonly away: number; readonly guests: number } {
  const buckets = [...kernel.object.maps.natSessions.entries()].map(([, bucket]) => bucket);
  const bits = (mask: number) => [...mask.toString(2)].filter((bit) => bit === '1').length;
  return {
    away: buckets.reduce((sum, bucket) => sum + bucket.away, 0),
    guests: buckets.reduce((sum, bucket) => sum + bits(bucket.guests), 0),
  };
}

function monotonicTick(): number {
  return Number(process.hrtime.bigint() >> 30n);
}

const forwarded = {
  external: 0,
  insideAddress: requireIpv4Address('10.78.0.2'),
  insidePort: 80,
} as const;

/** Worlds in which different parts of the NAT are reached. */
const worlds: { readonly [name: string]: KernelNatOptions } = {
  'with room for all': { settings: natTestSettings },
  'with port forwards, held fragments, and connections picked up': {
    settings: { ...natTestSettings, holdInterface: 1, pickupUntilTick: FIRST_TICK + 500 },
    portForwards: [
      { ...forwarded, class: 'tcp', externalPort: 80 },
      { ...forwarded, class: 'udp', externalPort: 53 },
    ],
  },
  'behind a public WAN': { settings: { ...natTestSettings, wanIsPublic: true } },
  'with few ports and small quotas': {
    settings: {
      ...natTestSettings,
      pool: { first: 5000, last: 5002 },
      sessionsPerHost: 7,
      outsideSessionsPerMapping: 2,
    },
  },
  'with several external addresses, one of them with a filter of its own': {
    settings: {
      ...natTestSettings,
      externals: [
        { address: requireIpv4Address('203.0.113.1'), filtering: 'endpoint-independent' },
        { address: requireIpv4Address('203.0.113.2'), filtering: 'endpoint-independent' },
        {
          address: requireIpv4Address('203.0.113.9'),
          oneToOne: requireIpv4Address('10.79.0.2'),
          filtering: 'address-dependent',
        },
      ],
    },
  },
};

for (const [name, options] of Object.entries(worlds)) {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
    test(`twin and kernel program treat packets alike ${name}, from seed ${seed}`, () => {
      walk(options, seed);
    });
  }
}

function walk(options: KernelNatOptions, seed: number): void {
  const twin = twinUnderTest(options);
  kernel.start(options);
  const steps = new NatWalk(seed);
  const past: string[] = [];
  let tick = FIRST_TICK;
  for (let index = 0; index < STEPS; index++) {
    const step = steps.step();
    past.push(describeStep(step));
    if (past.length > STEPS_SHOWN) past.shift();
    if (step.do === 'wait') {
      tick += step.ticks;
      twin.setTick(tick);
      kernel.setTick(tick);
      continue;
    }
    if (step.do === 'change-rules') {
      twin.setGeneration(step.generation);
      kernel.setGeneration(step.generation);
      continue;
    }
    if (step.do === 'change-about') {
      const address = requireIpAddress(step.address);
      for (const nat of [twin, kernel]) {
        for (let time = 0; time < step.times; time++) nat.raiseAddressGeneration(address);
      }
      continue;
    }
    if (step.do === 'change-interfaces') {
      twin.setInterfaces(step.interfaces);
      kernel.setInterfaces(step.interfaces);
      continue;
    }
    if (step.do === 'kill') {
      twin.killSessions();
      kernel.killSessions();
      continue;
    }
    const expected = twin.handle(step.packet);
    const actual = kernel.handle(step.packet);
    past.push(`    ${describeOutcome(expected)}`);
    const about = () =>
      `seed ${seed}, step ${index}:\n${past.join('\n')}\nkernel: ${describeOutcome(actual)}`;
    if (!isSame(actual, expected)) assert.deepEqual(actual, expected, about());
    steps.learn(step.packet, expected);
    if (index % STEPS_PER_LISTING !== 0) continue;
    assert.deepEqual(sorted(kernel), sorted(twin), `sessions, ${about()}`);
  }
}

/** Both tables in the same order. */
function sorted(nat: NatUnderTest): readonly string[] {
  return nat
    .sessions()
    .map((session) => inspect(session, { breakLength: Number.POSITIVE_INFINITY, sorted: true }))
    .sort();
}

/** Quick, since it is asked for every packet. */
function isSame(left: TestedOutcome, right: TestedOutcome): boolean {
  return (
    left.verdict === right.verdict &&
    left.mark === right.mark &&
    Buffer.compare(left.bytes ?? nothing, right.bytes ?? nothing) === 0 &&
    isSameCounts(left.counts, right.counts)
  );
}

const nothing = new Uint8Array(0);

function isSameCounts(left: TestedOutcome['counts'], right: TestedOutcome['counts']): boolean {
  const names = Object.keys({ ...left, ...right }) as (keyof TestedOutcome['counts'])[];
  return names.every((name) => left[name] === right[name]);
}

function describeStep(step: WalkStep): string {
  if (step.do === 'wait') return `wait ${step.ticks}`;
  if (step.do === 'change-rules') return `the rules are number ${step.generation}`;
  if (step.do === 'change-about') return `${step.address} changes ${step.times} times`;
  if (step.do === 'kill') return 'all sessions are killed';
  if (step.do === 'change-interfaces') return `interfaces are ${JSON.stringify(step.interfaces)}`;
  const { hook, bytes, mark = 0, cameInBy } = step.packet;
  const origin = cameInBy === undefined ? '' : `, came in by ${cameInBy}`;
  return `${hook}: ${describeFrame(bytes)}, mark ${mark.toString(16)}${origin}`;
}

function describeOutcome({ verdict, bytes, mark = 0, counts }: TestedOutcome): string {
  const moved = Object.entries(counts).map(([name, count]) => `${name} ${count}`);
  const shown = bytes === undefined ? '' : ` ${describeFrame(bytes)}, mark ${mark.toString(16)}`;
  return `${verdict}${shown} [${moved.join(', ')}]`;
}
