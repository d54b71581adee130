/** The HTTP interface: what it answers, without any power of its own. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ProtocolCount } from '../traffic/protocol-counts.ts';

/** Where the answers come from; each call sees the present state. */
export interface ApiSources {
  readonly version: string;
  protocolCounts(): Promise<ProtocolCounts>;
}

export interface ProtocolCounts {
  readonly protocols: readonly ProtocolCount[];
  /** Packets that the kernel's table had no room for. */
  readonly uncountedPackets: bigint;
}

export interface ApiOptions {
  /** Told of an answer that could not be made; the client learns only that it failed. */
  reportError(error: Error): void;
  readonly limits?: Partial<ApiLimits>;
}

/** What strangers may take of this process. */
export interface ApiLimits {
  /** Enough for a house of browsers; further connections are refused until one ends. */
  readonly connectionCountMax: number;
  /** For the head of a request, far beyond what browsers send to a server without cookies. */
  readonly headerBytesMax: number;
  /** For a request to arrive as a whole, however steadily it trickles. */
  readonly requestTimeoutMs: number;
  /** For a connection on which nothing moves: one that is silent, or does not read its answers. */
  readonly idleTimeoutMs: number;
  /** How often requests are looked at for {@link requestTimeoutMs}, so how late that may strike. */
  readonly checkIntervalMs: number;
}

const limitsDefault: ApiLimits = {
  connectionCountMax: 256,
  headerBytesMax: 8 * 1024,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 10_000,
  checkIntervalMs: 1_000,
};

type Route = (sources: ApiSources) => object | Promise<object>;

const routes: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/', ({ version }) => ({ status: 'ok', service: 'gatehouse', version })],
  ['/inspection/stats', (sources) => sources.protocolCounts()],
]);

/**
 * A server that is not listening yet. It answers for this machine's own names only, on TCP and on
 * Unix sockets alike, so that no web page can reach it by a name of its own that it points at
 * loopback (DNS rebinding). Errors are problem details (RFC 9457).
 */
export function createApiServer(sources: ApiSources, options: ApiOptions): Server {
  const limits = { ...limitsDefault, ...options.limits };
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytesMax,
      requestTimeout: limits.requestTimeoutMs,
      headersTimeout: limits.requestTimeoutMs,
      connectionsCheckingInterval: limits.checkIntervalMs,
      keepAliveTimeout: limits.idleTimeoutMs,
    },
    oneAtATime((request, response) => {
      answer(request, response, sources).catch((cause) => {
        options.reportError(failure(request, cause));
        if (response.headersSent) response.destroy();
        else sendProblem(response, 500, 'The answer could not be made.');
      });
    }),
  );
  server.maxConnections = limits.connectionCountMax;
  server.setTimeout(limits.idleTimeoutMs);
  return server;
}

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

/**
 * Answers a connection's next request when the kernel has taken the last answer. Node would have
 * all answers made that a client asks for in advance, and hold them: 100 MB for 64 KB of requests.
 */
function oneAtATime(listener: Listener): Listener {
  const lastResponses = new WeakMap<Socket, ServerResponse>();
  return (request, response) => {
    const { socket } = request;
    const last = lastResponses.get(socket);
    lastResponses.set(socket, response);
    if (last === undefined || last.closed) listener(request, response);
    else last.once('close', () => socket.destroyed || listener(request, response));
  };
}

function failure({ method, url }: IncomingMessage, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Error(`cannot answer ${method} ${JSON.stringify(url)}: ${reason}`, { cause });
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  sources: ApiSources,
): Promise<void> {
  // No route reads a body: what a client sends anyway is not kept waiting for.
  request.resume();
  const target = targetOf(request);
  if (target === undefined) {
    sendProblem(response, 400, 'The request does not say what it wants.');
    return;
  }
  const route = routes.get(target.path);
  if (!OWN_AUTHORITY.test(target.authority)) {
    sendProblem(response, 421, 'This server does not answer for that host.');
  } else if (route === undefined) {
    sendProblem(response, 404, 'There is nothing at this path.');
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    sendProblem(response, 405, 'This path can only be read.');
  } else {
    send(response, { status: 200, type: 'application/json', body: await route(sources) });
  }
}

/** Any port, since forwarders in front of this server have ports of their own. */
const OWN_AUTHORITY = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{0,5})?$/i;
/** RFC 9112 section 3.2.2; a fragment is never sent. */
const ABSOLUTE_FORM = /^http:\/\/([^/?]*)([^?]*)/i;

interface RequestTarget {
  /** Host and port that the client means; empty when it names none, as HTTP/1.0 may. */
  readonly authority: string;
  /** As sent: neither decoded nor normalised, since every route is plain text. */
  readonly path: string;
}

/** RFC 9112 section 3.2: in the absolute form the Host field does not count. */
function targetOf(request: IncomingMessage): RequestTarget | undefined {
  const { url = '' } = request;
  const hosts = request.headersDistinct['host'] ?? [];
  if (hosts.length > 1) return undefined;
  const absolute = ABSOLUTE_FORM.exec(url);
  if (absolute !== null) return { authority: absolute[1] ?? '', path: absolute[2] || '/' };
  // `*` is the whole server, about which OPTIONS may ask.
  if (!url.startsWith('/') && url !== '*') return undefined;
  return { authority: hosts[0] ?? '', path: url.split('?', 1)[0] ?? '' };
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
