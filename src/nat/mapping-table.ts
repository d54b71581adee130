/**
 * Which inside endpoint an external port stands for. A mapping stays where it is after its end,
 * until another takes its place, and counts only while it is live.
 */
import { NatClass as classNumbers } from '../abi/layouts.generated.ts';
import type { Endpoint } from './ip-packet.ts';

export const natClasses = classNumbers;
export type NatClass = keyof typeof natClasses;

/** How the other side sees an inside endpoint. */
export interface ExternalEndpoint {
  /** Into the settings' externals. */
  readonly index: number;
  readonly port: number;
}

export interface Mapping {
  readonly class: NatClass;
  readonly external: ExternalEndpoint;
  readonly internal: Endpoint;
  /** Into the settings' networks. */
  readonly network: number | undefined;
  /** A port forward: it never ends. */
  readonly isStatic: boolean;
  untilTick: number;
  establishedUntilTick: number;
  /** TCP sessions in the state established. */
  establishedCount: number;
  /** Sessions opened from outside that nobody inside has answered. */
  unansweredCount: number;
}

/** How long a mapping outlives the session that refreshes it, in ticks. */
export const MAPPING_MARGIN_TICKS = 8;

export interface MappingTableOptions {
  /** Mappings that are live at once; what a new one meets beyond is `table-full`. */
  readonly mappingCountMax: number;
}

export class MappingTable {
  readonly #options: MappingTableOptions;
  readonly #byExternal = new Map<string, Mapping>();
  readonly #byInternal = new Map<string, Mapping>();

  constructor(options: MappingTableOptions) {
    this.#options = options;
  }

  /** The mapping of an external port, live or not. */
  at(natClass: NatClass, external: ExternalEndpoint): Mapping | undefined {
    return this.#byExternal.get(externalKey(natClass, external));
  }

  liveAt(natClass: NatClass, external: ExternalEndpoint, now: number): Mapping | undefined {
    const mapping = this.at(natClass, external);
    return mapping && isLive(mapping, now) ? mapping : undefined;
  }

  liveOf(natClass: NatClass, internal: Endpoint, now: number): Mapping | undefined {
    const mapping = this.#byInternal.get(internalKey(natClass, internal));
    if (mapping === undefined || this.at(natClass, mapping.external) !== mapping) return undefined;
    return isLive(mapping, now) ? mapping : undefined;
  }

  liveCountOf(address: number, now: number): number {
    let count = 0;
    for (const mapping of this.#live(now)) {
      if (mapping.internal.address === address && !mapping.isStatic) count++;
    }
    return count;
  }

  isFull(now: number): boolean {
    if (this.#byExternal.size < this.#options.mappingCountMax) return false;
    return [...this.#live(now)].length >= this.#options.mappingCountMax;
  }

  put(mapping: Mapping): void {
    this.#byExternal.set(externalKey(mapping.class, mapping.external), mapping);
    this.#byInternal.set(internalKey(mapping.class, mapping.internal), mapping);
  }

  *#live(now: number): Generator<Mapping> {
    for (const mapping of this.#byExternal.values()) if (isLive(mapping, now)) yield mapping;
  }
}

export function isLive(mapping: Mapping, now: number): boolean {
  if (mapping.isStatic || mapping.untilTick > now) return true;
  return mapping.establishedCount > 0 && mapping.establishedUntilTick > now;
}

function externalKey(natClass: NatClass, { index, port }: ExternalEndpoint): string {
  return `${natClass} ${index} ${port}`;
}

function internalKey(natClass: NatClass, { address, port }: Endpoint): string {
  return `${natClass} ${address} ${port}`;
}
