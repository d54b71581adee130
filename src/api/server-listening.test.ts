import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  existsSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import { createServer as createPlainServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, test } from 'node:test';
import { startListening } from './server-listening.ts';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gatehouse-listening-'));
  path = join(folder, 'api.sock');
});

afterEach(() => rmSync(folder, { recursive: true }));

function answering(name: string): Server {
  return createServer((_, response) => response.end(name));
}

async function ask(socketPath: string): Promise<string> {
  const asked = request({ socketPath, agent: false, headers: { host: 'localhost' } }).end();
  const [response] = await once(asked, 'response');
  return text(response);
}

/** What a killed process leaves: a socket that nobody listens on. */
async function leaveDeadSocket(): Promise<void> {
  const killed = createPlainServer().listen(`${path}.killed`);
  await once(killed, 'listening');
  linkSync(`${path}.killed`, path);
  await new Promise((resolve) => killed.close(resolve));
}

test('a free port is told by its number', async () => {
  const server = answering('us');
  const listening = await startListening(server, { host: '127.0.0.1', port: 0 });
  const bound = server.address();
  assert.ok(typeof bound === 'object' && bound !== null && bound.port > 0);
  assert.equal(listening.address, `http://127.0.0.1:${bound.port}`);
  const response = await fetch(listening.address);
  assert.equal(await response.text(), 'us');
  listening.close();
});

test('a port that is taken is named', async () => {
  const first = await startListening(answering('first'), { host: '127.0.0.1', port: 0 });
  const port = Number(new URL(first.address).port);
  await assert.rejects(startListening(answering('second'), { host: '127.0.0.1', port }), {
    message: `cannot listen on http://127.0.0.1:${port}: EADDRINUSE`,
  });
  first.close();
});

test('a socket answers at its path alone and goes with its server', async () => {
  const listening = await startListening(answering('us'), { path });
  assert.equal(listening.address, `unix:${path}`);
  assert.equal(await ask(path), 'us');
  assert.deepEqual(readdirSync(folder), ['api.sock']);
  listening.close();
  assert.deepEqual(readdirSync(folder), []);
});

test('the socket of a dead process is replaced', async () => {
  await leaveDeadSocket();
  const listening = await startListening(answering('us'), { path });
  assert.equal(await ask(path), 'us');
  listening.close();
});

test("a living server's socket stays its own", async () => {
  const first = await startListening(answering('first'), { path });
  await assert.rejects(startListening(answering('second'), { path }), {
    message: `cannot listen on unix:${path}: EADDRINUSE`,
  });
  assert.equal(await ask(path), 'first');
  first.close();
});

test('of two that find a dead socket at once, no more than one has the path', async () => {
  await leaveDeadSocket();
  const started = await Promise.allSettled([
    startListening(answering('one'), { path }),
    startListening(answering('two'), { path }),
  ]);
  const living = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  assert.equal(living.length, 1);
  assert.match(await ask(path), /^(?:one|two)$/);
  for (const listening of living) listening.close();
  assert.deepEqual(readdirSync(folder), []);
});

test('a file that is no socket is not removed', async () => {
  writeFileSync(path, 'precious');
  const inUse = { message: `cannot listen on unix:${path}: EADDRINUSE` };
  await assert.rejects(startListening(answering('us'), { path }), inUse);
  rmSync(path);
  symlinkSync('/nowhere', path);
  await assert.rejects(startListening(answering('us'), { path }), inUse);
  assert.deepEqual(readdirSync(folder), ['api.sock']);
});

test('a folder that does not exist is an error', async () => {
  const missing = join(folder, 'missing/api.sock');
  await assert.rejects(startListening(answering('us'), { path: missing }), {
    message: `cannot listen on unix:${missing}: ENOENT`,
  });
});

test("a server that ends leaves another's socket at its path", async () => {
  const first = await startListening(answering('first'), { path });
  rmSync(path);
  const second = await startListening(answering('second'), { path });
  first.close();
  assert.equal(await ask(path), 'second');
  second.close();
  assert.equal(existsSync(path), false);
});
