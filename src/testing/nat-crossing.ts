/**
 * Steps of a case that follow a packet through both of its hooks, with what the mark tells between
 * them.
 */
import { generationMark } from '../nat/generations.ts';
import { type NatHook, type PacketKind, packetKinds, packetMarks } from '../nat/nat-hook.ts';
import type { Counted, NatStep } from './nat-case.ts';
import type { Frame } from './nat-packets.ts';

/** One packet on both sides of the gateway. */
export interface Crossing {
  readonly inside: Frame;
  readonly outside: Frame;
}

/** The mark of a packet that nft has to judge, with addresses of this number. */
export function unjudged(kind: PacketKind, number: number): number {
  return packetKinds[kind] | generationMark(number);
}

/** The mark of one that it need not judge. */
export function approved(kind: PacketKind, number: number): number {
  return unjudged(kind, number) | packetMarks.approved;
}

/** Goes on at one hook. Where nothing changes, `sent` and `seen` are the same object. */
export function passesHook(
  at: NatHook,
  { sent, seen }: { readonly sent: Frame; readonly seen: Frame },
  marks: { readonly before: number; readonly after: number },
  counted: Counted,
): NatStep {
  const names: Counted = sent === seen ? counted : ['translated', ...counted];
  return {
    packet: { hook: at, bytes: sent, mark: marks.before },
    outcome: {
      verdict: 'pass',
      bytes: seen,
      mark: marks.after >>> 0,
      counts: Object.fromEntries(names.map((name) => [name, 1])),
    },
  };
}

/** A host's packet reaches the gateway. */
export function comesFromInside({ inside }: Crossing, mark: number): NatStep {
  const same = { sent: inside, seen: inside };
  return passesHook('inside-ingress', same, { before: 0, after: mark }, []);
}

/** nft has let it through. */
export function leavesOutward(
  { inside, outside }: Crossing,
  mark: number,
  ...counted: Counted
): NatStep {
  const frames = { sent: inside, seen: outside };
  return passesHook('wan-egress', frames, { before: mark, after: mark }, counted);
}

export function comesFromOutside(
  { inside, outside }: Crossing,
  mark: number,
  ...counted: Counted
): NatStep {
  const frames = { sent: outside, seen: inside };
  return passesHook('wan-ingress', frames, { before: 0, after: mark }, counted);
}

export function leavesInward({ inside }: Crossing, mark: number, ...counted: Counted): NatStep {
  const same = { sent: inside, seen: inside };
  return passesHook('inside-egress', same, { before: mark, after: mark }, counted);
}

/** Through both hooks. */
export function outward(packet: Crossing, mark: number, ...counted: Counted): readonly NatStep[] {
  return [comesFromInside(packet, mark), leavesOutward(packet, mark, ...counted)];
}

/** Through both hooks. */
export function inward(packet: Crossing, mark: number): readonly NatStep[] {
  return [comesFromOutside(packet, mark), leavesInward(packet, mark)];
}
