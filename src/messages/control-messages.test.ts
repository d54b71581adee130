import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  asControlAnswer,
  asControlRequest,
  CONTROL_MESSAGE_BYTES_MAX,
  REVISIONS_PER_ANSWER_MAX,
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
  const answers: readonly object[] = [
    { kind: 'safe-mode', on: true },
    { kind: 'refused', code: 'busy', reason: 'another request is looked at' },
    { kind: 'change', changeId: 'c1', outcome: 'applied', rollbackInMs: 60_000 },
    { kind: 'change', changeId: 'c1', outcome: 'confirmed', revision: 4 },
    { kind: 'revisions', revisions: [] },
    { kind: 'running', configFile: '/c', configText: '', rulesetText: '' },
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
