/** What tests ask of a NAT, so that the same cases run through the twin and the kernel program. */

import { NatTwin, type NatTwinOptions } from '../nat/nat.ts';
import type { NatCounts } from '../nat/nat-counters.ts';
import type { NatHook } from '../nat/nat-hook.ts';
import type { NatInterfaces } from '../nat/nat-settings.ts';
import type { SessionListing } from '../nat/twin-listing.ts';
import type { IpAddress } from '../net/ip-address.ts';

export interface NatUnderTest {
  handle(packet: TestedPacket): TestedOutcome;
  /** Time goes on, and what is over is gone. */
  setTick(tick: number): void;
  /** nft has other rules from now on. */
  setGeneration(generation: number): void;
  /** nft judges an address otherwise from now on. */
  raiseAddressGeneration(address: IpAddress): void;
  /** Interfaces went, came, or have other numbers from now on. */
  setInterfaces(interfaces: NatInterfaces): void;
  /** Ends all sessions, as by hand. */
  killSessions(): void;
  /** Those that live, in any order. */
  sessions(): readonly SessionListing[];
}

export interface TestedPacket {
  readonly hook: NatHook;
  /** An Ethernet frame. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Default: 0. */
  readonly mark?: number;
  /**
   * Egress hooks: the index of the interface that it came in by. {@link MADE_BY_GATEWAY}: by none.
   * Default: {@link TESTED_INTERFACE_INDEX}.
   */
  readonly cameInBy?: number;
  /** Default: false. */
  readonly isSuperPacket?: boolean;
}

export interface TestedOutcome {
  readonly verdict: 'pass' | 'drop' | 'hold';
  /** Absent when the packet is dropped. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
  /** Absent when the packet is dropped. */
  readonly mark?: number;
  readonly counts: NatCounts;
}

/**
 * The interface that every packet of a test meets the NAT at: the loopback, which always is. Where
 * a packet comes in or leaves by another one than its addresses belong to, the addresses' is
 * another: see {@link NatUnderTest.setInterfaces}.
 */
export const TESTED_INTERFACE_INDEX = 1;
/** No interface. */
export const MADE_BY_GATEWAY = 0;
/** So late that nothing can have happened before zero. */
export const FIRST_TICK = 100_000;

export function twinUnderTest(options: NatTwinOptions): NatUnderTest {
  const twin = new NatTwin(options);
  let tick = FIRST_TICK;
  twin.setTick(tick);
  return {
    sessions: () => [...twin.sessions(tick)],
    setGeneration: (generation) => twin.setGeneration(generation),
    raiseAddressGeneration: (address) => twin.raiseAddressGeneration(address),
    setInterfaces: (interfaces) => twin.setInterfaces(interfaces),
    killSessions: () => twin.killSessions(),
    setTick(next) {
      tick = next;
      twin.setTick(tick);
    },
    handle({ mark = 0, cameInBy = TESTED_INTERFACE_INDEX, ...given }) {
      const interfaceIndex = TESTED_INTERFACE_INDEX;
      const packet = { ...given, mark, cameInBy, interfaceIndex, tick };
      const outcome = twin.handlePacket(packet);
      const { verdict, counts } = outcome;
      if (verdict === 'drop') return { verdict, counts };
      return { verdict, counts, bytes: outcome.bytes, mark: outcome.mark };
    },
  };
}
