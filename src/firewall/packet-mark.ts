/**
 * The bits of the packet mark by which the programs in front of nft tell what they know. Others own
 * the rest of the mark, so every comparison masks it.
 */

/** The packet goes against the direction of its session's first packet. */
export const MARK_REPLY = 0x0010_0000;
/** The packet came from the WAN and has an inside destination by a mapping or a port forward. */
export const MARK_MAPPED = 0x0020_0000;
