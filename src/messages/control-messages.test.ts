import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  asControlAnswer,
  asControlRequest,
  CONTROL_MESSAGE_BYTES_MAX,
  REVISIONS_PER_ANSWER_MAX,
  STATES_PER_ANSWER_MAX,
} from './control-messages.ts';

const terms = { author: 'admin', windowMs: 60_000, forced: false };
const access = { clientAddress: '10.77.0.9', gatewayAddress: '10.77.0.1', gatewayPort: 22 };

const requests: readonly object[] = [
  { kind: 'get-status' },
  { kind: 'get-running' },
  { kind: 'apply', configText: 'version: 1\n', ...terms },
  { kind: 'apply', configText: '', ...terms, access },
  { kind: 'apply-revision', revision: 3, ...terms },
  { kind: 'confirm', author: 'Größe 大' },
  { kind: 'rollback', author: 'admin', changeId: '00c0ffee' },
  { kind: 'get-revisions', limit: REVISIONS_PER_ANSWER_MAX },
  { kind: 'get-revisions', limit: 1, before: 7 },
  { kind: 'get-revision', revision: 0 },
  { kind: 'set-safe-mode', on: true, author: 'admin' },
  { kind: 'get-states', filter: {}, limit: STATES_PER_ANSWER_MAX },
  { kind: 'get-states', filter: { device: '10.77.0.9' }, limit: 1, cursor: '2s.1kw' },
  {
    kind: 'kill-states',
    author: 'admin',
    filter: { remote: '203.0.113.0/24', port: 0, protocol: 255, state: 'established' },
  },
  { kind: 'kill-states', author: 'admin', filter: 'all' },
];

test('every request is taken as it is', () => {
  for (const request of requests) {
    const message = { ...request, id: 1 };
    assert.equal(asControlRequest(message), message);
  }
});

test('a request with anything more, anything less or of another kind is none', () => {
  for (const request of requests) {
    assert.equal(asControlRequest(request), undefined, 'without a number');
    assert.equal(asControlRequest({ ...request, id: 1, more: 1 }), undefined);
    assert.equal(asControlRequest({ ...request, id: 1, kind: 'shell' }), undefined);
    for (const id of [0, -1, 1.5, 2 ** 31, '1', null]) {
      assert.equal(asControlRequest({ ...request, id }), undefined, `${id}`);
    }
  }
});

test('an author is one printable line of at most 64 characters', () => {
  const by = (author: unknown) => asControlRequest({ kind: 'confirm', id: 1, author });
  for (const author of ['a', 'x'.repeat(64), 'pCZlp {L}', 'Ünal', '大'.repeat(64)]) {
    assert.ok(by(author) !== undefined, author);
  }
  const wrong = ['', 'x'.repeat(65), 'a\nb', 'a\0', '\u001b[31m', 'a\u2028b', 'a\u202eb', 7, null];
  for (const author of wrong) assert.equal(by(author), undefined, JSON.stringify(author));
});

test('limits hold: config text, addresses, ports and counts', () => {
  const apply = { kind: 'apply', id: 1, configText: '', ...terms };
  const wrong: readonly object[] = [
    { configText: 'x'.repeat(2 * 1024 * 1024 + 1) },
    { windowMs: -1 },
    { windowMs: Number.NaN },
    { windowMs: Number.POSITIVE_INFINITY },
    { forced: 'yes' },
    { access: { ...access, clientAddress: '10.0.0.1; reboot' } },
    { access: { ...access, gatewayPort: 0 } },
    { access: { ...access, gatewayPort: 65_536 } },
    { access: { ...access, more: 1 } },
  ];
  for (const part of wrong) assert.equal(asControlRequest({ ...apply, ...part }), undefined);
  assert.ok(asControlRequest({ ...apply, configText: 'x'.repeat(2 * 1024 * 1024) }) !== undefined);
  for (const limit of [0, REVISIONS_PER_ANSWER_MAX + 1, 1.5]) {
    assert.equal(asControlRequest({ kind: 'get-revisions', id: 1, limit }), undefined);
  }
});

test('sessions are picked by addresses, ports, protocols and states, and by nothing else', () => {
  const get = (part: object) => asControlRequest({ kind: 'get-states', id: 1, limit: 1, ...part });
  assert.ok(get({ filter: {} }) !== undefined);
  assert.ok(get({ filter: { device: '2001:db8::/32', remote: '2001:db8::1' } }) !== undefined);
  for (const filter of [
    { device: 'laptop' },
    { device: '10.77.0.9; reboot' },
    { remote: '2001:db8::1%wan0' },
    { remote: '10.0.0.0/8/8' },
    { port: -1 },
    { port: 65_536 },
    { port: 1.5 },
    { protocol: 256 },
    { protocol: 'tcp' },
    { state: 'open' },
    { more: 1 },
    'all',
    null,
  ]) {
    assert.equal(get({ filter }), undefined, JSON.stringify(filter));
  }
  for (const limit of [0, STATES_PER_ANSWER_MAX + 1, 1.5]) {
    assert.equal(get({ filter: {}, limit }), undefined, `${limit}`);
  }
  for (const cursor of ['', '\u0000', 'A.B', 'x'.repeat(33), 7]) {
    assert.equal(get({ filter: {}, cursor }), undefined, `${cursor}`);
  }
});

test('every session is ended only by that word, never because nothing was picked', () => {
  const kill = (filter: unknown) =>
    asControlRequest({ kind: 'kill-states', id: 1, author: 'admin', filter });
  assert.ok(kill('all') !== undefined);
  for (const filter of [{}, undefined, null, '', 'ALL', { all: true }, { device: '' }]) {
    assert.equal(kill(filter), undefined, JSON.stringify(filter));
  }
});

test('whatever arrives is either a message or nothing, and never an exception', () => {
  fc.assert(
    fc.property(fc.anything({ withNullPrototype: true, withBigInt: true }), (value) => {
      assert.equal(asControlRequest(value), undefined);
      assert.equal(asControlAnswer(value), undefined);
    }),
    { numRuns: 300 },
  );
});

test('a request is no answer, and an answer no request', () => {
  for (const request of requests) assert.equal(asControlAnswer({ ...request, id: 1 }), undefined);
  const end = { address: '10.77.0.20', port: 40_000 };
  const session = {
    ...{ protocol: 6, direction: 'outbound', state: 'opening', ageSeconds: 0 },
    ...{ initiator: { ...end, external: end }, responder: end, expiresInSeconds: 1 },
    ...{ initiatorBytes: Number.MAX_SAFE_INTEGER, responderBytes: 0 },
  };
  const answers: readonly object[] = [
    { kind: 'states', states: [session], nextCursor: '2s.0', examinedCount: 7 },
    ...['2001:db8::1', '?0a1b2c3d'].map((address) => {
      const initiator = { address, port: 40_000 };
      return { kind: 'states', states: [{ ...session, initiator }], examinedCount: 1 };
    }),
    { kind: 'states', states: [], examinedCount: 0 },
    { kind: 'states-killed', killedCount: 1_000_000 },
    { kind: 'safe-mode', on: true },
    { kind: 'refused', code: 'busy', reason: 'another request is looked at' },
    { kind: 'change', changeId: 'c1', outcome: 'applied', rollbackInMs: 60_000 },
    { kind: 'change', changeId: 'c1', outcome: 'confirmed', revision: 4 },
    { kind: 'revisions', revisions: [] },
    {
      ...{ kind: 'running', configFile: '/c', configText: '', rulesetText: '' },
      forwardedTraffic: 'conntrack',
    },
  ];
  for (const answer of answers) {
    const message = { ...answer, id: 1 };
    assert.equal(asControlAnswer(message), message);
    assert.equal(asControlRequest(message), undefined);
    assert.equal(asControlAnswer({ ...message, more: 1 }), undefined);
  }
});

test('a request with the largest config fits into a message, however it is escaped', () => {
  const configText = '\n"\\\u0085'.repeat((2 * 1024 * 1024) / 4);
  const line = JSON.stringify({ kind: 'apply', id: 1, configText, ...terms });
  assert.ok(Buffer.byteLength(line) < CONTROL_MESSAGE_BYTES_MAX);
});
