/**
 * Packets of IPv6 at random for the NAT: the part of {@link NatWalk} in which interfaces alone tell
 * where somebody is. Among the addresses are pairs with the same digest by the key of the tests.
 */
import { generationMark } from '../nat/generations.ts';
import { type NatHook, packetKinds, packetMarks } from '../nat/nat-hook.ts';
import type { NatInterfaces } from '../nat/nat-settings.ts';
import { formatIpv6Address, ipv6Address } from '../net/ipv6-address.ts';
import {
  authentication,
  destinationOptions,
  type ExtensionHeader,
  fragmentHeader,
  hopByHop,
  ipv6Fragments,
  ipv6PacketBytes,
  ipv6Transport,
  routing,
} from './ipv6-packets.ts';
import { likelyAnswer } from './likely-answer.ts';
import { interfaceOf, type Whereabouts } from './nat-ipv6-crossing.ts';
import {
  type Frame,
  icmpError,
  ping,
  type Route,
  rawIp,
  tcp,
  udp,
  withBytes,
} from './nat-packets.ts';
import type { SeededRandom } from './seeded-random.ts';
import type { TestedOutcome, TestedPacket } from './tested-nat.ts';

/** A packet, and the numbers of interfaces while it meets its hook. */
export interface Ipv6WalkStep {
  readonly interfaces: NatInterfaces;
  readonly packet: TestedPacket;
}

/** Who is where: into the networks of the tests. */
const places: { readonly [address: string]: Whereabouts } = {
  '2001:db8:77::2': 0,
  '2001:db8:77::cb95': 0,
  '2001:db8:77::ce29': 0,
  '2001:db8:78::2': 1,
  '2001:db8:79::2': 2,
  '2001:db8:192::2': 3,
  '2001:db8:9::1': 'wan',
  '2001:db8:9::2': 'wan',
  '2001:db8:9::1:2a49': 'wan',
  '2001:db8:9::2:a780': 'wan',
  '2001:db8:ffff::1': 'elsewhere',
};
const addresses = Object.keys(places);
const insideHosts = addresses.filter((address) => typeof places[address] === 'number');
const remotes = addresses.filter((address) => places[address] === 'wan');
const nobodys = ['fe80::1', 'ff02::1', '::', '::1'];
const NETWORK_COUNT = 4;
const ports = [53, 80, 5000, 5001];
const flagSets = ['S', 'S', 'S', 'SA', 'SA', 'A', 'A', 'A', 'PA', 'FA', 'FA', 'F', 'R', 'RA', ''];
const oddFlagSets = ['SR', 'SF', 'SAF', 'SAR', 'RF', 'FPA', 'FSRA'];
/** Without ports; hop-by-hop options (0) where none may be, and ICMP of IPv4, among them. */
const otherProtocols = [50, 51, 59, 1, 47, 132, 253, 0, 60, 44, 43, 58];
const SEEN_MAX = 40;
/** The kernel's test run takes no frame with less than a whole header. */
const SHORTEST_FRAME_BYTES = 54;
/** In the frame. */
const PAYLOAD_LENGTH_AT = 18;

/** What waits for its next hook. */
interface Underway {
  readonly frame: Frame;
  readonly from: Whereabouts;
  readonly to: Whereabouts;
  readonly isEgress: boolean;
  readonly mark: number;
}

export class Ipv6Walk {
  /** Of those who speak. */
  readonly addresses = addresses;
  readonly #random: SeededRandom;
  readonly #next: Underway[] = [];
  readonly #seen: Frame[] = [];

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** @param generation of nft's rules */
  step(generation: number): Ipv6WalkStep {
    const queued = this.#random.chance(0.9) ? this.#next.shift() : undefined;
    return this.#stepOf(queued ?? this.#underway(generation));
  }

  /** What became of a packet decides what comes next. */
  learn(packet: TestedPacket, { verdict, bytes, mark = 0 }: TestedOutcome): void {
    if (verdict !== 'pass' || bytes === undefined || bytes.length < SHORTEST_FRAME_BYTES) return;
    const random = this.#random;
    this.#seen.push(bytes);
    if (this.#seen.length > SEEN_MAX) this.#seen.shift();
    const { source, destination } = addressesOf(bytes);
    const [from, to] = [placeOf(source), placeOf(destination)];
    if (packet.hook.endsWith('ingress')) {
      // nft drops some, and then the next hook never sees them.
      const isForwarded = random.chance(0.85);
      if (isForwarded) this.#next.push({ frame: bytes, from, to, mark, isEgress: true });
      return;
    }
    const answer = random.chance(0.6) ? this.#answerTo(bytes) : undefined;
    if (answer === undefined) return;
    this.#next.push({ frame: answer, from: to, to: from, mark: 0, isEgress: false });
  }

  #stepOf({ frame, from, to, isEgress, mark }: Underway): Ipv6WalkStep {
    const hookPlace = isEgress ? to : from;
    const hook = hookAt(hookPlace, isEgress);
    const isSuperPacket = this.#random.chance(0.02);
    const cameInBy = isEgress ? { cameInBy: interfaceOf(from, to) } : {};
    return {
      interfaces: this.#interfacesAt(hookPlace),
      packet: { hook, bytes: frame, mark: mark >>> 0, isSuperPacket, ...cameInBy },
    };
  }

  /** Mostly those of all places, and sometimes fewer. */
  #interfacesAt(hookPlace: Whereabouts): NatInterfaces {
    const random = this.#random;
    const number = (place: Whereabouts) => {
      if (!random.chance(0.02)) return interfaceOf(place, hookPlace);
      return random.pick([0, 1, interfaceOf('wan', 'elsewhere'), interfaceOf(0, 'elsewhere')]);
    };
    const networks = Array.from({ length: NETWORK_COUNT }, (_, index) => number(index));
    return { wan: number('wan'), networks };
  }

  /** A new packet, mostly where it would come in. */
  #underway(generation: number): Underway {
    const random = this.#random;
    const frame = this.#damaged(this.#frame());
    const { source, destination } = addressesOf(frame);
    const anywhere = ['wan', 0, 1, 2, 3, 'elsewhere'] as const;
    const from = random.chance(0.93) ? placeOf(source) : random.pick(anywhere);
    const to = random.chance(0.93) ? placeOf(destination) : random.pick(anywhere);
    const isEgress = random.chance(0.15);
    const isOfGateway = isEgress && random.chance(0.15);
    const mark = isEgress || random.chance(0.2) ? this.#mark(generation) : 0;
    return { frame, from: isOfGateway ? 'gateway' : from, to, isEgress, mark };
  }

  #mark(generation: number): number {
    const random = this.#random;
    const kind = random.pick([0, 0, 0, ...Object.values(packetKinds)]);
    const generations = [generationMark(generation), generationMark(generation), 0, 0x7f80_0000];
    const { approved, done, hairpin } = packetMarks;
    const ours = random.pick([0, 0, 0, 0, approved, done, hairpin]);
    return kind | random.pick(generations) | ours | random.pick([0, 0, 0x3f, 0x8000_0000]);
  }

  #frame(): Frame {
    const random = this.#random;
    return random.weighted([
      [30, () => this.#transport(this.#route(insideHosts, [...remotes, ...insideHosts]))],
      [30, () => this.#again() ?? this.#transport(this.#route(insideHosts, remotes))],
      [8, () => this.#transport(this.#route(remotes, insideHosts))],
      [8, () => this.#toKnownEndpoint() ?? this.#transport(this.#route(remotes, insideHosts))],
      [12, () => this.#error() ?? this.#transport(this.#route(remotes, insideHosts))],
      [8, () => this.#fragment()],
      [
        6,
        () => this.#transport(this.#route([...addresses, ...nobodys], [...addresses, ...nobodys])),
      ],
    ])();
  }

  #route(from: readonly string[], to: readonly string[]): Route {
    const random = this.#random;
    const sender = `[${random.pick(from)}]:${random.pick(ports)}`;
    return `${sender} > [${random.pick(to)}]:${random.pick(ports)}`;
  }

  /** Of a packet that was seen: its answer, or itself once more with other extension headers. */
  #again(): Frame | undefined {
    const random = this.#random;
    const seen = this.#pickSeen();
    if (seen === undefined) return undefined;
    return random.chance(0.7) ? this.#answerTo(seen) : this.#likeIt(seen);
  }

  /** Somebody tries what another was asked from. */
  #toKnownEndpoint(): Frame | undefined {
    const seen = this.#pickSeen();
    if (seen === undefined) return undefined;
    const packet = ipv6PacketBytes(seen);
    const { protocol, at, isLaterFragment } = ipv6Transport(packet);
    if (isLaterFragment || packet.length < at + 8) return undefined;
    const port = ((packet[at] ?? 0) << 8) | (packet[at + 1] ?? 0) || 1;
    const { source } = addressesOf(seen);
    const stranger = `[${this.#random.pick(remotes)}]:${this.#random.pick(ports)}` as const;
    const route: Route = `${stranger} > [${source}]:${port}`;
    return protocol === 6 ? this.#segment(route) : udp(route);
  }

  /** What a real peer would answer, mostly, so that connections come about. */
  #answerTo(frame: Frame): Frame | undefined {
    const random = this.#random;
    const packet = ipv6PacketBytes(frame);
    const { protocol, at, isLaterFragment } = ipv6Transport(packet);
    if (isLaterFragment || packet.length < at + 8) return undefined;
    const { source, destination } = addressesOf(frame);
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const route: Route = `[${destination}]:${view.getUint16(at + 2) || 1} > [${source}]:${
      view.getUint16(at) || 1
    }`;
    const bare: Route = `${destination} > ${source}`;
    const extensions = this.#extensions();
    if (protocol === 17) return udp(route, { payloadBytes: random.below(20), extensions });
    if (protocol === 58) {
      const type = random.pick([129, 129, 129, 128]);
      return ping(bare, { identifier: view.getUint16(at + 4), type, extensions });
    }
    if (protocol !== 6) return rawIp(bare, protocol, { extensions });
    return packet.length < at + 20 ? undefined : this.#replySegment(route, packet.subarray(at));
  }

  #likeIt(frame: Frame): Frame | undefined {
    const { source, destination } = addressesOf(frame);
    const packet = ipv6PacketBytes(frame);
    const { protocol, at, isLaterFragment } = ipv6Transport(packet);
    if (isLaterFragment || packet.length < at + 8) return undefined;
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const route: Route = `[${source}]:${view.getUint16(at) || 1} > [${destination}]:${
      view.getUint16(at + 2) || 1
    }`;
    if (protocol === 17) return udp(route, { extensions: this.#extensions() });
    return protocol === 6 ? this.#segment(route) : undefined;
  }

  #replySegment(route: Route, segment: Uint8Array): Frame {
    const random = this.#random;
    if (random.chance(0.2)) return this.#segment(route);
    const { flags, ...answer } = likelyAnswer(random, segment);
    return tcp(route, flags, { ...answer, extensions: this.#extensions() });
  }

  #error(): Frame | undefined {
    const random = this.#random;
    const seen = this.#pickSeen();
    if (seen === undefined) return undefined;
    const { source, destination } = addressesOf(seen);
    const reporter = random.chance(0.5) ? destination : random.pick(addresses);
    const target = random.chance(0.9) ? source : random.pick(addresses);
    const bytes = random.pick([4, 7, 8, 8, 8, 20]);
    return icmpError(`${reporter} > ${target}`, {
      type: random.pick([1, 2, 3, 4]),
      code: random.below(5),
      rest: random.pick([0, 1280]),
      quoted: random.chance(0.1) ? this.#damaged(seen) : seen,
      ...(random.chance(0.5) ? { quotedTransportBytes: bytes } : {}),
      checksum: random.chance(0.95) ? 'right' : 'wrong',
      extensions: this.#extensions(),
    });
  }

  #fragment(): Frame {
    const random = this.#random;
    const isOut = random.chance(0.5);
    const route = isOut ? this.#route(insideHosts, remotes) : this.#route(remotes, insideHosts);
    const options = { payloadBytes: 64, extensions: this.#extensions() };
    const whole = random.weighted([
      [4, () => udp(route, options)],
      [2, () => tcp(route, random.pick(flagSets), { ...options, ...this.#numbers() })],
      [1, () => ping(bareOf(route), { ...options, identifier: 53 })],
      [1, () => rawIp(bareOf(route), random.pick(otherProtocols), options)],
    ])();
    const firstBytes = random.pick([0, 8, 8, 16, 24, 24]);
    const cut = ipv6Fragments(whole, { firstBytes, identification: random.below(3) });
    return random.pick(cut);
  }

  #transport(route: Route): Frame {
    const random = this.#random;
    const extensions = this.#extensions();
    return random.weighted([
      [40, () => udp(route, { extensions, payloadBytes: random.below(12) })],
      [40, () => this.#segment(route)],
      [10, () => ping(bareOf(route), { extensions, ...this.#query() })],
      [8, () => rawIp(bareOf(route), random.pick(otherProtocols), { extensions })],
      [2, () => ping(bareOf(route), { extensions, identifier: 1, type: random.below(256) })],
    ])();
  }

  #query() {
    return { identifier: this.#random.pick(ports), type: this.#random.pick([128, 128, 128, 129]) };
  }

  #segment(route: Route): Frame {
    const random = this.#random;
    const flags = random.pick(random.chance(0.95) ? flagSets : oddFlagSets);
    const payloadBytes = random.pick([0, 0, 0, 1, 10]);
    return tcp(route, flags, { ...this.#numbers(), payloadBytes, extensions: this.#extensions() });
  }

  /** Few numbers, near each other, so that windows and ends are met. */
  #numbers() {
    const numbers = [0, 1, 2, 11, 4_294_967_295, 70_000, 2 ** 26, 2 ** 26 + 1, 2 ** 31];
    const near = [0, 1, 1, 1, 2, 11];
    const pick = () => this.#random.pick(this.#random.chance(0.8) ? near : numbers);
    return { sequence: pick(), acknowledgement: pick() };
  }

  /** Mostly none; else a chain that is mostly right. */
  #extensions(): readonly ExtensionHeader[] {
    const random = this.#random;
    if (random.chance(0.85)) return [];
    const count = random.pick([1, 1, 1, 2, 2, 3, 8, 9]);
    const first = random.chance(0.5) ? [hopByHop(random.pick([8, 16]))] : [];
    return [...first, ...Array.from({ length: count - first.length }, () => this.#extension())];
  }

  #extension(): ExtensionHeader {
    const random = this.#random;
    const identification = random.below(3);
    return random.weighted<() => ExtensionHeader>([
      [20, () => destinationOptions(random.pick([8, 8, 16, 128, 256]))],
      [4, () => routing({ type: random.pick([0, 2, 4]), segmentsLeft: random.pick([0, 0, 1]) })],
      [2, () => fragmentHeader({ offset: 0, isMore: random.chance(0.2), identification })],
      [1, () => fragmentHeader({ offset: 1, isMore: random.chance(0.5), identification })],
      [1, () => authentication()],
      [1, () => hopByHop()],
    ])();
  }

  #damaged(frame: Frame): Frame {
    const random = this.#random;
    if (!random.chance(0.04)) return frame;
    if (random.chance(0.3)) return frame.slice(0, SHORTEST_FRAME_BYTES + random.below(24));
    if (random.chance(0.1)) return withBytes(frame, PAYLOAD_LENGTH_AT, [0, 0]);
    // The EtherType stays, as it decides who looks at the packet at all.
    const at = 14 + random.below(Math.min(60, frame.length - 14));
    return withBytes(frame, at, [random.chance(0.5) ? random.below(256) : random.below(8)]);
  }

  #pickSeen(): Frame | undefined {
    return this.#seen.length === 0 ? undefined : this.#random.pick(this.#seen);
  }
}

function hookAt(place: Whereabouts, isEgress: boolean): NatHook {
  const side = place === 'wan' ? 'wan' : 'inside';
  return `${side}-${isEgress ? 'egress' : 'ingress'}`;
}

/** Whom nobody knows is behind the WAN. */
function placeOf(address: string): Whereabouts {
  return places[address] ?? 'wan';
}

function bareOf(route: Route): Route {
  return route.replaceAll(/\[([^\]]*)\]:\d+/g, '$1') as Route;
}

function addressesOf(frame: Frame): { readonly source: string; readonly destination: string } {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const address = (at: number) =>
    formatIpv6Address(ipv6Address((view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8)));
  return { source: address(22), destination: address(38) };
}
