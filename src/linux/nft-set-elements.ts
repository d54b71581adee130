/**
 * Changes elements of nft's sets by netlink, in a fraction of a millisecond where the nft program
 * takes 30 (docs/decisions/0022-set-elements-by-netlink.md). Of nft's messages these two alone:
 *
 *     NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM
 *       struct nfgenmsg: family, version 0, 0
 *       TABLE, SET: names with a zero behind them
 *       ELEMENTS
 *         LIST_ELEM: KEY { VALUE: an address in network byte order }, FLAGS
 *         …
 *
 * A set of ranges has two elements a range: its first address, and the one behind its last, with a
 * flag. Where there is none behind, the first one has a note for nft's own listing instead.
 */

import { setNameOf, TABLE_NAME } from '../firewall/ruleset.ts';
import type { SetChange } from '../firewall/table-entries.ts';
import { lastAddressOf, type Prefix } from '../net/prefix.ts';
import { encodeNetlinkAttributes, type NetlinkAttribute } from './netlink-message.ts';
import { NetlinkSocket } from './netlink-socket.ts';

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_DELSETELEM = 14;
const NLM_F_CREATE = 0x400;
const NFPROTO_INET = 1;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_USERDATA = 6;
const NFTA_DATA_VALUE = 1;
const NFT_SET_ELEM_INTERVAL_END = 1;
/** Type 1, four bytes: this range has no end (libnftables' NFTNL_UDATA_SET_ELEM_FLAGS). */
const OPEN_RANGE = new Uint8Array([1, 4, 1, 0, 0, 0]);

/** A refusal quotes its message, which must fit into what is read at once. */
const PREFIXES_PER_MESSAGE_MAX = 200;
/** At once: what a socket takes without further ado. More is the nft program's. */
export const PREFIXES_PER_CHANGE_MAX = 1_000;

export class NftSetElements implements Disposable {
  readonly #socket: NetlinkSocket;

  /** @param networkNamespace its file; default: our own */
  constructor(networkNamespace?: string) {
    this.#socket = new NetlinkSocket({
      protocol: 'netfilter',
      ...(networkNamespace === undefined ? {} : { networkNamespace }),
    });
  }

  /**
   * In one transaction: when it returns, packets meet the sets as they are now.
   *
   * @param changes of at most {@link PREFIXES_PER_CHANGE_MAX} prefixes in all
   * @throws LinuxError when the kernel refuses; then nothing has changed
   */
  change(changes: readonly SetChange[]): void {
    this.#socket.commit({
      action: `change ${changes.map((change) => `the set ${setNameOf(change)}`).join(', ')}`,
      subsystem: NFNL_SUBSYS_NFTABLES,
      // What goes before what comes: a range that overlaps one that is there is refused.
      messages: changes.flatMap((change) => [
        ...messagesOf(change, change.removed, { type: NFT_MSG_DELSETELEM, flags: 0 }),
        ...messagesOf(change, change.added, { type: NFT_MSG_NEWSETELEM, flags: NLM_F_CREATE }),
      ]),
    });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function messagesOf(
  set: SetChange,
  prefixes: readonly Prefix[],
  { type, flags }: { readonly type: number; readonly flags: number },
) {
  const messages = [];
  for (let index = 0; index < prefixes.length; index += PREFIXES_PER_MESSAGE_MAX) {
    const some = prefixes.slice(index, index + PREFIXES_PER_MESSAGE_MAX);
    messages.push({ type: (NFNL_SUBSYS_NFTABLES << 8) | type, flags, body: bodyOf(set, some) });
  }
  return messages;
}

function bodyOf(set: SetChange, prefixes: readonly Prefix[]): Uint8Array {
  const attributes = encodeNetlinkAttributes([
    { type: NFTA_SET_ELEM_LIST_TABLE, value: nameBytes(TABLE_NAME) },
    { type: NFTA_SET_ELEM_LIST_SET, value: nameBytes(setNameOf(set)) },
    { type: NFTA_SET_ELEM_LIST_ELEMENTS, value: prefixes.flatMap(elementsOf) },
  ]);
  return new Uint8Array([NFPROTO_INET, 0, 0, 0, ...attributes]);
}

function elementsOf(prefix: Prefix): NetlinkAttribute[] {
  const { family, bits } = prefix;
  const behind = lastAddressOf(prefix).bits + 1n;
  const isOpen = behind >> BigInt(family === 4 ? 32 : 128) !== 0n;
  const first = [keyOf(family, bits)];
  if (isOpen) {
    return [element([...first, { type: NFTA_SET_ELEM_USERDATA, value: OPEN_RANGE }])];
  }
  const flags = new Uint8Array([0, 0, 0, NFT_SET_ELEM_INTERVAL_END]);
  return [
    element(first),
    element([keyOf(family, behind), { type: NFTA_SET_ELEM_FLAGS, value: flags }]),
  ];
}

function element(value: readonly NetlinkAttribute[]): NetlinkAttribute {
  return { type: NFTA_LIST_ELEM, value };
}

function keyOf(family: 4 | 6, bits: bigint): NetlinkAttribute {
  const bytes = new Uint8Array(family === 4 ? 4 : 16);
  let rest = bits;
  for (let index = bytes.length - 1; index >= 0; index--) {
    bytes[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return { type: NFTA_SET_ELEM_KEY, value: [{ type: NFTA_DATA_VALUE, value: bytes }] };
}

function nameBytes(name: string): Uint8Array {
  return new TextEncoder().encode(`${name}\0`);
}
