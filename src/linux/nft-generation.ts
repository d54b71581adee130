/**
 * The number that the kernel moves with every change of nft's rules, whoever makes it, in one
 * network namespace. Reading it costs two system calls, so a watcher may ask often and list the
 * table only when something happened; listing 10,000 rules takes a second.
 */
import { decodeNetlinkAttributes } from './netlink-message.ts';
import { badAnswer, NetlinkSocket } from './netlink-socket.ts';

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const NFT_MSG_GETGEN = 16;
const NFTA_GEN_ID = 1;
/** struct nfgenmsg. */
const STRUCT_BYTES = 4;

const question = {
  action: "read the generation of nft's rules",
  type: (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
  answerType: (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN,
  body: new Uint8Array(STRUCT_BYTES),
};

export class NftGeneration implements Disposable {
  readonly #socket: NetlinkSocket;

  /** @param networkNamespace its file; default: our own */
  constructor(networkNamespace?: string) {
    this.#socket = new NetlinkSocket({
      protocol: 'netfilter',
      ...(networkNamespace === undefined ? {} : { networkNamespace }),
    });
  }

  /** @throws LinuxError when the kernel refuses, as it does without CAP_NET_ADMIN */
  read(): number {
    const generation = generationIn(this.#socket.ask(question));
    if (generation === undefined) throw badAnswer(question.action);
    return generation;
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @returns undefined when the answer is of another form */
function generationIn(answer: DataView<ArrayBuffer>): number | undefined {
  const id = decodeNetlinkAttributes(answer, STRUCT_BYTES)?.get(NFTA_GEN_ID);
  // Values of netfilter are in network byte order.
  return id?.byteLength === 4 ? id.getUint32(0, false) : undefined;
}
