import type { ActionResult } from '../gateway/action-result.ts';
import { planConfig } from '../gateway/propose-config.ts';
import { gatherNetworkFacts, type NetworkFactsPlace } from './network-facts.ts';

/** A config for this machine; `lines` say what was chosen and why, as its comments do. */
export type ProposalResult =
  | (Extract<ActionResult, { success: true }> & { readonly text: string })
  | Extract<ActionResult, { success: false }>;

/** Looks at the network and changes nothing. Never throws. */
export async function proposeConfig(place: NetworkFactsPlace = {}): Promise<ProposalResult> {
  try {
    const proposal = planConfig(await gatherNetworkFacts(place));
    if (proposal.text === undefined) return { success: false, reason: proposal.reason };
    return { success: true, lines: proposal.choices, text: proposal.text };
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause);
    const reason = `cannot look at the network: ${words}. It needs ip: apt-get install iproute2`;
    return { success: false, reason };
  }
}
