/** The other end of {@link RoleSupervisor}: how a role process speaks with the core. */
import { fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import {
  asCoreMessage,
  type CoreMessage,
  MESSAGE_BYTES_MAX,
  type RoleMessage,
} from '../messages/role-messages.ts';
import { MessageChannel } from './message-channel.ts';
import { ROLE_CHANNEL_FD } from './role-supervisor.ts';

export type BeginMessage = Extract<CoreMessage, { kind: 'begin' }>;
type Question = Extract<RoleMessage, { id: number }>;
type Answer = Extract<CoreMessage, { id: number }>;

export interface CoreConnection {
  /** The core's first message. */
  readonly begin: BeginMessage;
  /** @throws Error with the core's reason, or when the core does not answer in time */
  ask<K extends Question['kind']>(kind: K): Promise<Exclude<Answer, { kind: 'refused' }>>;
  send(message: Exclude<RoleMessage, Question>): void;
  /** Tells why this role cannot do its work; the connection ends, and with it the process. */
  fail(reason: string): void;
}

/** The core answers from memory; this bounds a hang. */
const ANSWER_WITHIN_MS = 5_000;
/** Questions that wait for their answers; a further one is refused at once. */
const QUESTION_COUNT_MAX = 1_024;

/**
 * Takes up the connection that the core gave this process.
 *
 * @param onEnd called when the core is gone or speaks nonsense: the process is to end
 * @throws Error when this process was not started by a core
 */
export async function connectToCore(onEnd: (reason: string) => void): Promise<CoreConnection> {
  if (!isSocket(ROLE_CHANNEL_FD)) {
    throw new Error('a role is started by `gatehouse run` only');
  }
  const begun = Promise.withResolvers<BeginMessage>();
  const waiting = new Map<number, PromiseWithResolvers<Answer>>();
  const channel = new MessageChannel<CoreMessage, RoleMessage>(
    new Socket({ fd: ROLE_CHANNEL_FD, readable: true, writable: true }),
    {
      messageBytesMax: MESSAGE_BYTES_MAX,
      decode: asCoreMessage,
      onMessage: (message) => {
        if (message.kind === 'begin') begun.resolve(message);
        else if (message.kind === 'ping') channel.send({ kind: 'pong' });
        else waiting.get(message.id)?.resolve(message);
      },
      onEnd,
    },
  );
  let questionCount = 0;
  return {
    begin: await begun.promise,
    send: (message) => channel.send(message),
    fail: (reason) => channel.sendLast({ kind: 'failing', reason: reason.slice(0, 4_096) }),
    ask: async (kind) => {
      if (waiting.size >= QUESTION_COUNT_MAX) throw new Error('too many questions wait already');
      questionCount = (questionCount % 0x7fff_ffff) + 1;
      const id = questionCount;
      const answer = Promise.withResolvers<Answer>();
      waiting.set(id, answer);
      const timer = setTimeout(() => {
        answer.reject(new Error(`the core did not answer '${kind}' in ${ANSWER_WITHIN_MS} ms`));
      }, ANSWER_WITHIN_MS);
      try {
        channel.send({ kind, id });
        const message = await answer.promise;
        if (message.kind === 'refused') throw new Error(message.reason);
        return message;
      } finally {
        clearTimeout(timer);
        waiting.delete(id);
      }
    },
  };
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}
