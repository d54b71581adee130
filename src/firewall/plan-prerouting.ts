/** What is decided before routing: which sources cannot be, and what conntrack does not follow. */
import type { AddressRange } from '../net/address-range.ts';
import { builtIn, drop } from './built-in-rule.ts';
import { inNftOrder } from './expand-rule.ts';
import type { FirewallModel, FirewallWan } from './firewall-model.ts';
import { familyOf, parseAllAddresses } from './nft-addresses.ts';
import { isApproved } from './packet-mark.ts';
import type { RulesetRule } from './ruleset.ts';

/** @param model without faults */
export function preroutingRules(model: FirewallModel): RulesetRule[] {
  const onWan = model.wan === undefined ? [] : wanMartianRules(model, model.wan);
  if (model.forwardedTraffic === 'conntrack') return onWan;
  return [approved, ...onWan, ...insideMartianRules(model), untracked];
}

/** Sources that no packet from another host can have (RFC 6890, RFC 4291 §2.7 and §2.5.5.2). */
const impossibleSources = [
  ...['0.0.0.0/8', '127.0.0.0/8', '224.0.0.0/4', '240.0.0.0/4'],
  ...['::1', '::ffff:0:0/96', 'ff00::/8'],
];

function wanMartianRules(model: FirewallModel, wan: FirewallWan): RulesetRule[] {
  const inside = model.networks.flatMap(({ addresses }) => addresses);
  const sources = parseAllAddresses([...impossibleSources, ...inside, ...(wan.martians ?? [])]);
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

/** What a host has that asks for its address (RFC 2131 §4.1). */
const NO_ADDRESS_YET = '0.0.0.0';

/**
 * From a network come only its own sources (BCP 38): a host that borrows another's address could
 * use up that one's quota, and would be judged by its rules. IPv4 alone, since a network's IPv6
 * prefixes are not known here; the routes know them (src/firewall/forwarded-ipv6.ts). One
 * comparison an address instead of a set: while a change of the ruleset is committed, a look-up in
 * a set of ranges (Linux 6.18) may not find what is there.
 */
function insideMartianRules({ networks }: FirewallModel): RulesetRule[] {
  return networks.flatMap(({ name, interfaces, addresses }) => {
    const isIpv4 = (range: AddressRange) => familyOf(range) === 4;
    const prefixes = parseAllAddresses(addresses).filter(isIpv4);
    if (prefixes.length === 0) return [];
    const ranges = parseAllAddresses([...addresses, NO_ADDRESS_YET]).filter(isIpv4);
    return [
      builtIn({
        name: 'martians',
        part: 'inside',
        text: name,
        matches: [
          { kind: 'input-interface', names: inNftOrder(interfaces) },
          ...ranges.map((range) => ({ kind: 'source', ranges: [range], negated: true }) as const),
        ],
        statement: drop,
      }),
    ];
  });
}

/**
 * Nearly all packets are of sessions that were let through before. Their sources need no look: a
 * session is approved only where its ends belong, and never with an end that cannot be
 * (docs/nat.md, "Approval").
 */
const approved = builtIn({
  name: 'approved',
  matches: [isApproved],
  statement: { kind: 'accept-untracked' },
});

/** What is forwarded has its sessions in the programs. */
const untracked = builtIn({
  name: 'untracked',
  matches: [{ kind: 'to-this-host', negated: true }],
  statement: { kind: 'notrack' },
});
