import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NatPlace, NatSessionBucket } from '../../abi/layouts.generated.ts';
import {
  asControlAnswer,
  type ControlReply,
  type SessionSummary,
  STATES_PER_ANSWER_MAX,
  type StateFilter,
} from '../../messages/control-messages.ts';
import { digestOf, pairCheck } from '../../nat/ipv6-digest.ts';
import { listSessions } from '../../nat/session-listing.ts';
import { requireIpv4Address } from '../../net/ipv4-address.ts';
import { type Ipv6Address, parseIpv6Address } from '../../net/ipv6-address.ts';
import { type FilledSession, fillSessions } from '../../testing/fill-nat-tables.ts';
import { answerStates, killStates, type NatTables } from './session-states.ts';

const NOW = 1_000;
const laptop = requireIpv4Address('10.77.0.20');
const server = requireIpv4Address('203.0.113.5');

/** @param bucketCount more than a slice has, where slices matter */
function tablesOf(sessions: readonly FilledSession[], bucketCount = 1_024): NatTables {
  const settings = {
    hashKey: [1n, 2n],
    sessionBucketCount: bucketCount,
    externalCount: 1,
    externals: [{ address: requireIpv4Address('198.51.100.1'), oneToOne: 0, filtering: 0 }],
    networkCount: 0,
    networks: [],
  };
  const strideBytes = NatSessionBucket.sizeBytes;
  const view = new DataView(new ArrayBuffer(bucketCount * strideBytes));
  assert.equal(fillSessions({ view, strideBytes }, { settings, sessions }), sessions.length);
  const memory = { view, strideBytes };
  return { sessions: memory, ipv6Addresses, settings, nowTick: () => NOW, endPickup: nothing };
}

/** Those that somebody has noted. */
const known = new Map<number, Ipv6Address>();
const ipv6Addresses: NatTables['ipv6Addresses'] = {
  addressOf: (digest) => known.get(digest),
  slices: () => [...known].map((entry) => [entry]),
};

const sessions = Array.from({ length: 5_000 }, (_, index): FilledSession => {
  const port = 10_000 + index;
  return {
    protocol: index % 2 === 0 ? 6 : 17,
    initiator: { address: laptop + (index % 10), port, external: { index: 0, port } },
    responder: { address: server, port: 443 },
    untilTick: NOW + 10,
    createdTick: NOW,
  };
});

const nothing = () => {};

async function get(
  tables: NatTables | undefined,
  question: { filter?: StateFilter; cursor?: string; limit?: number } = {},
): Promise<ControlReply> {
  const { filter = {}, limit = STATES_PER_ANSWER_MAX, ...rest } = question;
  return valid(
    await answerStates(() => tables, { kind: 'get-states', id: 1, filter, limit, ...rest }),
  );
}

async function kill(
  find: () => NatTables | undefined,
  filter: StateFilter | 'all',
  log: (text: string) => void = nothing,
): Promise<ControlReply> {
  const request = { kind: 'kill-states', id: 1, author: 'anna', filter } as const;
  return valid(await killStates(find, request, log));
}

function valid(reply: ControlReply): ControlReply {
  assert.ok(asControlAnswer({ ...reply, id: 1 }) !== undefined, JSON.stringify(reply));
  return reply;
}

async function all(tables: NatTables, filter: StateFilter = {}): Promise<SessionSummary[]> {
  const found: SessionSummary[] = [];
  for (let cursor: string | undefined; ; ) {
    const reply = await get(tables, { filter, ...(cursor === undefined ? {} : { cursor }) });
    assert.ok(reply.kind === 'states');
    found.push(...reply.states);
    cursor = reply.nextCursor;
    if (cursor === undefined) return found;
  }
}

test('a session is told in the words of the messages', async () => {
  const reply = await get(tablesOf(sessions.slice(0, 1)));
  assert.deepEqual(reply, {
    kind: 'states',
    states: [
      {
        protocol: 6,
        direction: 'outbound',
        state: 'established',
        initiator: {
          address: '10.77.0.20',
          port: 10_000,
          external: { address: '198.51.100.1', port: 10_000 },
        },
        responder: { address: '203.0.113.5', port: 443 },
        ageSeconds: 0,
        expiresInSeconds: 11,
        initiatorBytes: 0,
        responderBytes: 0,
      },
    ],
    examinedCount: 1,
  });
});

const hashKey = [1n, 2n] as const;

function ipv6Session(device: string, remote: string): FilledSession {
  const [inside, outside] = [device, remote].map((text) =>
    digestOf(hashKey, parseIpv6Address(text) ?? assert.fail()),
  );
  assert.ok(inside !== undefined && outside !== undefined);
  return {
    protocol: 17,
    initiator: { address: inside.digest, port: 40_000, place: 0 },
    responder: { address: outside.digest, port: 53, place: NatPlace.wan },
    untilTick: NOW + 10,
    check: pairCheck(inside, outside),
  };
}

test('sessions of IPv6 are told and picked by their addresses, as long as these are known', async () => {
  const [own, other, far] = ['2001:db8:77::9', '2001:db8:78::9', '2001:db8:113::5'] as const;
  const tables = tablesOf([ipv6Session(own, far), ipv6Session(other, far)]);
  for (const text of [own, far]) {
    const address = parseIpv6Address(text) ?? assert.fail();
    known.set(digestOf(hashKey, address).digest, address);
  }
  const found = async (filter: StateFilter) =>
    (await all(tables, filter)).map(({ initiator, responder }) =>
      [initiator.address, responder.address].map((text) => (text[0] === '?' ? '?' : text)),
    );
  const lines = { own: [own, far], other: ['?', '?'] };
  assert.deepEqual((await found({})).sort(), [lines.own, lines.other].sort());
  for (const [filter, expected] of [
    [{ device: own }, [lines.own]],
    [{ device: other }, [lines.other]],
    [{ device: '2001:db8:77::/64' }, [lines.own]],
    [{ device: '2001:db8:78::/64' }, []],
    [{ remote: far, device: '2001:db8::/32' }, [lines.own]],
    [{ device: '0.0.0.0/0' }, []],
  ] as const) {
    assert.deepEqual(await found(filter), expected, JSON.stringify(filter));
  }
  const killed = await kill(() => tables, { remote: `${far}/128` });
  assert.ok(killed.kind === 'states-killed' && killed.killedCount === 2);
});

test('a table that is replaced while addresses are looked for is looked at anew', async () => {
  const [own, far] = ['2001:db8:77::9', '2001:db8:113::5'] as const;
  const tables = [1, 2].map(() => tablesOf([ipv6Session(own, far)]));
  let turns = 0;
  // Replaced when the addresses have been asked for once.
  const find = () => tables[turns++ < 1 ? 0 : 1];
  const killed = await kill(find, { device: '2001:db8:77::/64' });
  assert.ok(killed.kind === 'states-killed' && killed.killedCount === 1);
  turns = 0;
  const request = { kind: 'get-states', id: 1, filter: { device: '::/0' }, limit: 1 } as const;
  const refused = await answerStates(find, request);
  assert.ok(refused.kind === 'refused' && refused.code === 'no-such-cursor');
});

test('answers of any limit, cursor by cursor, tell every session once', async () => {
  const tables = tablesOf(sessions);
  const ports = (await all(tables)).map(({ initiator }) => initiator.port).sort((a, b) => a - b);
  assert.deepEqual(
    ports,
    sessions.map(({ initiator }) => initiator.port),
  );
  const first = await get(tables, { limit: 7 });
  assert.ok(first.kind === 'states' && first.nextCursor !== undefined);
  assert.equal(first.states.length, 7);
});

test('a filter that fits little is answered with all of it at once', async () => {
  const reply = await get(tablesOf(sessions), { filter: { port: 10_003 } });
  assert.ok(reply.kind === 'states');
  assert.deepEqual(
    reply.states.map(({ initiator }) => initiator.port),
    [10_003],
  );
  assert.equal(reply.examinedCount, sessions.length);
  assert.equal(reply.nextCursor, undefined);
});

for (const [filter, count] of [
  [{ device: '10.77.0.20' }, 500],
  [{ device: '10.77.0.20/30' }, 2_000],
  [{ device: '0.0.0.0/0' }, 5_000],
  [{ remote: '203.0.113.5', protocol: 6 }, 2_500],
  [{ device: '10.77.0.21', state: 'answered' }, 500],
  [{ remote: '203.0.113.6/32' }, 0],
] as const) {
  test(`${JSON.stringify(filter)} finds ${count} of ${sessions.length}`, async () => {
    assert.equal((await all(tablesOf(sessions), filter)).length, count);
  });
}

test('an answer of the most sessions is far below the limit of a message', async () => {
  const reply = await get(tablesOf(sessions));
  assert.ok(reply.kind === 'states' && reply.states.length === STATES_PER_ANSWER_MAX);
  assert.ok(JSON.stringify(reply).length < 512 * 1024);
});

test('what is no address, an old cursor and a missing NAT are refused', async () => {
  const tables = tablesOf(sessions);
  for (const text of ['10.77.0.20/24', '10.77.0.256', '10.77.0.0/33', '1.2.3.4.5.6', '::1/8']) {
    const reply = await get(tables, { filter: { device: text } });
    assert.ok(reply.kind === 'refused' && /10\.77\.0\.0\/24/.test(reply.reason), text);
    assert.equal((await kill(() => tables, { remote: text })).kind, 'refused', text);
  }
  // Of a table with 2,048 buckets.
  const cursor = await get(tables, { cursor: '1kw.5' });
  assert.ok(cursor.kind === 'refused' && cursor.code === 'no-such-cursor');
  for (const reply of [await get(undefined), await kill(() => undefined, 'all')]) {
    assert.ok(reply.kind === 'refused' && /the NAT is not loaded/.test(reply.reason));
  }
});

test('before anything is killed, TCP in its midst opens no sessions any more', async () => {
  const tables = tablesOf(sessions);
  const livingWhenEnded: number[] = [];
  const endPickup = () => {
    const { sessions: memory, settings } = tables;
    const whole = { filter: {}, from: 0, bucketsMax: 1_024, limit: sessions.length };
    const table = { ...memory, settings, nowTick: NOW, ipv6AddressOf: () => undefined };
    const { rows } = listSessions(table, whole);
    livingWhenEnded.push(rows.length);
  };
  await get({ ...tables, endPickup });
  assert.deepEqual(livingWhenEnded, []);
  await kill(() => ({ ...tables, endPickup }), 'all');
  assert.deepEqual(livingWhenEnded, [sessions.length]);
});

test('killing by a filter ends exactly those, and the log says who did it', async () => {
  const tables = tablesOf(sessions);
  const lines: string[] = [];
  const filter = { device: '10.77.0.20' };
  const reply = await kill(
    () => tables,
    filter,
    (text) => lines.push(text),
  );
  assert.deepEqual(reply, { kind: 'states-killed', killedCount: 500 });
  assert.deepEqual(lines, ['anna ended 500 sessions: {"device":"10.77.0.20"}']);
  assert.equal((await all(tables, filter)).length, 0);
  assert.equal((await all(tables)).length, 4_500);
  assert.deepEqual(await kill(() => tables, 'all'), { kind: 'states-killed', killedCount: 4_500 });
  assert.deepEqual(await all(tables), []);
});

/** As many slices as it takes to see what runs between them. */
const SLICES = 5;
const largeBucketCount = SLICES * 4_096;

test('between the slices of a large table others have their turn', async () => {
  const tables = tablesOf(sessions, largeBucketCount);
  for (const ask of [
    () => get(tables, { filter: { port: 1 } }),
    () => kill(() => tables, { port: 1 }),
  ]) {
    let isDone = false;
    let turns = 0;
    const answered = ask().then(() => {
      isDone = true;
    });
    const others = () => {
      if (isDone) return;
      turns++;
      setImmediate(others);
    };
    setImmediate(others);
    await answered;
    assert.ok(turns >= SLICES - 2, `${turns} turns`);
  }
});

test('a table that is replaced between slices ends a list, and is looked at by a kill', async () => {
  const replaced = (old: NatTables, next: NatTables | undefined) => {
    let asked = 0;
    return () => (asked++ < 2 ? old : next);
  };
  const old = tablesOf(sessions, largeBucketCount);
  const request = { kind: 'get-states', id: 1, filter: { port: 1 }, limit: 1 } as const;
  const listed = await answerStates(replaced(old, tablesOf([])), request);
  assert.ok(listed.kind === 'refused' && listed.code === 'no-such-cursor');
  const next = tablesOf(sessions);
  const killed = await kill(replaced(old, next), 'all');
  assert.ok(killed.kind === 'states-killed' && killed.killedCount > sessions.length);
  assert.deepEqual(await all(next), []);
  const gone = await kill(replaced(tablesOf(sessions, largeBucketCount), undefined), 'all');
  assert.ok(gone.kind === 'states-killed' && gone.killedCount > 0);
});
