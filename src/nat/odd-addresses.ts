/** Addresses that nobody can have where they seem to be. */
import { externalIndexOf, type NatSettings, networkOf } from './nat-settings.ts';
import type { Passage } from './passage.ts';

/** From the internet with a source that nobody there can have. */
export function isMartian({ hook, packet: { source }, state: { settings } }: Passage): boolean {
  if (hook !== 'wan-ingress') return false;
  return isNowhere(settings, source) || networkOf(settings, source) !== undefined;
}

/** Outside all networks, and nobody can have it. */
export function isImplausible(settings: NatSettings, address: number): boolean {
  if (networkOf(settings, address) !== undefined) return false;
  return isNowhere(settings, address) || (settings.wanIsPublic && isPrivate(address));
}

/** "This" network, loopback, multicast and above, or the gateway's own. */
function isNowhere(settings: NatSettings, address: number): boolean {
  const first = address >>> 24;
  if (first === 0 || first === 127 || first >= 224) return true;
  return externalIndexOf(settings, address) !== undefined;
}

/** RFC 1918. */
function isPrivate(address: number): boolean {
  return address >>> 24 === 10 || address >>> 20 === 0xac1 || address >>> 16 === 0xc0a8;
}
