import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  HELD_BYTES_MAX,
  ImpairedDirection,
  type Impairment,
  validateImpairment,
} from './impairment.ts';

/** A frame that tells its number. */
function frame(number: number, lengthBytes = 100): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(lengthBytes);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

interface Delivery {
  readonly number: number;
  readonly atMs: number;
}

/** Sends frames at given times and gives back what arrives, in order of arrival. */
function carry(
  direction: ImpairedDirection,
  sent: readonly { atMs: number; lengthBytes?: number }[],
): Delivery[] {
  const delivered: Delivery[] = [];
  const deliverUntil = (untilMs: number) => {
    for (;;) {
      const atMs = direction.nextDeadline();
      if (atMs === undefined || atMs > untilMs) return;
      for (;;) {
        const due = direction.takeDue(atMs);
        if (due === undefined) break;
        delivered.push({ number: new DataView(due.buffer).getUint32(0), atMs });
      }
    }
  };
  for (const [number, { atMs, lengthBytes }] of sent.entries()) {
    deliverUntil(atMs);
    const { outcome } = direction.handleFrame(frame(number, lengthBytes), atMs);
    if (outcome === 'forward') delivered.push({ number, atMs });
  }
  deliverUntil(Number.POSITIVE_INFINITY);
  return delivered;
}

/** `count` frames, one each `everyMs`. */
function regular(count: number, everyMs: number, lengthBytes = 100) {
  return Array.from({ length: count }, (_, index) => ({ atMs: index * everyMs, lengthBytes }));
}

test('a perfect link forwards at once and keeps nothing', () => {
  const direction = new ImpairedDirection({}, 1);
  assert.deepEqual(direction.handleFrame(frame(0), 5), { outcome: 'forward' });
  assert.equal(direction.nextDeadline(), undefined);
  assert.equal(direction.takeDue(1000), undefined);
  assert.deepEqual(direction.counters(), {
    receivedCount: 1,
    forwardedCount: 1,
    heldCount: 0,
    drops: { lost: 0, 'queue-full': 0, 'buffer-full': 0 },
  });
});

test('delay holds a copy of each frame for its time, in order', () => {
  const direction = new ImpairedDirection({ delayMs: 20 }, 1);
  const reused = frame(7);
  assert.deepEqual(direction.handleFrame(reused, 100), { outcome: 'hold', untilMs: 120 });
  reused.fill(0xff);
  assert.equal(direction.takeDue(119.9), undefined);
  assert.deepEqual(direction.takeDue(120), frame(7));
  assert.equal(direction.takeDue(120), undefined);
  assert.deepEqual(carry(direction, regular(3, 1)), [
    { number: 0, atMs: 120 },
    { number: 1, atMs: 120 },
    { number: 2, atMs: 120 },
  ]);
});

test('loss drops its share of frames, counts each, and repeats by its seed', () => {
  const run = (seed: number) => {
    const direction = new ImpairedDirection({ lossPercent: 10 }, seed);
    const delivered = carry(direction, regular(10_000, 1)).map(({ number }) => number);
    return { delivered, drops: direction.counters().drops };
  };
  const first = run(1);
  // 10,000 tries of 10 %: six standard deviations are 180.
  assert.ok(Math.abs(first.drops.lost - 1000) < 180, `${first.drops.lost} lost`);
  assert.equal(first.delivered.length + first.drops.lost, 10_000);
  assert.deepEqual(run(1), first);
  assert.notDeepEqual(run(2).delivered, first.delivered);
});

test('total loss lets nothing pass, no loss everything', () => {
  assert.equal(carry(new ImpairedDirection({ lossPercent: 100 }, 1), regular(1000, 1)).length, 0);
  assert.equal(carry(new ImpairedDirection({ lossPercent: 0 }, 1), regular(1000, 1)).length, 1000);
});

test('jitter varies the delay on both sides within its bound, and keeps order', () => {
  const direction = new ImpairedDirection({ delayMs: 50, jitterMs: 10 }, 3);
  // Further apart than the jitter, so that keeping order does not hide it.
  const delivered = carry(direction, regular(1000, 25));
  const delays = delivered.map(({ number, atMs }) => atMs - number * 25);
  assert.ok(Math.min(...delays) >= 40 && Math.min(...delays) < 41);
  assert.ok(Math.max(...delays) <= 60 && Math.max(...delays) > 59);
  const close = carry(new ImpairedDirection({ delayMs: 50, jitterMs: 10 }, 3), regular(1000, 1));
  assert.deepEqual(
    close.map(({ number }) => number),
    Array.from({ length: 1000 }, (_, index) => index),
  );
});

test('reordering holds its share back, and later frames overtake them', () => {
  const impairment = { delayMs: 10, reorderPercent: 25, reorderByMs: 3.5 };
  const delivered = carry(new ImpairedDirection(impairment, 1), regular(4000, 1));
  assert.equal(delivered.length, 4000);
  const late = delivered.filter(({ number, atMs }) => atMs - number > 13);
  // 4,000 tries of 25 %: six standard deviations are 164.
  assert.ok(Math.abs(late.length - 1000) < 164, `${late.length} held back`);
  for (const { number, atMs } of delivered) {
    assert.ok([10, 13.5].includes(atMs - number), `frame ${number} at ${atMs}`);
  }
  const overtaken = delivered.filter(({ number }, index) => {
    const before = delivered[index - 1];
    return before !== undefined && before.number > number;
  });
  assert.ok(overtaken.length > 500, `${overtaken.length} overtaken`);
});

test('the rate spaces frames by their length, and an idle line sends at once', () => {
  // 1 Mbit/s: 125 bytes take a millisecond.
  const direction = new ImpairedDirection({ rateBitsPerSecond: 1e6, queueBytes: 10_000 }, 1);
  const sent = [
    { atMs: 0, lengthBytes: 125 },
    { atMs: 0, lengthBytes: 250 },
    { atMs: 1, lengthBytes: 125 },
    { atMs: 100, lengthBytes: 125 },
  ];
  assert.deepEqual(carry(direction, sent), [
    { number: 0, atMs: 1 },
    { number: 1, atMs: 3 },
    { number: 2, atMs: 4 },
    { number: 3, atMs: 101 },
  ]);
});

test('the queue takes frames up to its bytes and drops what is beyond', () => {
  const direction = new ImpairedDirection({ rateBitsPerSecond: 1e6, queueBytes: 5000 }, 1);
  for (let number = 0; number < 5; number += 1) {
    assert.equal(direction.handleFrame(frame(number, 1000), 0).outcome, 'hold');
  }
  assert.deepEqual(direction.handleFrame(frame(5, 1000), 0), {
    outcome: 'drop',
    reason: 'queue-full',
  });
  // A frame of 1,000 bytes has left after 8 ms, and makes room for one more.
  assert.equal(direction.handleFrame(frame(6, 1000), 7.9).outcome, 'drop');
  assert.deepEqual(direction.handleFrame(frame(7, 1000), 8), { outcome: 'hold', untilMs: 48 });
  assert.equal(direction.counters().drops['queue-full'], 2);
});

test('offered twice its rate, a line delivers its rate and drops the rest', () => {
  const direction = new ImpairedDirection({ rateBitsPerSecond: 8e6, queueBytes: 20_000 }, 1);
  // 1,000 bytes each half a millisecond are 16 Mbit/s.
  const delivered = carry(direction, regular(2000, 0.5, 1000));
  const last = delivered.at(-1)?.atMs ?? 0;
  const { drops } = direction.counters();
  assert.equal(delivered.length + drops['queue-full'], 2000);
  assert.ok(Math.abs(delivered.length / last - 1) < 0.01, `${delivered.length} in ${last} ms`);
});

test('a lost frame has used the line', () => {
  const impairment = { rateBitsPerSecond: 1e6, queueBytes: 100_000, lossPercent: 100 };
  const direction = new ImpairedDirection(impairment, 1);
  direction.handleFrame(frame(0, 1250), 0);
  direction.impair({ rateBitsPerSecond: 1e6, queueBytes: 100_000 });
  assert.deepEqual(direction.handleFrame(frame(1, 1250), 0), { outcome: 'hold', untilMs: 20 });
});

test('frames on their way have a limit of memory, and a reason of their own', () => {
  const direction = new ImpairedDirection({ delayMs: 1000 }, 1);
  const large = frame(0, 64 * 1024);
  const room = HELD_BYTES_MAX / large.length;
  for (let count = 0; count < room; count += 1) direction.handleFrame(large, 0);
  assert.deepEqual(direction.handleFrame(large, 0), { outcome: 'drop', reason: 'buffer-full' });
  direction.takeDue(1000);
  assert.equal(direction.handleFrame(large, 1000).outcome, 'hold');
});

test('a change applies to later frames; those on their way keep their time and their order', () => {
  const direction = new ImpairedDirection({ delayMs: 50 }, 1);
  direction.handleFrame(frame(0), 0);
  direction.impair({ lossPercent: 100 });
  assert.equal(direction.handleFrame(frame(1), 1).outcome, 'drop');
  direction.impair({});
  assert.deepEqual(direction.handleFrame(frame(2), 2), { outcome: 'hold', untilMs: 50 });
  assert.deepEqual(
    [direction.takeDue(50), direction.takeDue(50), direction.takeDue(50)],
    [frame(0), frame(2), undefined],
  );
});

test('whatever the impairment, each frame is forwarded once or counted as dropped', () => {
  const impairments: fc.Arbitrary<Impairment> = fc.record({
    lossPercent: fc.integer({ min: 0, max: 100 }),
    delayMs: fc.double({ min: 0, max: 50, noNaN: true }),
    jitterMs: fc.double({ min: 0, max: 50, noNaN: true }),
    reorderPercent: fc.integer({ min: 0, max: 100 }),
    reorderByMs: fc.double({ min: 0.1, max: 50, noNaN: true }),
    rateBitsPerSecond: fc.integer({ min: 10_000, max: 100_000_000 }),
    queueBytes: fc.integer({ min: 3028, max: 100_000 }),
  });
  const gaps = fc.array(fc.double({ min: 0, max: 5, noNaN: true }), { maxLength: 200 });
  fc.assert(
    fc.property(impairments, gaps, fc.integer({ min: 0 }), (impairment, gapsMs, seed) => {
      assert.deepEqual(validateImpairment(impairment), []);
      const direction = new ImpairedDirection(impairment, seed);
      const sent: { atMs: number; lengthBytes: number }[] = [];
      for (const gapMs of gapsMs) {
        sent.push({ atMs: (sent.at(-1)?.atMs ?? 0) + gapMs, lengthBytes: 1000 });
      }
      const delivered = carry(direction, sent);
      const { receivedCount, forwardedCount, heldCount, drops } = direction.counters();
      assert.equal(receivedCount, sent.length);
      assert.equal(heldCount, 0);
      assert.equal(forwardedCount, delivered.length);
      assert.equal(new Set(delivered.map(({ number }) => number)).size, delivered.length);
      const dropCount = Object.values(drops).reduce((sum, count) => sum + count, 0);
      assert.equal(forwardedCount + dropCount, receivedCount);
      for (const { number, atMs: arrivedMs } of delivered) {
        assert.ok(arrivedMs >= (sent[number]?.atMs ?? Number.POSITIVE_INFINITY));
      }
    }),
  );
});

const wrong: readonly (readonly [Impairment, string])[] = [
  [{ lossPercent: -1 }, 'lossPercent: -1 is not between 0 and 100'],
  [{ lossPercent: Number.NaN }, 'lossPercent: NaN is not between 0 and 100'],
  [{ delayMs: 60_001 }, 'delayMs: 60001 is not between 0 and 60000'],
  [{ jitterMs: -0.1 }, 'jitterMs: -0.1 is not between 0 and 60000'],
  [{ reorderPercent: 1 }, 'reorderByMs: is needed with reorderPercent'],
  [{ rateBitsPerSecond: 1e6 }, 'queueBytes: goes with rateBitsPerSecond, both or none'],
  [{ queueBytes: 1e6 }, 'queueBytes: goes with rateBitsPerSecond, both or none'],
  [
    { rateBitsPerSecond: 999, queueBytes: 1e6 },
    'rateBitsPerSecond: 999 is not between 1000 and 100000000000',
  ],
  [
    { rateBitsPerSecond: 1e6, queueBytes: 1500 },
    'queueBytes: 1500 is not between 3028 and 2147483648',
  ],
];

test('an impossible impairment is refused with the field and the value', () => {
  for (const [impairment, fault] of wrong)
    assert.deepEqual(validateImpairment(impairment), [fault]);
});
