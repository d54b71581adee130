/**
 * Asks a part of the kernel by netlink. The kernel has answered by the time that the question is
 * sent, so nothing waits, and a question costs two system calls.
 */
import { closeSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';
import { inNetworkNamespace } from './libc.ts';
import {
  decodeNetlinkMessages,
  encodeNetlinkMessage,
  type NetlinkMessage,
} from './netlink-message.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
});

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0x8_0003;
const MSG_DONTWAIT = 0x40;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLM_F_ACK = 4;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** `linux/netfilter/nfnetlink.h`. */
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const EAGAIN = 11;
const EBADMSG = 74;
const EMSGSIZE = 90;

/** The kernel puts no more into one part of a list. */
const ANSWER_BYTES_MAX = 32_768;
/** Of a list; nobody has a tenth of it, and reading it takes some tens of milliseconds. */
const ANSWER_COUNT_MAX = 16_384;

/** Numbers of `linux/netlink.h`. */
const protocols = { route: 0, xfrm: 6, netfilter: 12, generic: 16 } as const;

export interface NetlinkSocketOptions {
  readonly protocol: keyof typeof protocols;
  /** Its file. Default: our own. */
  readonly networkNamespace?: string;
}

export interface NetlinkQuestion {
  /** For errors: `count IPsec policies`. */
  readonly action: string;
  readonly type: number;
  readonly answerType: number;
  readonly body: Uint8Array;
}

/** Messages to a part of netfilter that are done all or not at all (nfnetlink's batch). */
export interface NetlinkBatch {
  /** For errors: `change the set blocked_4`. */
  readonly action: string;
  /** NFNL_SUBSYS_… */
  readonly subsystem: number;
  readonly messages: readonly {
    readonly type: number;
    /** Besides those that every request has. */
    readonly flags: number;
    readonly body: Uint8Array;
  }[];
}

export class NetlinkSocket implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  /** @throws LinuxError; EPROTONOSUPPORT when the kernel has no such part */
  constructor({ protocol, networkNamespace }: NetlinkSocketOptions) {
    const open = () => libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocols[protocol]);
    this.#fd = networkNamespace === undefined ? open() : inNetworkNamespace(networkNamespace, open);
    if (this.#fd < 0) throw new LinuxError(`open a netlink socket to ${protocol}`, errno());
  }

  /** @returns the body of the answer @throws LinuxError when the kernel refuses */
  ask(question: NetlinkQuestion): DataView<ArrayBuffer> {
    this.#send(question, NLM_F_REQUEST);
    for (;;) {
      const [answer] = this.#receive(question);
      if (answer !== undefined) return bodyOf(answer, question);
    }
  }

  /**
   * After an error, answers may be left that keep the kernel from taking a question: then the
   * socket is of no more use.
   *
   * @returns the body of each that is listed @throws LinuxError when the kernel refuses
   */
  list(question: NetlinkQuestion): readonly DataView<ArrayBuffer>[] {
    this.#send(question, NLM_F_REQUEST | NLM_F_DUMP);
    const bodies: DataView<ArrayBuffer>[] = [];
    for (;;) {
      for (const answer of this.#receive(question)) {
        if (answer.type === NLMSG_DONE) {
          requireSuccess(answer, question);
          return bodies;
        }
        bodies.push(bodyOf(answer, question));
      }
      if (bodies.length > ANSWER_COUNT_MAX) {
        throw new LinuxError(question.action, EMSGSIZE, `more than ${ANSWER_COUNT_MAX} answers`);
      }
    }
  }

  /**
   * When it returns, packets meet all of it.
   *
   * @throws LinuxError when the kernel refuses; then nothing of it was done
   */
  commit({ action, subsystem, messages }: NetlinkBatch): void {
    const frame = (type: number) => ({ type, flags: 0, body: batchFrame(subsystem) });
    const begin = this.#sequence + 1;
    const parts = [
      frame(NFNL_MSG_BATCH_BEGIN),
      ...messages.map((one) => ({ ...one, flags: one.flags | NLM_F_ACK })),
      frame(NFNL_MSG_BATCH_END),
    ].map(({ type, flags, body }) =>
      encodeNetlinkMessage({ type, flags: flags | NLM_F_REQUEST, sequence: this.#next(), body }),
    );
    this.#sendBytes(Buffer.concat(parts), action);
    let acknowledgedCount = 0;
    for (const answer of this.#receiveAll(action)) {
      if (answer.sequence < begin || answer.type !== NLMSG_ERROR) continue;
      requireSuccess(answer, { action });
      acknowledgedCount++;
    }
    // The kernel answers before the question has been sent.
    if (acknowledgedCount < messages.length) {
      throw new LinuxError(action, EBADMSG, `${acknowledgedCount} of ${messages.length} answers`);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send({ action, type, body }: NetlinkQuestion, flags: number): void {
    const sequence = this.#next();
    this.#sendBytes(encodeNetlinkMessage({ type, flags, sequence, body }), action);
  }

  #next(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  #sendBytes(bytes: Uint8Array, action: string): void {
    if (libc.send(this.#fd, bytes, BigInt(bytes.length), 0) < 0n) {
      throw new LinuxError(action, errno());
    }
  }

  /** @returns none when they are such that nobody waited for any more */
  #receive({ action }: NetlinkQuestion): readonly NetlinkMessage[] {
    const messages = this.#receiveSome(action);
    if (messages === undefined) throw new LinuxError(action, EAGAIN);
    return messages.filter(({ sequence }) => sequence === this.#sequence);
  }

  #receiveAll(action: string): NetlinkMessage[] {
    const all: NetlinkMessage[] = [];
    for (;;) {
      const some = this.#receiveSome(action);
      if (some === undefined) return all;
      all.push(...some);
    }
  }

  /** @returns undefined when there are no more */
  #receiveSome(action: string): readonly NetlinkMessage[] | undefined {
    const bytes = new Uint8Array(ANSWER_BYTES_MAX);
    const received = libc.recv(this.#fd, bytes, BigInt(bytes.length), MSG_DONTWAIT);
    if (received < 0n) {
      const error = errno();
      if (error === EAGAIN) return undefined;
      throw new LinuxError(action, error);
    }
    const messages = decodeNetlinkMessages(bytes.subarray(0, Number(received)));
    if (messages === undefined) throw new LinuxError(action, EBADMSG, 'a message of wrong length');
    return messages;
  }
}

/** struct nfgenmsg: family and version are zero, and the subsystem is in network byte order. */
function batchFrame(subsystem: number): Uint8Array {
  return new Uint8Array([0, 0, subsystem >> 8, subsystem & 0xff]);
}

function bodyOf(answer: NetlinkMessage, question: NetlinkQuestion): DataView<ArrayBuffer> {
  if (answer.type === NLMSG_ERROR) requireSuccess(answer, question);
  if (answer.type !== question.answerType) {
    throw new LinuxError(question.action, EBADMSG, `an answer of type ${answer.type}`);
  }
  return answer.body;
}

/** NLMSG_ERROR and NLMSG_DONE begin with an errno, negative or zero. */
function requireSuccess(
  { body }: NetlinkMessage,
  { action }: Pick<NetlinkQuestion, 'action'>,
): void {
  if (body.byteLength < 4) throw new LinuxError(action, EBADMSG, 'an error without a number');
  const error = body.getInt32(0, true);
  if (error !== 0) throw new LinuxError(action, error);
}

/** An answer that the kernel's own documents do not allow. */
export function badAnswer(action: string): LinuxError {
  return new LinuxError(action, EBADMSG, 'an answer of another form');
}
