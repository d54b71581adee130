import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { createApiServer } from './server.ts';

const sources = {
  version: '0.1.0',
  protocolCounts: () => [
    {
      interface: 'wan0',
      direction: 'ingress' as const,
      protocol: 'ipv4/udp',
      packets: 3n,
      bytes: 2n ** 60n,
    },
  ],
  uncountedPackets: () => 0n,
};

async function request(path: string, method = 'GET'): Promise<Response> {
  const server = createApiServer(sources).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return new Response(await response.text(), response);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

test('the root says which service it is', async () => {
  const response = await request('/');
  assert.deepEqual(await response.json(), { status: 'ok', service: 'gatehouse', version: '0.1.0' });
});

test('counters are told exactly, as text where a JSON number would round them', async () => {
  const response = await request('/inspection/stats?x=1');
  const { protocols } = (await response.json()) as { protocols: Record<string, unknown>[] };
  assert.equal(protocols[0]?.['packets'], 3);
  assert.equal(protocols[0]?.['bytes'], '1152921504606846976');
});

test('unknown paths and methods get a problem, not a crash', async () => {
  const missing = await request('/../etc/passwd');
  assert.equal(missing.status, 404);
  assert.equal(missing.headers.get('content-type'), 'application/problem+json');
  const mutation = await request('/', 'POST');
  assert.equal(mutation.status, 405);
  assert.equal(mutation.headers.get('allow'), 'GET, HEAD');
});
