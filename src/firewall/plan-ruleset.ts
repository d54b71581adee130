/**
 * From the model of the config to the ruleset.
 *
 * Every chain that refuses what it does not know ends with a rule that drops: what falls through is
 * counted, and nothing passes in the moment in which the kernel has hooked a new chain up but not
 * yet given it its policy.
 */

import { parsePrefix } from '../net/prefix.ts';
import { accept, builtIn, connectionRules, dropTheRest } from './built-in-rule.ts';
import { expandRule, inNftOrder, portMatches } from './expand-rule.ts';
import {
  type FirewallModel,
  type FirewallTable,
  type FirewallWan,
  findModelFaults,
  type GatewayService,
} from './firewall-model.ts';
import { parseAllAddresses } from './nft-addresses.ts';
import { forwardChains } from './plan-forward.ts';
import { preroutingRules } from './plan-prerouting.ts';
import type { ChainHook, Match, Ruleset, RulesetRule, RulesetSet, Statement } from './ruleset.ts';
import { outermostPrefixes } from './table-prefixes.ts';

/**
 * @throws RangeError when the model has faults; whoever reads configs asks {@link findModelFaults}
 *   first
 */
export function planRuleset(model: FirewallModel): Ruleset {
  return plan(model, { isOpenInward: true });
}

/**
 * What is loaded before anything else is known: the gateway itself can speak and be pinged; nothing
 * is offered, nothing forwarded.
 */
export function defaultPosture(): Ruleset {
  const nothing: FirewallModel = {
    networks: [],
    rules: [],
    services: [],
    forwardedTraffic: 'conntrack',
  };
  return {
    chains: planRuleset(nothing).chains.map((chain) =>
      chain.name === 'forward' ? { ...chain, rules: [dropTheRest] } : chain,
    ),
  };
}

/** How the config layer names the service behind which the API listens. */
export const API_SERVICE = 'api';

/**
 * What the panic button loads: SSH, the API, DHCP and DNS from inside networks, and inside networks
 * to the WAN. None of the config's rules, so also no session that is opened by a mapping or a port
 * forward: a rule may have been all that kept it out.
 */
export function safeRuleset(model: FirewallModel): Ruleset {
  const api = model.services
    .filter(({ name }) => name === API_SERVICE)
    .map(({ name, protocols, ports }) => ({ name, protocols, ports }));
  const safe = { ...model, tables: [], rules: [], services: [...safeServices, ...api] };
  return plan(safe, { isOpenInward: false });
}

function plan(model: FirewallModel, options: { readonly isOpenInward: boolean }): Ruleset {
  const [fault] = findModelFaults(model);
  if (fault !== undefined) throw new RangeError(`a ruleset of ${fault.path}: ${fault.message}`);
  return {
    sets: (model.tables ?? []).flatMap(setsOf),
    chains: [
      { name: 'prerouting', hook: hooks.prerouting, rules: preroutingRules(model) },
      { name: 'input', hook: hooks.input, rules: inputRules(model) },
      ...forwardChains(model, options),
      { name: 'output', hook: hooks.output, rules: [] },
    ],
  };
}

function setsOf({ name, addresses }: FirewallTable): RulesetSet[] {
  const prefixes = addresses.map(parsePrefix).filter((prefix) => prefix !== undefined);
  const outermost = outermostPrefixes(prefixes);
  return ([4, 6] as const).map((family) => ({
    table: name,
    family,
    prefixes: outermost.filter((prefix) => prefix.family === family),
  }));
}

export const dhcpService: GatewayService = { name: 'dhcp', protocols: ['udp'], ports: [67, 547] };
export const dnsService: GatewayService = { name: 'dns', protocols: ['tcp', 'udp'], ports: [53] };
export const sshService: GatewayService = { name: 'ssh', protocols: ['tcp'], ports: [22] };
const safeServices = [dhcpService, dnsService, sshService];

const hooks = {
  prerouting: { name: 'prerouting', priority: 'raw', policy: 'accept' },
  input: { name: 'input', priority: 'filter', policy: 'drop' },
  output: { name: 'output', priority: 'filter', policy: 'accept' },
} as const satisfies Record<string, ChainHook>;

function inputRules(model: FirewallModel): RulesetRule[] {
  const forGateway = model.rules.filter(({ to }) => to === 'gateway');
  return [
    builtIn({ name: 'loopback', matches: [{ kind: 'input-interface', names: ['lo'] }] }),
    ...connectionRules,
    ...neededIcmpRules,
    ...(model.wan?.dhcpClient === true ? dhcpClientRules(model.wan) : []),
    ...forGateway.flatMap((one) => expandRule(one, model)),
    ...pingRules,
    ...model.services.flatMap((service) => serviceRules(service, model)),
    dropTheRest,
  ];
}

const linkLocal = parseAllAddresses(['fe80::/10']);

/**
 * RFC 4890 §4.4.1: without these IPv6 does not work. Neighbour discovery comes from this link only,
 * which its hop limit proves (RFC 4861 §6.1.1).
 */
const neededIcmpRules = [
  builtIn({
    name: 'icmp-errors',
    part: 'ipv4',
    matches: [
      {
        kind: 'icmp-type',
        family: 4,
        types: ['destination-unreachable', 'time-exceeded', 'parameter-problem'],
      },
    ],
  }),
  builtIn({
    name: 'icmp-errors',
    part: 'ipv6',
    matches: [
      {
        kind: 'icmp-type',
        family: 6,
        types: ['destination-unreachable', 'packet-too-big', 'time-exceeded', 'parameter-problem'],
      },
    ],
  }),
  builtIn({
    name: 'neighbour-discovery',
    matches: [
      { kind: 'hop-limit', value: 255 },
      {
        kind: 'icmp-type',
        family: 6,
        types: [
          ...['nd-router-solicit', 'nd-router-advert'],
          ...['nd-neighbor-solicit', 'nd-neighbor-advert'],
        ],
      },
    ],
  }),
  builtIn({
    name: 'multicast-listeners',
    matches: [
      { kind: 'source', ranges: linkLocal },
      {
        kind: 'icmp-type',
        family: 6,
        types: [
          ...['mld-listener-query', 'mld-listener-report'],
          ...['mld-listener-done', 'mld2-listener-report'],
        ],
      },
    ],
  }),
];

/** An answer costs as much as the question: enough for people, too little to be used by others. */
const pingLimit: Statement = { kind: 'accept-limited', perSecond: 100, burst: 50 };

const pingRules = ([4, 6] as const).map((family) =>
  builtIn({
    name: 'ping',
    part: `ipv${family}`,
    matches: [{ kind: 'icmp-type', family, types: ['echo-request'] }],
    statement: pingLimit,
  }),
);

/** Answers to a client without an address are no replies to conntrack, which saw a broadcast. */
function dhcpClientRules(wan: FirewallWan): RulesetRule[] {
  const input: Match = { kind: 'input-interface', names: [wan.interface] };
  const ports = (source: number, destination: number): Match[] => [
    { kind: 'source-port', protocol: 'udp', ranges: [{ first: source, last: source }] },
    {
      kind: 'destination-port',
      protocol: 'udp',
      ranges: [{ first: destination, last: destination }],
    },
  ];
  return [
    builtIn({
      name: 'dhcp-client',
      part: 'ipv4',
      matches: [input, { kind: 'family', family: 4 }, ...ports(67, 68)],
    }),
    builtIn({
      name: 'dhcp-client',
      part: 'ipv6',
      matches: [input, { kind: 'source', ranges: linkLocal }, ...ports(547, 546)],
    }),
  ];
}

function serviceRules(service: GatewayService, model: FirewallModel): RulesetRule[] {
  const { name, protocols, ports, networks } = service;
  const offeredTo = model.networks.filter(
    (network) => network.inside && (networks === undefined || networks.includes(network.name)),
  );
  const names = inNftOrder(offeredTo.flatMap(({ interfaces }) => interfaces));
  if (names.length === 0) return [];
  const ranges = ports.map((port) => ({ first: port, last: port }));
  const matches = portMatches(protocols, ranges);
  return [
    {
      origin: { kind: 'service', name },
      matches: [{ kind: 'input-interface', names }, ...matches],
      statement: accept,
    },
  ];
}
