/**
 * Whether rules of routing (`ip rule`, `ip -6 rule`) in our network namespace go by packet marks.
 * Our programs ask for a route (bpf_fib_lookup) by interface, addresses, protocol, ports and TOS or
 * flow label, and with the mark 0: before Linux 6.10 there is no other way.
 */
import { LinuxError } from './ffi.ts';
import { decodeNetlinkAttributes } from './netlink-message.ts';
import { badAnswer, type NetlinkQuestion, NetlinkSocket } from './netlink-socket.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const RTM_NEWRULE = 32;
const RTM_GETRULE = 34;
/** Of `linux/fib_rules.h`. */
const FRA_FWMARK = 10;
const FRA_FWMASK = 16;
/** struct fib_rule_hdr, which begins with the family. */
const STRUCT_BYTES = 12;

/** A family each: without one the kernel lists rules of others, too. */
const questions = [AF_INET, AF_INET6].map((family) => ({
  action: 'list routing rules',
  type: RTM_GETRULE,
  answerType: RTM_NEWRULE,
  body: Uint8Array.of(family, ...new Uint8Array(STRUCT_BYTES - 1)),
}));

export class RoutingRules implements Disposable {
  readonly #socket = new NetlinkSocket({ protocol: 'route' });

  /** @throws LinuxError; then the rules have to be opened anew */
  goByMarks(): boolean {
    return questions.some((question) =>
      this.#list(question).some((rule) => {
        const goesByMark = ruleGoesByMark(rule);
        if (goesByMark === undefined) throw badAnswer(question.action);
        return goesByMark;
      }),
    );
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #list(question: NetlinkQuestion): readonly DataView<ArrayBuffer>[] {
    try {
      return this.#socket.list(question);
    } catch (cause) {
      // A kernel without rules for this family, or without any.
      const code = cause instanceof LinuxError ? cause.code : undefined;
      if (code === 'EAFNOSUPPORT' || code === 'EOPNOTSUPP') return [];
      throw cause;
    }
  }
}

/**
 * It compares the bits of the mark that are in its mask, also when it wants zeros there.
 *
 * @param rule of RTM_NEWRULE @returns undefined when it is of another form
 */
export function ruleGoesByMark(rule: DataView<ArrayBuffer>): boolean | undefined {
  const attributes = decodeNetlinkAttributes(rule, STRUCT_BYTES);
  if (attributes === undefined) return undefined;
  // The kernel tells a mask with each mark.
  const asked = attributes.get(FRA_FWMASK) ?? attributes.get(FRA_FWMARK);
  if (asked === undefined) return false;
  return asked.byteLength === 4 ? asked.getUint32(0, true) !== 0 : undefined;
}
