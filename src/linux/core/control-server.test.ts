import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, mock, type TestContext, test } from 'node:test';
import {
  CONTROL_MESSAGE_BYTES_MAX,
  CONTROL_SOCKET_NAME,
  type ControlClient,
  type ControlReply,
  type ControlRequest,
  type CoreStatus,
  REASON_LENGTH_MAX,
} from '../../messages/control-messages.ts';
import { connectToControl } from './control-client.ts';
import { startControlServer } from './control-server.ts';

const root = mkdtempSync(join(tmpdir(), 'gatehouse-control-'));
after(() => rmSync(root, { recursive: true }));

const status: CoreStatus = {
  version: '1',
  pid: 1,
  uptimeMs: 1,
  configFile: '/etc/gatehouse/gatehouse.yaml',
  stateFolder: '/var/lib/gatehouse',
  healthy: true,
  problems: [],
  alarms: [],
  ruleset: 'config',
  ruleCount: 1,
  forwarding: true,
  roles: [],
  interfaces: [],
  nat: {
    state: 'unused',
    reason: 'the config has no networks',
    interfaces: [],
    overlappingNetworks: [],
    externalAddresses: [],
    counters: [],
  },
  apiAddresses: [],
  notInForce: [],
};

type Answer = (request: ControlRequest) => Promise<ControlReply>;

interface Place {
  readonly folder: string;
  readonly path: string;
  /** What was asked, beside the status. */
  readonly asked: ControlRequest[];
}

/** A server in a folder of its own, until the test ends. */
async function serve(t: TestContext, answer: Answer): Promise<Place> {
  const folder = mkdtempSync(join(root, 'instance-'));
  const path = join(folder, CONTROL_SOCKET_NAME);
  const asked: ControlRequest[] = [];
  const server = await startControlServer(path, async (request) => {
    if (request.kind === 'get-status') return { kind: 'status', status };
    asked.push(request);
    return answer(request);
  });
  t.after(() => server.close());
  return { folder, path, asked };
}

/** A server that speaks as it likes. */
async function serveRaw(t: TestContext, onSocket: (socket: Socket) => void): Promise<string> {
  const folder = mkdtempSync(join(root, 'raw-'));
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(join(folder, CONTROL_SOCKET_NAME), resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return folder;
}

async function open(t: TestContext, { folder }: Pick<Place, 'folder'>): Promise<ControlClient> {
  const { client, ...failed } = await connectToControl(folder);
  assert.ok(client !== undefined, JSON.stringify(failed));
  t.after(() => client.close());
  return client;
}

const noAnswer: Answer = () => Promise.withResolvers<ControlReply>().promise;
const runningWith = (rulesetText: string): ControlReply => ({
  ...{ kind: 'running', configFile: '/c', configText: '', forwardedTraffic: 'conntrack' },
  rulesetText,
});
const off: Answer = async () => ({ kind: 'safe-mode', on: false });

test('a question reaches the core as it was asked, and its answer comes back', async (t) => {
  const place = await serve(t, async (request) => {
    assert.ok(request.kind === 'set-safe-mode');
    return { kind: 'safe-mode', on: request.on };
  });
  const client = await open(t, place);
  const on = await client.ask({ kind: 'set-safe-mode', on: true, author: 'admin' });
  assert.ok(on.kind === 'safe-mode' && on.on);
  assert.deepEqual(
    place.asked.map(({ id: _, ...rest }) => rest),
    [{ kind: 'set-safe-mode', on: true, author: 'admin' }],
  );
});

test('answers find their questions, in whatever order they come', async (t) => {
  const replies: PromiseWithResolvers<ControlReply>[] = [];
  const place = await serve(t, () => {
    const reply = Promise.withResolvers<ControlReply>();
    replies.push(reply);
    if (replies.length === 3) {
      for (const [index, one] of [...replies.entries()].reverse()) {
        one.resolve({ kind: 'refused', code: 'failed', reason: `${index}` });
      }
    }
    return reply.promise;
  });
  const client = await open(t, place);
  const answers = await Promise.all(
    [0, 1, 2].map((revision) => client.ask({ kind: 'get-revision', revision })),
  );
  assert.deepEqual(
    answers.map((answer) => answer.kind === 'refused' && answer.reason),
    ['0', '1', '2'],
  );
});

test('what the core throws is told as a refusal, and the connection stays', async (t) => {
  const place = await serve(t, async () => {
    throw new Error('the disk is full');
  });
  const client = await open(t, place);
  for (let count = 0; count < 2; count++) {
    const { id: _, ...answer } = await client.ask({ kind: 'get-running' });
    assert.deepEqual(answer, { kind: 'refused', code: 'failed', reason: 'the disk is full' });
  }
});

test('an answer of more than may stay unread arrives, if no longer than a message', async (t) => {
  const rulesetText = 'x'.repeat(17 * 1024 * 1024);
  const place = await serve(t, async () => runningWith(rulesetText));
  const answer = await (await open(t, place)).ask({ kind: 'get-running' });
  assert.ok(answer.kind === 'running');
  assert.equal(answer.rulesetText.length, rulesetText.length);
});

test('an answer longer than a message is a refusal, and the connection stays', async (t) => {
  const place = await serve(t, async ({ kind }) =>
    kind === 'get-running'
      ? runningWith('x'.repeat(CONTROL_MESSAGE_BYTES_MAX))
      : { kind: 'safe-mode', on: false },
  );
  const client = await open(t, place);
  const answer = await client.ask({ kind: 'get-running' });
  assert.ok(answer.kind === 'refused' && answer.code === 'failed');
  assert.match(answer.reason, /^a message of \d+ bytes, over \d+$/);
  const next = await client.ask({ kind: 'set-safe-mode', on: false, author: 'admin' });
  assert.equal(next.kind, 'safe-mode');
});

test('a reason longer than a refusal holds is cut off, whoever gave it', async (t) => {
  const reason = 'x'.repeat(REASON_LENGTH_MAX + 1);
  const place = await serve(t, async ({ kind }) => {
    if (kind === 'get-running') throw new Error(reason);
    return { kind: 'refused', code: 'config-problems', reason };
  });
  const client = await open(t, place);
  for (const question of [
    { kind: 'get-running' },
    { kind: 'set-safe-mode', on: true, author: 'admin' },
  ] as const) {
    const answer = await client.ask(question);
    assert.ok(answer.kind === 'refused');
    assert.equal(answer.reason, reason.slice(1));
  }
});

test('the socket is for its owner alone, and replaces what a dead process left', async (t) => {
  const folder = mkdtempSync(join(root, 'left-'));
  const path = join(folder, CONTROL_SOCKET_NAME);
  writeFileSync(path, 'left');
  const server = await startControlServer(path, async () => ({ kind: 'status', status }));
  t.after(() => server.close());
  const about = statSync(path);
  assert.ok(about.isSocket());
  assert.equal(about.mode & 0o777, 0o600);
});

test('a socket that cannot be made is an error', async () => {
  const path = join(root, 'missing', CONTROL_SOCKET_NAME);
  await assert.rejects(startControlServer(path, off), /ENOENT|EACCES/);
});

test('whoever sends rubbish is turned away, and the others are served', async (t) => {
  const place = await serve(t, off);
  const client = await open(t, place);
  const rubbish = [
    'GET / HTTP/1.1\r\n\r\n',
    '{"kind":"get-status"}\n',
    '{"kind":"get-status","id":1,"more":true}\n',
    '{"kind":"become-root","id":1}\n',
    '[]\n',
    'null\n',
    '{"__proto__":{"kind":"get-status"},"id":1}\n',
    `${'['.repeat(50_000)}\n`,
    Buffer.from([0xff, 0xfe, 0x0a]),
  ];
  for (const bytes of rubbish) {
    const socket = connect(place.path);
    socket.on('error', () => {});
    socket.write(bytes);
    assert.equal(await text(socket), '', String(bytes).slice(0, 60));
  }
  assert.equal((await client.ask({ kind: 'get-status' })).kind, 'status');
  assert.deepEqual(place.asked, []);
});

test('seventeen questions at once on one connection end it', async (t) => {
  const place = await serve(t, noAnswer);
  const client = await open(t, place);
  const questions = Array.from({ length: 17 }, () => client.ask({ kind: 'get-running' }));
  for (const one of await Promise.allSettled(questions)) {
    assert.ok(one.status === 'rejected');
    assert.match(one.reason.message, /the connection to the core has ended/);
  }
  assert.equal(place.asked.length, 16);
  await assert.rejects(client.ask({ kind: 'get-running' }), /has ended/);
  assert.equal((await (await open(t, place)).ask({ kind: 'get-status' })).kind, 'status');
});

test('sixteen questions at once are answered, and sixteen more after them', async (t) => {
  const place = await serve(t, off);
  const client = await open(t, place);
  for (let round = 0; round < 2; round++) {
    const questions = Array.from({ length: 16 }, () => client.ask({ kind: 'get-running' }));
    for (const { kind } of await Promise.all(questions)) assert.equal(kind, 'safe-mode');
  }
});

test('the thirty-third connection is turned away until another leaves', async (t) => {
  const place = await serve(t, off);
  const clients: ControlClient[] = [];
  for (let count = 0; count < 32; count++) clients.push(await open(t, place));
  const refused = await connectToControl(place.folder);
  assert.ok(refused.client === undefined);
  assert.equal(refused.why, 'failed');
  clients[0]?.close();
  for (;;) {
    const { client } = await connectToControl(place.folder);
    if (client === undefined) continue;
    client.close();
    break;
  }
});

test('a server that closes ends its connections', async (t) => {
  const folder = mkdtempSync(join(root, 'closing-'));
  const path = join(folder, CONTROL_SOCKET_NAME);
  const server = await startControlServer(path, async ({ kind }) =>
    kind === 'get-status' ? { kind: 'status', status } : noAnswer({ kind: 'get-running', id: 1 }),
  );
  const client = await open(t, { folder });
  const question = client.ask({ kind: 'get-running' });
  server.close();
  await assert.rejects(question, /the connection to the core has ended/);
  assert.equal((await connectToControl(folder)).client, undefined);
});

test('a core that is not there is told from one that does not answer', async (t) => {
  const nowhere = await connectToControl(join(root, 'nowhere'));
  assert.ok(nowhere.client === undefined && nowhere.why === 'stopped');
  assert.match(nowhere.reason, /gatehouse is not running$/);
  const left = mkdtempSync(join(root, 'no-listener-'));
  writeFileSync(join(left, CONTROL_SOCKET_NAME), '');
  const dead = await connectToControl(left);
  assert.ok(dead.client === undefined && dead.why === 'stopped');
  const folder = await serveRaw(t, (socket) => socket.end('220 smtp ready\r\n'));
  const other = await connectToControl(folder);
  assert.ok(other.client === undefined && other.why === 'failed');
  assert.match(other.reason, /220 smtp ready/);
});

test('a core that hangs is given up after five seconds', async (t) => {
  const connected = Promise.withResolvers<void>();
  const folder = await serveRaw(t, (socket) => socket.on('data', () => connected.resolve()));
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const connecting = connectToControl(folder);
    await connected.promise;
    mock.timers.tick(5_000);
    const result = await connecting;
    assert.ok(result.client === undefined && result.why === 'failed');
    assert.match(result.reason, /the core did not answer 'get-status' in 5000 ms$/);
  } finally {
    mock.timers.reset();
  }
});

test('a question has a time limit, and a late answer troubles nobody', async (t) => {
  const reply = Promise.withResolvers<ControlReply>();
  const arrived = Promise.withResolvers<void>();
  let questionCount = 0;
  const place = await serve(t, () => {
    arrived.resolve();
    return questionCount++ === 0 ? reply.promise : off({ kind: 'get-running', id: 1 });
  });
  const client = await open(t, place);
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const late = client.ask({ kind: 'get-running' }, 50);
    await arrived.promise;
    mock.timers.tick(50);
    await assert.rejects(late, /did not answer 'get-running' in 50 ms/);
    reply.resolve({ kind: 'safe-mode', on: true });
    const next = await client.ask({ kind: 'get-running' });
    assert.ok(next.kind === 'safe-mode' && !next.on);
  } finally {
    mock.timers.reset();
  }
});

test('an answer that is no answer ends the connection with an excerpt of it', async (t) => {
  const folder = await serveRaw(t, (socket) => {
    socket.once('data', () => {
      socket.write(`${JSON.stringify({ kind: 'status', id: 1, status })}\n`);
      socket.once('data', () => socket.write('{"kind":"safe-mode","id":2,"on":"yes"}\n'));
    });
  });
  const client = await open(t, { folder });
  await assert.rejects(client.ask({ kind: 'get-running' }), /no valid message came: .*safe-mode/);
});

test('whoever does not read its answers is cut off, and the core goes on', async (t) => {
  const place = await serve(t, async () => runningWith('x'.repeat(4 * 1024 * 1024)));
  const socket = connect(place.path);
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  socket.on('error', () => {});
  socket.pause();
  for (let id = 1; id <= 12; id++) socket.write(`{"kind":"get-running","id":${id}}\n`);
  const client = await open(t, place);
  while (place.asked.length < 5) await client.ask({ kind: 'get-status' });
  assert.equal((await client.ask({ kind: 'get-status' })).kind, 'status');
  let readBytes = 0;
  socket.on('data', (bytes: Buffer) => {
    readBytes += bytes.length;
  });
  socket.resume();
  await closed;
  assert.ok(readBytes < 12 * 4 * 1024 * 1024, `${readBytes}`);
});
