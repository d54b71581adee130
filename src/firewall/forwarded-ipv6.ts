/**
 * What is decided about forwarded IPv6 besides the config's rules: what never crosses a router,
 * what crosses unless a rule forbids it, and the other way round. docs/compliance/ipv6.md goes
 * through RFC 4890 (ICMPv6) and RFC 6092 (firewalls of homes), one recommendation at a time.
 */
import { builtIn, drop } from './built-in-rule.ts';
import { inNftOrder } from './expand-rule.ts';
import type { FirewallModel } from './firewall-model.ts';
import { parseAllAddresses } from './nft-addresses.ts';
import type { Match, RulesetRule, Statement } from './ruleset.ts';

/** Before any rule of the config, for packets of every kind. @param model without faults */
export function neverForwardedRules(model: FirewallModel): RulesetRule[] {
  return [...wayRules(model), ...addressRules, linkScoped];
}

/** After the config's rules and before what is accepted without them. */
export function refusedUnlessAllowed({ wan }: FirewallModel): RulesetRule[] {
  return [...(wan === undefined ? [] : uniqueLocalRules(wan.interface)), unsound, unrelatedErrors];
}

/** What the WAN may open besides mappings: RFC 4890 §4.3.1, RFC 6092 REC-21, 22, 24 and 26. */
export function openedFromWan(ends: { readonly wan: string; readonly inside: readonly string[] }) {
  const between: Match[] = [
    { kind: 'input-interface', names: [ends.wan] },
    { kind: 'output-interface', names: ends.inside },
  ];
  const ike = { first: IKE_PORT, last: IKE_PORT };
  return [
    builtIn({
      name: 'ping',
      part: 'inward',
      matches: [...between, { kind: 'icmp-type', family: 6, types: ['echo-request'] }],
      statement: limited,
    }),
    builtIn({
      name: 'ipsec',
      matches: [...between, ipv6, { kind: 'protocol', protocols: ['esp', 'ah', 'hip'] }],
      statement: limited,
    }),
    builtIn({
      name: 'ipsec',
      part: 'ike',
      matches: [...between, ipv6, { kind: 'destination-port', protocol: 'udp', ranges: [ike] }],
      statement: limited,
    }),
  ];
}

const ipv6: Match = { kind: 'family', family: 6 };
const IKE_PORT = 500;

/**
 * Of each of these, so that whoever tries all addresses of a network does not fill the kernel's
 * table of neighbours (RFC 6583): an address that nobody has stands there for three seconds, and
 * 1,024 have room. What belongs to a session that was let in is approved, and not counted.
 */
const limited: Statement = { kind: 'accept-limited', perSecond: 50, burst: 50 };

/**
 * A source is looked for by the routes, since no config says which IPv6 prefixes a network has: it
 * must be one that answers would go to by the interface that it came by (RFC 6092 REC-5, REC-6).
 */
function wayRules({ networks, wan }: FirewallModel): RulesetRule[] {
  const zones = [
    ...(wan === undefined ? [] : [{ name: 'wan', interfaces: [wan.interface] }]),
    ...networks,
  ];
  return zones.map(({ name, interfaces }) => {
    const names = inNftOrder(interfaces);
    return builtIn({
      name: 'martians',
      part: 'way',
      text: name,
      matches: [
        { kind: 'input-interface', names },
        ipv6,
        { kind: 'source-by-interface', names, negated: true },
      ],
      statement: drop,
    });
  });
}

/**
 * RFC 6092 REC-3: not specified, loopback, IPv4-compatible and -mapped, discarded (RFC 6666),
 * ORCHID and site-local ones. Not the prefix of documentation, which labs and examples have.
 */
const nobodysAddresses = [
  ...['::/96', '::ffff:0:0/96', '100::/64'],
  ...['2001:10::/28', 'fec0::/10'],
];

const addressRules = [
  { part: 'source', ranges: parseAllAddresses([...nobodysAddresses, 'ff00::/8']) },
  { part: 'destination', ranges: parseAllAddresses(nobodysAddresses) },
].map(({ part, ranges }) =>
  builtIn({
    name: 'nobody',
    part,
    matches: [{ kind: part === 'source' ? 'source' : 'destination', ranges }],
    statement: drop,
  }),
);

function ofTypes(types: readonly (string | number)[]): readonly Match[] {
  return [{ kind: 'icmp-type', family: 6, types }];
}

/** RFC 4890 §4.3.3: what is said on one link, mostly with a hop limit that proves it. */
const linkScoped = builtIn({
  name: 'icmpv6-of-links',
  matches: ofTypes([
    ...['mld-listener-query', 'mld-listener-report', 'mld-listener-done'],
    ...['nd-router-solicit', 'nd-router-advert', 'nd-neighbor-solicit', 'nd-neighbor-advert'],
    ...['nd-redirect', 'ind-neighbor-solicit', 'ind-neighbor-advert', 'mld2-listener-report'],
    // Certification paths (RFC 3971) and discovery of multicast routers (RFC 4286).
    ...[148, 149, 151, 152, 153],
  ]),
  statement: drop,
});

/**
 * RFC 4890 §4.3.5: for experiments, for extensions that nobody has made, for renumbering routers,
 * and questions about a node.
 */
const unsound = builtIn({
  name: 'icmpv6-unsound',
  matches: ofTypes([100, 101, 127, 'router-renumbering', 139, 140, 200, 201, 255]),
  statement: drop,
});

/** RFC 6092 REC-10. Errors about a session that lives are related, and do not come here. */
const unrelatedErrors = builtIn({
  name: 'icmpv6-unrelated',
  matches: ofTypes([
    ...['destination-unreachable', 'packet-too-big', 'time-exceeded', 'parameter-problem'],
  ]),
  statement: drop,
});

/** RFC 6092 REC-7, by default: a rule of the config may open a way for them. */
function uniqueLocalRules(wan: string): RulesetRule[] {
  const ranges = parseAllAddresses(['fc00::/7']);
  return (['input-interface', 'output-interface'] as const).flatMap((end) =>
    (['source', 'destination'] as const).map((kind) =>
      builtIn({
        name: 'unique-local',
        part: `${end === 'input-interface' ? 'from' : 'to'}-wan-${kind}`,
        matches: [
          { kind: end, names: [wan] },
          { kind, ranges },
        ],
        statement: drop,
      }),
    ),
  );
}
