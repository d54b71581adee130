/** What came in: destinations are translated, and nft is told what is known. */
import { isApproved } from './approval.ts';
import { translateDestination } from './destination-side.ts';
import { rememberFragment } from './fragment-following.ts';
import { judgeUntranslatedError } from './icmp-errors.ts';
import { isMappingHopeless } from './mapping-upkeep.ts';
import { packetKinds, packetMarks } from './nat-hook.ts';
import { externalIndexOf, networkOf } from './nat-settings.ts';
import { isMartian } from './odd-addresses.ts';
import {
  classOf,
  type Decision,
  drop,
  endpointsOf,
  type FragmentEvent,
  type Passage,
  pass,
  passAsRequest,
} from './passage.ts';
import { bringUpToDate, mayOpen, meetSession } from './session-upkeep.ts';

export interface IngressDecision {
  readonly decision: Decision;
  readonly event?: FragmentEvent | undefined;
}

const FIRST_MULTICAST_ADDRESS = 0xe000_0000;

export function handleIngress(passage: Passage): IngressDecision {
  const { packet, hook, state } = passage;
  const external = externalIndexOf(state.settings, packet.destination);
  if (external === undefined) {
    return { decision: hook === 'inside-ingress' ? fromInside(passage) : fromWan(passage) };
  }
  // Nobody inside has it: neither a session nor a mapping shall be made for it.
  if (hook === 'inside-ingress' && networkOf(state.settings, packet.source) === undefined) {
    return { decision: drop('droppedMartian') };
  }
  const decision = translateDestination(passage, external);
  if (!packet.isFirstFragment) return { decision };
  return { decision, event: remember(passage, decision) };
}

/** The bits of the mark that a decision stands for, without the stamp. */
export function markOf(decision: Decision, { hook }: Pick<Passage, 'hook'>): number {
  if (decision.action === 'follow') return decision.mark;
  if (decision.action !== 'pass') return 0;
  const isHairpin = decision.isTranslated && hook === 'inside-ingress';
  const hairpin = isHairpin ? packetMarks.hairpin : 0;
  return packetKinds[decision.kind] | hairpin | (decision.isApproved ? packetMarks.approved : 0);
}

function fromInside(passage: Passage): Decision {
  const { packet, state } = passage;
  if (isUnjudged(passage)) return passAsRequest;
  const known = judgeKnown(passage);
  if (known !== undefined) return known;
  if (isForGateway(passage)) return passAsRequest;
  if (!mayOpen(passage, endpointsOf(packet))) {
    state.counters.add('refusedStray');
    return pass('stray');
  }
  if (!isFull(passage)) return passAsRequest;
  state.counters.add('refusedFull');
  return pass('full');
}

function fromWan(passage: Passage): Decision {
  const network = networkOf(passage.state.settings, passage.packet.destination);
  if (network === undefined) return passAsRequest;
  if (network.isTranslated) return drop('droppedInsideAddress');
  if (isUnjudged(passage)) return passAsRequest;
  const known = judgeKnown(passage);
  if (known !== undefined) return known;
  if (isMartian(passage)) return drop('droppedMartian');
  const isWelcome = isForGateway(passage) || mayOpen(passage, endpointsOf(passage.packet));
  return isWelcome ? passAsRequest : drop('droppedStray');
}

function isForGateway({ packet, state }: Passage): boolean {
  return state.settings.networks.some(({ gateway }) => gateway === packet.destination);
}

/** Later fragments are whole again before nft sees them. */
function isUnjudged({ packet: { transport, destination } }: Passage): boolean {
  if (transport.kind === 'later-fragment' || transport.kind === 'icmp-other') return true;
  return destination >= FIRST_MULTICAST_ADDRESS;
}

/** What sessions tell about a packet whose destination stays, or undefined. */
function judgeKnown(passage: Passage): Decision | undefined {
  if (passage.packet.transport.kind === 'icmp-error') return judgeUntranslatedError(passage);
  const met = meetSession(passage, endpointsOf(passage.packet));
  if (met === undefined) return undefined;
  const { session, sender } = met;
  // Others are brought up to date where they are translated.
  const isTranslated = session.ends.some(({ external }) => external !== undefined);
  if (!isTranslated) bringUpToDate(passage, met, { isConfirming: false });
  const kind = session.initiator === sender ? 'request' : 'reply';
  return pass(kind, isApproved(passage, session, passage.packet.destination));
}

function isFull(passage: Passage): boolean {
  const { state, packet } = passage;
  const { settings, sessions } = state;
  const network = networkOf(settings, packet.source);
  if (sessions.refusalFor(packet.source, 4) !== undefined) return true;
  const natClass = classOf(passage);
  const isLeaving = networkOf(settings, packet.destination) === undefined;
  if (!network?.isTranslated || natClass === undefined || !isLeaving) return false;
  return isMappingHopeless(passage, natClass, endpointsOf(packet).sender);
}

function remember(passage: Passage, decision: Decision): FragmentEvent | undefined {
  const mark = markOf(decision, passage);
  if (decision.action === 'drop') return rememberFragment(passage, { action: 'drop', mark });
  const isTranslated = decision.action === 'pass' && decision.isTranslated;
  if (!isTranslated) return rememberFragment(passage, { action: 'pass', mark });
  const { view, networkAt } = passage.packet;
  const address = view.getUint32(networkAt + 16);
  return rememberFragment(passage, { action: 'destination', address, mark });
}
