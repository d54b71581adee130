/** Where a packet meets the NAT, and what the NAT tells nft about it. */
import {
  NatHook as hookNumbers,
  PacketKind as kinds,
  PacketMark,
} from '../abi/layouts.generated.ts';

export type NatHook = 'inside-ingress' | 'inside-egress' | 'wan-ingress' | 'wan-egress';

/** `enum nat_hook`. */
export const natHookNumbers: { readonly [H in NatHook]: number } = {
  'inside-ingress': hookNumbers.insideIngress,
  'inside-egress': hookNumbers.insideEgress,
  'wan-ingress': hookNumbers.wanIngress,
  'wan-egress': hookNumbers.wanEgress,
};

/** Bits of the mark. */
export const packetKinds = kinds;
export type PacketKind = keyof typeof kinds;

/** The bits of the mark that are ours. */
export const packetMarks = PacketMark;
