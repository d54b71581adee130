/**
 * What the programs in front of nft tell it in the packet mark. Others own the rest of its bits, so
 * every comparison masks it.
 */
import { PacketKind, PacketMark } from '../abi/layouts.generated.ts';
import type { Match } from './ruleset.ts';

/** `request` is also every packet that the programs do not look at. */
export type PacketKindName = keyof typeof PacketKind;

/** What the programs know of a packet. */
export interface PacketKnowledge {
  /** Default: request. */
  readonly packetKind?: PacketKindName;
  /** It came from inside to an external address. Default: it did not. */
  readonly isHairpin?: boolean;
  /** Its session was let through by the rules of now. Default: it was not. */
  readonly isApproved?: boolean;
}

/** The mark that says so, without the bits of others. */
export function markOf({
  packetKind = 'request',
  isHairpin = false,
  isApproved = false,
}: PacketKnowledge): number {
  const hairpin = isHairpin ? PacketMark.hairpin : 0;
  return PacketKind[packetKind] | hairpin | (isApproved ? PacketMark.approved : 0);
}

/** What was let through before by the rules of now. */
export const isApproved: Match = {
  kind: 'mark',
  mask: PacketMark.approved,
  values: [PacketMark.approved],
};
