/**
 * nft judges a session once, and once more after each change of the rules (docs/nat.md,
 * "Approval"): a packet of its opener that leaves by an egress hook was let through, and from
 * then on the session's packets are approved at ingress hooks.
 */
import { tcpFlags } from './ipv4-packet.ts';
import { packetKinds, packetMarks } from './nat-hook.ts';
import type { Passage } from './passage.ts';
import type { EndIndex, Session } from './session.ts';

/** The lowest byte of the rules' number, where the mark has it. */
export function generationMark(generation: number): number {
  return (generation & 0xff) << GENERATION_SHIFT;
}

/** At an egress hook. A packet that came in before the last change of the rules judges nothing. */
export function judge(
  passage: Passage,
  { session, sender }: { readonly session: Session; readonly sender: EndIndex },
): void {
  const { generation } = passage.state;
  const isJudging = session.initiator === sender && isByRulesOfNow(passage);
  if (isJudging && generation !== 0) session.judged = generation;
}

/** The same for a session that the packet opens: at an ingress hook nft has not seen it. */
export function judgeFirst(passage: Passage, session: Session): void {
  if (passage.hook.endsWith('egress')) judge(passage, { session, sender: session.initiator });
}

/** At an ingress hook. */
export function isApproved({ state, packet }: Passage, session: Session): boolean {
  const { transport } = packet;
  // nft clamps its MSS.
  if (transport.kind === 'tcp' && (transport.tcp.flags & tcpFlags.syn) !== 0) return false;
  return state.generation !== 0 && session.isConfirmed && session.judged === state.generation;
}

const GENERATION_SHIFT = 23;

function isByRulesOfNow({ state, mark, isMadeByGateway }: Passage): boolean {
  if (isMadeByGateway) return false;
  // It was judged as what it answers, though it may open a session of its own now.
  if ((mark & packetMarks.kind) === packetKinds.reply) return false;
  return (mark & packetMarks.generation) === generationMark(state.generation);
}
