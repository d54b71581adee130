import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type NatFragmentKey, NatHook } from '../abi/layouts.generated.ts';
import { type Frame, ip, withBytes } from '../testing/nat-packets.ts';
import {
  FragmentHold,
  type FragmentHoldCommand,
  type FragmentHoldLimits,
  fragmentHoldLimits,
  HOLD_FOR_MS,
} from './fragment-hold.ts';

const UDP = 17;
const WAN_INDEX = 3;
const LAN_INDEX = 0x0102_0304;
const hooks = new Map<number, NatHook>([
  [WAN_INDEX, NatHook.wanIngress],
  [LAN_INDEX, NatHook.insideIngress],
]);
/** 203.0.113.10 and 198.51.100.1, as {@link heldFrame} makes them. */
const addresses = { source: 0xcb00710a, destination: 0xc6336401 };

interface HeldFrame {
  readonly interfaceIndex?: number;
  readonly identification: number;
  /** In eights of bytes; zero for a first fragment. */
  readonly offset?: number;
  readonly payloadBytes?: number;
  readonly protocol?: number;
}

/** As the kernel program hands it over. */
function heldFrame(options: HeldFrame): Frame {
  const { identification, offset = 185, payloadBytes = 1_480, protocol = UDP } = options;
  const { interfaceIndex: index = WAN_INDEX } = options;
  const payload = new Uint8Array(payloadBytes).fill(identification);
  const whole = ip('203.0.113.10 > 198.51.100.1', protocol, payload, { identification });
  const fragment = 0x2000 | offset;
  const cut = withBytes(whole, 20, [fragment >> 8, fragment & 0xff]);
  return withBytes(cut, 6, [2, 0x67, index >>> 24, index >>> 16, index >>> 8, index]);
}

function keyOf(identification: number, more: Partial<NatFragmentKey> = {}): NatFragmentKey {
  return { ...addresses, identification, protocol: UDP, hook: NatHook.wanIngress, ...more };
}

/** A hold whose kernel knows the first fragments of the identifications in `known`. */
function makeHold(limits: FragmentHoldLimits = fragmentHoldLimits) {
  const known = new Set<number>();
  const hold = new FragmentHold({
    isFirstKnown: ({ identification }) => known.has(identification),
    limits,
  });
  hold.handleInterfaces(hooks);
  return { hold, known };
}

function framesOf(commands: readonly FragmentHoldCommand[]): Buffer[] {
  return commands.map(({ bytes }) => Buffer.from(bytes));
}

const zero = {
  waited: 0,
  returned: 0,
  droppedExpired: 0,
  droppedNoRoom: 0,
  droppedOversized: 0,
  droppedForeign: 0,
};

test('frames wait until the first fragment comes, and go back in the order in which they came', () => {
  const { hold } = makeHold();
  const frames = [370, 185].map((offset) => heldFrame({ identification: 7, offset }));
  for (const frame of frames) assert.deepEqual(hold.handleFrame(frame, 0), []);
  assert.equal(hold.waiting().datagrams, 1);
  assert.deepEqual(framesOf(hold.handleFirst(keyOf(7))), frames.map(Buffer.from));
  assert.deepEqual(hold.waiting(), { datagrams: 0, slots: 0 });
  assert.equal(hold.nextDeadline(), undefined);
  assert.deepEqual(hold.counters(), { ...zero, waited: 2, returned: 2 });
});

test('a first fragment releases its own datagram alone', () => {
  const { hold } = makeHold();
  const frame = heldFrame({ identification: 7 });
  hold.handleFrame(frame, 0);
  for (const other of [
    keyOf(8),
    keyOf(7, { protocol: 1 }),
    keyOf(7, { source: 1 }),
    keyOf(7, { destination: 1 }),
    keyOf(7, { hook: NatHook.insideIngress }),
  ]) {
    assert.deepEqual(hold.handleFirst(other), []);
  }
  assert.deepEqual(framesOf(hold.handleFirst(keyOf(7))), [Buffer.from(frame)]);
});

test('the interface that the source address names tells the hook', () => {
  const { hold } = makeHold();
  const frame = heldFrame({ identification: 7, interfaceIndex: LAN_INDEX });
  hold.handleFrame(frame, 0);
  const key = keyOf(7, { hook: NatHook.insideIngress });
  assert.deepEqual(framesOf(hold.handleFirst(key)), [Buffer.from(frame)]);
});

test('what waits is a copy', () => {
  const { hold } = makeHold();
  const buffer = heldFrame({ identification: 7 });
  const before = Buffer.from(buffer);
  hold.handleFrame(buffer, 0);
  buffer.fill(0);
  assert.deepEqual(framesOf(hold.handleFirst(keyOf(7))), [before]);
});

test('a frame whose first came meanwhile goes back at once, behind those that wait', () => {
  const { hold, known } = makeHold();
  const [one, other] = [185, 370].map((offset) => heldFrame({ identification: 7, offset }));
  assert.ok(one && other);
  hold.handleFrame(one, 0);
  known.add(7);
  assert.deepEqual(framesOf(hold.handleFrame(other, 1)), [Buffer.from(one), Buffer.from(other)]);
  assert.deepEqual(framesOf(hold.handleFrame(other, 1)), [Buffer.from(other)]);
  assert.deepEqual(hold.counters(), { ...zero, waited: 1, returned: 3 });
});

test('the word of a first fragment for which nothing waits does nothing', () => {
  const { hold } = makeHold();
  assert.deepEqual(hold.handleFirst(keyOf(7)), []);
  assert.deepEqual(hold.counters(), zero);
});

test('duplicates go back as often as they came', () => {
  const { hold } = makeHold();
  const frame = heldFrame({ identification: 7 });
  for (let count = 0; count < 3; count++) hold.handleFrame(frame, 0);
  assert.equal(hold.handleFirst(keyOf(7)).length, 3);
});

test('a datagram without a first is given up after its time, which its first frame begins', () => {
  const { hold } = makeHold();
  hold.handleFrame(heldFrame({ identification: 7 }), 100);
  hold.handleFrame(heldFrame({ identification: 8 }), 200);
  hold.handleFrame(heldFrame({ identification: 7 }), 4_000);
  assert.equal(hold.nextDeadline(), 100 + HOLD_FOR_MS);
  assert.deepEqual(hold.handleTimeout(99 + HOLD_FOR_MS), []);
  assert.equal(hold.waiting().datagrams, 2);
  assert.deepEqual(hold.handleTimeout(100 + HOLD_FOR_MS), []);
  assert.equal(hold.waiting().datagrams, 1);
  assert.equal(hold.nextDeadline(), 200 + HOLD_FOR_MS);
  assert.deepEqual(hold.handleTimeout(10_000_000), []);
  assert.deepEqual(hold.waiting(), { datagrams: 0, slots: 0 });
  assert.deepEqual(hold.counters(), { ...zero, waited: 3, droppedExpired: 3 });
});

test('at the end of the time a datagram goes back when the word of its first was lost', () => {
  const { hold, known } = makeHold();
  const frame = heldFrame({ identification: 7 });
  hold.handleFrame(frame, 0);
  known.add(7);
  assert.deepEqual(framesOf(hold.handleTimeout(HOLD_FOR_MS)), [Buffer.from(frame)]);
  assert.deepEqual(hold.counters(), { ...zero, waited: 1, returned: 1 });
});

for (const [what, frame] of [
  ['nothing', new Uint8Array()],
  ['half an Ethernet header', new Uint8Array(10)],
  ['another source address', withBytes(heldFrame({ identification: 7 }), 7, [0x68])],
  ['an interface without NAT', heldFrame({ identification: 7, interfaceIndex: 99 })],
  ['another protocol than IPv4', withBytes(heldFrame({ identification: 7 }), 12, [0x86, 0xdd])],
  ['a first fragment', heldFrame({ identification: 7, offset: 0 })],
  ['a packet in one piece', withBytes(heldFrame({ identification: 7 }), 20, [0, 0])],
  ['a fragment that is cut', heldFrame({ identification: 7 }).slice(0, 1_000)],
] as const) {
  test(`${what} does not wait`, () => {
    const { hold } = makeHold();
    assert.deepEqual(hold.handleFrame(frame, 0), []);
    assert.deepEqual(hold.counters(), { ...zero, droppedForeign: 1 });
    assert.equal(hold.nextDeadline(), undefined);
  });
}

test('the largest datagram waits whole, in the smallest fragments that networks make', () => {
  const { hold } = makeHold();
  const payloadBytes = 552;
  const count = Math.ceil(65_515 / payloadBytes) - 1;
  for (let index = 1; index <= count; index++) {
    const offset = (index * payloadBytes) / 8;
    hold.handleFrame(heldFrame({ identification: 7, offset, payloadBytes }), 0);
  }
  assert.equal(hold.handleFirst(keyOf(7)).length, count);
});

test('of more than a datagram can hold, the rest is dropped and what came before waits on', () => {
  const { hold } = makeHold();
  for (let count = 0; count < 10_000; count++) {
    hold.handleFrame(heldFrame({ identification: 7, payloadBytes: 8 }), 0);
  }
  const { waited, droppedOversized } = hold.counters();
  assert.equal(waited + droppedOversized, 10_000);
  assert.equal(hold.waiting().slots, fragmentHoldLimits.slotsPerDatagram);
  assert.equal(hold.handleFirst(keyOf(7)).length, waited);
});

test('for want of datagrams the oldest is dropped', () => {
  const { hold } = makeHold({ ...fragmentHoldLimits, datagrams: 3 });
  for (const identification of [1, 2, 3, 4]) {
    hold.handleFrame(heldFrame({ identification }), identification);
  }
  assert.deepEqual(hold.handleFirst(keyOf(1)), []);
  assert.deepEqual(
    [2, 3, 4].map((one) => hold.handleFirst(keyOf(one)).length),
    [1, 1, 1],
  );
  assert.deepEqual(hold.counters(), { ...zero, waited: 4, returned: 3, droppedNoRoom: 1 });
});

test('for want of memory the oldest is dropped, but not the datagram that needs it', () => {
  const { hold } = makeHold({ datagrams: 10, slots: 3, slotsPerDatagram: 3 });
  for (const identification of [1, 2, 3, 1]) hold.handleFrame(heldFrame({ identification }), 0);
  assert.deepEqual(hold.waiting(), { datagrams: 2, slots: 3 });
  assert.deepEqual(hold.handleFirst(keyOf(2)), []);
  assert.equal(hold.handleFirst(keyOf(1)).length, 2);
  assert.equal(hold.handleFirst(keyOf(3)).length, 1);
});

test('frames of any size wait whole and keep apart', () => {
  const { hold } = makeHold();
  const sizes = [8, 1_480, 2_014, 2_015, 8_960, 65_000];
  const frames = sizes.flatMap((payloadBytes) =>
    [1, 2].map((offset) => heldFrame({ identification: 7, offset, payloadBytes })),
  );
  for (const frame of frames) hold.handleFrame(frame, 0);
  hold.handleFrame(heldFrame({ identification: 8, payloadBytes: 5_000 }), 0);
  assert.deepEqual(framesOf(hold.handleFirst(keyOf(7))), frames.map(Buffer.from));
});

test('a flood of fragments without a first stays within the bounds, and the newest wait', () => {
  const { hold } = makeHold();
  const count = 20_000;
  for (let identification = 0; identification < count; identification++) {
    hold.handleFrame(heldFrame({ identification }), identification / 10);
    assert.ok(hold.waiting().slots <= fragmentHoldLimits.slots);
    assert.ok(hold.waiting().datagrams <= fragmentHoldLimits.datagrams);
  }
  assert.equal(hold.handleFirst(keyOf(count - 1)).length, 1);
  hold.handleTimeout(count / 10 + HOLD_FOR_MS);
  assert.deepEqual(hold.waiting(), { datagrams: 0, slots: 0 });
});

test('every frame is returned or dropped once, whatever comes in whatever order', () => {
  const limits = { datagrams: 3, slots: 8, slotsPerDatagram: 5 };
  const identification = fc.integer({ min: 0, max: 5 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant('frame' as const), identification, bytes: fc.nat(6_000) }),
    fc.record({ kind: fc.constant('first' as const), identification }),
    fc.record({ kind: fc.constant('known' as const), identification }),
    fc.record({ kind: fc.constant('later' as const), ms: fc.nat(2 * HOLD_FOR_MS) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const { hold, known } = makeHold(limits);
      let now = 0;
      let given = 0;
      let returned = 0;
      for (const one of steps) {
        if (one.kind === 'frame') {
          given++;
          const { identification: of, bytes: payloadBytes } = one;
          returned += hold.handleFrame(heldFrame({ identification: of, payloadBytes }), now).length;
        } else if (one.kind === 'first') {
          returned += hold.handleFirst(keyOf(one.identification)).length;
        } else if (one.kind === 'known') {
          known.add(one.identification);
        } else {
          now += one.ms;
          returned += hold.handleTimeout(now).length;
        }
        assert.ok(hold.waiting().slots <= limits.slots);
        assert.ok(hold.waiting().datagrams <= limits.datagrams);
        assert.equal(hold.nextDeadline() === undefined, hold.waiting().datagrams === 0);
      }
      returned += hold.handleTimeout(now + HOLD_FOR_MS).length;
      assert.deepEqual(hold.waiting(), { datagrams: 0, slots: 0 });
      const counters = hold.counters();
      const { droppedExpired, droppedNoRoom, droppedOversized, droppedForeign } = counters;
      assert.equal(counters.returned, returned);
      const dropped = droppedExpired + droppedNoRoom + droppedOversized + droppedForeign;
      assert.equal(returned + dropped, given);
    }),
  );
});
