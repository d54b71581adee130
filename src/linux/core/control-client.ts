/** The command line's end of the control socket. */
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  asControlAnswer,
  CONTROL_MESSAGE_BYTES_MAX,
  CONTROL_SOCKET_NAME,
  type ControlAnswer,
  type ControlClient,
  type ControlConnection,
  type ControlRequest,
} from '../../messages/control-messages.ts';
import { MessageChannel } from '../message-channel.ts';

/** The largest config takes the core some seconds to compile, and nft some more. */
const ANSWER_WITHIN_MS = 120_000;
/** A core that lives answers at once; one that does not is hung. */
const FIRST_ANSWER_WITHIN_MS = 5_000;

/** Connects and makes sure that somebody answers. */
export async function connectToControl(runtimeFolder: string): Promise<ControlConnection> {
  const path = join(runtimeFolder, CONTROL_SOCKET_NAME);
  const socket = connect(path);
  const opened = Promise.withResolvers<NodeJS.ErrnoException | undefined>();
  socket.once('connect', () => opened.resolve(undefined));
  socket.once('error', (error: NodeJS.ErrnoException) => opened.resolve(error));
  const error = await opened.promise;
  if (error !== undefined) return notConnected(path, error);
  const client = clientOver(socket);
  try {
    await client.ask({ kind: 'get-status' }, FIRST_ANSWER_WITHIN_MS);
    return { client };
  } catch (cause) {
    client.close();
    const reason = `${path}: ${cause instanceof Error ? cause.message : cause}`;
    return { why: 'failed', reason };
  }
}

function notConnected(path: string, { code = '' }: NodeJS.ErrnoException): ControlConnection {
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTDIR') {
    return { why: 'stopped', reason: `nothing listens on ${path}: gatehouse is not running` };
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return { why: 'denied', reason: `${path} is for root only` };
  }
  return { why: 'failed', reason: `cannot connect to ${path}: ${code}` };
}

function clientOver(socket: Socket): ControlClient {
  const waiting = new Map<number, PromiseWithResolvers<ControlAnswer>>();
  let lastId = 0;
  let ended: string | undefined;
  const channel = new MessageChannel<ControlAnswer, ControlRequest>(socket, {
    messageBytesMax: CONTROL_MESSAGE_BYTES_MAX,
    decode: asControlAnswer,
    onMessage: (answer) => waiting.get(answer.id)?.resolve(answer),
    onEnd: (reason) => {
      ended = `the connection to the core has ended: ${reason}`;
      for (const { reject } of waiting.values()) reject(new Error(ended));
    },
  });
  return {
    ask: async (question, withinMs = ANSWER_WITHIN_MS) => {
      if (ended !== undefined) throw new Error(ended);
      const id = ++lastId;
      const answer = Promise.withResolvers<ControlAnswer>();
      waiting.set(id, answer);
      const timer = setTimeout(() => {
        answer.reject(new Error(`the core did not answer '${question.kind}' in ${withinMs} ms`));
      }, withinMs);
      try {
        channel.send({ ...question, id } as ControlRequest);
        return await answer.promise;
      } finally {
        clearTimeout(timer);
        waiting.delete(id);
      }
    },
    close: () => channel.end('the asker has what it wanted'),
  };
}
