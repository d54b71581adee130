/** How a case for the NAT is written: what is sent where, and all that comes of it. */
import assert from 'node:assert/strict';
import { NatLimits } from '../abi/layouts.generated.ts';
import type { PortForward } from '../nat/nat.ts';
import type { NatCounterName, NatCounts } from '../nat/nat-counters.ts';
import { type NatHook, type PacketKind, packetKinds, packetMarks } from '../nat/nat-hook.ts';
import type { NatInterfaces, NatSettings } from '../nat/nat-settings.ts';
import { type IpAddress, requireIpAddress } from '../net/ip-address.ts';
import { describeFrame, type Frame } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';
import {
  FIRST_TICK,
  MADE_BY_GATEWAY,
  type NatUnderTest,
  type TestedOutcome,
  type TestedPacket,
} from './tested-nat.ts';

export interface NatCase {
  /** A sentence, with the requirement that it proves in front. */
  readonly name: string;
  /** What differs from {@link natTestSettings}. */
  readonly settings?: Partial<NatSettings>;
  readonly portForwards?: readonly PortForward[];
  /** How many sessions there is room for: as many as a bucket of the kernel has slots. */
  readonly sessionCountMax?: typeof SLOTS_PER_BUCKET;
  readonly steps: readonly NatStep[];
}

export type NatStep =
  | { readonly wait: number }
  | { readonly newRules: number }
  | { readonly changedAddress: IpAddress }
  | { readonly newInterfaces: NatInterfaces }
  | { readonly kill: 'all sessions' }
  | { readonly judged: readonly number[] }
  | { readonly packet: TestedPacket; readonly outcome: TestedOutcome };

/** Of the kernel's table. */
export const SLOTS_PER_BUCKET = NatLimits.slotsPerBucket;

/** Counters that move by one each; named twice, by two. */
export type Counted = readonly NatCounterName[];

export function settingsOf({ settings }: NatCase): NatSettings {
  return { ...natTestSettings, ...settings };
}

/** @throws AssertionError naming the step */
export function runNatCase(nat: NatUnderTest, { steps }: NatCase): void {
  let tick = FIRST_TICK;
  for (const [index, step] of steps.entries()) {
    if ('wait' in step) {
      tick += step.wait;
      nat.setTick(tick);
    } else if ('newRules' in step) {
      nat.setGeneration(step.newRules);
    } else if ('changedAddress' in step) {
      nat.raiseAddressGeneration(step.changedAddress);
    } else if ('newInterfaces' in step) {
      nat.setInterfaces(step.newInterfaces);
    } else if ('kill' in step) {
      nat.killSessions();
    } else if ('judged' in step) {
      const judged = nat.sessions().map((session) => session.judged);
      assert.deepEqual(judged.toSorted(), step.judged, `step ${index + 1}, judged`);
    } else {
      const { packet, outcome } = step;
      const about = `step ${index + 1}, ${packet.hook}: ${describeFrame(packet.bytes)}`;
      assert.deepEqual(shown(nat.handle(packet)), shown(outcome), about);
    }
  }
}

/** Time passes, in ticks. */
export function wait(ticks: number): NatStep {
  return { wait: ticks };
}

/** nft has other rules from now on, which have this number. */
export function newRules(generation: number): NatStep {
  return { newRules: generation };
}

/** nft judges an address otherwise from now on: as if a table of the rules had it, or lost it. */
export function changeAbout(address: string): NatStep {
  return { changedAddress: requireIpAddress(address) };
}

/** From now on addresses belong to these interfaces. */
export function newInterfaces(interfaces: NatInterfaces): NatStep {
  return { newInterfaces: interfaces };
}

/** Somebody ends all sessions by hand. */
export const kill: NatStep = { kill: 'all sessions' };

/** The number of each live session's addresses when nft let it through last, the least first. */
export function judgedBy(...numbers: readonly number[]): NatStep {
  return { judged: numbers };
}

/** Leaves for the internet, seen there as another packet. */
export function out(sent: Frame, seen: Frame, ...counted: Counted): NatStep {
  return passing('wan-egress', { sent, seen, mark: 0 }, ['translated', ...counted]);
}

/** Comes from the internet, and what nft sees. */
export function into(sent: Frame, seen: Frame, kind: PacketKind, ...counted: Counted): NatStep {
  const mark = packetKinds[kind];
  return passing('wan-ingress', { sent, seen, mark }, ['translated', ...counted]);
}

/** Comes from an inside host to an external address, and what nft sees. */
export function hairpinIn(
  sent: Frame,
  seen: Frame,
  kind: PacketKind,
  ...counted: Counted
): NatStep {
  const mark = packetKinds[kind] | packetMarks.hairpin;
  return passing('inside-ingress', { sent, seen, mark }, ['translated', ...counted]);
}

/** What nft let through of it, and what the other inside host gets. */
export function hairpinOut(
  sent: Frame,
  seen: Frame,
  kind: PacketKind,
  ...counted: Counted
): NatStep {
  const mark = packetKinds[kind] | packetMarks.hairpin;
  const packet = { hook: 'inside-egress', bytes: sent, mark } as const;
  const counts = countsOf(['translated', ...counted]);
  return { packet, outcome: { verdict: 'pass', bytes: seen, mark, counts } };
}

/** Goes on at an ingress hook as it came, with a kind. */
export function told(hook: NatHook, sent: Frame, kind: PacketKind, ...counted: Counted): NatStep {
  return passing(hook, { sent, seen: sent, mark: packetKinds[kind] }, counted);
}

/** nft let it through to an inside host, as it is. */
export function delivered(sent: Frame, kind: PacketKind, ...counted: Counted): NatStep {
  const mark = packetKinds[kind];
  const packet = { hook: 'inside-egress', bytes: sent, mark } as const;
  const counts = countsOf(counted);
  return { packet, outcome: { verdict: 'pass', bytes: sent, mark, counts } };
}

export function dropped(hook: NatHook, sent: Frame, ...counted: Counted): NatStep {
  const packet = { hook, bytes: sent };
  return { packet, outcome: { verdict: 'drop', counts: countsOf(counted) } };
}

/** The gateway itself sends it to the internet. */
export function fromGateway(sent: Frame, seen: Frame, ...counted: Counted): NatStep {
  const packet = { hook: 'wan-egress', bytes: sent, cameInBy: MADE_BY_GATEWAY } as const;
  const counts = countsOf(counted);
  return { packet, outcome: { verdict: 'pass', bytes: seen, mark: 0, counts } };
}

/** A later fragment is handed to user space, until its first comes. */
export function held(hook: NatHook, sent: Frame, seen: Frame): NatStep {
  const outcome = { verdict: 'hold', bytes: seen, mark: 0 } as const;
  return { packet: { hook, bytes: sent }, outcome: { ...outcome, counts: { fragmentHeld: 1 } } };
}

interface Passing {
  readonly sent: Frame;
  readonly seen: Frame;
  readonly mark: number;
}

function passing(hook: NatHook, { sent, seen, mark }: Passing, counted: Counted): NatStep {
  const counts = countsOf(counted);
  return {
    packet: { hook, bytes: sent },
    outcome: { verdict: 'pass', bytes: seen, mark, counts },
  };
}

function countsOf(counted: Counted): NatCounts {
  const counts: { [N in NatCounterName]?: number } = {};
  for (const name of counted) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** With bytes as text, so that a difference can be read. */
function shown({ bytes, ...rest }: TestedOutcome) {
  if (bytes === undefined) return rest;
  return { ...rest, packet: describeFrame(bytes), bytes: hexOf(bytes) };
}

function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
