/**
 * From the model of the config to the ruleset.
 *
 * Every chain that refuses what it does not know ends with a rule that drops: what falls through is
 * counted, and nothing passes in the moment in which the kernel has hooked a new chain up but not
 * yet given it its policy.
 */
import type { AddressRange } from '../net/address-range.ts';
import { expandRule, inNftOrder, portMatches } from './expand-rule.ts';
import {
  type FirewallModel,
  type FirewallWan,
  findModelFaults,
  type GatewayService,
} from './firewall-model.ts';
import { familyOf, mergeAddressRanges, parseAddresses } from './nft-addresses.ts';
import { MARK_MAPPED, MARK_REPLY } from './packet-mark.ts';
import {
  type ChainHook,
  type Match,
  mirrorMatch,
  type Ruleset,
  type RulesetRule,
  type Statement,
} from './ruleset.ts';

/**
 * @throws RangeError when the model has faults; whoever reads configs asks {@link findModelFaults}
 *   first
 */
export function planRuleset(model: FirewallModel): Ruleset {
  const [fault] = findModelFaults(model);
  if (fault !== undefined) throw new RangeError(`a ruleset of ${fault.path}: ${fault.message}`);
  return {
    chains: [
      { name: 'prerouting', hook: hooks.prerouting, rules: preroutingRules(model) },
      { name: 'input', hook: hooks.input, rules: inputRules(model) },
      ...(model.forwardedTraffic === 'conntrack'
        ? [{ name: 'forward', hook: hooks.forward, rules: trackedForwardRules(model) }]
        : sessionChains(model)),
      { name: 'output', hook: hooks.output, rules: [] },
    ],
  };
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
 * to the WAN. None of the config's rules.
 */
export function safeRuleset(model: FirewallModel): Ruleset {
  const api = model.services
    .filter(({ name }) => name === API_SERVICE)
    .map(({ name, protocols, ports }) => ({ name, protocols, ports }));
  return planRuleset({ ...model, rules: [], services: [...safeServices, ...api] });
}

export const dhcpService: GatewayService = { name: 'dhcp', protocols: ['udp'], ports: [67, 547] };
export const dnsService: GatewayService = { name: 'dns', protocols: ['tcp', 'udp'], ports: [53] };
export const sshService: GatewayService = { name: 'ssh', protocols: ['tcp'], ports: [22] };
const safeServices = [dhcpService, dnsService, sshService];

const hooks = {
  prerouting: { name: 'prerouting', priority: 'raw', policy: 'accept' },
  input: { name: 'input', priority: 'filter', policy: 'drop' },
  forward: { name: 'forward', priority: 'filter', policy: 'drop' },
  output: { name: 'output', priority: 'filter', policy: 'accept' },
} as const satisfies Record<string, ChainHook>;

const accept: Statement = { kind: 'accept' };
const drop: Statement = { kind: 'drop' };

interface BuiltIn {
  readonly name: string;
  readonly part?: string;
  readonly matches: readonly Match[];
  readonly statement?: Statement;
}

function builtIn({ name, part, matches, statement = accept }: BuiltIn): RulesetRule {
  const origin = { kind: 'built-in', name, ...(part === undefined ? {} : { part }) } as const;
  return { origin, matches, statement };
}

const dropTheRest = builtIn({ name: 'rest', matches: [], statement: drop });

function preroutingRules(model: FirewallModel): RulesetRule[] {
  const untracked = builtIn({
    name: 'untracked',
    matches: [{ kind: 'to-this-host', negated: true }],
    statement: { kind: 'notrack' },
  });
  return [
    ...(model.wan === undefined ? [] : martianRules(model, model.wan)),
    ...(model.forwardedTraffic === 'sessions' ? [untracked] : []),
  ];
}

/** Sources that no packet from another host can have (RFC 6890, RFC 4291 §2.7 and §2.5.5.2). */
const impossibleSources = [
  ...['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4'],
  ...['::1', '::ffff:0:0/96', 'ff00::/8'],
];

function martianRules(model: FirewallModel, wan: FirewallWan): RulesetRule[] {
  const inside = model.networks.flatMap(({ addresses }) => addresses);
  const sources = parseAll([...impossibleSources, ...inside, ...(wan.martians ?? [])]);
  return ([4, 6] as const).map((family) =>
    builtIn({
      name: 'martians',
      part: `ipv${family}`,
      matches: [
        { kind: 'input-interface', names: [wan.interface] },
        { kind: 'source', ranges: sources.filter((range) => familyOf(range) === family) },
      ],
      statement: drop,
    }),
  );
}

function parseAll(texts: readonly string[]): AddressRange[] {
  return mergeAddressRanges(texts.map(parseAddresses).filter((one) => one !== undefined));
}

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

const connectionRules = [
  builtIn({
    name: 'established',
    matches: [{ kind: 'connection', states: ['established', 'related'] }],
  }),
  builtIn({
    name: 'invalid',
    matches: [{ kind: 'connection', states: ['invalid'] }],
    statement: drop,
  }),
];

const linkLocal = parseAll(['fe80::/10']);

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

function trackedForwardRules(model: FirewallModel): RulesetRule[] {
  return [...connectionRules, ...forwardRules(model), dropTheRest];
}

/** The config's rules for forwarded packets, and what follows without any. */
function forwardRules(model: FirewallModel): RulesetRule[] {
  const forwarded = model.rules.filter(({ to }) => to !== 'gateway');
  return [
    ...forwarded.flatMap((one) => expandRule(one, model)),
    ...insideAndWan(model, (inside, wan) =>
      builtIn({
        name: 'outbound',
        matches: [
          { kind: 'input-interface', names: inside },
          { kind: 'output-interface', names: [wan] },
        ],
      }),
    ),
  ];
}

function insideAndWan(
  model: FirewallModel,
  make: (inside: readonly string[], wan: string) => RulesetRule,
): RulesetRule[] {
  const inside = model.networks.filter((network) => network.inside);
  const names = inNftOrder(inside.flatMap(({ interfaces }) => interfaces));
  if (model.wan === undefined || names.length === 0) return [];
  return [make(names, model.wan.interface)];
}

/** Requests and replies in a chain each: the second is the first, seen from the other end. */
function sessionChains(model: FirewallModel) {
  const mapped = insideAndWan(model, (inside, wan) =>
    builtIn({
      name: 'mapped',
      matches: [
        { kind: 'input-interface', names: [wan] },
        { kind: 'output-interface', names: inside },
        { kind: 'mark', bits: MARK_MAPPED, set: true },
      ],
    }),
  );
  const requests = [...forwardRules(model), ...mapped];
  const toReplies = builtIn({
    name: 'replies',
    matches: [{ kind: 'mark', bits: MARK_REPLY, set: true }],
    statement: { kind: 'goto', chain: 'forward_replies' },
  });
  const toRequests = builtIn({
    name: 'requests',
    matches: [],
    statement: { kind: 'goto', chain: 'forward_requests' },
  });
  return [
    { name: 'forward_requests', rules: [...requests, dropTheRest] },
    { name: 'forward_replies', rules: [...requests.flatMap(mirrorRule), dropTheRest] },
    { name: 'forward', hook: hooks.forward, rules: [toReplies, toRequests] },
  ];
}

/**
 * The rule for the replies to what it judges. Who asked has been told already, so a reply is logged
 * no second time, and one to something rejected vanishes.
 */
function mirrorRule({ origin, matches, statement }: RulesetRule): RulesetRule[] {
  if (statement.kind === 'log') return [];
  return [
    {
      origin: { ...origin, part: origin.part === undefined ? 'reply' : `${origin.part}-reply` },
      matches: inListingOrder(matches.map(mirrorMatch)),
      statement: statement.kind === 'reject' ? drop : statement,
    },
  ];
}

function inListingOrder(matches: readonly Match[]): Match[] {
  const order = ['input-interface', 'output-interface', 'family', 'source', 'destination'];
  const rank = ({ kind }: Match) => (order.includes(kind) ? order.indexOf(kind) : order.length);
  return [...matches].sort((a, b) => rank(a) - rank(b));
}
