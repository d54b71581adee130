/**
 * ICMP errors, and the packets that they quote (RFC 5508 section 4): both are translated, so that
 * either side recognises what it sent. Errors prolong nothing and end nothing (REQ-6).
 */

import { internetSum } from '../wire/internet-checksum.ts';
import { isChecksumRight, updatedChecksum } from './incremental-checksum.ts';
import { type Endpoint, protocols } from './ip-packet.ts';
import { type Ipv4Packet, icmpQueryDirection } from './ipv4-packet.ts';
import type { ExternalEndpoint } from './mapping-table.ts';
import { externalOf, isOneToOne } from './mapping-upkeep.ts';
import { externalIndexOf, networkOf } from './nat-settings.ts';
import { type Decision, drop, type Passage, pass, passAsRequest, translated } from './passage.ts';
import { rewriteAddress, rewriteSource, rewriteTransport } from './rewriting.ts';
import { endIndexOf } from './session.ts';
import { natClassOf } from './session-table.ts';

/** The packet inside an error, as its receiver saw it. */
export interface QuotedPacket {
  readonly networkAt: number;
  readonly transportAt: number;
  readonly protocol: number;
  readonly kind: 'tcp' | 'udp' | 'icmp-query' | 'other' | 'later-fragment';
  readonly sender: Endpoint;
  readonly receiver: Endpoint;
}

const IPV4_HEADER_BYTES_MIN = 20;
const ICMP_HEADER_BYTES = 8;
const QUOTED_TRANSPORT_BYTES_MIN = 8;
const ICMP_UNREACHABLE = 3;
const ICMP_REDIRECT = 5;
const FRAGMENTATION_NEEDED = 4;
/** Of an error: RFC 1812 section 4.3.2.3 asks for 576, and none is near this. */
const ERROR_BYTES_MAX = 2048;
/** Bytes: less is told by forgers alone (RFC 1191 section 7 lists 508 as the least in use). */
const MTU_FLOOR = 552;

/** @returns undefined when the error is broken: docs/nat.md says what that means */
export function readQuotedPacket(packet: Ipv4Packet): QuotedPacket | undefined {
  const { view, transportAt: errorAt, endAt } = packet;
  const networkAt = errorAt + ICMP_HEADER_BYTES;
  if (networkAt + IPV4_HEADER_BYTES_MIN > endAt) return undefined;
  const headerBytes = (view.getUint8(networkAt) & 0xf) * 4;
  const transportAt = networkAt + headerBytes;
  if (view.getUint8(networkAt) >> 4 !== 4 || headerBytes < IPV4_HEADER_BYTES_MIN) return undefined;
  if (transportAt + QUOTED_TRANSPORT_BYTES_MIN > endAt) return undefined;
  if (!isChecksumRight(bytesOf(view, networkAt, transportAt))) return undefined;
  if (!packet.isFirstFragment && !isErrorWhole(bytesOf(view, errorAt, endAt))) return undefined;
  const place = { networkAt, transportAt, protocol: view.getUint8(networkAt + 9) };
  const kind = quotedKind(view, place);
  // An error about an error does not exist (RFC 1122 section 3.2.2).
  if (kind === undefined) return undefined;
  const ports = quotedPorts(view, transportAt, kind);
  return {
    ...{ ...place, kind },
    sender: { address: view.getUint32(networkAt + 12), port: ports.source },
    receiver: { address: view.getUint32(networkAt + 16), port: ports.destination },
  };
}

export interface Target {
  /** Who sent what the error quotes. */
  readonly inside: Endpoint;
  /** To whom, as the inside host knows it. */
  readonly remote: Endpoint;
}

/**
 * Destination side: the quoted packet's source is an external endpoint.
 *
 * @returns undefined when no live session is behind it
 */
export function translateErrorInward(
  { state, packet, tick }: Passage,
  quoted: QuotedPacket,
  { inside, remote }: Target,
): Decision | undefined {
  const key = { protocol: quoted.protocol, sender: inside, receiver: remote };
  if (state.sessions.find(key, tick) === undefined) return undefined;
  changeError(packet, () => {
    raiseMtu(packet);
    changeQuotedEnd(packet, quoted, { end: 'source', to: inside });
  });
  const { view, networkAt } = packet;
  rewriteAddress(view, { networkAt, offset: 16, address: inside.address });
  return translated('related');
}

/**
 * Source side: the quoted packet's destination is an inside endpoint. The gateway's own errors may
 * be about other packets.
 */
export function translateErrorOutward(passage: Passage): Decision {
  const { state, packet } = passage;
  const { settings } = state;
  const quoted = readQuotedPacket(packet);
  if (quoted === undefined) return drop('droppedIcmpBroken');
  const isOfGateway = isSpokenByGateway(passage);
  const isAboutOurs = networkOf(settings, quoted.receiver.address)?.isTranslated ?? false;
  if (isOfGateway && !isAboutOurs) return passAsRequest;
  if (quoted.kind === 'later-fragment' || isRedirect(packet)) return drop('droppedIcmpUnknown');
  const external = quotedExternal(passage, quoted);
  const address = external && settings.externals[external.index]?.address;
  if (external === undefined || address === undefined) return drop('droppedIcmpUnknown');
  changeError(packet, () => {
    changeQuotedEnd(packet, quoted, { end: 'destination', to: { address, port: external.port } });
  });
  if (isOfGateway) return passAsRequest;
  rewriteSource(packet, { address });
  return translated();
}

/** The gateway's own packets to the outside have addresses of the outside. */
export function isSpokenByGateway({ state, packet, isMadeByGateway }: Passage): boolean {
  const { settings } = state;
  if (externalIndexOf(settings, packet.source) !== undefined) return true;
  return isMadeByGateway && networkOf(settings, packet.source) === undefined;
}

/** The gateway's own error to an inside host tells a hairpinned packet as that host knows it. */
export function translateErrorOfGateway({ state, packet, tick }: Passage): Decision {
  const quoted = readQuotedPacket(packet);
  if (quoted === undefined || quoted.kind === 'later-fragment') return passAsRequest;
  const ends = { sender: quoted.receiver, receiver: quoted.sender };
  const session = state.sessions.find({ protocol: quoted.protocol, ...ends }, tick);
  const external = session?.ends[endIndexOf(ends)].external;
  const address = external && state.settings.externals[external.index]?.address;
  if (external === undefined || address === undefined) return passAsRequest;
  changeError(packet, () => {
    changeQuotedEnd(packet, quoted, { end: 'destination', to: { address, port: external.port } });
  });
  return passAsRequest;
}

/** Where nothing is translated: whether the error is about a session. */
export function judgeUntranslatedError({ state, packet, tick }: Passage): Decision {
  const quoted = readQuotedPacket(packet);
  if (quoted === undefined || isRedirect(packet)) return passAsRequest;
  const { protocol, sender, receiver, kind } = quoted;
  if (kind === 'later-fragment') return passAsRequest;
  const session = state.sessions.find({ protocol, sender, receiver }, tick);
  const isRelated = session !== undefined && sender.address === packet.destination;
  return isRelated ? pass('related') : passAsRequest;
}

function isErrorWhole(message: Uint8Array): boolean {
  return message.length <= ERROR_BYTES_MAX && isChecksumRight(message);
}

/** Redirects never cross. */
export function isRedirect({ transport }: Ipv4Packet): boolean {
  return transport.kind === 'icmp-error' && transport.type === ICMP_REDIRECT;
}

/** How the outside sees the inside endpoint to which the quoted packet went. */
function quotedExternal(passage: Passage, quoted: QuotedPacket): ExternalEndpoint | undefined {
  const { state, tick } = passage;
  const { protocol, sender: remote, receiver: inside } = quoted;
  const ends = { sender: inside, receiver: remote };
  const session = state.sessions.find({ protocol, ...ends }, tick);
  const known = session?.ends[endIndexOf(ends)].external;
  if (known !== undefined) return known;
  const index = externalOf(passage, inside.address);
  if (index !== undefined && isOneToOne(passage, index)) return { index, port: inside.port };
  const natClass = natClassOf(protocol);
  return natClass && state.mappings.liveOf(natClass, inside, tick)?.external;
}

/** Makes a change to the error's content and repairs the error's checksum. */
function changeError({ view, transportAt, endAt }: Ipv4Packet, change: () => void): void {
  // The rest of the header is among it, type and code are not: they never change.
  const content = bytesOf(view, transportAt + 4, endAt);
  const before = internetSum(content);
  change();
  const sums = { before, after: internetSum(content) };
  view.setUint16(transportAt + 2, updatedChecksum(view.getUint16(transportAt + 2), sums));
}

function changeQuotedEnd(
  { view, endAt }: Ipv4Packet,
  { networkAt, transportAt, kind }: QuotedPacket,
  { end, to }: { readonly end: 'source' | 'destination'; readonly to: Endpoint },
): void {
  const offset = end === 'source' ? 12 : 16;
  const addresses = rewriteAddress(view, { networkAt, offset, address: to.address });
  if (kind === 'other' || kind === 'later-fragment') return;
  const portOffset = end === 'source' ? 0 : 2;
  const { port } = to;
  rewriteTransport(view, { at: transportAt, endAt, kind, addresses, portOffset, port });
}

function raiseMtu({ view, transport, transportAt }: Ipv4Packet): void {
  if (transport.kind !== 'icmp-error' || transport.type !== ICMP_UNREACHABLE) return;
  if (transport.code !== FRAGMENTATION_NEEDED) return;
  const mtu = view.getUint16(transportAt + 6);
  if (mtu > 0 && mtu < MTU_FLOOR) view.setUint16(transportAt + 6, MTU_FLOOR);
}

interface QuotedPlace {
  readonly networkAt: number;
  readonly transportAt: number;
  readonly protocol: number;
}

function quotedKind(view: DataView, place: QuotedPlace): QuotedPacket['kind'] | undefined {
  if ((view.getUint16(place.networkAt + 6) & 0x1fff) !== 0) return 'later-fragment';
  switch (place.protocol) {
    case protocols.tcp:
      return 'tcp';
    case protocols.udp:
      return 'udp';
    case protocols.icmp:
      return icmpQueryDirection(view.getUint8(place.transportAt)) && 'icmp-query';
    default:
      return 'other';
  }
}

function quotedPorts(view: DataView, at: number, kind: QuotedPacket['kind']) {
  switch (kind) {
    case 'tcp':
    case 'udp':
      return { source: view.getUint16(at), destination: view.getUint16(at + 2) };
    case 'icmp-query':
      return { source: view.getUint16(at + 4), destination: view.getUint16(at + 4) };
    default:
      return { source: 0, destination: 0 };
  }
}

function bytesOf(view: DataView, from: number, to: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + from, to - from);
}
