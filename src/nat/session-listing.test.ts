import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  NatPlace,
  NatSession,
  NatSessionBucket,
  NatSessionFlags,
  NatSessionState,
} from '../abi/layouts.generated.ts';
import { formatIpv4Address, type Ipv4Address, requireIpv4Address } from '../net/ipv4-address.ts';
import { type Ipv6Address, parseIpv6Address } from '../net/ipv6-address.ts';
import { type FilledEnd, type FilledSession, fillSessions } from '../testing/fill-nat-tables.ts';
import { digestOf, pairCheck } from './ipv6-digest.ts';
import {
  type AddressBlock,
  formatCursor,
  killSessions,
  listSessions,
  parseCursor,
  type SessionEnd,
  type SessionFilter,
  type SessionRow,
  type SessionTable,
  sessionStates,
} from './session-listing.ts';

const NOW = 1_000;
const TCP = 6;
const UDP = 17;
const BUCKETS = 64;

const address = requireIpv4Address;
const laptop = address('10.77.0.20');
const phone = address('10.77.0.30');
const printer = address('10.88.0.9');
const server = address('203.0.113.5');
const outside = address('198.51.100.1');

const ipv6Addresses = new Map<number, Ipv6Address>();

const networks = [
  { prefix: address('10.77.0.0'), mask: address('255.255.255.0'), translate: 1 },
  { prefix: address('10.88.0.0'), mask: address('255.255.255.0'), translate: 0 },
].map((network) => ({
  ...network,
  ...{
    gateway: network.prefix + 1,
    interface: 0,
    filtering: 0,
    fastPath: 0,
    mac: new Uint8Array(6),
  },
}));

const settings = {
  hashKey: [0x0706_0504_0302_0100n, 0x0f0e_0d0c_0b0a_0908n],
  sessionBucketCount: BUCKETS,
  externalCount: 1,
  externals: [{ address: outside, oneToOne: 0, filtering: 0 }],
  networkCount: networks.length,
  networks,
};

function tableOf(...sessions: readonly FilledSession[]): SessionTable {
  const view = new DataView(new ArrayBuffer(BUCKETS * NatSessionBucket.sizeBytes));
  const table = {
    ...{ view, strideBytes: NatSessionBucket.sizeBytes, settings, nowTick: NOW },
    ipv6AddressOf: (digest: number) => ipv6Addresses.get(digest),
  };
  assert.equal(fillSessions(table, { settings, sessions }), sessions.length);
  return table;
}

const outbound: FilledSession = {
  protocol: UDP,
  initiator: { address: laptop, port: 40_000, external: { index: 0, port: 40_002 } },
  responder: { address: server, port: 53 },
  untilTick: NOW + 100,
  createdTick: NOW - 60,
};
const portForward: FilledSession = {
  protocol: TCP,
  initiator: { address: server, port: 50_000 },
  responder: { address: phone, port: 8_080, external: { index: 0, port: 80 } },
  untilTick: NOW + 7_000,
};
const hairpin: FilledSession = {
  protocol: TCP,
  initiator: { address: phone, port: 41_000, external: { index: 0, port: 41_000 } },
  responder: { address: laptop, port: 22, external: { index: 0, port: 2_222 } },
  untilTick: NOW + 7_000,
};
const routed: FilledSession = {
  protocol: UDP,
  initiator: { address: printer, port: 123 },
  responder: { address: server, port: 123 },
  untilTick: NOW + 1,
};
const gre: FilledSession = {
  protocol: 47,
  initiator: { address: laptop, port: 0, external: { index: 0, port: 0 } },
  responder: { address: server, port: 0 },
  untilTick: NOW + 100,
};
const everyKind = [outbound, portForward, hairpin, routed, gre] as const;

function rowsOf(table: SessionTable, filter: SessionFilter = {}): readonly SessionRow[] {
  const all = { from: 0, bucketsMax: Number.MAX_SAFE_INTEGER, limit: Number.MAX_SAFE_INTEGER };
  return listSessions(table, { filter, ...all }).rows;
}

function onlyRow(session: FilledSession): SessionRow {
  const [row, ...others] = rowsOf(tableOf(session));
  assert.deepEqual(others, []);
  return row ?? assert.fail('there is no row');
}

function block(text: string): AddressBlock {
  const [prefix = '', length = '32'] = text.split('/');
  const mask = (2 ** 32 - 2 ** (32 - Number(length))) as Ipv4Address;
  return { prefix: address(prefix), mask };
}

test('a session to the WAN is told with the ends that both sides see, its age and its end', () => {
  const bytes = { initiatorBytes: 7, responderBytes: 1_500 };
  assert.deepEqual(onlyRow({ ...outbound, ...bytes }), {
    protocol: UDP,
    direction: 'outbound',
    state: 'answered',
    initiator: { address: laptop, port: 40_000, external: { address: outside, port: 40_002 } },
    responder: { address: server, port: 53 },
    // A tick is 2^30 ns.
    ageSeconds: 64,
    expiresInSeconds: 107,
    initiatorBytes: 7,
    responderBytes: 1_500,
  });
});

for (const [name, session] of Object.entries({ outbound, portForward })) {
  test(`more than 4 GiB of each end are told, whichever end is the lower one: ${name}`, () => {
    const bytes = { initiatorBytes: 2 ** 32 + 7, responderBytes: 2 ** 48 - 1 };
    const { initiatorBytes, responderBytes } = onlyRow({ ...session, ...bytes });
    assert.deepEqual({ initiatorBytes, responderBytes }, bytes);
  });
}

test('whoever opened it stands first, whichever end has the lower address', () => {
  const { initiator, responder, initiatorBytes } = onlyRow({ ...portForward, initiatorBytes: 9 });
  assert.deepEqual(initiator, { address: server, port: 50_000 });
  assert.deepEqual(responder, {
    address: phone,
    port: 8_080,
    external: { address: outside, port: 80 },
  });
  assert.equal(initiatorBytes, 9);
});

for (const [session, direction] of [
  [outbound, 'outbound'],
  [portForward, 'inbound'],
  [hairpin, 'hairpin'],
  [{ ...hairpin, initiator: { address: phone, port: 41_000 } }, 'hairpin'],
  [routed, 'routed'],
  [gre, 'outbound'],
] as const) {
  const { initiator, responder } = session;
  const ends = [initiator, responder].map((end) => ('external' in end ? 'translated' : 'plain'));
  test(`${direction}: ${ends.join(' to ')}, protocol ${session.protocol}`, () => {
    assert.equal(onlyRow(session).direction, direction);
  });
}

const { confirmed, established, synLow, synHigh, finLow, finHigh, rstLow, rstHigh } =
  NatSessionState;
for (const [protocol, state, isAnswered, word] of [
  [TCP, synLow, false, 'unconfirmed'],
  [UDP, 0, true, 'unconfirmed'],
  [TCP, confirmed | synLow, false, 'opening'],
  [TCP, confirmed | synLow | synHigh, true, 'opening'],
  [TCP, confirmed | established | synLow | synHigh, true, 'established'],
  [TCP, confirmed | established | finLow, true, 'established'],
  [TCP, confirmed | finLow | finHigh, true, 'closing'],
  [TCP, confirmed | rstLow, true, 'closing'],
  [TCP, confirmed | rstHigh, true, 'closing'],
  [UDP, confirmed, false, 'unanswered'],
  [UDP, confirmed, true, 'answered'],
  [1, confirmed, false, 'unanswered'],
  [47, confirmed, true, 'answered'],
] as const) {
  const seen = isAnswered ? 'both ends' : 'one end';
  test(`${word}: protocol ${protocol}, state ${state}, ${seen} seen`, () => {
    assert.equal(onlyRow({ ...outbound, protocol, state, isAnswered }).state, word);
    assert.ok(sessionStates.includes(word));
  });
}

test('what is over, killed, free or no session at all is neither told nor counted', () => {
  const over = { ...routed, untilTick: NOW };
  const table = tableOf(over, outbound, portForward, gre);
  const { view } = table;
  const { flags, killed, protocol } = NatSession.fields;
  for (const at of occupiedSlots(view)) {
    if (view.getUint8(at + protocol.offsetBytes) === TCP) {
      view.setUint8(at + killed.offsetBytes, 1);
    }
    if (view.getUint8(at + protocol.offsetBytes) === 47) {
      view.setUint8(at + flags.offsetBytes, NatSessionFlags.entry);
    }
  }
  const whole = { from: 0, bucketsMax: BUCKETS, limit: 10, filter: {} };
  const { rows, examinedCount, next } = listSessions(table, whole);
  assert.deepEqual(
    [rows.map(({ protocol }) => protocol), examinedCount, next],
    [[UDP], 1, undefined],
  );
  // The slot is free, whatever was in it.
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const tagsAt = bucket * NatSessionBucket.sizeBytes + NatSessionBucket.fields.tags.offsetBytes;
    for (let slot = 0; slot < 16; slot++) view.setUint16(tagsAt + 2 * slot, 0);
  }
  assert.deepEqual(listSessions(table, whole), { rows: [], examinedCount: 0 });
});

/** Bytes where a session begins. */
function occupiedSlots(view: DataView): number[] {
  const { tags, slots } = NatSessionBucket.fields;
  const places: number[] = [];
  for (let bucketAt = 0; bucketAt < view.byteLength; bucketAt += NatSessionBucket.sizeBytes) {
    for (let slot = 0; slot < 16; slot++) {
      if (view.getUint16(bucketAt + tags.offsetBytes + 2 * slot, true) === 0) continue;
      places.push(bucketAt + slots.offsetBytes + slot * NatSession.sizeBytes);
    }
  }
  return places;
}

for (const [what, filter, expected] of [
  ['nothing', {}, everyKind],
  ['a device, whichever end it is', { device: block('10.77.0.20') }, [outbound, hairpin, gre]],
  [
    'a network of devices',
    { device: block('10.77.0.0/24') },
    [outbound, portForward, hairpin, gre],
  ],
  ['a device that is routed', { device: block('10.88.0.9') }, [routed]],
  ['no device: a stranger', { device: block('203.0.113.5') }, []],
  ['a remote', { remote: block('203.0.113.5') }, [outbound, portForward, routed, gre]],
  ['a remote that is an inside host', { remote: block('10.77.0.20') }, [hairpin]],
  ['a device that is no remote of a stranger', { remote: block('10.88.0.9') }, []],
  [
    'a network of remotes',
    { remote: block('203.0.112.0/20') },
    [outbound, portForward, routed, gre],
  ],
  ['every remote', { remote: block('0.0.0.0/0') }, everyKind],
  [
    'a device and a remote',
    { device: block('10.77.0.30'), remote: block('10.77.0.20') },
    [hairpin],
  ],
  ['the port of who opened it', { port: 40_000 }, [outbound]],
  ['the port of who was asked', { port: 53 }, [outbound]],
  ['the port outside', { port: 40_002 }, [outbound]],
  ['the port outside of a port forward', { port: 80 }, [portForward]],
  ['a port that nobody has', { port: 81 }, []],
  ['a protocol', { protocol: TCP }, [portForward, hairpin]],
  ['a protocol without ports', { protocol: 47 }, [gre]],
  ['a state', { state: 'established' }, [portForward, hairpin]],
  ['a state and a device', { state: 'answered', device: block('10.77.0.20') }, [outbound, gre]],
  ['what excludes each other', { protocol: UDP, state: 'established' }, []],
] as const) {
  test(`a filter of ${what} finds those sessions and no others`, () => {
    const found = rowsOf(tableOf(...everyKind), filter).map(keyOfRow);
    assert.deepEqual(found.sort(), expected.map(keyOfSession).sort());
  });
}

test('a session of networks that the settings have no more is found by either end', () => {
  const table = tableOf(routed);
  const without = { ...table, settings: { ...settings, networkCount: 0 } };
  for (const device of [block('10.88.0.9'), block('203.0.113.5')]) {
    assert.equal(rowsOf(without, { device }).length, 1);
  }
});

test('an outside address that the settings have no more is left out', () => {
  const table = tableOf(outbound);
  const without = { ...table, settings: { ...settings, externalCount: 0 } };
  assert.deepEqual(rowsOf(without)[0]?.initiator, { address: laptop, port: 40_000 });
});

test('settings that claim more buckets than there are make nobody read beyond them', () => {
  const table = tableOf(...everyKind);
  const claiming = { ...table, settings: { ...settings, sessionBucketCount: 2 ** 31 } };
  assert.equal(rowsOf(claiming).length, everyKind.length);
});

const manySessions = Array.from({ length: 300 }, (_, index): FilledSession => {
  const port = 20_000 + index;
  return {
    ...outbound,
    initiator: { address: laptop + (index % 7), port, external: { index: 0, port } },
  };
});

test('slices of any size tell each session exactly once', () => {
  const table = tableOf(...manySessions);
  const expected = manySessions.map(keyOfSession).sort();
  const size = fc.integer({ min: 1, max: BUCKETS + 3 });
  fc.assert(
    fc.property(size, fc.integer({ min: 1, max: 400 }), (bucketsMax, limit) => {
      const found: string[] = [];
      let examined = 0;
      for (let from: number | undefined = 0; from !== undefined; ) {
        const slice = listSessions(table, { filter: {}, from, bucketsMax, limit });
        assert.ok(slice.rows.length <= limit);
        assert.ok(slice.next === undefined || slice.next > from);
        found.push(...slice.rows.map(keyOfRow));
        examined += slice.examinedCount;
        from = slice.next;
      }
      assert.deepEqual(found.sort(), expected);
      assert.equal(examined, expected.length);
    }),
    { numRuns: 50 },
  );
});

test('a cursor leads back to its slot, and only in a table of its size', () => {
  const table = tableOf();
  for (const slot of [0, 1, 17, BUCKETS * 16 - 1]) {
    assert.equal(parseCursor(table, formatCursor(table, slot)), slot);
  }
  const larger = { ...table, settings: { ...settings, sessionBucketCount: BUCKETS / 2 } };
  assert.equal(parseCursor(table, formatCursor(larger, 1)), undefined);
  assert.equal(parseCursor(table, formatCursor(table, BUCKETS * 16)), undefined);
  for (const text of ['', '.', '1s', '1s.', '.1s', '-1.0', '1s.zzzzzzzzz', 'x y', '1s.1.1']) {
    assert.equal(parseCursor(table, text), undefined, text);
  }
});

test('killing ends exactly what the filter finds, and writes nothing but one byte of each', () => {
  const table = tableOf(...everyKind, ...manySessions);
  const before = new Uint8Array(table.view.buffer.slice(0));
  const filter = { device: block(formatIpv4Address(laptop)) };
  const doomed = rowsOf(table, filter).map(keyOfRow);
  const all = rowsOf(table).map(keyOfRow);
  let killed = 0;
  for (let from: number | undefined = 0; from !== undefined; ) {
    const slice = killSessions(table, { filter, from, bucketsMax: 3 });
    killed += slice.killedCount;
    from = slice.next;
  }
  assert.equal(killed, doomed.length);
  assert.ok(killed > 40);
  const left = all.filter((key) => !doomed.includes(key)).sort();
  assert.deepEqual(rowsOf(table).map(keyOfRow).sort(), left);
  const after = new Uint8Array(table.view.buffer);
  const changed = [...after.keys()].filter((at) => after[at] !== before[at]);
  assert.equal(changed.length, killed);
  assert.ok(changed.every((at) => after[at] === 1));
  assert.equal(killSessions(table, { filter, from: 0, bucketsMax: BUCKETS }).killedCount, 0);
});

function keyOfRow({ protocol, initiator, responder }: SessionRow): string {
  return keyOfSession({ protocol, initiator, responder });
}

function keyOfSession(session: {
  readonly protocol: number;
  readonly initiator: Pick<SessionEnd | FilledEnd, 'address' | 'port'>;
  readonly responder: Pick<SessionEnd | FilledEnd, 'address' | 'port'>;
}): string {
  const { protocol, initiator, responder } = session;
  const ends = [initiator, responder].map(({ address, port }) => {
    return `${typeof address === 'number' ? address : address.digest}:${port}`;
  });
  return [protocol, ...ends].join(' ');
}

/** Of a host that has a session of IPv6, whose addresses are known by their digests. */
function ipv6Host(text: string) {
  const known = parseIpv6Address(text) ?? assert.fail();
  const [first = 0n, second = 0n] = settings.hashKey;
  const hash = digestOf([first, second], known);
  ipv6Addresses.set(hash.digest, known);
  return { ...hash, address: known };
}

const notebook = ipv6Host('2001:db8:77::20');
const website = ipv6Host('2001:db8:113::5');
const ipv6Web: FilledSession = {
  protocol: TCP,
  initiator: { address: notebook.digest, port: 40_000, place: 0 },
  responder: { address: website.digest, port: 443, place: NatPlace.wan },
  untilTick: NOW + 7_000,
  check: pairCheck(notebook, website),
};

test('a session of IPv6 is told with its addresses, and without translation', () => {
  const { initiator, responder, direction, state } = onlyRow(ipv6Web);
  const { digest, address } = notebook;
  assert.deepEqual(initiator, { address: { digest, address }, port: 40_000 });
  const other = { digest: website.digest, address: website.address };
  assert.deepEqual(responder, { address: other, port: 443 });
  assert.deepEqual([direction, state], ['routed', 'established']);
});

test('a session whose addresses nobody knows, or which are those of others, shows digests', () => {
  const stranger = { digest: 0x0102_0304, share: 5 };
  for (const session of [
    { ...ipv6Web, check: pairCheck(notebook, stranger) },
    { ...ipv6Web, responder: { ...ipv6Web.responder, address: stranger.digest } },
  ]) {
    const { initiator, responder } = onlyRow(session);
    assert.deepEqual(initiator.address, { digest: notebook.digest });
    assert.deepEqual(responder.address, { digest: session.responder.address });
  }
});

test('sessions of IPv6 are picked by their inside end, and never by an address of IPv4', () => {
  const table = tableOf(outbound, ipv6Web);
  const [own, other] = [notebook, website].map(({ digest }) => ({ digests: new Set([digest]) }));
  const picked = (filter: SessionFilter) => rowsOf(table, filter).map(({ protocol }) => protocol);
  assert.deepEqual(picked({ device: own ?? assert.fail() }), [TCP]);
  assert.deepEqual(picked({ device: other ?? assert.fail() }), []);
  assert.deepEqual(picked({ device: own ?? assert.fail(), remote: other ?? assert.fail() }), [TCP]);
  assert.deepEqual(picked({ device: block('0.0.0.0/0') }), [UDP]);
  assert.deepEqual(picked({ port: 443 }), [TCP]);
  assert.deepEqual(picked({ device: { digests: new Set([laptop]) } }), []);
});
