/** Where the command line asks the running core: a Unix socket that only root can open. */
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import {
  asControlRequest,
  CONTROL_MESSAGE_BYTES_MAX,
  type ControlAnswer,
  type ControlReply,
  type ControlRequest,
  REASON_LENGTH_MAX,
} from '../../messages/control-messages.ts';
import { MessageChannel } from '../message-channel.ts';

/** People and scripts at once; a further one is turned away until another leaves. */
const CONNECTIONS_MAX = 32;
/** Of one connection, which wait for their answers. */
const REQUESTS_MAX = 16;

/**
 * @param path in a folder that is ours alone, so what is there was left by a process that died
 * @throws Error of node:net when the socket cannot be made
 */
export async function startControlServer(
  path: string,
  answer: (request: ControlRequest) => Promise<ControlReply>,
): Promise<{ close(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(socket, answer);
  });
  server.maxConnections = CONNECTIONS_MAX;
  rmSync(path, { force: true });
  await listen(server, path);
  chmodSync(path, 0o600);
  return {
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function serve(socket: Socket, answer: (request: ControlRequest) => Promise<ControlReply>): void {
  let waitingCount = 0;
  const channel = new MessageChannel<ControlRequest, ControlAnswer>(socket, {
    messageBytesMax: CONTROL_MESSAGE_BYTES_MAX,
    decode: asControlRequest,
    onMessage: async (request) => {
      if (++waitingCount > REQUESTS_MAX) return channel.end('too many requests at once');
      const reply = await answer(request).catch(asRefusal);
      waitingCount--;
      send(channel, { ...bounded(reply), id: request.id } as ControlAnswer);
    },
    onEnd: () => {},
  });
}

function send(channel: MessageChannel<ControlRequest, ControlAnswer>, answer: ControlAnswer): void {
  try {
    channel.send(answer);
  } catch (cause) {
    // Longer than a message may be.
    channel.send({ ...asRefusal(cause), id: answer.id } as ControlAnswer);
  }
}

/** A reason may hold what a program said, or every problem of a config. */
function bounded(reply: ControlReply): ControlReply {
  if (reply.kind !== 'refused') return reply;
  return { ...reply, reason: reply.reason.slice(0, REASON_LENGTH_MAX) };
}

function asRefusal(cause: unknown): ControlReply {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return { kind: 'refused', code: 'failed', reason };
}

async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(path, resolve);
  await promise;
  server.off('error', reject);
}
