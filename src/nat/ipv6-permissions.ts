/**
 * Which inside endpoints of IPv6 have sent out, so that others may reach them (docs/nat.md, "IPv6",
 * "Filtering"). They lie in the table of sessions, and give way to those.
 */
import type { Endpoint } from './ip-packet.ts';

export interface Ipv6PermissionKey {
  readonly protocol: number;
  readonly inside: Endpoint;
  /** The digest of who may reach it. 0: everybody. */
  readonly remote: number;
  /** Of the two addresses. */
  readonly check: number;
}

export interface Ipv6Permission {
  readonly check: number;
  /** Of the inside endpoint, into the settings' networks. */
  readonly network: number;
  untilTick: number;
}

export class Ipv6Permissions {
  /** Of pairs with the same digests, the last one's. */
  readonly #permissions = new Map<string, Ipv6Permission>();

  get size(): number {
    return this.#permissions.size;
  }

  /** @returns a live one */
  find(key: Ipv6PermissionKey, now: number): Ipv6Permission | undefined {
    const permission = this.#permissions.get(textOf(key));
    const isTheirs = permission?.check === key.check;
    return permission !== undefined && isTheirs && permission.untilTick > now
      ? permission
      : undefined;
  }

  /** Whether a place in the table is this pair's, or that of one with the same digests. */
  hasPlace(key: Ipv6PermissionKey): boolean {
    return this.#permissions.has(textOf(key));
  }

  put(key: Ipv6PermissionKey, permission: Ipv6Permission): void {
    this.#permissions.set(textOf(key), permission);
  }

  removeDead(now: number): void {
    for (const [text, { untilTick }] of this.#permissions) {
      if (untilTick <= now) this.#permissions.delete(text);
    }
  }

  /** The one that would die first, and how to remove it. */
  firstToDie(): { readonly untilTick: number; readonly remove: () => void } | undefined {
    let first: readonly [string, Ipv6Permission] | undefined;
    for (const entry of this.#permissions) {
      if (first === undefined || entry[1].untilTick < first[1].untilTick) first = entry;
    }
    if (first === undefined) return undefined;
    const [text, { untilTick }] = first;
    return { untilTick, remove: () => this.#permissions.delete(text) };
  }
}

function textOf({ protocol, inside, remote }: Ipv6PermissionKey): string {
  return `${protocol} ${inside.address} ${inside.port} ${remote}`;
}
