import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type Duplex, duplexPair } from 'node:stream';
import { test } from 'node:test';
import { asRoleMessage, type CoreMessage, type RoleMessage } from '../messages/role-messages.ts';
import { MessageChannel } from './message-channel.ts';

interface End {
  readonly channel: MessageChannel<RoleMessage, CoreMessage>;
  readonly received: RoleMessage[];
  readonly ended: Promise<string>;
  readonly peer: Duplex;
}

function open(messageBytesMax = 1_000): End {
  const [stream, peer] = duplexPair();
  const received: RoleMessage[] = [];
  const { promise, resolve } = Promise.withResolvers<string>();
  const channel = new MessageChannel<RoleMessage, CoreMessage>(stream, {
    messageBytesMax,
    decode: asRoleMessage,
    onMessage: (message) => received.push(message),
    onEnd: resolve,
  });
  peer.on('error', () => {});
  return { channel, received, ended: promise, peer };
}

test('messages arrive whole, however the bytes are cut', async () => {
  const { received, ended, peer } = open();
  const text = `${JSON.stringify({ kind: 'log', text: 'ä€😀' })}\n{"kind":"pong"}\n`;
  for (const byte of Buffer.from(text)) peer.write(Buffer.of(byte));
  peer.end();
  assert.equal(await ended, 'the other side has closed');
  assert.deepEqual(received, [{ kind: 'log', text: 'ä€😀' }, { kind: 'pong' }]);
});

for (const [what, line] of [
  ['no JSON', 'hello'],
  ['another kind', '{"kind":"reboot"}'],
  ['a field too many', '{"kind":"pong","user":"root"}'],
  ['a number beyond its bounds', '{"kind":"get-protocol-counts","id":-1}'],
  ['a prototype', '{"__proto__":{"kind":"pong"}}'],
  ['an array', '[{"kind":"pong"}]'],
  ['nothing', ''],
  ['too deep a value', '['.repeat(900)],
] as const) {
  test(`a line with ${what} ends the channel and names it`, async () => {
    const { received, ended, peer } = open();
    peer.write(`${line}\n{"kind":"pong"}\n`);
    assert.match(await ended, /^no valid message came: "/);
    assert.deepEqual(received, []);
  });
}

test('a line that never ends is cut off at the limit', async () => {
  const { ended, peer } = open(1_000);
  peer.write('x'.repeat(1_001));
  assert.equal(await ended, 'a message of more than 1000 bytes came');
});

test('a long message in thousands of pieces costs no more than its length', async () => {
  const [stream, peer] = duplexPair();
  const { promise, resolve } = Promise.withResolvers<number>();
  const pieces = 16 * 1024;
  new MessageChannel<string, never>(stream, {
    messageBytesMax: 32 * 1024 * 1024,
    decode: (value) => (typeof value === 'string' ? value : undefined),
    onMessage: ({ length }) => resolve(length),
    onEnd: assert.fail,
  });
  // Joined anew for each piece it would take minutes.
  const giveUpAt = performance.now() + 20_000;
  const piece = Buffer.alloc(1_024, 'x');
  peer.write('"');
  for (let count = 0; count < pieces; count++) {
    if (!peer.write(piece)) await once(peer, 'drain');
    assert.ok(performance.now() < giveUpAt, `${count} of ${pieces} pieces`);
  }
  peer.write('"\n');
  assert.equal(await promise, pieces * piece.length);
});

test('one message may wait beyond what may stay unread, and a second one too many', async () => {
  const { channel, ended } = open(17 * 1024 * 1024);
  let hasEnded = false;
  void ended.then(() => {
    hasEnded = true;
  });
  const message = { kind: 'refused', id: 1, reason: 'x'.repeat(16.5 * 1024 * 1024) } as const;
  channel.send(message);
  await new Promise(setImmediate);
  assert.ok(!hasEnded);
  channel.send(message);
  channel.send(message);
  assert.match(await ended, /bytes unread$/);
});

test('a peer that does not read is given up, with what waits for it bounded', async () => {
  const { channel, ended } = open(100_000);
  const reason = 'x'.repeat(4_000);
  for (let id = 1; id < 6_000; id++) channel.send({ kind: 'refused', id, reason });
  assert.match(await ended, /leaves 16\d{6} bytes unread/);
});

test('a message of ours that is too long is our bug', () => {
  const { channel } = open(100);
  const message = { kind: 'refused', id: 1, reason: 'x'.repeat(200) } as const;
  assert.throws(() => channel.send(message), /over 100/);
});

test('what is sent is one line of JSON', async () => {
  const { channel, peer } = open();
  channel.send({ kind: 'ping' });
  const [bytes] = (await once(peer, 'data')) as [Buffer];
  assert.equal(bytes.toString(), '{"kind":"ping"}\n');
});
