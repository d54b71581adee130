/** Where an end of an IPv6 session is: behind the interface of a network, or behind the WAN's. */
import type { NatSettings } from './nat-settings.ts';

/** The index of a network in the settings; or by which interface else it is reached. */
export type Place = number | 'wan' | 'elsewhere';

/** @param interfaceIndex 0: none, which is no place */
export function placeOf(settings: NatSettings, interfaceIndex: number): Place {
  if (interfaceIndex === 0) return 'elsewhere';
  const network = settings.networks.findIndex((one) => one.interfaceIndex === interfaceIndex);
  if (network >= 0) return network;
  return settings.wanInterfaceIndex === interfaceIndex ? 'wan' : 'elsewhere';
}

/** @returns the index of the interface by which a place is reached; 0 when there is none */
export function interfaceOfPlace(settings: NatSettings, place: Place): number {
  if (place === 'elsewhere') return 0;
  if (place === 'wan') return settings.wanInterfaceIndex;
  return settings.networks[place]?.interfaceIndex ?? 0;
}

export function isInside(place: Place | undefined): place is number {
  return typeof place === 'number';
}
