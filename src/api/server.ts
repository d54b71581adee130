/** The HTTP interface: what it answers, without any power of its own. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ProtocolCount } from '../traffic/protocol-counts.ts';

/** Where the answers come from; each call sees the present state. */
export interface ApiSources {
  readonly version: string;
  protocolCounts(): readonly ProtocolCount[];
  /** Packets that the kernel's table had no room for. */
  uncountedPackets(): bigint;
}

/** Enough for a house of browsers; further connections are refused until one ends. */
const CONNECTION_COUNT_MAX = 256;
const HEADER_BYTES_MAX = 8 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;

type Route = (sources: ApiSources) => object;

const routes: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/', ({ version }) => ({ status: 'ok', service: 'gatehouse', version })],
  [
    '/inspection/stats',
    (sources) => ({
      protocols: sources.protocolCounts(),
      uncountedPackets: sources.uncountedPackets(),
    }),
  ],
]);

/** A server that is not listening yet. Errors are problem details (RFC 9457). */
export function createApiServer(sources: ApiSources): Server {
  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: REQUEST_TIMEOUT_MS,
    },
    (request, response) => answer(request, response, sources),
  );
  server.maxConnections = CONNECTION_COUNT_MAX;
  return server;
}

function answer(request: IncomingMessage, response: ServerResponse, sources: ApiSources): void {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
  const route = routes.get(path);
  // No route reads a body: what a client sends anyway is not kept waiting for.
  request.resume();
  if (route === undefined) {
    sendProblem(response, 404, 'There is nothing at this path.');
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    sendProblem(response, 405, 'This path can only be read.');
  } else {
    send(response, { status: 200, type: 'application/json', body: route(sources) });
  }
}

function sendProblem(response: ServerResponse, status: number, title: string): void {
  send(response, { status, type: 'application/problem+json', body: { status, title } });
}

function send(
  response: ServerResponse,
  answer: { status: number; type: string; body: object },
): void {
  const text = JSON.stringify(answer.body, bigIntAsNumber);
  response.writeHead(answer.status, {
    'content-type': answer.type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  response.end(text);
}

/** Counters stay exact as JSON numbers up to 2^53 and become strings beyond. */
function bigIntAsNumber(_key: string, value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
}
