/** Which interfaces make the network inside. */
import { bridgeNameOf } from '../config/bridge-name.ts';
import { textFormats } from '../config/text-formats.ts';
import type { InterfaceFacts, NetworkFacts } from './network-facts.ts';
import { printable } from './printable.ts';

export interface InsideInterfaces {
  readonly networkName: string;
  /** In the order of their names; at least one. */
  readonly interfaces: readonly string[];
  readonly why: readonly string[];
}

/** As the schema limits them. */
const INTERFACES_MAX = 16;
/** A host of containers has hundreds that are not taken. */
const OTHERS_TOLD_MAX = 12;

export function chooseInsideInterfaces(
  facts: NetworkFacts,
  wanInterface: string,
): InsideInterfaces | { readonly interfaces?: never; readonly reason: string } {
  const networkName = wanInterface === bridgeNameOf('lan') ? 'inside' : 'lan';
  const byName = new Map(facts.interfaces.map((one) => [one.name, one]));
  const inOrder = [...byName.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const taken: string[] = [];
  const others: string[] = [];
  const unplugged: string[] = [];
  for (const one of inOrder) {
    if (one.name === wanInterface || one.name === 'lo' || one.kind.kind === 'loopback') continue;
    const objection =
      objectionTo(one, facts) ??
      (one.name === bridgeNameOf(networkName) ? 'the bridge itself has this name' : undefined) ??
      (taken.length === INTERFACES_MAX ? `a network has at most ${INTERFACES_MAX}` : undefined);
    if (objection !== undefined) {
      others.push(`Not ${printable(one.name)}: ${objection}.`);
      continue;
    }
    taken.push(one.name);
    if (one.state !== 'up') unplugged.push(one.name);
  }
  const more = others.length - OTHERS_TOLD_MAX;
  const told = [
    ...others.slice(0, OTHERS_TOLD_MAX),
    ...(more > 0 ? [`Nor ${more} others, for reasons like these.`] : []),
  ];
  if (taken.length === 0) return { reason: whyNone(told, wanInterface) };
  const verb = taken.length === 1 ? 'has no address and no other task' : 'have no address';
  const so = taken.length === 1 ? 'it is the network inside' : 'they are bridged to one network';
  const idle =
    unplugged.length === 0 ? [] : [`Without a link at present: ${unplugged.join(', ')}.`];
  const why = [`${taken.join(', ')} ${verb}, so ${so}.`, ...idle, ...told];
  return { networkName, interfaces: taken, why };
}

function whyNone(told: readonly string[], wanInterface: string): string {
  const why = [`No interface is left for the network inside besides ${wanInterface}.`, ...told];
  const remedy =
    'Connect a second network card; or take the address off one that shall serve the inside ' +
    '(ip address flush dev INTERFACE) and run gatehouse init again; or write the section ' +
    'networks by hand.';
  return [...why, remedy].join(' ');
}

function objectionTo(one: InterfaceFacts, { interfaces }: NetworkFacts): string | undefined {
  const { name, kind, master, addresses } = one;
  if (textFormats['interface-name'].parse(name) === undefined) {
    return 'a config cannot hold such a name';
  }
  if (master !== undefined) return `it is a part of ${printable(master)}`;
  if (kind.kind === 'virtual') return `it is made by software (${printable(kind.word)})`;
  if (kind.kind === 'wireless') {
    return 'it is wireless, and as a station it can be no port of a network';
  }
  if (kind.kind === 'veth' && containerEnd.test(name))
    return 'it looks like the end of a container';
  const carried = interfaces
    .filter(({ carrier }) => carrier === name)
    .map((other) => printable(other.name))
    .toSorted();
  if (carried.length > 0) return `it carries ${carried.join(', ')}`;
  const own = addresses.filter(({ scope }) => scope === 'global').map(({ address }) => address);
  const [address] = own.map(printable).toSorted();
  return address === undefined ? undefined : `it has the address ${address} already`;
}

/** As Docker and others name them. */
const containerEnd = /^veth[0-9a-f]{6,}$/;
