/**
 * Whether IPsec's policies (xfrm) of our network namespace may apply to forwarded packets. The
 * kernel asks them on its way from routing to egress, so what does not go that way would leave in
 * clear. Asking costs four system calls, however many policies there are.
 */
import { LinuxError } from './ffi.ts';
import { decodeNetlinkAttributes } from './netlink-message.ts';
import { badAnswer, type NetlinkQuestion, NetlinkSocket } from './netlink-socket.ts';

/** Of `linux/xfrm.h`. */
const XFRM_MSG_NEWSPDINFO = 0x24;
const XFRM_MSG_GETSPDINFO = 0x25;
const XFRM_MSG_GETDEFAULT = 0x28;
const XFRMA_SPD_INFO = 1;
const XFRM_USERPOLICY_BLOCK = 1;
/** Flags, before the attributes. */
const STRUCT_BYTES = 4;
/** struct xfrmu_spdinfo: six counts of policies, for in, out and forward, and of sockets' own. */
const COUNTS_BYTES = 24;
/** struct xfrm_userpolicy_default: in, forward, out. */
const DEFAULTS_BYTES = 3;

const countQuestion: NetlinkQuestion = {
  action: 'count IPsec policies',
  type: XFRM_MSG_GETSPDINFO,
  answerType: XFRM_MSG_NEWSPDINFO,
  body: new Uint8Array(STRUCT_BYTES),
};

const defaultQuestion: NetlinkQuestion = {
  action: 'read what IPsec does without a policy',
  type: XFRM_MSG_GETDEFAULT,
  answerType: XFRM_MSG_GETDEFAULT,
  body: new Uint8Array(DEFAULTS_BYTES),
};

export class IpsecPolicies implements Disposable {
  /** Undefined where the kernel has no IPsec. */
  readonly #socket: NetlinkSocket | undefined;

  /** @throws LinuxError when the kernel has IPsec, and does not let us ask */
  constructor() {
    this.#socket = unlessCode('EPROTONOSUPPORT', () => new NetlinkSocket({ protocol: 'xfrm' }));
  }

  /** @throws LinuxError when the kernel refuses, as it does without CAP_NET_ADMIN */
  mayApplyToForwarded(): boolean {
    const socket = this.#socket;
    if (socket === undefined) return false;
    const areThere = hasPoliciesOfForwarded(socket.ask(countQuestion));
    if (areThere === undefined) throw badAnswer(countQuestion.action);
    if (areThere) return true;
    // Before Linux 5.15 what no policy is for always passes.
    const answer = unlessCode('EINVAL', () => socket.ask(defaultQuestion));
    if (answer === undefined) return false;
    const isBlocked = blocksForwarded(answer);
    if (isBlocked === undefined) throw badAnswer(defaultQuestion.action);
    return isBlocked;
  }

  close(): void {
    this.#socket?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Forwarded packets meet policies of the directions forward and out.
 *
 * @param answer to XFRM_MSG_GETSPDINFO @returns undefined when it is of another form
 */
export function hasPoliciesOfForwarded(answer: DataView<ArrayBuffer>): boolean | undefined {
  const counts = decodeNetlinkAttributes(answer, STRUCT_BYTES)?.get(XFRMA_SPD_INFO);
  if (counts === undefined || counts.byteLength < COUNTS_BYTES) return undefined;
  const [outCount, forwardCount] = [counts.getUint32(4, true), counts.getUint32(8, true)];
  return outCount > 0 || forwardCount > 0;
}

/** @param answer to XFRM_MSG_GETDEFAULT @returns undefined when it is of another form */
export function blocksForwarded(answer: DataView<ArrayBuffer>): boolean | undefined {
  if (answer.byteLength < DEFAULTS_BYTES) return undefined;
  const [forward, out] = [answer.getUint8(1), answer.getUint8(2)];
  return forward === XFRM_USERPOLICY_BLOCK || out === XFRM_USERPOLICY_BLOCK;
}

/** @returns undefined when the kernel refuses with that code */
function unlessCode<T>(code: string, act: () => T): T | undefined {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof LinuxError && cause.code === code) return undefined;
    throw cause;
  }
}
