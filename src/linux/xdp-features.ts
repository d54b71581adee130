/**
 * What drivers can do at XDP, as Linux tells from 6.3 on by the generic netlink family `netdev`
 * (Documentation/netlink/specs/netdev.yaml).
 */
import { LinuxError } from './ffi.ts';
import { decodeNetlinkAttributes } from './netlink-message.ts';
import { badAnswer, NetlinkSocket } from './netlink-socket.ts';

export interface XdpFeatures {
  /** It runs programs itself, before the kernel makes its own packet of a frame. */
  readonly isNative: boolean;
  /** Those may redirect. */
  readonly mayRedirect: boolean;
  /** It takes what others redirect to it. Many do so only while they have a program themselves. */
  readonly takesRedirected: boolean;
}

/** Of `linux/genetlink.h` and `linux/netdev.h`. */
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const NETDEV_CMD_DEV_GET = 1;
const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;
const NETDEV_XDP_ACT_BASIC = 1n;
const NETDEV_XDP_ACT_REDIRECT = 2n;
const NETDEV_XDP_ACT_NDO_XMIT = 4n;
/** struct genlmsghdr: command, version, two bytes that are reserved. */
const STRUCT_BYTES = 4;

export class XdpFeatureReader implements Disposable {
  readonly #socket = new NetlinkSocket({ protocol: 'generic' });
  /** Null where the kernel has no such family. */
  #family: number | null | undefined;

  /**
   * @returns by the number of the interface; undefined where the kernel does not tell
   * @throws LinuxError; then it has to be opened anew
   */
  read(): ReadonlyMap<number, XdpFeatures> | undefined {
    this.#family ??= this.#findFamily();
    if (this.#family === null) return undefined;
    const question = {
      action: 'list what drivers do at XDP',
      type: this.#family,
      answerType: this.#family,
      body: Uint8Array.of(NETDEV_CMD_DEV_GET, 1, 0, 0),
    };
    const entries = this.#socket.list(question).map((answer) => {
      const entry = xdpFeaturesIn(answer);
      if (entry === undefined) throw badAnswer(question.action);
      return entry;
    });
    return new Map(entries);
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #findFamily(): number | null {
    const action = 'find the netlink family netdev';
    const question = { action, type: GENL_ID_CTRL, answerType: GENL_ID_CTRL, body: familyRequest };
    try {
      const answer = decodeNetlinkAttributes(this.#socket.ask(question), STRUCT_BYTES);
      const id = answer?.get(CTRL_ATTR_FAMILY_ID);
      if (id?.byteLength !== 2) throw badAnswer(action);
      return id.getUint16(0, true);
    } catch (cause) {
      if (cause instanceof LinuxError && cause.code === 'ENOENT') return null;
      throw cause;
    }
  }
}

/** Its attribute: length 11, the name, its zero, and one byte of padding. */
const familyRequest = Uint8Array.of(
  ...[CTRL_CMD_GETFAMILY, 1, 0, 0],
  ...[11, 0, CTRL_ATTR_FAMILY_NAME, 0],
  ...new TextEncoder().encode('netdev\0\0'),
);

/** @param answer of NETDEV_CMD_DEV_GET @returns undefined when it is of another form */
export function xdpFeaturesIn(
  answer: DataView<ArrayBuffer>,
): readonly [index: number, features: XdpFeatures] | undefined {
  const attributes = decodeNetlinkAttributes(answer, STRUCT_BYTES);
  const index = attributes?.get(NETDEV_A_DEV_IFINDEX);
  const features = attributes?.get(NETDEV_A_DEV_XDP_FEATURES);
  if (index?.byteLength !== 4 || features?.byteLength !== 8) return undefined;
  const bits = features.getBigUint64(0, true);
  const has = (bit: bigint) => (bits & bit) !== 0n;
  return [
    index.getUint32(0, true),
    {
      isNative: has(NETDEV_XDP_ACT_BASIC),
      mayRedirect: has(NETDEV_XDP_ACT_REDIRECT),
      takesRedirected: has(NETDEV_XDP_ACT_NDO_XMIT),
    },
  ];
}
