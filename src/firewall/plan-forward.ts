/**
 * What is decided about packets that pass through.
 *
 * With sessions, rules judge inside addresses: the programs in front of nft have translated the
 * destination already and do so with the source afterwards. They say in the mark what a packet is,
 * and `forward` sends it where its kind is judged:
 *
 *     forward ─┬─ approved: accepted
 *              ├─ what no router forwards of IPv6: dropped
 *              └─ MSS ─┬─ reply ─────────────► forward_replies
 *                      ├─ request ───────────► forward_requests
 *                      ├─ related: accepted
 *                      ├─ full, stray: refused, and above a limit dropped
 *                      └─ mapped, forwarded ─► forward_requests
 *
 * Approved are packets of sessions whose opener's packets these rules have let through before, and
 * only these rules: whoever changes them makes the programs forget it (docs/nat.md, "Approval").
 *
 * The config's rules stand before everything that is accepted without them. So a rule that drops
 * what comes from the WAN closes full cone and port forwards; without any rule both are open, since
 * the programs tell as mapped only what the filtering of the network lets in. Whoever may come in
 * from the WAN may also come from inside by the external address (hairpin), which IPv6 has none of.
 */
import { PacketKind, PacketMark } from '../abi/layouts.generated.ts';
import { accept, builtIn, connectionRules, drop, dropTheRest } from './built-in-rule.ts';
import { expandRule, inNftOrder } from './expand-rule.ts';
import type { FirewallModel } from './firewall-model.ts';
import { neverForwardedRules, openedFromWan, refusedUnlessAllowed } from './forwarded-ipv6.ts';
import { isApproved, markOf } from './packet-mark.ts';
import {
  type ChainHook,
  type Match,
  mirrorMatch,
  type RulesetChain,
  type RulesetRule,
  type Statement,
} from './ruleset.ts';

/**
 * @param model without faults
 * @param options.isOpenInward whether sessions may be opened by mappings and port forwards
 */
export function forwardChains(
  model: FirewallModel,
  options: { readonly isOpenInward: boolean },
): RulesetChain[] {
  if (model.forwardedTraffic === 'sessions') return sessionChains(model, options);
  const rules = [...connectionRules, ...configuredRules(model), ...outward(model), dropTheRest];
  return [{ name: 'forward', hook, rules }];
}

const hook: ChainHook = { name: 'forward', priority: 'filter', policy: 'drop' };

function configuredRules(model: FirewallModel): RulesetRule[] {
  const forwarded = model.rules.filter(({ to }) => to !== 'gateway');
  return forwarded.flatMap((one) => expandRule(one, model));
}

function outward(model: FirewallModel): RulesetRule[] {
  return betweenInsideAndWan(model, (inside, wan) => [
    builtIn({
      name: 'outbound',
      matches: [
        { kind: 'input-interface', names: inside },
        { kind: 'output-interface', names: [wan] },
      ],
    }),
  ]);
}

function betweenInsideAndWan(
  model: FirewallModel,
  make: (inside: readonly string[], wan: string) => RulesetRule[],
): RulesetRule[] {
  const inside = model.networks.filter((network) => network.inside);
  const names = inNftOrder(inside.flatMap(({ interfaces }) => interfaces));
  if (model.wan === undefined || names.length === 0) return [];
  return make(names, model.wan.interface);
}

/** Requests and replies in a chain each: the second is the first, seen from the other end. */
function sessionChains(
  model: FirewallModel,
  { isOpenInward }: { readonly isOpenInward: boolean },
): RulesetChain[] {
  const configured = configuredRules(model);
  const refused = refusedUnlessAllowed(model);
  const open = [...outward(model), ...(isOpenInward ? inwardRules(model) : [])];
  // Not mirrored, since replies need no session to be refused here, nor more than `mapped` to pass.
  const opened = isOpenInward
    ? betweenInsideAndWan(model, (inside, wan) => openedFromWan({ inside, wan }))
    : [];
  const replies = [...configured, ...open].flatMap(mirrorRule);
  return [
    {
      name: 'forward_requests',
      rules: [...configured, ...refused, ...open, ...opened, dropTheRest],
    },
    { name: 'forward_replies', rules: [...replies, dropTheRest] },
    { name: 'forward', hook, rules: kindRules(model) },
  ];
}

function goTo(
  chain: string,
  rule: { readonly name: string; readonly part?: string; readonly matches: readonly Match[] },
): RulesetRule {
  return builtIn({ ...rule, statement: { kind: 'goto', chain } });
}

function isOfKind(kind: number): Match {
  return { kind: 'mark', mask: PacketMark.kind, values: [kind] };
}

/** An answer costs as much as the question: enough for people, too little to be used by others. */
const refusalLimit = { perSecond: 100, burst: 50 } as const;

function refusal(reason: 'tcp-reset' | 'admin-prohibited'): Statement {
  return { kind: 'reject-limited', with: reason, ...refusalLimit };
}

/** Nearly all packets are approved, and most others replies and requests. */
function kindRules(model: FirewallModel): RulesetRule[] {
  return [
    // Never a SYN.
    builtIn({ name: 'approved', matches: [isApproved] }),
    ...neverForwardedRules(model),
    builtIn({ name: 'mss', matches: [{ kind: 'tcp-syn' }], statement: { kind: 'clamp-mss' } }),
    goTo('forward_replies', { name: 'replies', matches: [isOfKind(PacketKind.reply)] }),
    goTo('forward_requests', { name: 'requests', matches: [isOfKind(PacketKind.request)] }),
    builtIn({ name: 'related', matches: [isOfKind(PacketKind.related)] }),
    ...strayFromWan(model),
    ...refusals,
    goTo('forward_requests', { name: 'requests', part: 'inward', matches: [] }),
  ];
}

/** A stranger who tries is not told that somebody is there. */
function strayFromWan({ wan }: FirewallModel): RulesetRule[] {
  if (wan === undefined) return [];
  return [
    builtIn({
      name: 'stray',
      part: 'wan',
      matches: [{ kind: 'input-interface', names: [wan.interface] }, isOfKind(PacketKind.stray)],
      statement: drop,
    }),
  ];
}

const refusals: readonly RulesetRule[] = [
  // RFC 5508 REQ-8: ICMP type 3, code 13.
  builtIn({
    name: 'full',
    part: 'reject',
    matches: [isOfKind(PacketKind.full)],
    statement: refusal('admin-prohibited'),
  }),
  builtIn({
    name: 'full',
    part: 'drop',
    matches: [isOfKind(PacketKind.full)],
    statement: drop,
  }),
  builtIn({
    name: 'stray',
    part: 'reject',
    matches: [{ kind: 'protocol', protocols: ['tcp'] }, isOfKind(PacketKind.stray)],
    statement: refusal('tcp-reset'),
  }),
  builtIn({
    name: 'stray',
    part: 'drop',
    matches: [isOfKind(PacketKind.stray)],
    statement: drop,
  }),
];

/** Sessions that the WAN opens, and those that inside opens in the same way. */
function inwardRules(model: FirewallModel): RulesetRule[] {
  const marked = (isHairpin: boolean): Match[] => [
    ...(isHairpin ? [{ kind: 'family', family: 4 } as const] : []),
    {
      kind: 'mark',
      mask: PacketMark.kind | (isHairpin ? PacketMark.hairpin : 0),
      values: (['mapped', 'portForward'] as const).map((packetKind) =>
        markOf({ packetKind, isHairpin }),
      ),
    },
  ];
  return betweenInsideAndWan(model, (inside, wan) =>
    [
      { name: 'mapped', from: [wan], isHairpin: false },
      { name: 'hairpin', from: inside, isHairpin: true },
    ].map(({ name, from, isHairpin }) =>
      builtIn({
        name,
        matches: [
          { kind: 'input-interface', names: from },
          { kind: 'output-interface', names: inside },
          ...marked(isHairpin),
        ],
      }),
    ),
  );
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
      matches: inListingOrder(matches.flatMap(matchReply)),
      statement: statement.kind === 'accept' ? accept : drop,
    },
  ];
}

/** A reply has a kind of its own, so of a mark only the other bits are compared. */
function matchReply(match: Match): Match[] {
  if (match.kind !== 'mark') return [mirrorMatch(match)];
  const mask = match.mask & ~PacketMark.kind;
  if (mask === 0) return [];
  return [{ ...match, mask, values: [...new Set(match.values.map((value) => value & mask))] }];
}

function inListingOrder(matches: readonly Match[]): Match[] {
  const order = [
    ['input-interface'],
    ['output-interface'],
    ['family'],
    ['source', 'source-table'],
    ['destination', 'destination-table'],
  ];
  const rank = ({ kind }: Match) => {
    const found = order.findIndex((kinds) => kinds.includes(kind));
    return found === -1 ? order.length : found;
  };
  return [...matches].sort((a, b) => rank(a) - rank(b));
}
