/**
 * Packets at random for the NAT, over few hosts, ports and remotes, so that they meet each other:
 * what a hook lets through goes on to the next one, as in a gateway. The same seed and the same
 * outcomes give the same walk.
 */
import { generationMark } from '../nat/generations.ts';
import { type NatHook, packetMarks } from '../nat/nat-hook.ts';
import type { NatInterfaces } from '../nat/nat-settings.ts';
import { likelyAnswer } from './likely-answer.ts';
import { Ipv6Walk } from './nat-ipv6-walk.ts';
import {
  type Frame,
  fragments,
  icmpError,
  ipBytes,
  ping,
  type Route,
  rawIp,
  tcp,
  udp,
  withBytes,
} from './nat-packets.ts';
import { SeededRandom } from './seeded-random.ts';
import {
  MADE_BY_GATEWAY,
  TESTED_INTERFACE_INDEX,
  type TestedOutcome,
  type TestedPacket,
} from './tested-nat.ts';

export type WalkStep =
  | { readonly do: 'wait'; readonly ticks: number }
  | { readonly do: 'change-rules'; readonly generation: number }
  | { readonly do: 'change-about'; readonly address: string; readonly times: number }
  | { readonly do: 'change-interfaces'; readonly interfaces: NatInterfaces }
  | { readonly do: 'kill' }
  | { readonly do: 'send'; readonly packet: TestedPacket };

const insideHosts = ['10.77.0.2', '10.77.0.3', '10.77.0.9', '10.78.0.2', '10.79.0.2', '192.0.2.2'];
const gateways = ['10.77.0.1', '192.0.2.1'];
/** How the addresses of each network begin, in the order of the settings. */
const networkStarts = ['10.77.0.', '10.78.0.', '10.79.0.', '192.0.2.'];
const externals = ['203.0.113.1', '203.0.113.9', '203.0.113.2'];
const remotes = ['198.51.100.1', '198.51.100.2', '198.51.100.3'];
const strangers = ['127.0.0.1', '0.1.2.3', '224.0.0.5', '240.0.0.1', '10.99.0.1'];
const ports = [53, 80, 1023, 5000, 5001, 5002, 61_500];
/** Its number is that of 10.77.0.2, too. */
const sharingItsPlace = '198.51.137.29';
/** Numbers this far apart are the same in the mark. */
const STAMPS = 255;
/** So many packets that were seen are quoted, answered and cut into fragments. */
const SEEN_MAX = 40;
/** The kernel's test run takes no IPv4 frame with less than a whole header. */
const SHORTEST_FRAME_BYTES = 34;
const OTHER_INTERFACE_INDEX = 2;
/** Of the packets: each takes three steps. */
const IPV6_SHARE = 0.25;
const flagSets = ['S', 'S', 'S', 'SA', 'SA', 'A', 'A', 'A', 'PA', 'FA', 'FA', 'F', 'R', 'RA', ''];
const oddFlagSets = ['SR', 'SF', 'SAF', 'SAR', 'RF', 'FPA', 'FSRA'];
const protocolsWithoutPorts = [4, 41, 47, 50, 132, 51, 253, 2];

interface Seen {
  readonly hook: NatHook;
  /** As it left the hook. */
  readonly bytes: Frame;
}

export class NatWalk {
  readonly #random: SeededRandom;
  readonly #next: TestedPacket[] = [];
  readonly #seen: Seen[] = [];
  readonly #ipv6: Ipv6Walk;
  /** What has to come before anything else. */
  readonly #owed: WalkStep[] = [];
  /** Of nft's rules. */
  #generation = 0;
  #interfaces: NatInterfaces = {
    wan: TESTED_INTERFACE_INDEX,
    networks: networkStarts.map(() => TESTED_INTERFACE_INDEX),
  };

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#ipv6 = new Ipv6Walk(this.#random);
  }

  step(): WalkStep {
    const random = this.#random;
    const owed = this.#owed.shift();
    if (owed !== undefined) return owed;
    // Also while packets are between their hooks.
    if (random.chance(0.01)) return this.#changeRules();
    if (random.chance(0.02)) return this.#changeAbout();
    if (random.chance(0.002)) return this.#changeInterfaces();
    if (random.chance(0.001)) return { do: 'kill' };
    if (random.chance(IPV6_SHARE)) return this.#ipv6Step();
    const queued = random.chance(0.9) ? this.#next.shift() : undefined;
    if (queued !== undefined) return { do: 'send', packet: queued };
    if (random.chance(0.06)) {
      const ticks = random.pick([1, 1, 1, 1, 2, 3, 5, 8, 12, 25, 45, 210]);
      return { do: 'wait', ticks };
    }
    return { do: 'send', packet: this.#packet() };
  }

  /** Interfaces have other numbers for this packet. */
  #ipv6Step(): WalkStep {
    const { interfaces, packet } = this.#ipv6.step(this.#generation);
    this.#owed.push({ do: 'send', packet });
    this.#owed.push({ do: 'change-interfaces', interfaces: this.#interfaces });
    return { do: 'change-interfaces', interfaces };
  }

  /** Mostly back to where everything is at home. */
  #changeInterfaces(): WalkStep {
    const random = this.#random;
    const isUsual = random.chance(0.5);
    const pick = () =>
      isUsual
        ? TESTED_INTERFACE_INDEX
        : random.pick([TESTED_INTERFACE_INDEX, TESTED_INTERFACE_INDEX, OTHER_INTERFACE_INDEX, 0]);
    this.#interfaces = { wan: pick(), networks: networkStarts.map(pick) };
    return { do: 'change-interfaces', interfaces: this.#interfaces };
  }

  /** Seldom by so much that the mark has the same bits again. */
  #changeAbout(): WalkStep {
    const random = this.#random;
    const mine = [...insideHosts, ...remotes, sharingItsPlace];
    const address = random.pick(random.chance(0.6) ? mine : this.#ipv6.addresses);
    return { do: 'change-about', address, times: random.pick([1, 1, 1, 2, STAMPS]) };
  }

  /** Seldom by so much that the mark has the same bits again, or that the number is near 0. */
  #changeRules(): WalkStep {
    const untilWrap = 2 ** 32 - this.#generation;
    const few = [1, 1, 1, 1, 1, 1, 2, 127];
    const raise = this.#random.pick([...few, STAMPS, 2 ** 24, untilWrap, untilWrap - 3]);
    this.#generation = (this.#generation + raise) % 2 ** 32;
    return { do: 'change-rules', generation: this.#generation };
  }

  /** What became of the packet of the last step decides what comes next. */
  learn(packet: TestedPacket, outcome: TestedOutcome): void {
    if (isIpv6(packet.bytes)) {
      this.#ipv6.learn(packet, outcome);
      return;
    }
    const { bytes, verdict, mark = 0 } = outcome;
    if (verdict !== 'pass' || bytes === undefined) return;
    this.#seen.push({ hook: packet.hook, bytes });
    if (this.#seen.length > SEEN_MAX) this.#seen.shift();
    if (packet.hook.endsWith('egress') && this.#random.chance(0.6)) this.#queueReply(bytes);
    const next = packet.hook.endsWith('ingress') ? nextHook(bytes) : undefined;
    // nft drops some, and then the next hook never sees them.
    if (next === undefined || !this.#random.chance(0.85)) return;
    this.#next.push({ hook: next, bytes, mark, cameInBy: this.#cameInBy(bytes) });
  }

  #packet(): TestedPacket {
    const random = this.#random;
    const bytes = this.#damaged(this.#frame());
    if (random.chance(0.85)) return { hook: this.#likelyHook(bytes), bytes, mark: this.#mark() };
    const hooks = ['inside-ingress', 'inside-egress', 'wan-ingress', 'wan-egress'] as const;
    const hook = random.pick(hooks);
    // The mark of a hairpin stands only where its first half can have written it.
    const isHairpin = hook === 'inside-egress' && nextHook(bytes) === 'inside-egress';
    const mark = isHairpin ? this.#mark() : this.#mark() & ~packetMarks.hairpin;
    const isMadeByGateway = hook.endsWith('egress') && random.chance(0.5);
    const cameInBy = isMadeByGateway ? MADE_BY_GATEWAY : this.#cameInBy(bytes);
    return { hook, bytes, mark: mark >>> 0, cameInBy };
  }

  /** Mostly the interface that its source belongs to. */
  #cameInBy(bytes: Frame): number {
    const random = this.#random;
    if (random.chance(0.1)) return random.pick([TESTED_INTERFACE_INDEX, OTHER_INTERFACE_INDEX]);
    const source = sourceOf(bytes);
    const network = networkStarts.findIndex((start) => source.startsWith(start));
    const { wan, networks } = this.#interfaces;
    // From one that is not there nothing comes.
    return (network < 0 ? wan : networks[network]) || TESTED_INTERFACE_INDEX;
  }

  /** Bits of others stay; ours mean nothing on the way in. */
  #mark(): number {
    const random = this.#random;
    if (random.chance(0.8)) return 0;
    const generation = random.pick([0, generationMark(this.#generation), 0x7f80_0000]);
    const others = random.pick([0, 0, 0x3f, 0x8000_0000]);
    const done = random.pick([0, 0, 0, packetMarks.done]);
    const kinds = [0, 0x40, 0x80, 0xc0, 0x100, 0x140, 0x180, 0x200, 0x240, 0x400, 0x440, 0x600];
    return (random.pick(kinds) | generation | done | others) >>> 0;
  }

  #likelyHook(bytes: Frame): NatHook {
    return insideHosts.includes(sourceOf(bytes)) ? 'inside-ingress' : 'wan-ingress';
  }

  #frame(): Frame {
    const random = this.#random;
    const roll = random.below(100);
    if (roll < 30) return this.#fromInside();
    if (roll < 60) return this.#answer() ?? this.#fromInside();
    if (roll < 72) return this.#fromOutside();
    if (roll < 84) return this.#error() ?? this.#fromOutside();
    if (roll < 94) return this.#fragment();
    return this.#transport(`${this.#any()}:${this.#port()} > ${this.#any()}:${this.#port()}`);
  }

  #fromInside(): Frame {
    const random = this.#random;
    const to = random.weighted<readonly string[]>([
      [6, remotes],
      [2, externals],
      [1, insideHosts],
      [0.3, gateways],
      [0.2, strangers],
    ]);
    const source = `${random.pick(insideHosts)}:${this.#port()}`;
    return this.#transport(`${source} > ${random.pick(to)}:${this.#port()}`);
  }

  #fromOutside(): Frame {
    const random = this.#random;
    const from = random.chance(0.9) ? remotes : [...strangers, ...insideHosts, ...externals];
    const to = random.chance(0.85) ? externals : insideHosts;
    const source = `${random.pick(from)}:${this.#port()}`;
    return this.#transport(`${source} > ${random.pick(to)}:${this.#port()}`);
  }

  /** The way back of something that was seen, or the same once more. */
  #answer(): Frame | undefined {
    const random = this.#random;
    const seen = this.#pickSeen();
    if (seen === undefined) return undefined;
    const packet = ipBytes(seen.bytes);
    const headerBytes = ((packet[0] ?? 0) & 0xf) * 4;
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const protocol = packet[9] ?? 0;
    const isPorted = (protocol === 6 || protocol === 17) && packet.length >= headerBytes + 8;
    const port = (at: number) => (isPorted ? view.getUint16(headerBytes + at) || 1 : 1);
    const from = `${addressAt(packet, 12)}:${port(0)}`;
    const to = `${addressAt(packet, 16)}:${port(2)}`;
    const isBack = random.chance(0.7);
    const route: Route = isBack ? `${to} > ${from}` : `${from} > ${to}`;
    if (protocol === 17) return udp(route, { payloadBytes: random.below(20) });
    if (protocol === 6 && isPorted && isBack && packet.length >= headerBytes + 20) {
      return this.#reply(route, packet.subarray(headerBytes));
    }
    if (protocol === 6) return this.#segment(route);
    const bare: Route = route.replaceAll(/:\d+/g, '') as Route;
    if (protocol !== 1) return rawIp(bare, protocol);
    const identifier = packet.length >= headerBytes + 8 ? view.getUint16(headerBytes + 4) : 0;
    return ping(bare, { identifier, type: random.pick([0, 8, 0, 14, 13]) });
  }

  /** Whoever gets a segment answers it. */
  #queueReply(bytes: Frame): void {
    const packet = ipBytes(bytes);
    const headerBytes = ((packet[0] ?? 0) & 0xf) * 4;
    const isWhole = packet.length >= headerBytes + 20 && ((packet[6] ?? 0) & 0x3f) === 0;
    if (packet[9] !== 6 || !isWhole) return;
    const segment = packet.subarray(headerBytes);
    const view = new DataView(segment.buffer, segment.byteOffset, segment.byteLength);
    const from = `${addressAt(packet, 16)}:${view.getUint16(2) || 1}`;
    const reply = this.#reply(
      `${from} > ${addressAt(packet, 12)}:${view.getUint16(0) || 1}`,
      segment,
    );
    this.#next.push({ hook: this.#likelyHook(reply), bytes: reply });
  }

  #reply(route: Route, segment: Uint8Array): Frame {
    const random = this.#random;
    if (random.chance(0.2)) return this.#segment(route);
    const { flags, ...answer } = likelyAnswer(random, segment);
    return tcp(route, flags, answer);
  }

  #error(): Frame | undefined {
    const random = this.#random;
    const seen = this.#pickSeen();
    if (seen === undefined || !isQuotable(seen.bytes)) return undefined;
    const quotedSource = addressAt(ipBytes(seen.bytes), 12);
    const reporter = random.chance(0.5) ? addressAt(ipBytes(seen.bytes), 16) : this.#any();
    const type = random.weighted([
      [6, 3],
      [3, 11],
      [1, 12],
      [1, 5],
      [1, 4],
    ]);
    return icmpError(`${reporter} > ${quotedSource}`, {
      type,
      code: type === 3 ? random.pick([1, 3, 4, 13]) : random.pick([0, 1]),
      rest: random.pick([0, 68, 551, 552, 1280]),
      quoted: random.chance(0.1) ? this.#damaged(seen.bytes) : seen.bytes,
      ...(random.chance(0.6)
        ? { quotedTransportBytes: random.pick([4, 8, 8, 8, 17, 18, 20]) }
        : {}),
      checksum: random.chance(0.95) ? 'right' : 'wrong',
    });
  }

  #fragment(): Frame {
    const random = this.#random;
    const [source, destination] = random.chance(0.5)
      ? [random.pick(insideHosts), random.pick([...remotes, ...externals])]
      : [random.pick(remotes), random.pick(externals)];
    const options = { identification: random.below(3), payloadBytes: 64 };
    const route: Route = `${source}:${this.#port()} > ${destination}:${this.#port()}`;
    const bare: Route = `${source} > ${destination}`;
    const whole = random.weighted([
      [4, () => udp(route, options)],
      [2, () => tcp(route, random.pick(flagSets), { ...options, ...this.#numbers() })],
      [1, () => ping(bare, { ...options, identifier: this.#port() })],
      [1, () => rawIp(bare, random.pick(protocolsWithoutPorts), options)],
    ])();
    const [first, later] = fragments(whole, random.pick([8, 16, 24]));
    return random.chance(0.5) ? first : later;
  }

  #transport(route: Route): Frame {
    const random = this.#random;
    const bare: Route = route.replaceAll(/:\d+/g, '') as Route;
    const checksum = random.weighted([
      [8, 'right'],
      [1, 'none'],
      [1, 'wrong'],
    ] as const);
    const options = random.chance(0.1) ? { optionBytes: random.pick([4, 8, 40]) } : {};
    const payloadBytes = random.below(12);
    return random.weighted([
      [40, () => udp(route, { ...options, payloadBytes, checksum })],
      [40, () => this.#segment(route)],
      [12, () => ping(bare, { ...options, identifier: this.#port(), type: this.#queryType() })],
      [6, () => rawIp(bare, random.pick(protocolsWithoutPorts))],
      [1, () => ping(bare, { identifier: 1, type: random.below(256) })],
    ])();
  }

  #queryType(): number {
    return this.#random.pick([8, 8, 8, 8, 0, 0, 13, 14, 15, 16, 17, 18]);
  }

  #segment(route: Route): Frame {
    const random = this.#random;
    const flags = random.pick(random.chance(0.95) ? flagSets : oddFlagSets);
    const payloadBytes = random.pick([0, 0, 0, 1, 10]);
    const checksum = random.chance(0.9) ? 'right' : 'wrong';
    return tcp(route, flags, { ...this.#numbers(), payloadBytes, checksum });
  }

  /** Few numbers, near each other, so that windows and ends are met. */
  #numbers() {
    const numbers = [0, 1, 2, 11, 12, 4_294_967_295, 70_000, 2 ** 26, 2 ** 26 + 1, 2 ** 31];
    const near = [0, 1, 1, 1, 2, 11];
    const pick = () => this.#random.pick(this.#random.chance(0.8) ? near : numbers);
    return { sequence: pick(), acknowledgement: pick() };
  }

  #damaged(bytes: Frame): Frame {
    const random = this.#random;
    if (!random.chance(0.04)) return bytes;
    if (random.chance(0.3)) return bytes.slice(0, SHORTEST_FRAME_BYTES + random.below(20));
    return withBytes(bytes, 12 + random.below(Math.min(40, bytes.length - 12)), [
      random.below(256),
    ]);
  }

  #pickSeen(): Seen | undefined {
    return this.#seen.length === 0 ? undefined : this.#random.pick(this.#seen);
  }

  #any(): string {
    return this.#random.pick([...insideHosts, ...gateways, ...externals, ...remotes, ...strangers]);
  }

  #port(): number {
    return this.#random.pick(ports);
  }
}

/** Where routing sends what came in; undefined for the gateway itself. */
function nextHook(bytes: Frame): NatHook | undefined {
  const destination = addressAt(bytes.subarray(14), 16);
  if (externals.includes(destination) || gateways.includes(destination)) return undefined;
  const isInside = insideHosts.some((host) => host.slice(0, -1) === destination.slice(0, -1));
  return isInside ? 'inside-egress' : 'wan-egress';
}

function isIpv6(bytes: Frame): boolean {
  return bytes[12] === 0x86 && bytes[13] === 0xdd;
}

function sourceOf(bytes: Frame): string {
  return addressAt(bytes.subarray(14), 12);
}

function isQuotable(bytes: Frame): boolean {
  return bytes.length >= 34 && ipBytes(bytes).length >= 28;
}

function addressAt(packet: Uint8Array, at: number): string {
  return [0, 1, 2, 3].map((index) => packet[at + index] ?? 0).join('.');
}
