/**
 * Packets to an external address, from the internet or from an inside host (hairpin): to whom
 * inside they go, and what is told about them.
 */
import { isApproved } from './approval.ts';
import { followInward } from './fragment-following.ts';
import {
  isRedirect,
  type QuotedPacket,
  readQuotedPacket,
  translateErrorInward,
} from './icmp-errors.ts';
import { type Endpoint, tcpFlags } from './ip-packet.ts';
import type { Mapping, NatClass } from './mapping-table.ts';
import { type NatFiltering, networkOf } from './nat-settings.ts';
import { isMartian } from './odd-addresses.ts';
import {
  classOf,
  type Decision,
  drop,
  type Passage,
  passAsRequest,
  translated,
} from './passage.ts';
import { rewriteDestination } from './rewriting.ts';
import { natClassOf } from './session-table.ts';
import {
  bringUpToDate,
  type Ends,
  findSession,
  meetSession,
  openSession,
} from './session-upkeep.ts';

/** Protocols without ports that one inside host at a time may speak with a remote. */
export const aliasProtocols: readonly number[] = [4, 41, 47, 50, 132];

/** @param external the index of the packet's destination among the externals */
export function translateDestination(passage: Passage, external: number): Decision {
  switch (passage.packet.transport.kind) {
    case 'later-fragment':
      return followInward(passage);
    case 'icmp-error':
      return translateError(passage, external);
    case 'icmp-other':
      return localUnlessMartian(passage);
    case 'other':
      return translateByAlias(passage);
    default:
      return translateByPort(passage, external);
  }
}

/** Whose the external endpoint is. */
interface Target {
  readonly inside: Endpoint;
  /** Absent for one-to-one addresses. */
  readonly mapping?: Mapping;
  readonly filtering: NatFiltering;
  readonly external: { readonly index: number; readonly port: number };
}

function translateByPort(passage: Passage, external: number): Decision {
  const { packet } = passage;
  const natClass = classOf(passage);
  const { transport } = packet;
  if (natClass === undefined || !('ports' in transport)) return localUnlessMartian(passage);
  const isAsking = transport.kind === 'icmp-query' && transport.isRequest;
  const port = transport.ports.destination;
  const target = findTarget(passage, natClass, { index: external, port });
  if (target === undefined) return localUnlessMartian(passage);
  // Requests to an address of many hosts are for the gateway, which answers pings itself.
  if (isAsking && target.mapping !== undefined) return localUnlessMartian(passage);
  const { inside } = target;
  const remotePort = natClass === 'icmp' ? inside.port : transport.ports.source;
  const ends = { sender: { address: packet.source, port: remotePort }, receiver: inside };
  const decision = followSession(passage, ends) ?? admit(passage, ends, target);
  if (decision.action !== 'pass' || !decision.isTranslated) return decision;
  rewriteDestination(packet, { address: inside.address, port: inside.port });
  return decision;
}

function findTarget(
  { state, tick }: Passage,
  natClass: NatClass,
  external: { readonly index: number; readonly port: number },
): Target | undefined {
  const { settings, mappings } = state;
  const own = settings.externals[external.index];
  if (own?.oneToOne !== undefined) {
    const inside = { address: own.oneToOne, port: external.port };
    return { inside, external, filtering: own.filtering };
  }
  const mapping = mappings.liveAt(natClass, external, tick);
  if (mapping === undefined) return undefined;
  const network = settings.networks[mapping.network ?? -1];
  const filtering = mapping.isStatic ? undefined : network?.filtering;
  return {
    ...{ external, mapping, inside: mapping.internal },
    filtering: filtering ?? 'endpoint-independent',
  };
}

function followSession(passage: Passage, ends: Ends): Decision | undefined {
  const met = meetSession(passage, ends);
  if (met === undefined) return undefined;
  bringUpToDate(passage, met, { isConfirming: false });
  const { session, sender } = met;
  const opened = session.isPortForward ? 'portForward' : 'mapped';
  const kind = session.initiator === sender ? opened : 'reply';
  return translated(kind, isApproved(passage, session, ends.receiver.address));
}

function admit(passage: Passage, ends: Ends, target: Target): Decision {
  const { packet, state, tick } = passage;
  const { transport, protocol } = packet;
  if (isMartian(passage)) return drop('droppedMartian');
  // The gateway's own pings use identifiers that hosts use, too.
  if (transport.kind === 'icmp-query' && !transport.isRequest) return passAsRequest;
  const { syn, ack, rst } = tcpFlags;
  if (transport.kind === 'tcp' && (transport.tcp.flags & (syn | ack | rst)) !== syn) {
    return drop('droppedStray');
  }
  const permission = { protocol, inside: target.inside, remote: packet.source };
  const isAllowed =
    target.filtering === 'endpoint-independent' ||
    (target.filtering === 'address-dependent' && state.sessions.hasPermission(permission, tick));
  if (!isAllowed) return drop('droppedFiltered');
  openFromOutside(passage, ends, target);
  return translated(target.mapping?.isStatic ? 'portForward' : 'mapped');
}

/** Without room or quota the packet goes on without a session: nft judges it all the same. */
function openFromOutside(passage: Passage, ends: Ends, { mapping, inside, external }: Target) {
  const { state, hook } = passage;
  const limit = state.settings.outsideSessionsPerMapping;
  const isCapped = mapping !== undefined && mapping.unansweredCount >= limit;
  const opened = isCapped
    ? undefined
    : openSession(passage, {
        ...ends,
        chargedTo: hook === 'inside-ingress' ? 'sender' : 'receiver',
        isConfirmed: false,
        isPortForward: mapping?.isStatic ?? false,
        network: networkIndexFor(passage, inside, mapping),
        receiverExternal: external,
      });
  if (opened === undefined || typeof opened === 'string') state.counters.add('unansweredLimit');
}

function networkIndexFor({ state }: Passage, inside: Endpoint, mapping: Mapping | undefined) {
  const network = networkOf(state.settings, inside.address);
  return mapping?.network ?? (network && state.settings.networks.indexOf(network));
}

function translateByAlias(passage: Passage): Decision {
  const { packet, state, tick } = passage;
  const { protocol, source, destination } = packet;
  const alias = aliasProtocols.includes(protocol)
    ? state.sessions.findAlias({ protocol, external: destination, remote: source }, tick)
    : undefined;
  const isOfGateway = alias?.insideAddress === destination;
  if (alias === undefined || isOfGateway) return localUnlessMartian(passage);
  const inside = { address: alias.insideAddress, port: 0 };
  const met = findSession(passage, { sender: { address: source, port: 0 }, receiver: inside });
  if (met === undefined) return localUnlessMartian(passage);
  bringUpToDate(passage, met, { isConfirming: false });
  rewriteDestination(packet, { address: inside.address });
  return translated('reply', isApproved(passage, met.session, inside.address));
}

function translateError(passage: Passage, external: number): Decision {
  const quoted = readQuotedPacket(passage.packet);
  if (quoted === undefined) return drop('droppedIcmpBroken');
  if (quoted.kind === 'later-fragment') return drop('droppedIcmpUnknown');
  const inside = quotedSender(passage, quoted, external);
  if (inside === undefined) return localUnlessMartian(passage);
  if (isRedirect(passage.packet)) return drop('droppedIcmpUnknown');
  const isQuery = quoted.kind === 'icmp-query';
  const remote = isQuery ? { ...quoted.receiver, port: inside.port } : quoted.receiver;
  const decision = translateErrorInward(passage, quoted, { inside, remote });
  if (decision !== undefined) return decision;
  return isQuery ? localUnlessMartian(passage) : drop('droppedIcmpUnknown');
}

/** The inside endpoint that sent the quoted packet, or undefined when the gateway did. */
function quotedSender(passage: Passage, quoted: QuotedPacket, index: number): Endpoint | undefined {
  const { state, tick, packet } = passage;
  const { protocol, sender, receiver } = quoted;
  if (sender.address !== packet.destination) return undefined;
  const natClass = natClassOf(protocol);
  if (natClass !== undefined) {
    return findTarget(passage, natClass, { index, port: sender.port })?.inside;
  }
  const oneToOne = state.settings.externals[index]?.oneToOne;
  if (oneToOne !== undefined) return { address: oneToOne, port: 0 };
  if (!aliasProtocols.includes(protocol)) return undefined;
  const key = { protocol, external: sender.address, remote: receiver.address };
  const alias = state.sessions.findAlias(key, tick);
  const isOfGateway = alias?.insideAddress === sender.address;
  return alias && !isOfGateway ? { address: alias.insideAddress, port: 0 } : undefined;
}

function localUnlessMartian(passage: Passage): Decision {
  return isMartian(passage) ? drop('droppedMartian') : passAsRequest;
}
