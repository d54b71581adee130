/**
 * The sessions, and the entries that lie in the same table: permissions and aliases. The kernel's
 * table has buckets; this one is full when it holds as many as it may.
 */
import { type Endpoint, protocols } from './ip-packet.ts';
import {
  type Ipv6Permission,
  type Ipv6PermissionKey,
  Ipv6Permissions,
} from './ipv6-permissions.ts';
import type { ExternalEndpoint, Mapping, MappingTable } from './mapping-table.ts';
import type { NatCounters, NatDropReason } from './nat-counters.ts';
import type { Place } from './place.ts';
import {
  type EndIndex,
  endIndexOf,
  isExpendable,
  isUnanswered,
  otherEnd,
  type Session,
  type SessionEnd,
  type SessionKey,
} from './session.ts';

export interface SessionTableOptions {
  /** Sessions and entries together. */
  readonly sessionCountMax: number;
  /** Inside addresses that sessions are charged to. */
  readonly hostCountMax: number;
  readonly sessionsPerHost: number;
}

export interface NewSession extends SessionKey {
  readonly chargedTo: 'sender' | 'receiver';
  readonly isConfirmed: boolean;
  readonly isPortForward?: boolean;
  readonly network: number | undefined;
  readonly senderExternal?: ExternalEndpoint | undefined;
  readonly receiverExternal?: ExternalEndpoint | undefined;
  /** IPv6. */
  readonly places?: { readonly sender: Place; readonly receiver: Place };
  /** It may take half of the quota alone. */
  readonly isHalfQuota: boolean;
  readonly tick: number;
}

export type OpenRefusal = Extract<
  NatDropReason,
  'droppedHostSessions' | 'droppedHostsFull' | 'droppedTableFull'
>;

/** "This endpoint has sent to this address": what address-dependent filtering asks. */
export interface PermissionKey {
  readonly protocol: number;
  readonly inside: Endpoint;
  readonly remote: number;
}

/** Who inside speaks a protocol without ports with a remote. */
export interface AliasKey {
  readonly protocol: number;
  readonly external: number;
  readonly remote: number;
}

export interface Alias {
  readonly insideAddress: number;
  untilTick: number;
}

export class SessionTable {
  readonly #options: SessionTableOptions;
  readonly #mappings: MappingTable;
  readonly #counters: NatCounters;
  readonly #sessions = new Map<string, Session>();
  /** Sessions of a host: see {@link hostOf}. */
  readonly #chargedTo = new Map<number, number>();
  /** Until which tick each permission lives. */
  readonly #permissions = new Map<string, number>();
  readonly #aliases = new Map<string, Alias>();
  readonly #ipv6Permissions = new Ipv6Permissions();

  constructor(options: SessionTableOptions, mappings: MappingTable, counters: NatCounters) {
    this.#options = options;
    this.#mappings = mappings;
    this.#counters = counters;
  }

  find(key: SessionKey, now: number): Session | undefined {
    const session = this.#sessions.get(textOf(key));
    if (session?.ipv6Check !== key.ipv6Check) return undefined;
    return session !== undefined && session.untilTick > now ? session : undefined;
  }

  /** All are over at once. They still count, and hold their places, until they are removed. */
  kill(): void {
    for (const session of this.#sessions.values()) session.untilTick = 0;
  }

  /** Why no session could be opened, or undefined when one could. */
  refusalFor(address: number, family: 4 | 6): OpenRefusal | undefined {
    const refusal = this.#quotaRefusal(hostOf(address, family), false);
    if (refusal !== undefined) return refusal;
    return this.#hasRoom() || this.#firstToEvict() ? undefined : 'droppedTableFull';
  }

  /** Takes the place of a session with the same key. The new one has no time yet. */
  open(options: NewSession): Session | OpenRefusal {
    const text = textOf(options);
    const charged = options.chargedTo === 'sender' ? options.sender : options.receiver;
    const replaced = this.#sessions.get(text);
    const host = hostOf(charged.address, familyOf(options));
    const refusal = this.#quotaRefusal(host, options.isHalfQuota);
    if (refusal !== undefined) return refusal;
    if (replaced !== undefined) this.#remove(text, replaced);
    if (!this.#makeRoom()) return 'droppedTableFull';
    const session = newSession(options);
    this.#sessions.set(text, session);
    this.#charge(host, 1);
    this.#counters.add('sessionsOpened');
    return session;
  }

  /** To be called when anything changed on which mappings' counts depend. */
  recount(session: Session): void {
    this.#recountUnanswered(session);
    this.#recountEstablished(session);
  }

  #recountUnanswered(session: Session): void {
    if (!isUnanswered(session)) releaseUnanswered(session);
    if (!session.isByMapping || !isUnanswered(session) || session.unansweredIn) return;
    session.unansweredIn = this.mappingOf(session, otherEnd(session.initiator));
    if (session.unansweredIn !== undefined) session.unansweredIn.unansweredCount++;
  }

  #recountEstablished(session: Session): void {
    for (const mapping of session.establishedIn) {
      if (session.isEstablished) continue;
      mapping.establishedCount--;
      session.establishedIn.delete(mapping);
    }
    if (!session.isEstablished) return;
    for (const end of [0, 1] as const) {
      const mapping = this.mappingOf(session, end);
      if (mapping === undefined || session.establishedIn.has(mapping)) continue;
      mapping.establishedCount++;
      session.establishedIn.add(mapping);
    }
  }

  /** The mapping that an end is translated by. One-to-one addresses have none. */
  mappingOf({ protocol, ends }: Session, end: EndIndex): Mapping | undefined {
    const { external, address, port } = ends[end];
    const natClass = natClassOf(protocol);
    if (external === undefined || natClass === undefined) return undefined;
    const mapping = this.#mappings.at(natClass, external);
    const isOurs = mapping?.internal.address === address && mapping.internal.port === port;
    return isOurs ? mapping : undefined;
  }

  hasPermission(key: PermissionKey, now: number): boolean {
    return (this.#permissions.get(permissionText(key)) ?? 0) > now;
  }

  /** Makes or prolongs one. Without room there is none. */
  permit(key: PermissionKey, untilTick: number): void {
    const text = permissionText(key);
    const current = this.#permissions.get(text);
    if (current === undefined && !this.#makeRoom()) return;
    this.#permissions.set(text, Math.max(current ?? 0, untilTick));
  }

  /** Only one that is there. */
  prolongPermission(key: PermissionKey, untilTick: number): void {
    const text = permissionText(key);
    const current = this.#permissions.get(text);
    if (current !== undefined) this.#permissions.set(text, Math.max(current, untilTick));
  }

  /** @returns a live one */
  findIpv6Permission(key: Ipv6PermissionKey, now: number): Ipv6Permission | undefined {
    return this.#ipv6Permissions.find(key, now);
  }

  /** Makes or prolongs one. Without room there is none. */
  permitIpv6(
    key: Ipv6PermissionKey,
    made: { readonly network: number; readonly untilTick: number; readonly now: number },
  ): void {
    const { network, untilTick, now } = made;
    const current = this.#ipv6Permissions.find(key, now);
    if (current !== undefined) {
      current.untilTick = Math.max(current.untilTick, untilTick);
    } else if (this.#ipv6Permissions.hasPlace(key) || this.#makeRoom()) {
      this.#ipv6Permissions.put(key, { check: key.check, network, untilTick });
    }
  }

  findAlias(key: AliasKey, now: number): Alias | undefined {
    const alias = this.#aliases.get(aliasText(key));
    return alias !== undefined && alias.untilTick > now ? alias : undefined;
  }

  /** @returns undefined when there is no room */
  addAlias(key: AliasKey, alias: Alias): Alias | undefined {
    if (!this.#aliases.has(aliasText(key)) && !this.#makeRoom()) return undefined;
    this.#aliases.set(aliasText(key), alias);
    return alias;
  }

  removeDead(now: number): void {
    for (const [text, session] of this.#sessions) {
      if (session.untilTick <= now) this.#remove(text, session);
    }
    for (const [text, until] of this.#permissions) if (until <= now) this.#permissions.delete(text);
    for (const [text, { untilTick }] of this.#aliases) {
      if (untilTick <= now) this.#aliases.delete(text);
    }
    this.#ipv6Permissions.removeDead(now);
  }

  *live(now: number): Generator<Session> {
    for (const session of this.#sessions.values()) if (session.untilTick > now) yield session;
  }

  #quotaRefusal(host: number, isHalfQuota: boolean): OpenRefusal | undefined {
    const charged = this.#chargedTo.get(host);
    if (charged === undefined && this.#chargedTo.size >= this.#options.hostCountMax) {
      return 'droppedHostsFull';
    }
    const quota = Math.floor(this.#options.sessionsPerHost / (isHalfQuota ? 2 : 1));
    return (charged ?? 0) < quota ? undefined : 'droppedHostSessions';
  }

  #hasRoom(): boolean {
    const entryCount = this.#permissions.size + this.#aliases.size + this.#ipv6Permissions.size;
    return this.#sessions.size + entryCount < this.#options.sessionCountMax;
  }

  /** @returns false when every session is answered and the table is full */
  #makeRoom(): boolean {
    if (this.#hasRoom()) return true;
    const victim = this.#firstToEvict();
    if (victim === undefined) return false;
    victim.remove();
    this.#counters.add('sessionsEvicted');
    return true;
  }

  /** Of the sessions and permissions that may go, the one that would die first. */
  #firstToEvict(): Expendable | undefined {
    let first: readonly [string, Session] | undefined;
    for (const [text, session] of this.#sessions) {
      if (!isExpendable(session)) continue;
      if (first === undefined || session.untilTick < first[1].untilTick) first = [text, session];
    }
    const permission = this.#ipv6Permissions.firstToDie();
    if (first === undefined) return permission;
    const [text, session] = first;
    const { untilTick } = session;
    if (permission !== undefined && permission.untilTick < untilTick) return permission;
    return { untilTick, remove: () => this.#remove(text, session) };
  }

  #remove(text: string, session: Session): void {
    this.#counters.add('sessionsClosed');
    this.#sessions.delete(text);
    this.#charge(hostOf(session.ends[session.charged].address, familyOf(session)), -1);
    releaseUnanswered(session);
    session.isEstablished = false;
    this.#recountEstablished(session);
  }

  #charge(host: number, change: 1 | -1): void {
    const count = (this.#chargedTo.get(host) ?? 0) + change;
    if (count > 0) this.#chargedTo.set(host, count);
    else this.#chargedTo.delete(host);
  }
}

/** An address of IPv4 and a digest of IPv6 that are alike are two hosts. */
function hostOf(address: number, family: 4 | 6): number {
  return family === 4 ? address : address + 2 ** 32;
}

function familyOf({ ipv6Check }: Pick<SessionKey, 'ipv6Check'>): 4 | 6 {
  return ipv6Check === undefined ? 4 : 6;
}

/** What goes where there is no room. */
interface Expendable {
  readonly untilTick: number;
  readonly remove: () => void;
}

export function natClassOf(protocol: number): 'tcp' | 'udp' | 'icmp' | undefined {
  if (protocol === protocols.tcp) return 'tcp';
  if (protocol === protocols.udp) return 'udp';
  return protocol === protocols.icmp ? 'icmp' : undefined;
}

function newSession(options: NewSession): Session {
  const senderEnd = endIndexOf(options);
  const { places } = options;
  const sender = newEnd(options.sender, options.senderExternal, places?.sender);
  const receiver = newEnd(options.receiver, options.receiverExternal, places?.receiver);
  return {
    protocol: options.protocol,
    ipv6Check: options.ipv6Check,
    ends: senderEnd === 0 ? [sender, receiver] : [receiver, sender],
    initiator: senderEnd,
    charged: options.chargedTo === 'sender' ? senderEnd : otherEnd(senderEnd),
    isPortForward: options.isPortForward ?? false,
    network: options.network,
    createdTick: options.tick,
    isEstablished: false,
    isConfirmed: options.isConfirmed,
    judged: 0,
    untilTick: 0,
    establishedIn: new Set(),
    isByMapping: options.receiverExternal !== undefined,
    unansweredIn: undefined,
    refreshed: 0,
  };
}

function newEnd(
  { address, port }: Endpoint,
  external: ExternalEndpoint | undefined,
  place: Place | undefined,
): SessionEnd {
  const nothing = { isSeen: false, hasSyn: false, hasFin: false, hasRst: false };
  return { address, port, external, place, ...nothing, end: 0, acknowledged: 0, bytes: 0 };
}

function releaseUnanswered(session: Session): void {
  if (session.unansweredIn === undefined) return;
  session.unansweredIn.unansweredCount--;
  session.unansweredIn = undefined;
}

function textOf(key: SessionKey): string {
  const sender = `${key.sender.address} ${key.sender.port}`;
  const receiver = `${key.receiver.address} ${key.receiver.port}`;
  const ordered = endIndexOf(key) === 0 ? [sender, receiver] : [receiver, sender];
  const version = key.ipv6Check === undefined ? 4 : 6;
  return `${version} ${key.protocol} ${ordered.join(' ')}`;
}

function permissionText({ protocol, inside, remote }: PermissionKey): string {
  return `${protocol} ${inside.address} ${inside.port} ${remote}`;
}

function aliasText({ protocol, external, remote }: AliasKey): string {
  return `${protocol} ${external} ${remote}`;
}
