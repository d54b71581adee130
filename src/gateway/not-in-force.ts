/** What a config asks for and this version of the program does not do yet. */
import type { Config } from '../config/schema.ts';
import { parseEndpoint } from '../net/endpoint.ts';
import { isLoopback } from '../net/ip-address.ts';

/** Names in one sentence; the others are counted. */
const NAMES_SHOWN_MAX = 3;
/** The longest name is one of 32 bytes; endpoints are longer. */
const NAME_LENGTH_MAX = 32;

/**
 * A sentence for each thing that a person would rely on in vain, beginning with its path. What the
 * config does not ask for is not named. At most 64 sentences of at most 200 characters.
 *
 * @param config as parseConfig gives it
 */
export function findNotInForce(config: Config): string[] {
  return [
    ...findInWan(config),
    ...findInNetworks(config),
    ...findInNat(config),
    ...findInServices(config),
    ...findInFirewall(config),
    ...findInShield(config),
  ];
}

function findInWan({ wan }: Config): string[] {
  if (wan === undefined) return [];
  return wan.address === 'dhcp'
    ? ['wan.address: no address is asked of the provider yet; start a DHCP client by other means.']
    : ['wan.address: address and route are not set on the interface yet; set them by other means.'];
}

function findInNetworks({ networks }: Config): string[] {
  const all = Object.entries(networks);
  return [
    ...about(names(all), (which) => {
      const path = `networks: addresses of ${which}`;
      return `${path} are not set on their interfaces yet; set them by other means.`;
    }),
    ...about(names(all.filter(([, { interfaces }]) => interfaces.length > 1)), (which) => {
      return `networks: the bridges of ${which} are not made yet; make them by other means.`;
    }),
    ...about(names(all.filter(([, { dhcp }]) => dhcp !== undefined)), (which) => {
      return `networks: dhcp of ${which} does not give addresses to clients yet.`;
    }),
  ];
}

function findInNat({ nat }: Config): string[] {
  const addresses = [...nat.externalAddresses, ...nat.oneToOne.map(({ external }) => external)];
  return about(addresses, (which) => {
    return `nat: ${which} not set on the WAN's interface yet; set by other means.`;
  });
}

function findInServices({ dns, api }: Config): string[] {
  const unserved = api.listen.filter((text) => {
    const endpoint = parseEndpoint(text);
    const isLocal = endpoint !== undefined && isLoopback(endpoint.address);
    return !isLocal || api.tls.mode !== 'off';
  });
  return [
    ...(dns === undefined ? [] : ['dns: no questions are answered yet.']),
    ...about(unserved, (which) => {
      const only = 'only loopback addresses with `tls.mode: off` are';
      return `api.listen: ${which} not served yet; ${only}.`;
    }),
    ...(api.trustedProxies.length === 0
      ? []
      : ['api.trustedProxies: what a proxy says about its client is not believed yet.']),
  ];
}

function findInFirewall({ firewall }: Config): string[] {
  const devices = Object.entries(firewall.devices);
  const features = Object.entries(firewall.features);
  const timed = features.filter(([, { schedule }]) => schedule !== undefined);
  return [
    ...about(names(timed), (which) => {
      return `firewall.features: ${which} with a schedule stay off, since none is followed yet.`;
    }),
    ...about(names(devices.filter(([, { blocked }]) => blocked)), (which) => {
      return `firewall.devices: ${which} not blocked yet; block by a rule with the address.`;
    }),
    ...about(names(devices.filter(([, { schedule }]) => schedule !== undefined)), (which) => {
      return `firewall.devices: schedules of ${which} are not followed yet.`;
    }),
    ...about(names(devices.filter(([, { address }]) => address !== undefined)), (which) => {
      return `firewall.devices: addresses of ${which} are not given by DHCP yet.`;
    }),
    ...about(names(Object.entries(firewall.schedules)), (which) => {
      return `firewall.schedules: ${which} not followed yet.`;
    }),
  ];
}

function findInShield({ gatekeeper, grantor }: Config): string[] {
  return [
    ...(gatekeeper === undefined ? [] : ['gatekeeper: nothing is protected yet.']),
    ...(grantor === undefined ? [] : ['grantor: no requests are decided yet.']),
  ];
}

function names(entries: readonly (readonly [name: string, value: unknown])[]): string[] {
  return entries.map(([name]) => name);
}

/** No sentence about nothing. */
function about(things: readonly string[], say: (which: string) => string): string[] {
  if (things.length === 0) return [];
  const shown = things.slice(0, NAMES_SHOWN_MAX).map((thing) => thing.slice(0, NAME_LENGTH_MAX));
  const more = things.length - shown.length;
  return [say(more === 0 ? shown.join(', ') : `${shown.join(', ')} and ${more} more`)];
}
