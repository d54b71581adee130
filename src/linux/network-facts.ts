/** What the machine's network looks like, from iproute2 and files. Changes nothing. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import type {
  AddressFacts,
  InterfaceFacts,
  InterfaceKind,
  NetworkFacts,
  RouteFacts,
} from '../gateway/network-facts.ts';
import { type Argv, describeFailure, runCommand } from './command-runner.ts';

export interface NetworkFactsPlace {
  /** File of the network namespace that is looked at. Default: our own. */
  readonly networkNamespace?: string;
  /** Default: /etc/resolv.conf */
  readonly resolverFile?: string;
}

const TIMEOUT_MS = 10_000;
/** Some hundred interfaces and some thousand routes; a router of the internet has more. */
const OUTPUT_BYTES_MAX = 8 * 1024 * 1024;
/** As glibc reads it, and some comments. */
const RESOLVER_FILE_CHARACTERS_MAX = 64 * 1024;

/** @throws Error when iproute2 is missing, fails, or has more to say than we take */
export async function gatherNetworkFacts(place: NetworkFactsPlace = {}): Promise<NetworkFacts> {
  const [links, routes, resolvers] = await Promise.all([
    ask(['ip', '-json', '-details', 'address', 'show'], place),
    ask(['ip', '-json', 'route', 'show', 'table', 'all'], place),
    readResolvers(place.resolverFile ?? '/etc/resolv.conf'),
  ]);
  return {
    hostname: hostname(),
    interfaces: (links as readonly ShownLink[]).filter(isShown).map(interfaceFacts),
    routes: (routes as readonly ShownRoute[]).flatMap(routeFacts),
    resolvers,
  };
}

async function ask(argv: Argv, { networkNamespace }: NetworkFactsPlace): Promise<unknown> {
  const result = await runCommand(argv, {
    timeoutMs: TIMEOUT_MS,
    outputBytesMax: OUTPUT_BYTES_MAX,
    ...(networkNamespace === undefined ? {} : { networkNamespace }),
  });
  if (!result.success) throw new Error(describeFailure(argv, result));
  if (result.truncated) {
    throw new Error(`${argv.join(' ')} printed more than ${OUTPUT_BYTES_MAX} bytes`);
  }
  return JSON.parse(result.stdout.trim() === '' ? '[]' : result.stdout);
}

/** What is read of `ip -json -details address`. */
interface ShownLink {
  readonly ifname: string;
  readonly link_type: string;
  readonly operstate?: string;
  readonly address?: string;
  readonly master?: string;
  readonly link?: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info: readonly {
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
    readonly dynamic?: boolean;
  }[];
}

/** What is about to go is shown without a name. */
function isShown(link: Partial<ShownLink>): boolean {
  return link.ifname !== undefined && link.addr_info !== undefined;
}

function interfaceFacts(link: ShownLink): InterfaceFacts {
  const kind = kindOf(link);
  return {
    name: link.ifname,
    kind,
    state: (link.operstate ?? 'unknown').toLowerCase(),
    ...(link.address === undefined ? {} : { macAddress: link.address }),
    ...(link.master === undefined ? {} : { master: link.master }),
    // For a pair, `link` is its other end.
    ...(link.link === undefined || kind.kind !== 'virtual' ? {} : { carrier: link.link }),
    addresses: link.addr_info.map(
      ({ local, prefixlen, scope, dynamic }): AddressFacts => ({
        address: `${local}/${prefixlen}`,
        scope,
        isDynamic: dynamic === true,
      }),
    ),
  };
}

function kindOf({ ifname, link_type, linkinfo }: ShownLink): InterfaceKind {
  const word = linkinfo?.info_kind;
  if (link_type === 'loopback') return { kind: 'loopback' };
  if (word === 'veth' || word === 'bond') return { kind: word };
  if (word !== undefined) return { kind: 'virtual', word };
  if (link_type !== 'ether') return { kind: 'virtual', word: link_type };
  const isWireless = existsSync(`/sys/class/net/${ifname}/phy80211`);
  return { kind: isWireless ? 'wireless' : 'ethernet' };
}

/** What is read of `ip -json route`. */
interface ShownRoute extends ShownHop {
  readonly dst: string;
  /** Absent for unicast. */
  readonly type?: string;
  /** Absent for the main one. */
  readonly table?: string;
  readonly protocol?: string;
  readonly metric?: number;
  readonly prefsrc?: string;
  readonly nexthops?: readonly ShownHop[];
}

interface ShownHop {
  readonly dev?: string;
  readonly gateway?: string;
}

/** One for each next hop. */
function routeFacts(route: ShownRoute): RouteFacts[] {
  if (route.type !== undefined && route.type !== 'unicast') return [];
  return (route.nexthops ?? [route]).flatMap(({ dev, gateway }): RouteFacts[] => {
    if (dev === undefined) return [];
    return [
      {
        family: familyOf(route, gateway),
        destination: route.dst,
        interface: dev,
        ...(gateway === undefined ? {} : { gateway }),
        metric: route.metric ?? 0,
        protocol: route.protocol ?? 'unknown',
        isInMainTable: route.table === undefined || route.table === 'main',
        ...(route.prefsrc === undefined ? {} : { preferredSource: route.prefsrc }),
      },
    ];
  });
}

/** `default` names no family; only routes of IPv6 have a preference. */
function familyOf(route: ShownRoute, gateway: string | undefined): 4 | 6 {
  const isVersion6 = [route.dst, gateway, route.prefsrc].some((text) => text?.includes(':'));
  return isVersion6 || 'pref' in route ? 6 : 4;
}

/** Where systemd-resolved is asked on loopback, it keeps what it asks itself in another file. */
const RESOLVED_FILE = '/run/systemd/resolve/resolv.conf';

async function readResolvers(file: string): Promise<string[]> {
  const named = await namesIn(file);
  const isOnlyStub = named.length > 0 && named.every((name) => name.startsWith('127.'));
  return isOnlyStub ? [...named, ...(await namesIn(RESOLVED_FILE))] : named;
}

/** A machine without the file has no resolvers. */
async function namesIn(file: string): Promise<string[]> {
  let text: string;
  try {
    text = (await readFile(file, 'utf8')).slice(0, RESOLVER_FILE_CHARACTERS_MAX);
  } catch {
    return [];
  }
  return [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, name = '']) => name);
}
