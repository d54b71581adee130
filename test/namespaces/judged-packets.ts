/**
 * Packets for a gateway that stands between five interfaces: as facts for the judge, and as frames
 * for the kernel.
 */
import assert from 'node:assert/strict';
import { PacketKind } from '../../src/abi/layouts.generated.ts';
import type { PacketFacts } from '../../src/firewall/judge-packet.ts';
import type { PacketKindName, PacketKnowledge } from '../../src/firewall/packet-mark.ts';
import { formatIpAddress, type IpAddress, requireIpAddress } from '../../src/net/ip-address.ts';
import { type Prefix, prefixHasAddress, requireInterfaceAddress } from '../../src/net/prefix.ts';
import { type IpContent, type IpFrameOptions, ipPacket } from '../../src/testing/ip-frame.ts';

export const gatewayMac = '02:00:00:00:00:aa';

/** The gateway's interfaces, with its own addresses and a host behind each. */
export const places = {
  'br-lan': { own: ['10.77.0.1/24', '2001:db8:1::1/64'], hosts: ['10.77.0.9', '2001:db8:1::9'] },
  guest0: { own: ['10.78.0.1/25', '2001:db8:4::1/64'], hosts: ['10.78.0.9', '2001:db8:4::9'] },
  guest1: { own: ['10.78.0.129/25', '2001:db8:5::1/64'], hosts: ['10.78.0.200', '2001:db8:5::9'] },
  dmz0: { own: ['10.79.0.1/24', '2001:db8:3::1/64'], hosts: ['10.79.0.80', '2001:db8:3::9'] },
  wan0: { own: ['198.51.100.1/24', '2001:db8:2::1/64'], hosts: ['192.0.2.7', '2001:db8:f::7'] },
} as const;
export type PlaceName = keyof typeof places;
export const placeNames = Object.keys(places) as PlaceName[];

/** A prefix more, that nobody on the internet has. */
export const uniqueLocal = { place: 'guest0', prefix: 'fd77::/64' } as const;

/** More addresses that rules of the models tell apart. */
const moreHosts: Partial<Record<PlaceName, readonly string[]>> = {
  'br-lan': ['10.77.0.66', '10.77.0.128', '2001:db8:1::66'],
  dmz0: ['10.79.0.8', '10.79.0.9', '10.79.0.11', '10.79.0.12', '10.79.0.81', '10.79.0.82'],
  wan0: ['198.51.100.254', '203.0.113.80', '198.51.0.0', '198.51.0.1', '198.51.0.99'],
};
/** Sources on the WAN that prerouting refuses there, and that no routing judges before. */
export const martians = ['10.77.0.9', '10.1.2.3', '127.0.0.1', '0.0.0.0', '240.0.0.1', 'fd00::1'];
/** Sources that no inside network has. */
const strangers = ['10.1.2.3', '192.0.2.99', '10.80.0.1'];
export const ports = [
  1, 22, 25, 53, 67, 80, 81, 443, 500, 501, 547, 8_000, 8_020, 8_021, 8_443, 51_820,
];

const packetKinds = Object.keys(PacketKind) as PacketKindName[];
const HAIRPIN_CODE = 8;
const APPROVED_CODE = 16;

/**
 * What the programs would know of a packet, as its differentiated services code point, which
 * nothing else here reads. A table of the test makes the mark of it.
 */
export const knowledgeByCode: ReadonlyMap<number, PacketKnowledge> = new Map(
  packetKinds.flatMap((packetKind, index) =>
    [false, true].flatMap((isHairpin) =>
      [false, true].map((isApproved) => {
        const code = codeOf(index, { isHairpin, isApproved });
        return [code, { packetKind, isHairpin, isApproved }] as const;
      }),
    ),
  ),
);

function codeOf(index: number, { isHairpin, isApproved }: PacketKnowledge): number {
  return (
    index + (isHairpin === true ? HAIRPIN_CODE : 0) + (isApproved === true ? APPROVED_CODE : 0)
  );
}

/** IPv4's type of service and IPv6's traffic class for it. */
export function trafficClassOf(knowledge: PacketKnowledge): number {
  return codeOf(packetKinds.indexOf(knowledge.packetKind ?? 'request'), knowledge) << 2;
}

/** Most often what most packets are. */
export function anyTrafficClass(random: Random): number {
  const often = ['request', 'request', 'request', 'reply'] as const;
  const packetKind = pick(random, [...often, ...packetKinds]);
  const luck = random();
  return trafficClassOf({ packetKind, isHairpin: luck < 0.2, isApproved: luck > 0.95 });
}

/** What was sent: the facts but for conntrack's opinion, and the frame. */
export interface Sent {
  readonly facts: Omit<PacketFacts, 'connection'>;
  readonly frame: IpFrameOptions;
}

export type Random = () => number;

export function pick<T>(random: Random, values: readonly T[]): T {
  const value = values[Math.floor(random() * values.length)];
  assert.notEqual(value, undefined);
  return value as T;
}

function hostsOf(place: PlaceName, family: 4 | 6): string[] {
  const all = [...places[place].hosts, ...(moreHosts[place] ?? [])];
  return all.filter((address) => address.includes(':') === (family === 6));
}

export function anyPacket(random: Random): Sent {
  const family = pick(random, [4, 4, 6] as const);
  const from = pick(random, placeNames);
  const isForwarded = random() < 0.55;
  const to = pick(random, placeNames);
  const isMartian = random() < (from === 'wan0' ? 0.15 : 0.08);
  const wrong = from === 'wan0' || family === 6 ? martians : strangers;
  const martian = wrong.filter((address) => address.includes(':') === (family === 6));
  const isLinkLocal = family === 6 && !isForwarded && random() < 0.3;
  const source = isLinkLocal
    ? 'fe80::9'
    : pick(random, isMartian ? martian : hostsOf(from, family));
  const own = pick(random, [from, to]);
  const destination = isForwarded
    ? pick(random, hostsOf(to, family))
    : (places[own].own[family === 4 ? 0 : 1].split('/')[0] ?? '');
  return packetOf({
    from,
    ...(isForwarded ? { to } : {}),
    source,
    destination,
    content: anyContent(random, family),
    hopLimit: pick(random, [2, 64, 255, 255]),
    trafficClass: anyTrafficClass(random),
  });
}

function anyContent(random: Random, family: 4 | 6): IpContent {
  const protocol = pick(random, [
    ...(['tcp', 'tcp', 'tcp', 'udp', 'udp', 'sctp', 'icmp', 'icmpv6', 'icmpv6'] as const),
    ...(['esp', 'ah', 'gre', 'other'] as const),
  ]);
  const isNative = protocol !== 'icmp' || family === 4;
  const sourcePort = pick(random, [40_000 + Math.floor(random() * 20_000), 67, 547, 443]);
  const destinationPort = pick(random, [...ports, 68, 546]);
  if (protocol === 'tcp') {
    const flags = pick(random, [2, 2, 2, 2, 16, 4, 18]);
    return { protocol, flags, sourcePort, destinationPort };
  }
  if (protocol === 'udp' || protocol === 'sctp') return { protocol, sourcePort, destinationPort };
  if (protocol === 'icmp' && isNative) {
    return { protocol, type: pick(random, [0, 3, 8, 8, 8, 11, 12, 13]) };
  }
  // The other family's protocol is none of its own.
  if (protocol === 'icmp' || (protocol === 'icmpv6' && family === 4))
    return { protocol, type: 128 };
  if (protocol === 'icmpv6') {
    return { protocol, type: pick(random, [1, 2, 3, 4, 128, 128, 129, 135, 136, 134]) };
  }
  return { protocol };
}

const SYN = 2;
const RST = 4;

const inside = placeNames.filter((place) => place !== 'wan0');
const waysOfIpv6 = [
  ...inside.map((place) => ({ place, prefix: requirePrefixOf(places[place].own[1]) })),
  { place: uniqueLocal.place, prefix: requirePrefixOf(uniqueLocal.prefix) },
];

function requirePrefixOf(address: string): Prefix {
  return requireInterfaceAddress(address).prefix;
}

/** Whether the gateway's routes lead to a source of IPv6 by another interface than this one. */
function isElsewhere(source: IpAddress, from: PlaceName): boolean {
  const isOfLink = formatIpAddress(source).startsWith('fe80:');
  if (source.family === 4 || isOfLink) return false;
  const way = waysOfIpv6.find(({ prefix }) => prefixHasAddress(prefix, source));
  return (way?.place ?? 'wan0') !== from;
}

interface PacketParts {
  readonly from: PlaceName;
  readonly to?: PlaceName;
  readonly source: string;
  readonly destination: string;
  readonly content: IpContent;
  readonly hopLimit: number;
  readonly trafficClass: number;
  readonly group?: string;
}

function packetOf(parts: PacketParts): Sent {
  const { from, to, content, hopLimit, trafficClass, group } = parts;
  const source = requireIpAddress(parts.source);
  const destination = requireIpAddress(parts.destination);
  return {
    facts: {
      inputInterface: from,
      ...(to === undefined ? {} : { outputInterface: to }),
      toThisHost: to === undefined,
      isSourceElsewhere: isElsewhere(source, from),
      ...(group === undefined ? {} : { toGroup: true }),
      source,
      destination,
      protocol: content.protocol,
      hopLimit,
      ...knowledgeByCode.get(trafficClass >> 2),
      ...('flags' in content ? { isSyn: (content.flags & (SYN | RST)) === SYN } : {}),
      ...('sourcePort' in content
        ? { sourcePort: content.sourcePort, destinationPort: content.destinationPort }
        : {}),
      ...('type' in content ? { icmpType: content.type } : {}),
    },
    frame: {
      destinationMac: group ?? gatewayMac,
      source,
      destination,
      hopLimit,
      trafficClass,
      content,
    },
  };
}

/**
 * What the other end says to a packet that was forwarded: an answer, or an error about it. To a
 * forged source there is no way back.
 */
export function answerTo(
  { facts, frame }: Sent,
  { isError, trafficClass }: { readonly isError: boolean; readonly trafficClass: number },
): Sent | undefined {
  const from = facts.outputInterface as PlaceName | undefined;
  const family = facts.source.family;
  const isHonest = hostsOf(facts.inputInterface as PlaceName, family).includes(
    formatIpAddress(facts.source),
  );
  if (from === undefined || !isHonest) return undefined;
  const answer = isError
    ? ({
        protocol: family === 4 ? 'icmp' : 'icmpv6',
        type: family === 4 ? 3 : 1,
        quoted: ipPacket(frame),
      } as const)
    : contentOfAnswer(frame.content);
  if (answer === undefined) return undefined;
  return packetOf({
    from,
    to: facts.inputInterface as PlaceName,
    source: formatIpAddress(facts.destination),
    destination: formatIpAddress(facts.source),
    content: answer,
    hopLimit: 64,
    trafficClass,
  });
}

function contentOfAnswer(content: IpContent): IpContent | undefined {
  if ('sourcePort' in content) {
    const { sourcePort, destinationPort } = content;
    const turned = { sourcePort: destinationPort, destinationPort: sourcePort };
    if (content.protocol !== 'tcp') return { ...content, ...turned };
    return content.flags === 2 ? { ...content, ...turned, flags: 18 } : undefined;
  }
  if (content.protocol === 'icmp') return content.type === 8 ? { ...content, type: 0 } : undefined;
  if (content.protocol === 'icmpv6') {
    return content.type === 128 ? { ...content, type: 129 } : undefined;
  }
  return content;
}

const everybody = 'ff:ff:ff:ff:ff:ff';
/** What is said to all: DHCP, and the first words of IPv6. */
export const groupPackets: readonly Sent[] = [
  ...(['br-lan', 'guest1', 'dmz0', 'wan0'] as const).map((from) =>
    packetOf({
      from,
      source: '0.0.0.0',
      destination: '255.255.255.255',
      content: { protocol: 'udp', sourcePort: 68, destinationPort: 67 },
      hopLimit: 64,
      trafficClass: 0,
      group: everybody,
    }),
  ),
  packetOf({
    from: 'wan0',
    source: '198.51.100.254',
    destination: '255.255.255.255',
    content: { protocol: 'udp', sourcePort: 67, destinationPort: 68 },
    hopLimit: 64,
    trafficClass: 0,
    group: everybody,
  }),
  ...[130, 131, 132, 133, 134, 143].map((type) =>
    packetOf({
      from: 'br-lan',
      source: 'fe80::9',
      destination: 'ff02::1',
      content: { protocol: 'icmpv6', type },
      hopLimit: type === 133 || type === 134 ? 255 : 1,
      trafficClass: 0,
      group: '33:33:00:00:00:01',
    }),
  ),
];

export function toPort(
  protocol: 'tcp' | 'udp' | 'sctp',
  destinationPort: number,
  sourcePort = 50_000,
) {
  return { protocol, ...(protocol === 'tcp' ? { flags: 2 } : {}), sourcePort, destinationPort };
}

/** Aimed at those rules of the home that chance finds seldom. */
export const homePackets: readonly Sent[] = [
  aimed('br-lan', '10.77.0.66', 'wan0', '192.0.2.7', toPort('tcp', 80)),
  aimed('br-lan', '2001:db8:1::66', 'wan0', '2001:db8:f::7', toPort('udp', 80)),
  aimed('wan0', '192.0.2.7', 'dmz0', '10.79.0.80', toPort('tcp', 8_020)),
  aimed('guest0', '10.78.0.9', 'wan0', '192.0.2.7', toPort('tcp', 443)),
  aimed('guest1', '10.78.0.200', 'wan0', '192.0.2.7', toPort('udp', 500)),
  aimed('guest0', '10.78.0.9', 'wan0', '192.0.2.7', toPort('tcp', 25)),
  aimed('wan0', '2001:db8:f::7', 'dmz0', '2001:db8:3::9', { protocol: 'icmpv6', type: 128 }),
  aimed('wan0', '192.0.2.7', undefined, '198.51.100.1', toPort('udp', 51_820)),
  aimed('br-lan', '10.77.0.128', undefined, '10.77.0.1', toPort('udp', 53)),
  aimed('br-lan', '2001:db8:1::9', undefined, '2001:db8:1::1', toPort('tcp', 22)),
  aimed('guest1', '10.78.0.200', undefined, '10.78.0.129', toPort('udp', 53)),
  aimed('br-lan', '10.77.0.9', undefined, '10.77.0.1', toPort('tcp', 22)),
  aimed('br-lan', '10.77.0.9', undefined, '10.77.0.1', toPort('tcp', 8_443)),
  aimed('wan0', 'fe80::9', undefined, '2001:db8:2::1', toPort('udp', 546, 547)),
  aimed('wan0', '192.0.2.7', undefined, '198.51.100.1', { protocol: 'icmp', type: 8 }),
  // Again: it belongs to what the gateway has answered.
  aimed('wan0', '192.0.2.7', undefined, '198.51.100.1', { protocol: 'icmp', type: 8 }),
  aimed('br-lan', 'fe80::9', undefined, '2001:db8:1::1', { protocol: 'icmpv6', type: 128 }),
  aimed('wan0', 'fd00::1', undefined, '2001:db8:2::1', toPort('tcp', 22)),
];

/** Aimed at those rules of the home that name tables. */
export const tablePackets: readonly Sent[] = [
  ...(['request', 'reply'] as const).flatMap((packetKind) => [
    aimed('wan0', '203.0.113.80', 'br-lan', '10.77.0.9', toPort('udp', 9), { packetKind }),
    aimed('wan0', '2001:db8:f::7', 'br-lan', '2001:db8:1::9', toPort('udp', 9), { packetKind }),
    aimed('br-lan', '10.77.0.9', 'wan0', '203.0.113.80', toPort('udp', 9), { packetKind }),
    aimed('br-lan', '2001:db8:1::9', 'wan0', '2001:db8:f::7', toPort('udp', 9), { packetKind }),
    aimed('wan0', '192.0.2.200', 'dmz0', '10.79.0.80', toPort('tcp', 22), { packetKind }),
    aimed('dmz0', '10.79.0.80', 'wan0', '192.0.2.200', toPort('tcp', 9, 22), { packetKind }),
  ]),
  ...(['tcp', 'udp'] as const).flatMap((protocol) => [
    aimed('wan0', '203.0.113.80', undefined, '198.51.100.1', toPort(protocol, 9)),
    aimed('wan0', '2001:db8:f::7', undefined, '2001:db8:2::1', toPort(protocol, 9)),
  ]),
];

const stranger = '2001:db8:f::7';
const host = '2001:db8:1::9';
/** Aimed at what is built in for forwarded IPv6. */
const ipv6Packets: readonly Sent[] = [
  ...placeNames.map((from) => aimed(from, '2001:db8:3::66', 'wan0', stranger, toPort('tcp', 1))),
  aimed('dmz0', host, 'wan0', stranger, toPort('tcp', 1)),
  aimed('wan0', '2001:1f::1', 'br-lan', host, toPort('udp', 1)),
  aimed('br-lan', host, 'wan0', '2001:1f::1', toPort('udp', 1)),
  aimed('guest0', 'fd77::9', 'wan0', stranger, toPort('udp', 1)),
  aimed('br-lan', host, 'wan0', 'fd00::9', toPort('udp', 1)),
  aimed('wan0', stranger, 'guest0', 'fd77::9', toPort('udp', 1)),
  ...[1, 2, 3, 4, 100, 127, 128, 129, 137, 138, 139, 144, 150, 151, 201, 255].flatMap((type) => [
    aimed('br-lan', host, 'wan0', stranger, { protocol: 'icmpv6', type }),
    aimed('wan0', stranger, 'br-lan', host, { protocol: 'icmpv6', type }),
  ]),
  ...(['esp', 'ah'] as const).map((protocol) =>
    aimed('wan0', stranger, 'br-lan', host, { protocol }),
  ),
  aimed('wan0', stranger, 'br-lan', host, toPort('udp', 500)),
  aimed(
    'wan0',
    stranger,
    'br-lan',
    host,
    { ...toPort('tcp', 9), flags: 16 },
    { packetKind: 'stray' },
  ),
];

/** Aimed at those rules of a home followed by sessions that chance finds seldom. */
export const sessionPackets: readonly Sent[] = [
  ...ipv6Packets,
  ...(['mapped', 'portForward', 'reply', 'request'] as const).flatMap((packetKind) => [
    aimed('wan0', '192.0.2.7', 'br-lan', '10.77.0.9', toPort('udp', 5_060), { packetKind }),
    aimed('br-lan', '10.77.0.9', 'wan0', '192.0.2.7', toPort('udp', 5_060), { packetKind }),
    ...[true, false].map((isHairpin) =>
      aimed('guest0', '10.78.0.9', 'br-lan', '10.77.0.9', toPort('udp', 5_060), {
        packetKind,
        isHairpin,
      }),
    ),
  ]),
  ...(['full', 'stray', 'related'] as const).flatMap((packetKind) => [
    aimed('br-lan', '10.77.0.9', 'wan0', '192.0.2.7', toPort('tcp', 443), { packetKind }),
    aimed('wan0', '192.0.2.7', 'br-lan', '10.77.0.9', toPort('udp', 443), { packetKind }),
    aimed('wan0', '2001:db8:f::7', 'br-lan', '2001:db8:1::9', toPort('tcp', 443), { packetKind }),
  ]),
  aimed('wan0', '2001:db8:f::7', 'br-lan', '2001:db8:1::9', toPort('udp', 9), {
    packetKind: 'mapped',
  }),
  aimed(
    'guest1',
    '10.78.0.200',
    'br-lan',
    '10.77.0.9',
    { protocol: 'gre' },
    { packetKind: 'reply' },
  ),
  aimed('wan0', '192.0.2.7', 'dmz0', '10.79.0.80', toPort('tcp', 50_000, 443), {
    packetKind: 'reply',
  }),
  // A reset of nothing.
  aimed('br-lan', '2001:db8:1::9', 'wan0', '2001:db8:f::7', { ...toPort('tcp', 9), flags: 4 }),
  ...(['br-lan', 'guest1', 'dmz0'] as const).flatMap((from) => [
    aimed(from, '10.80.0.1', 'wan0', '192.0.2.7', toPort('udp', 9)),
    aimed(from, '10.80.0.1', undefined, '10.77.0.1', toPort('udp', 53)),
  ]),
];

export function aimed(
  from: PlaceName,
  source: string,
  to: PlaceName | undefined,
  destination: string,
  content: object,
  knowledge: PacketKnowledge = {},
): Sent {
  const target = to === undefined ? {} : { to };
  const trafficClass = trafficClassOf(knowledge);
  const rest = { hopLimit: 64, trafficClass, content: content as IpContent };
  return packetOf({ from, source, ...target, destination, ...rest });
}
