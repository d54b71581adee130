/**
 * What the programs in front of nft tell it in the packet mark. Others own the rest of its bits, so
 * every comparison masks it.
 */
import { PacketKind, PacketMark } from '../abi/layouts.generated.ts';

/** `request` is also every packet that the programs do not look at. */
export type PacketKindName = keyof typeof PacketKind;

/** What the programs know of a packet. */
export interface PacketKnowledge {
  /** Default: request. */
  readonly packetKind?: PacketKindName;
  /** It came from inside to an external address. Default: it did not. */
  readonly isHairpin?: boolean;
}

/** The mark that says so, without the bits of others. */
export function markOf({ packetKind = 'request', isHairpin = false }: PacketKnowledge): number {
  return PacketKind[packetKind] | (isHairpin ? PacketMark.hairpin : 0);
}
