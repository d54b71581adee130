/** Which external endpoint an inside endpoint has, made where it has none. */
import { NatLimits } from '../abi/layouts.generated.ts';
import type { Endpoint } from './ip-packet.ts';
import { type ExternalEndpoint, type NatClass, natClasses } from './mapping-table.ts';
import type { NatDropReason } from './nat-counters.ts';
import { networkIndexOf } from './nat-settings.ts';
import type { NatState, Passage } from './passage.ts';
import {
  CANDIDATES_MAX,
  keepPort,
  type PortRange,
  type PortRequest,
  rangesFor,
  searchPort,
} from './port-choice.ts';

import { sipHash13 } from './siphash.ts';

export type MappingRefusal = Extract<
  NatDropReason,
  'droppedNoPort' | 'droppedHostMappings' | 'droppedTableFull'
>;

/** The external that a host always has (RFC 4787 REQ-2), or undefined when there is none. */
export function externalOf({ state }: Passage, address: number): number | undefined {
  const { externals, hashKey } = state.settings;
  const own = externals.findIndex(({ oneToOne }) => oneToOne === address);
  if (own >= 0) return own;
  const shared = [...externals.keys()].filter((index) => !isOneToOne({ state }, index));
  if (shared.length === 0) return undefined;
  const message = new Uint8Array(16);
  new DataView(message.buffer).setUint32(0, address);
  return shared[Number(sipHash13(hashKey, message) % BigInt(shared.length))];
}

export function isOneToOne({ state }: Pick<Passage, 'state'>, index: number): boolean {
  return state.settings.externals[index]?.oneToOne !== undefined;
}

/** A new one lives for a moment, until its session says more. */
export function findOrOpenMapping(
  passage: Passage,
  natClass: NatClass,
  internal: Endpoint,
): ExternalEndpoint | MappingRefusal {
  const { state, tick } = passage;
  const { mappings, settings, counters } = state;
  const index = externalOf(passage, internal.address);
  if (index !== undefined && isOneToOne(passage, index)) return { index, port: internal.port };
  const existing = mappings.liveOf(natClass, internal, tick);
  if (existing !== undefined) return existing.external;
  if (mappings.liveCountOf(internal.address, tick) >= settings.mappingsPerHost) {
    return 'droppedHostMappings';
  }
  if (index === undefined) return 'droppedNoPort';
  const port = findPort(passage, portRequest(passage, { class: natClass, internal, index }), index);
  if (port === undefined) return 'droppedNoPort';
  if (mappings.isFull(tick)) return 'droppedTableFull';
  const external = { index, port };
  const network = networkIndexOf(settings, internal.address);
  const counts = { establishedUntilTick: 0, establishedCount: 0, unansweredCount: 0 };
  const times = { untilTick: tick + 2, ...counts };
  mappings.put({ class: natClass, external, internal, network, isStatic: false, ...times });
  counters.add('mappingsOpened');
  return external;
}

/** Whether {@link findOrOpenMapping} is known to fail, without trying. */
export function isMappingHopeless(
  passage: Passage,
  natClass: NatClass,
  internal: Endpoint,
): boolean {
  const { state, tick } = passage;
  const { mappings, settings } = state;
  const index = externalOf(passage, internal.address);
  if (index !== undefined && isOneToOne(passage, index)) return false;
  if (mappings.liveOf(natClass, internal, tick) !== undefined) return false;
  if (mappings.liveCountOf(internal.address, tick) >= settings.mappingsPerHost) return true;
  if (index === undefined) return false;
  const request = portRequest(passage, { class: natClass, internal, index });
  if (keepPort(request) !== undefined) return false;
  return rangesFor(request).every((range) => {
    return isResting(state, searchName(request, range, index), tick);
  });
}

function isResting({ failedSearches }: NatState, name: string, tick: number): boolean {
  return (failedSearches.get(name) ?? 0) > tick;
}

function findPort(
  { state, tick }: Passage,
  request: PortRequest,
  externalIndex: number,
): number | undefined {
  const kept = keepPort(request);
  if (kept !== undefined) return kept;
  for (const range of rangesFor(request)) {
    const name = searchName(request, range, externalIndex);
    if (isResting(state, name, tick)) continue;
    const skipped = state.skippedPorts.get(name) ?? 0;
    const found = searchPort(request, range, skipped);
    if (found !== undefined) return found;
    state.failedSearches.set(name, tick + NatLimits.searchRestTicks);
    state.skippedPorts.set(name, skipped + CANDIDATES_MAX);
  }
  return undefined;
}

function searchName(request: PortRequest, range: PortRange, externalIndex: number): string {
  return `${externalIndex} ${request.class} ${range.name}`;
}

function portRequest(
  { state, tick }: Passage,
  place: { readonly class: NatClass; readonly internal: Endpoint; readonly index: number },
): PortRequest {
  const { mappings, settings } = state;
  const { class: natClass, internal, index } = place;
  const address = settings.externals[index]?.address ?? 0;
  return {
    class: natClass,
    port: internal.port,
    hash: mappingHash(settings.hashKey, natClass, internal),
    pool: settings.pool,
    isMapped: (port) => mappings.liveAt(natClass, { index, port }, tick) !== undefined,
    isOwn: (port) => natClass !== 'icmp' && state.isOwnPort({ protocol: natClass, address, port }),
  };
}

/** What spreads inside endpoints over buckets and ports. */
export function mappingHash(
  key: readonly [bigint, bigint],
  natClass: NatClass,
  { address, port }: Endpoint,
): bigint {
  const message = new Uint8Array(16);
  const view = new DataView(message.buffer);
  view.setUint32(0, address);
  view.setUint16(4, port);
  view.setUint8(6, natClasses[natClass]);
  return sipHash13(key, message);
}
