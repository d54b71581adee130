/** What several judgements need to know of a config: whose addresses and interfaces there are. */
import { type Endpoint, parseEndpoint } from '../net/endpoint.ts';
import type { IpAddress } from '../net/ip-address.ts';
import { parseIpAddress } from '../net/ip-address.ts';
import { type InterfaceAddress, parseInterfaceAddress } from '../net/prefix.ts';
import { itemsOf, namedOf, type Placed, type SoundConfig } from './meaning.ts';
import { namePattern } from './schema-fields.ts';
import { nodeAt, type SourceTree } from './source-tree.ts';

export interface GatewayFacts {
  /** Also where its value was objected to. */
  readonly hasWan: boolean;
  /** The WAN's fixed address. */
  readonly wan: Placed<InterfaceAddress> | undefined;
  readonly networks: readonly (Placed<InterfaceAddress> & { readonly name: string })[];
  /** False where an objection to a network left its address out of `networks`. */
  readonly areNetworksKnown: boolean;
  /** Also of those whose values were objected to. */
  readonly networkNames: readonly string[];
  readonly scheduleNames: readonly string[];
  readonly tableNames: readonly string[];
  readonly interfaces: readonly Placed<string>[];
  /** Addresses that this machine has by its config. */
  readonly ownAddresses: readonly Placed<IpAddress>[];
  readonly listen: readonly Placed<Endpoint>[];
}

export function gatewayFactsOf(config: SoundConfig, tree: SourceTree): GatewayFacts {
  const { gatekeeper, grantor } = config;
  const wan = placed(['wan', 'address'], config.wan?.address, parseInterfaceAddress)[0];
  const networks = namedOf(config.networks, ['networks']).flatMap(({ name, path, value }) =>
    placed([...path, 'address'], value.address, parseInterfaceAddress).map((address) => ({
      ...address,
      name,
    })),
  );
  const ownAddresses = [
    ...[...(wan === undefined ? [] : [wan]), ...networks].map(({ path, value }) => ({
      path,
      value: value.address,
    })),
    ...placed(['gatekeeper', 'back', 'address'], gatekeeper?.back?.address, parseIpAddress),
    ...placed(['grantor', 'address'], grantor?.address, parseIpAddress),
  ];
  const listen = itemsOf(config.api?.listen, ['api', 'listen']).flatMap(({ path, value }) =>
    placed(path, value, parseEndpoint),
  );
  const networkKeys = keysAt(tree, ['networks']);
  return {
    hasWan: keysAt(tree, []).includes('wan'),
    wan,
    networks,
    areNetworksKnown: networkKeys.length === networks.length,
    networkNames: networkKeys.filter(isName),
    scheduleNames: keysAt(tree, ['firewall', 'schedules']).filter(isName),
    tableNames: keysAt(tree, ['firewall', 'tables']).filter(isName),
    interfaces: interfacesOf(config),
    ownAddresses,
    listen,
  };
}

/** What is no name can be nowhere referred to, and is not to be suggested. */
function isName(key: string): boolean {
  return new RegExp(namePattern).test(key);
}

function keysAt(tree: SourceTree, path: Placed<unknown>['path']): string[] {
  const node = nodeAt(tree.root, path);
  return node?.kind === 'mapping' ? node.entries.map(({ key }) => key) : [];
}

function interfacesOf({ wan, networks, gatekeeper, grantor }: SoundConfig): Placed<string>[] {
  const same = (name: string) => name;
  return [
    ...placed(['wan', 'interface'], wan?.interface, same),
    ...namedOf(networks, ['networks']).flatMap(({ path, value }) =>
      itemsOf(value.interfaces, [...path, 'interfaces']),
    ),
    ...placed(['gatekeeper', 'front', 'interface'], gatekeeper?.front?.interface, same),
    ...placed(['gatekeeper', 'back', 'interface'], gatekeeper?.back?.interface, same),
    ...placed(['grantor', 'interface'], grantor?.interface, same),
  ];
}

/** One value, or none where the text is missing or is no such value. */
export function placed<Value>(
  path: Placed<unknown>['path'],
  text: string | undefined,
  parse: (text: string) => Value | undefined,
): Placed<Value>[] {
  const value = text === undefined ? undefined : parse(text);
  return value === undefined ? [] : [{ path, value }];
}
