/** What leaves for an inside host: sessions are confirmed or made, hairpins are completed. */

import { judge } from './approval.ts';
import { followOutward } from './fragment-following.ts';
import { translateErrorOfGateway, translateErrorOutward } from './icmp-errors.ts';
import { tcpFlags } from './ip-packet.ts';
import type { ExternalEndpoint } from './mapping-table.ts';
import { externalOf, findOrOpenMapping, type MappingRefusal } from './mapping-upkeep.ts';
import { packetKinds, packetMarks } from './nat-hook.ts';
import { networkOf } from './nat-settings.ts';
import {
  classOf,
  type Decision,
  drop,
  endpointsOf,
  type Passage,
  passAsRequest,
} from './passage.ts';

import {
  confirm,
  findSession,
  hasLostMapping,
  type MetSession,
  meetSession,
  refreshMapping,
} from './session-upkeep.ts';
import { leaveFrom, openUntranslated, rememberSource } from './wan-egress.ts';

/** What needs nothing here, whatever it is: it belongs to a session. */
export function isKnownToInside(mark: number): boolean {
  if (mark & packetMarks.hairpin) return false;
  if (mark & packetMarks.approved) return true;
  const kind = mark & packetMarks.kind;
  return kind === packetKinds.reply || kind === packetKinds.related;
}

export function handleInsideEgress(passage: Passage): Decision {
  const { packet, mark } = passage;
  const { kind } = packet.transport;
  if (mark & packetMarks.hairpin) return leaveByHairpin(passage);
  if (passage.isMadeByGateway) return leaveGateway(passage);
  if (kind === 'later-fragment' || kind === 'icmp-error') return passAsRequest;
  const met = meetSession(passage, endpointsOf(packet));
  if (met !== undefined) {
    judge(passage, met);
    confirm(passage, met);
    return passAsRequest;
  }
  const isRequest = (mark & packetMarks.kind) === packetKinds.request;
  return isRequest ? openUntranslated(passage) : passAsRequest;
}

/** What the gateway says about a hairpinned packet: an error, or a reset in the other's name. */
function leaveGateway(passage: Passage): Decision {
  const { isFirstFragment, transport } = passage.packet;
  if (isFirstFragment) return passAsRequest;
  if (transport.kind === 'icmp-error') return translateErrorOfGateway(passage);
  const isReset = transport.kind === 'tcp' && (transport.tcp.flags & tcpFlags.rst) !== 0;
  const met = isReset ? findSession(passage, endpointsOf(passage.packet)) : undefined;
  const external = met?.session.ends[met.sender].external;
  return external === undefined ? passAsRequest : leaveFrom(passage, external);
}

function leaveByHairpin(passage: Passage): Decision {
  const { kind } = passage.packet.transport;
  if (kind === 'later-fragment') return followOutward(passage);
  const decision =
    kind === 'icmp-error' ? translateErrorOutward(passage) : translateHairpin(passage);
  rememberSource(passage, decision);
  return decision;
}

function translateHairpin(passage: Passage): Decision {
  const { packet, state } = passage;
  const met = findSession(passage, endpointsOf(packet));
  const isInside = networkOf(state.settings, packet.source) !== undefined;
  if (met === undefined || !isInside) return drop('droppedTableFull');
  const end = met.session.ends[met.sender];
  const isKept = end.external !== undefined && !hasLostMapping(passage, met);
  const external = isKept ? end.external : chooseExternal(passage, met);
  if (typeof external !== 'object') return drop(external ?? 'droppedNoPort');
  if (!isKept) {
    end.external = external;
    state.sessions.recount(met.session);
    refreshMapping(state, met.session, met.sender);
  }
  judge(passage, met);
  confirm(passage, met);
  return leaveFrom(passage, external);
}

/** The opener's end gets its external endpoint when its first packet leaves. */
function chooseExternal(
  passage: Passage,
  { session, sender }: MetSession,
): ExternalEndpoint | MappingRefusal {
  const { address, port } = session.ends[sender];
  const natClass = classOf(passage);
  if (natClass !== undefined) return findOrOpenMapping(passage, natClass, { address, port });
  const index = externalOf(passage, address);
  return index === undefined ? 'droppedNoPort' : { index, port };
}
