/**
 * Steps of a case that take a packet of IPv6 through the hooks between two places: its family tells
 * where an end is by interfaces alone.
 *
 * Every hook is at the same interface here, so interfaces get other numbers before each step.
 */
import type { NatHook } from '../nat/nat-hook.ts';
import { type Counted, type NatStep, newInterfaces } from './nat-case.ts';
import { passesHook } from './nat-crossing.ts';
import type { Frame } from './nat-packets.ts';
import { natTestSettings } from './nat-test-settings.ts';
import { MADE_BY_GATEWAY, TESTED_INTERFACE_INDEX } from './tested-nat.ts';

/** Behind the WAN's interface, a network's, one of nobody's; or the gateway itself. */
export type Whereabouts = 'wan' | number | 'elsewhere' | 'gateway';

/** The way of a packet. */
export interface Ipv6Way {
  readonly from: Whereabouts;
  readonly to: Whereabouts;
}

/** The numbers of all interfaces while the hook's belongs to a place. */
export function interfacesAt(hookPlace: Whereabouts): NatStep {
  return newInterfaces({
    wan: interfaceOf('wan', hookPlace),
    networks: natTestSettings.networks.map((_, index) => interfaceOf(index, hookPlace)),
  });
}

/** Reaches the gateway, and goes on as it came. */
export function comesFrom(
  place: Whereabouts,
  frame: Frame,
  mark: number,
  ...counted: Counted
): readonly NatStep[] {
  const hook = place === 'wan' ? 'wan-ingress' : 'inside-ingress';
  const same = { sent: frame, seen: frame };
  return [interfacesAt(place), passesHook(hook, same, { before: 0, after: mark }, counted)];
}

/** nft has let it through, or the gateway has made it, and it goes on as it came. */
export function leavesBy(
  way: Ipv6Way,
  frame: Frame,
  mark: number,
  ...counted: Counted
): readonly NatStep[] {
  const same = { sent: frame, seen: frame };
  const step = passesHook(egressTo(way.to), same, { before: mark, after: mark }, counted);
  return [interfacesAt(way.to), cameIn(way, step)];
}

/** It does not leave. */
export function staysBefore(
  way: Ipv6Way,
  frame: Frame,
  mark: number,
  ...counted: Counted
): readonly NatStep[] {
  const counts = Object.fromEntries(counted.map((name) => [name, 1]));
  const packet = { hook: egressTo(way.to), bytes: frame, mark };
  return [interfacesAt(way.to), cameIn(way, { packet, outcome: { verdict: 'drop', counts } })];
}

/** Does not come in. */
export function isRefusedFrom(
  place: Whereabouts,
  frame: Frame,
  ...counted: Counted
): readonly NatStep[] {
  const hook = place === 'wan' ? 'wan-ingress' : 'inside-ingress';
  const counts = Object.fromEntries(counted.map((name) => [name, 1]));
  return [
    interfacesAt(place),
    { packet: { hook, bytes: frame }, outcome: { verdict: 'drop', counts } },
  ];
}

/** Through both hooks, with the same mark behind the first and in front of the second. */
export function crosses(
  way: Ipv6Way,
  frame: Frame,
  mark: number,
  ...counted: Counted
): readonly NatStep[] {
  return [...comesFrom(way.from, frame, mark), ...leavesBy(way, frame, mark, ...counted)];
}

function egressTo(place: Whereabouts): NatHook {
  return place === 'wan' ? 'wan-egress' : 'inside-egress';
}

function cameIn({ from, to }: Ipv6Way, step: NatStep): NatStep {
  return 'packet' in step
    ? { ...step, packet: { ...step.packet, cameInBy: interfaceOf(from, to) } }
    : step;
}

/** The number of a place's interface while the hook is at the interface of another one. */
export function interfaceOf(place: Whereabouts, hookPlace: Whereabouts): number {
  if (place === 'gateway') return MADE_BY_GATEWAY;
  if (place === hookPlace) return TESTED_INTERFACE_INDEX;
  if (place === 'wan') return WAN_INDEX;
  return place === 'elsewhere' ? NOBODYS_INDEX : FIRST_NETWORK_INDEX + place;
}

const WAN_INDEX = 10;
const NOBODYS_INDEX = 11;
const FIRST_NETWORK_INDEX = 20;
