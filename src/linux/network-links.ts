/**
 * The interfaces of our network namespace, as the kernel lists them (rtnetlink(7), RTM_GETLINK): in
 * three system calls for some twenty of them, without starting a program.
 */
import { decodeNetlinkAttributes } from './netlink-message.ts';
import { badAnswer, NetlinkSocket } from './netlink-socket.ts';

export interface NetworkLink {
  readonly index: number;
  readonly name: string;
  /** Link-layer address; empty where it has none. */
  readonly address: Uint8Array;
  /** Its kind, where a program made it: `veth`, `bridge`, `vlan`. */
  readonly kind?: string;
  /** The queueing discipline at its root: `mq`, `noqueue`. */
  readonly queueing: string;
  /** Index of the interface that it lies on, or of its peer. */
  readonly lower?: number;
  /** Index of the bridge or bond that it belongs to. */
  readonly master?: number;
  /** Number of the program at XDP, in whichever mode. */
  readonly xdpProgramId?: number;
}

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
/** Of `linux/if_link.h`. */
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_LINK = 5;
const IFLA_QDISC = 6;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_XDP = 43;
const IFLA_INFO_KIND = 1;
const IFLA_XDP_PROG_ID = 4;
/** struct ifinfomsg, in which the index is at 4. */
const STRUCT_BYTES = 16;

const question = {
  action: 'list interfaces',
  type: RTM_GETLINK,
  answerType: RTM_NEWLINK,
  body: new Uint8Array(STRUCT_BYTES),
};

export class NetworkLinks implements Disposable {
  readonly #socket = new NetlinkSocket({ protocol: 'route' });

  /** @throws LinuxError; then they have to be opened anew */
  list(): readonly NetworkLink[] {
    return this.#socket.list(question).map((answer) => {
      const link = networkLinkIn(answer);
      if (link === undefined) throw badAnswer(question.action);
      return link;
    });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @param answer of RTM_NEWLINK @returns undefined when it is of another form */
export function networkLinkIn(answer: DataView<ArrayBuffer>): NetworkLink | undefined {
  const attributes = decodeNetlinkAttributes(answer, STRUCT_BYTES);
  if (attributes === undefined) return undefined;
  const name = textOf(attributes.get(IFLA_IFNAME));
  if (name === undefined) return undefined;
  const address = attributes.get(IFLA_ADDRESS);
  const kind = textOf(nested(attributes.get(IFLA_LINKINFO))?.get(IFLA_INFO_KIND));
  const lower = numberOf(attributes.get(IFLA_LINK));
  const master = numberOf(attributes.get(IFLA_MASTER));
  const xdpProgramId = numberOf(nested(attributes.get(IFLA_XDP))?.get(IFLA_XDP_PROG_ID));
  return {
    index: answer.getInt32(4, true),
    name,
    address: address === undefined ? new Uint8Array() : bytesOf(address),
    queueing: textOf(attributes.get(IFLA_QDISC)) ?? '',
    ...(kind === undefined ? {} : { kind }),
    ...(lower === undefined ? {} : { lower }),
    ...(master === undefined ? {} : { master }),
    ...(xdpProgramId === undefined ? {} : { xdpProgramId }),
  };
}

function nested(value: DataView<ArrayBuffer> | undefined) {
  return value === undefined ? undefined : decodeNetlinkAttributes(value, 0);
}

/** None is 0. */
function numberOf(value: DataView<ArrayBuffer> | undefined): number | undefined {
  if (value === undefined || value.byteLength !== 4) return undefined;
  return value.getUint32(0, true) || undefined;
}

function textOf(value: DataView<ArrayBuffer> | undefined): string | undefined {
  if (value === undefined) return undefined;
  return new TextDecoder().decode(bytesOf(value)).split('\0', 1)[0];
}

function bytesOf(view: DataView<ArrayBuffer>): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
