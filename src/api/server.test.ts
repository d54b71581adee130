import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { type ApiLimits, type ApiSources, createApiServer } from './server.ts';

/** Only bounds a hang. */
const TIMEOUT_MS = 10_000;
const HOUR_MS = 3_600_000;

const row = {
  interface: 'wan0',
  direction: 'ingress' as const,
  protocol: 'ipv4/udp',
  packets: 3n,
  bytes: 2n ** 60n,
};

const sources: ApiSources = {
  version: '0.1.0',
  protocolCounts: async () => ({ protocols: [row], uncountedPackets: 0n }),
};

interface TestedServer extends AsyncDisposable {
  readonly server: Server;
  readonly port: number;
  readonly errors: readonly Error[];
}

async function start(
  options: { sources?: Partial<ApiSources>; limits?: Partial<ApiLimits> } = {},
): Promise<TestedServer> {
  const errors: Error[] = [];
  const server = createApiServer(
    { ...sources, ...options.sources },
    { reportError: (error) => errors.push(error), limits: options.limits ?? {} },
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    server,
    port,
    errors,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function open(port: number): Socket {
  return connect({ port, host: '127.0.0.1', noDelay: true }).on('error', () => {});
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.closed) await once(socket, 'close', { signal: AbortSignal.timeout(TIMEOUT_MS) });
}

/** What a server says to these very bytes, since `fetch` mends what it is given. */
async function exchange(port: number, request: string): Promise<string> {
  const socket = open(port);
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error('no end of the answer')));
  socket.end(request);
  return text(socket);
}

async function ask(head: string): Promise<{ status: number; body: string; answer: string }> {
  await using tested = await start();
  const answer = await exchange(tested.port, `${head}\r\nConnection: close\r\n\r\n`);
  const [top = '', body = ''] = answer.split('\r\n\r\n');
  return { status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(top)?.[1]), body, answer };
}

test('the root says which service it is', async () => {
  const { status, body } = await ask('GET / HTTP/1.1\r\nHost: localhost');
  assert.equal(status, 200);
  assert.deepEqual(JSON.parse(body), { status: 'ok', service: 'gatehouse', version: '0.1.0' });
});

test('counters are told exactly, as text where a JSON number would round them', async () => {
  const { body } = await ask('GET /inspection/stats?x=1 HTTP/1.1\r\nHost: localhost');
  const { protocols } = JSON.parse(body) as { protocols: Record<string, unknown>[] };
  assert.equal(protocols[0]?.['packets'], 3);
  assert.equal(protocols[0]?.['bytes'], '1152921504606846976');
});

test('HEAD gets the head of the answer alone', async () => {
  const get = await ask('GET / HTTP/1.1\r\nHost: localhost');
  const head = await ask('HEAD / HTTP/1.1\r\nHost: localhost');
  assert.equal(head.status, 200);
  assert.equal(head.body, '');
  assert.match(head.answer, new RegExp(`content-length: ${Buffer.byteLength(get.body)}\r\n`));
});

test('what only reads is refused to be written, saying what is allowed', async () => {
  const { status, answer } = await ask('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0');
  assert.equal(status, 405);
  assert.match(answer, /^allow: GET, HEAD\r$/m);
});

for (const [target, status] of [
  ['/missing', 404],
  ['/../etc/passwd', 404],
  ['/%00', 404],
  ['//localhost/', 404],
  ['/constructor', 404],
  ['/?next=http://evil.example/', 200],
  ['*', 404],
  ['inspection/stats', 400],
  ['http:/localhost/', 400],
  ['https://localhost/', 400],
  ['http://localhost', 200],
  ['http://127.0.0.1/', 200],
  ['HTTP://LOCALHOST:99/inspection/stats?x', 200],
  ['http://localhost?x', 200],
  ['http://[::1]/missing', 404],
  ['http://evil.example/', 421],
  ['http://user@localhost/', 421],
  ['http://localhost@evil.example/', 421],
  ['http://', 421],
] as const) {
  test(`the request target ${target} gets ${status}`, async () => {
    const { status: got, answer } = await ask(`GET ${target} HTTP/1.1\r\nHost: localhost`);
    assert.equal(got, status, answer);
    // The parser refuses some by itself, without a body.
    if (status !== 200 && answer.includes('{')) {
      assert.match(answer, /^content-type: application\/problem\+json\r$/m);
    }
  });
}

for (const [host, status] of [
  ['localhost', 200],
  ['LocalHost:8080', 200],
  ['127.0.0.1:1', 200],
  ['[::1]:65535', 200],
  ['evil.example', 421],
  ['127.0.0.1.evil.example', 421],
  ['localhost.evil.example:8080', 421],
  ['evil.example:localhost', 421],
  ['', 421],
] as const) {
  test(`the host ${JSON.stringify(host)} gets ${status}`, async () => {
    const { status: got } = await ask(`GET / HTTP/1.1\r\nHost: ${host}`);
    assert.equal(got, status);
  });
}

test('a request without a host, or with two, gets no answer', async () => {
  assert.equal((await ask('GET / HTTP/1.1')).status, 400);
  assert.equal((await ask('GET / HTTP/1.0')).status, 421);
  assert.equal((await ask('GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost')).status, 400);
});

test('the host of the request target counts, not that of the field', async () => {
  const own = await ask('GET http://localhost/ HTTP/1.1\r\nHost: evil.example');
  assert.equal(own.status, 200);
});

test('bytes that are no request end the connection and not the server', async () => {
  await using tested = await start();
  for (const bytes of [
    '\0\xff\r\n\r\n',
    'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /\r\n\r\n',
  ]) {
    await exchange(tested.port, bytes);
  }
  const answer = await exchange(tested.port, 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  assert.match(answer, /^HTTP\/1\.1 200 /);
});

test('an answer that cannot be made is reported, and the next one is', async () => {
  const cause = new Error('cannot read map');
  let fails = true;
  await using tested = await start({
    sources: {
      protocolCounts: async () => {
        if (fails) throw cause;
        return { protocols: [], uncountedPackets: 0n };
      },
    },
  });
  const request = 'GET /inspection/stats HTTP/1.1\r\nHost: localhost\r\n\r\n';
  const answer = await exchange(tested.port, request);
  assert.match(answer, /^HTTP\/1\.1 500 /);
  const [, body = ''] = answer.split('\r\n\r\n');
  assert.deepEqual(JSON.parse(body), { status: 500, title: 'The answer could not be made.' });
  const messages = tested.errors.map(({ message }) => message);
  assert.deepEqual(messages, ['cannot answer GET "/inspection/stats": cannot read map']);
  assert.equal(tested.errors[0]?.cause, cause);
  fails = false;
  assert.match(await exchange(tested.port, request), /^HTTP\/1\.1 200 /);
});

for (const [what, sent] of [
  ['is silent', ''],
  ['does not end its request', 'GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: '],
  ['does not send the body it promised', 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n'],
] as const) {
  test(`a client that ${what} is parted with, although it is not idle`, async () => {
    await using tested = await start({
      limits: { requestTimeoutMs: 50, checkIntervalMs: 10, idleTimeoutMs: HOUR_MS },
    });
    const client = open(tested.port);
    client.write(sent);
    client.resume();
    await closed(client);
  });
}

for (const [what, sent] of [
  ['is silent', ''],
  ['has its answer and asks no more', 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'],
] as const) {
  test(`a client that ${what} is parted with when it is idle`, async () => {
    await using tested = await start({
      limits: { requestTimeoutMs: HOUR_MS, idleTimeoutMs: 50 },
    });
    const client = open(tested.port);
    client.write(sent);
    client.resume();
    await closed(client);
  });
}

test('answers to requests sent in advance come in order', async () => {
  await using tested = await start();
  const paths = ['/1', '/', '/inspection/stats', '/'];
  const requests = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  requests.push('GET /2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  const client = open(tested.port);
  client.write(requests.join(''));
  const answer = await text(client);
  const statuses = [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status);
  assert.deepEqual(statuses, ['404', '200', '200', '200', '404']);
});

test('a client that asks on and on and reads nothing takes little and frees its place', async () => {
  const requestCount = 200;
  let answerCount = 0;
  const server = createApiServer(
    {
      ...sources,
      protocolCounts: async () => {
        answerCount += 1;
        // A few of them fill the buffers of the kernel.
        return { protocols: Array.from({ length: 2_000 }, () => row), uncountedPackets: 0n };
      },
    },
    { reportError: assert.ifError, limits: { idleTimeoutMs: 200, connectionCountMax: 1 } },
  );
  // An abstract address of Linux, since the buffers of Unix sockets do not grow as TCP's do.
  const place = `\0gatehouse-test-${process.pid}`;
  server.listen(place);
  await once(server, 'listening');
  try {
    const accepted = once(server, 'connection');
    const client = connect(place).on('error', () => {});
    client.write('GET /inspection/stats HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(requestCount));
    const [socket] = (await accepted) as [Socket];
    await closed(socket);
    client.destroy();
    assert.ok(answerCount > 0 && answerCount < requestCount, `${answerCount} answers`);

    const next = connect(place);
    next.end('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    assert.match(await text(next), /^HTTP\/1\.1 200 /);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
