/** What leaves for the internet: mappings and sessions are made, sources translated. */
import { judge } from './approval.ts';
import { aliasProtocols } from './destination-side.ts';
import { followOutward, rememberFragment } from './fragment-following.ts';
import { isSpokenByGateway, translateErrorOutward } from './icmp-errors.ts';
import { type ExternalEndpoint, MAPPING_MARGIN_TICKS } from './mapping-table.ts';
import { externalOf, findOrOpenMapping } from './mapping-upkeep.ts';
import { packetMarks } from './nat-hook.ts';
import { externalIndexOf, type NatFiltering, networkIndexOf } from './nat-settings.ts';
import {
  classOf,
  type Decision,
  drop,
  endpointsOf,
  type Passage,
  passAsRequest,
  translated,
} from './passage.ts';
import { rewriteSource } from './rewriting.ts';
import type { Session } from './session.ts';
import type { OpenRefusal } from './session-table.ts';
import {
  bringUpToDate,
  type Ends,
  findSession,
  hasLostMapping,
  mayOpen,
  meetSession,
  openSession,
} from './session-upkeep.ts';

/** The fast path has translated it. */
export function isDone(mark: number): boolean {
  return (mark & packetMarks.done) !== 0;
}

export function handleWanEgress(passage: Passage): Decision {
  const { packet, state } = passage;
  const { settings } = state;
  const { transport } = packet;
  const known = followSession(passage);
  if (known !== undefined) return known;
  if (isSpokenByGateway(passage)) return leaveGateway(passage);
  const network = networkIndexOf(settings, packet.source);
  if (network === undefined) return drop('droppedMartian');
  if (!settings.networks[network]?.isTranslated) return leaveRouted(passage);
  if (transport.kind === 'later-fragment') return followOutward(passage);
  const decision = translateSource(passage, network);
  rememberSource(passage, decision);
  return decision;
}

/** A session that translates its sender does so whatever else would be said of the packet. */
function followSession(passage: Passage): Decision | undefined {
  if (classOf(passage) === undefined) return undefined;
  const ends = endpointsOf(passage.packet);
  // What the gateway refuses in a host's name belongs to what the host was asked.
  const met = passage.isMadeByGateway ? findSession(passage, ends) : meetSession(passage, ends);
  const external = met?.session.ends[met.sender].external;
  if (met === undefined || external === undefined) return undefined;
  if (hasLostMapping(passage, met)) return undefined;
  judge(passage, met);
  bringUpToDate(passage, met, { isConfirming: true });
  const decision = leaveFrom(passage, external);
  rememberSource(passage, decision);
  return decision;
}

/** By one of its outside addresses. What comes back to it stays with it. */
function leaveGateway(passage: Passage): Decision {
  const { packet, state, tick } = passage;
  const { protocol, source, destination } = packet;
  if (packet.transport.kind === 'icmp-error') return translateErrorOutward(passage);
  const isExternal = externalIndexOf(state.settings, source) !== undefined;
  if (!aliasProtocols.includes(protocol) || !isExternal) return passAsRequest;
  const untilTick = tick + state.settings.times.other + 1 + MAPPING_MARGIN_TICKS;
  const key = { protocol, external: source, remote: destination };
  const before = state.sessions.findAlias(key, tick)?.untilTick ?? 0;
  const alias = { insideAddress: source, untilTick: Math.max(before, untilTick) };
  state.sessions.addAlias(key, alias);
  return passAsRequest;
}

/** Later fragments get the same source. */
export function rememberSource(passage: Passage, decision: Decision): void {
  const { packet } = passage;
  if (!packet.isFirstFragment || decision.action !== 'pass') return;
  const address = packet.view.getUint32(packet.networkAt + 12);
  rememberFragment(passage, { action: 'source', address, mark: 0 });
}

function leaveRouted(passage: Passage): Decision {
  const { transport } = passage.packet;
  if (transport.kind === 'icmp-error' || transport.kind === 'later-fragment') return passAsRequest;
  const met = meetSession(passage, endpointsOf(passage.packet));
  if (met !== undefined) {
    judge(passage, met);
    return passAsRequest;
  }
  // nft refuses by a reset in a host's name.
  if (passage.isMadeByGateway) return passAsRequest;
  return openUntranslated(passage);
}

/** A session that nft let through, as it is. */
export function openUntranslated(passage: Passage): Decision {
  const ends = endpointsOf(passage.packet);
  if (isStray(passage, ends)) return drop('droppedStray');
  const network = networkIndexOf(passage.state.settings, ends.sender.address);
  const opened = openSession(passage, {
    ...ends,
    chargedTo: network === undefined ? 'receiver' : 'sender',
    isConfirmed: true,
    network,
  });
  if (typeof opened !== 'string') return passAsRequest;
  if (network !== undefined) return drop(opened);
  passage.state.counters.add('unansweredLimit');
  return passAsRequest;
}

function translateSource(passage: Passage, network: number): Decision {
  switch (passage.packet.transport.kind) {
    case 'icmp-error':
      return translateErrorOutward(passage);
    case 'icmp-other':
      return drop('droppedProtocol');
    case 'other':
      return translateByAlias(passage, network);
    default:
      return openByPort(passage, network);
  }
}

function openByPort(passage: Passage, network: number): Decision {
  const natClass = classOf(passage);
  if (natClass === undefined) return drop('droppedProtocol');
  const ends = endpointsOf(passage.packet);
  if (isStray(passage, ends)) return drop('droppedStray');
  const external = findOrOpenMapping(passage, natClass, ends.sender);
  if (typeof external === 'string') return drop(external);
  const opened = openOutward(passage, ends, { network, external });
  if (typeof opened === 'string') return drop(opened);
  permit(passage, ends, opened);
  return leaveFrom(passage, external);
}

function translateByAlias(passage: Passage, network: number): Decision {
  const { packet, state, tick } = passage;
  const { protocol, source, destination } = packet;
  if (!aliasProtocols.includes(protocol)) return drop('droppedProtocol');
  const ends = endpointsOf(packet);
  const index = externalOf(passage, source);
  const external = index === undefined ? undefined : state.settings.externals[index];
  if (index === undefined || external === undefined) return drop('droppedNoPort');
  const key = { protocol, external: external.address, remote: destination };
  const owned = state.sessions.findAlias(key, tick);
  if (owned !== undefined && owned.insideAddress !== source) return drop('droppedProtocolBusy');
  const untilTick = tick + state.settings.times.other + 1 + MAPPING_MARGIN_TICKS;
  const alias = owned ?? state.sessions.addAlias(key, { insideAddress: source, untilTick });
  if (alias === undefined) return drop('droppedTableFull');
  alias.untilTick = Math.max(alias.untilTick, untilTick);
  const met = findSession(passage, ends);
  if (met?.session.ends[met.sender].external !== undefined) {
    judge(passage, met);
    bringUpToDate(passage, met, { isConfirming: true });
  } else {
    const opened = openOutward(passage, ends, { network, external: { index, port: 0 } });
    if (typeof opened === 'string') return drop(opened);
  }
  rewriteSource(packet, { address: external.address });
  return translated();
}

/** Neither an answer nor a segment in the middle of a connection opens anything. */
function isStray(passage: Passage, ends: Ends): boolean {
  const { transport } = passage.packet;
  const isAnswer = transport.kind === 'icmp-query' && !transport.isRequest;
  return isAnswer || !mayOpen(passage, ends);
}

interface OutwardOptions {
  readonly network: number;
  readonly external: ExternalEndpoint;
}

function openOutward(
  passage: Passage,
  ends: Ends,
  { network, external }: OutwardOptions,
): Session | OpenRefusal {
  return openSession(passage, {
    ...ends,
    chargedTo: 'sender',
    isConfirmed: true,
    network,
    senderExternal: external,
  });
}

/** What address-dependent filtering will ask. */
function permit({ state, packet }: Passage, { sender }: Ends, session: Session): void {
  const { settings, sessions } = state;
  const own = settings.externals.find(({ oneToOne }) => oneToOne === sender.address);
  const network = settings.networks[networkIndexOf(settings, sender.address) ?? -1];
  const filtering: NatFiltering | undefined = own?.filtering ?? network?.filtering;
  if (filtering !== 'address-dependent') return;
  const key = { protocol: packet.protocol, inside: sender, remote: packet.destination };
  sessions.permit(key, session.untilTick + MAPPING_MARGIN_TICKS);
}

export function leaveFrom({ packet, state }: Passage, { index, port }: ExternalEndpoint): Decision {
  const address = state.settings.externals[index]?.address;
  if (address === undefined) throw new Error(`no external has the index ${index}`);
  rewriteSource(packet, { address, port });
  return translated();
}
