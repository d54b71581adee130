/** Which interface leads to the internet, and how it gets its address. */
import { textFormats } from '../config/text-formats.ts';
import { isSameAddress, parseIpAddress } from '../net/ip-address.ts';
import {
  type InterfaceAddress,
  isHostAddress,
  parseInterfaceAddress,
  prefixesOverlap,
  prefixHasAddress,
  requirePrefix,
} from '../net/prefix.ts';
import type { AddressFacts, InterfaceFacts, NetworkFacts, RouteFacts } from './network-facts.ts';
import { printable } from './printable.ts';

export interface WanChoice {
  readonly interface: string;
  /** `dhcp`, or an address with its prefix length. */
  readonly address: string;
  /** With a fixed address. */
  readonly gateway?: string;
  readonly why: readonly string[];
}

interface NoWan {
  readonly interface?: never;
  readonly reason: string;
}

/** More default routes than a person would want to read about. */
const ROUTES_TOLD_MAX = 8;

export function chooseWan(facts: NetworkFacts): WanChoice | NoWan {
  const routes = facts.routes
    .filter(({ destination, isInMainTable }) => destination === 'default' && isInMainTable)
    .toSorted(byPreference);
  if (routes.length === 0) {
    return {
      reason:
        'No interface leads to the internet: there is no default route. Connect the one that ' +
        'shall (for example: dhclient INTERFACE) and run gatehouse init again, or write the ' +
        'section wan by hand.',
    };
  }
  const others: string[] = [];
  let chosen: (WanChoice & { readonly route: RouteFacts }) | undefined;
  for (const route of routes) {
    const name = printable(route.interface);
    const judged = judgeRoute(route, facts);
    if (chosen !== undefined) {
      if (route.interface === chosen.interface) continue;
      others.push(`Not ${name}: its default route has metric ${route.metric}, which comes later.`);
    } else if ('objection' in judged) {
      others.push(`Not ${name}, by which a default route leads: ${judged.objection}.`);
    } else {
      chosen = { ...judged, route };
    }
  }
  const told = [...new Set(others)].slice(0, ROUTES_TOLD_MAX);
  if (chosen !== undefined) {
    const { route, why, ...choice } = chosen;
    return { ...choice, why: [...why, ...told] };
  }
  const remedy = 'Write the section wan by hand, or connect the machine in another way.';
  return { reason: `No interface can be taken as wan. ${told.join(' ')} ${remedy}` };
}

/** IPv4 first: it is what has to be translated. */
function byPreference(one: RouteFacts, other: RouteFacts): number {
  if (one.family !== other.family) return one.family - other.family;
  if (one.metric !== other.metric) return one.metric - other.metric;
  return textOrder(one.interface, other.interface) || textOrder(one.gateway, other.gateway);
}

function textOrder(one = '', other = ''): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

type Judged = WanChoice | { readonly objection: string };

function judgeRoute(route: RouteFacts, { interfaces }: NetworkFacts): Judged {
  const found = interfaces.find(({ name }) => name === route.interface);
  if (found === undefined) return { objection: 'it is not among the interfaces' };
  const objection = objectionTo(found);
  if (objection !== undefined) return { objection };
  const { name } = found;
  const to = route.gateway === undefined ? '' : ` to ${printable(route.gateway)}`;
  const leads = `The default route${to} leads by ${name}, so that is the way to the internet.`;
  const addresses = found.addresses
    .filter(({ address, scope }) => scope === 'global' && !address.includes(':'))
    .toSorted((a, b) => textOrder(a.address, b.address));
  if (addresses.length === 0) {
    if (route.family === 4) return { objection: 'it has no IPv4 address' };
    const why = 'It leads there by IPv6 only; DHCP asks whether there is an IPv4 address, too.';
    return { interface: name, address: 'dhcp', why: [leads, why] };
  }
  const own = addressOfRoute(route, addresses);
  if (route.protocol === 'dhcp' || own.isDynamic) {
    const today = printable(own.address);
    const why = `Its address, today ${today}, was given for a time, so DHCP asks for it.`;
    return { interface: name, address: 'dhcp', why: [leads, why] };
  }
  return fixedAddress(route, own, leads);
}

function objectionTo({ name, kind }: InterfaceFacts): string | undefined {
  if (textFormats['interface-name'].parse(name) === undefined) {
    return 'a config cannot hold such a name';
  }
  if (kind.kind === 'loopback' || name === 'lo') return 'it leads nowhere';
  if (kind.kind !== 'virtual' || carryingFrames.includes(kind.word)) return undefined;
  return `it is of the kind ${printable(kind.word)}, not Ethernet to a provider`;
}

/** Made by software, and as good as a card: they end at one. */
const carryingFrames = ['vlan', 'bridge', 'macvlan', 'team'];

function addressOfRoute(route: RouteFacts, addresses: readonly AddressFacts[]): AddressFacts {
  const gateway = parseIpAddress(route.gateway ?? '');
  const prefers = ({ address }: AddressFacts) => address.split('/')[0] === route.preferredSource;
  const reaches = ({ address }: AddressFacts) => {
    const parsed = parseInterfaceAddress(address);
    return (
      parsed !== undefined && gateway !== undefined && prefixHasAddress(parsed.prefix, gateway)
    );
  };
  const [first = { address: '', scope: '', isDynamic: false }] = addresses;
  return addresses.find(prefers) ?? addresses.find(reaches) ?? first;
}

function fixedAddress(route: RouteFacts, own: AddressFacts, leads: string): Judged {
  const gateway = parseIpAddress(route.gateway ?? '');
  const address = parseInterfaceAddress(own.address);
  if (address === undefined) return { objection: `${printable(own.address)} is no address` };
  if (route.family === 6) {
    return { objection: `it has the fixed address ${own.address} and no IPv4 router` };
  }
  if (gateway?.family !== 4 || route.gateway === undefined) {
    return { objection: `it has the fixed address ${own.address} and the route names no router` };
  }
  if (hostless.some((prefix) => prefixesOverlap(prefix, address.prefix))) {
    return { objection: `no host can have its address ${own.address}` };
  }
  if (!fits(address, gateway)) {
    return { objection: `its router ${route.gateway} does not lie in ${own.address}` };
  }
  const why = 'Its address has no lifetime, so it is a fixed one and stays as it is.';
  const choice = { interface: route.interface, address: own.address, gateway: route.gateway };
  return { ...choice, why: [leads, why] };
}

/** This network, loopback, multicast and reserved (RFC 6890). */
const hostless = ['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4'].map(requirePrefix);

/** As the config asks: a router on the link, or beyond a single address. */
function fits(own: InterfaceAddress, gateway: InterfaceAddress['address']): boolean {
  if (!isHostAddress(own) || isSameAddress(own.address, gateway)) return false;
  return own.prefix.length === 32 || prefixHasAddress(own.prefix, gateway);
}
