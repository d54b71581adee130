/**
 * The number that the kernel moves with every change of nft's rules, whoever makes it, in one
 * network namespace. Reading it costs two system calls, so a watcher may ask often and list the
 * table only when something happened; listing 10,000 rules takes a second.
 */
import { closeSync } from 'node:fs';
import { errno, LinuxError, openNativeLibrary } from './ffi.ts';
import { inNetworkNamespace } from './libc.ts';

const { functions: libc } = openNativeLibrary(null, {
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
});

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0x8_0003;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_NEWGEN = 15;
const NFT_MSG_GETGEN = 16;
const NFTA_GEN_ID = 1;

/** struct nlmsghdr and struct nfgenmsg. */
const HEADERS_BYTES = 20;
/** The answer has 60 bytes or so. */
const ANSWER_BYTES_MAX = 4096;

export class NftGeneration implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  /** @param networkNamespace its file; default: our own */
  constructor(networkNamespace?: string) {
    const open = () => libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER);
    this.#fd = networkNamespace === undefined ? open() : inNetworkNamespace(networkNamespace, open);
    if (this.#fd < 0) throw new LinuxError('open a netlink socket to netfilter', errno());
  }

  /** @throws LinuxError when the kernel refuses, as it does without CAP_NET_ADMIN */
  read(): number {
    this.#sequence++;
    const request = new DataView(new ArrayBuffer(HEADERS_BYTES));
    request.setUint32(0, HEADERS_BYTES, true);
    request.setUint16(4, (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, true);
    request.setUint16(6, NLM_F_REQUEST, true);
    request.setUint32(8, this.#sequence, true);
    if (libc.send(this.#fd, bytesOf(request), BigInt(HEADERS_BYTES), 0) < 0n) {
      throw new LinuxError("ask for the generation of nft's rules", errno());
    }
    return this.#receive();
  }

  close(): void {
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The kernel has answered by the time that the question was sent. */
  #receive(): number {
    const action = "read the generation of nft's rules";
    const answer = new DataView(new ArrayBuffer(ANSWER_BYTES_MAX));
    for (;;) {
      const received = libc.recv(this.#fd, bytesOf(answer), BigInt(ANSWER_BYTES_MAX), MSG_DONTWAIT);
      if (received < 0n) throw new LinuxError(action, errno());
      if (received < BigInt(HEADERS_BYTES)) throw new LinuxError(action, 74, 'a short answer');
      // One that nobody waited for any more.
      if (answer.getUint32(8, true) !== this.#sequence) continue;
      const type = answer.getUint16(4, true);
      if (type === NLMSG_ERROR) throw new LinuxError(action, answer.getInt32(16, true));
      if (type !== ((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN)) continue;
      const id = generationIn(answer, Number(received));
      if (id === undefined) throw new LinuxError(action, 74, 'an answer without a generation');
      return id;
    }
  }
}

/** Walks the attributes: length, type, value, each at a multiple of four. */
function generationIn(answer: DataView, lengthBytes: number): number | undefined {
  for (let at = HEADERS_BYTES; at + 8 <= lengthBytes; ) {
    const attributeBytes = answer.getUint16(at, true);
    if (answer.getUint16(at + 2, true) === NFTA_GEN_ID) return answer.getUint32(at + 4, false);
    if (attributeBytes < 4) return undefined;
    at += (attributeBytes + 3) & ~3;
  }
  return undefined;
}

function bytesOf(view: DataView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer);
}
