/**
 * The NAT's interfaces as their fast path wants them: link-layer addresses, and our programs at XDP
 * where the plan says so. Looks each second, so that what changes is noticed within about as long.
 */
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import type { Config } from '../../config/schema.ts';
import {
  type FastPath,
  fastPathInForce,
  fastPathsOf,
  type PortFacts,
  type XdpState,
} from '../../gateway/fast-path.ts';
import { MAC_ADDRESS_BYTES } from '../../net/mac-address.ts';
import type { BpfProgram } from '../bpf-program.ts';
import { type NetworkLink, NetworkLinks } from '../network-links.ts';
import { XdpFeatureReader, type XdpFeatures } from '../xdp-features.ts';
import { clearXdp, putAtXdp } from '../xdp-places.ts';

const LOOK_EVERY_MS = 1_000;

export interface WantedPorts {
  readonly config: Config;
  /** What would be at XDP, by the interface's name; throws where the kernel does not take it. */
  readonly programs: ReadonlyMap<string, () => BpfProgram>;
}

/** What is known of an interface that is there. */
export interface FastPathPort {
  readonly mac: Uint8Array;
  readonly isAtXdp: boolean;
}

export interface FastPathPortsOptions {
  /** A sentence that a person should know. */
  readonly report: (text: string) => void;
  /** Called when {@link FastPathPorts.ports} are others, or {@link FastPathPorts.paths}. */
  readonly onChange: () => void;
}

export class FastPathPorts {
  readonly #options: FastPathPortsOptions;
  readonly #timer: NodeJS.Timeout;
  #wanted: WantedPorts | undefined;
  #kernel: Kernel | undefined;
  #ports: ReadonlyMap<string, FastPathPort> = new Map();
  #paths: ReadonlyMap<string, FastPath> = new Map();
  /** Why there is nothing at XDP, the last told. */
  #trouble: string | undefined;
  #told = '';
  #isLooking = false;
  /** What an instance before this one left stays until it is known what is wanted. */
  #isFollowing = false;

  constructor(options: FastPathPortsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS);
    this.#timer.unref();
  }

  /** Those that are there, by name. */
  get ports(): ReadonlyMap<string, FastPathPort> {
    return this.#ports;
  }

  /** Where packets that come by an interface go fast, as far as the interface decides. */
  get paths(): ReadonlyMap<string, FastPath> {
    return this.#paths;
  }

  /** From now on. Undefined: no program of ours is at XDP any more. */
  follow(wanted: WantedPorts | undefined): void {
    this.#wanted = wanted;
    this.#isFollowing = true;
    this.#look();
  }

  /** Leaves the programs where they are. */
  stop(): void {
    clearInterval(this.#timer);
    this.#close();
  }

  #look(): void {
    // What it tells may make somebody ask for another look.
    if (this.#isLooking || !this.#isFollowing) return;
    this.#isLooking = true;
    try {
      this.#lookOnce();
    } catch (cause) {
      // A list that was not read to its end would be in the way of the next.
      this.#close();
      this.#fail(cause instanceof Error ? cause.message : String(cause));
    } finally {
      this.#isLooking = false;
    }
    const now = JSON.stringify([[...this.#ports].map(asText), ...this.#paths]);
    if (now === this.#told) return;
    this.#told = now;
    this.#options.onChange();
  }

  #lookOnce(): void {
    const kernel = this.#kernel ?? openKernel();
    this.#kernel = kernel;
    const links = kernel.links.list();
    const { config, programs } = this.#wanted ?? {};
    if (config === undefined || programs === undefined) {
      for (const link of links) clearXdp(link);
      this.#ports = new Map();
      this.#paths = new Map();
      return;
    }
    const features = kernel.features.read();
    const byName = new Map(links.map((link) => [link.name, link]));
    const names = [...programs.keys()];
    const facts = names.map((name) => {
      const link = byName.get(name);
      return [name, link && portFactsOf(link, { links, features })] as const;
    });
    const planned = fastPathsOf(config, new Map(facts));
    const atXdp = names.filter((name) => planned.get(name)?.at === 'xdp');
    for (const link of links) if (!atXdp.includes(link.name)) clearXdp(link);
    const states = new Map<string, XdpState>();
    for (const name of atXdp) {
      const [link, program] = [byName.get(name), programs.get(name)];
      if (link !== undefined && program !== undefined) states.set(name, put(program, link));
    }
    // Some take what is redirected to them only now that they have a program themselves.
    this.#settle(planned, withTakers(states, { byName, features: kernel.features.read() }), byName);
  }

  #settle(
    planned: ReadonlyMap<string, FastPath>,
    states: ReadonlyMap<string, XdpState>,
    links: ReadonlyMap<string, NetworkLink>,
  ): void {
    const there = [...planned.keys()].flatMap((name) => {
      const link = links.get(name);
      return link === undefined ? [] : [link];
    });
    const isAtXdp = (name: string) => states.get(name)?.state === 'attached';
    this.#ports = new Map(
      there.map(({ name, address }) => [name, { mac: macOf(address), isAtXdp: isAtXdp(name) }]),
    );
    this.#paths = new Map(
      [...planned].map(([name, path]) => [name, fastPathInForce(path, states.get(name))]),
    );
    this.#trouble = undefined;
  }

  #fail(reason: string): void {
    const text = `nothing goes fast at XDP: ${reason}`;
    if (text !== this.#trouble) this.#options.report(text);
    this.#trouble = text;
    this.#ports = new Map(
      [...this.#ports].map(([name, { mac }]) => [name, { mac, isAtXdp: false }]),
    );
    const why = `since nobody knows its interface: ${reason}`;
    const refused: XdpState = { state: 'refused', why };
    this.#paths = new Map(
      [...this.#paths].map(([name, path]) => [name, fastPathInForce(path, refused)]),
    );
  }

  #close(): void {
    this.#kernel?.sockets.dispose();
    this.#kernel = undefined;
  }
}

/** What is asked, by a socket each that stays open. */
interface Kernel {
  readonly links: NetworkLinks;
  readonly features: XdpFeatureReader;
  readonly sockets: DisposableStack;
}

function openKernel(): Kernel {
  using opened = new DisposableStack();
  const links = opened.use(new NetworkLinks());
  const features = opened.use(new XdpFeatureReader());
  return { links, features, sockets: opened.move() };
}

type FeatureList = ReadonlyMap<number, XdpFeatures> | undefined;

function portFactsOf(
  link: NetworkLink,
  { links, features }: { readonly links: readonly NetworkLink[]; readonly features: FeatureList },
): PortFacts {
  const { index, kind, queueing } = link;
  const found = features?.get(index);
  const driver = driverOf(link);
  const sharedWith = links.find(
    (other) =>
      other.index === link.master ||
      (other.lower === index && dividingKinds.includes(other.kind ?? '')),
  )?.name;
  return {
    isWireless: existsSync(`/sys/class/net/${link.name}/phy80211`),
    queueing,
    ...(kind === undefined ? {} : { kind }),
    ...(driver === undefined ? {} : { driver }),
    ...(sharedWith === undefined ? {} : { sharedWith }),
    ...(found === undefined ? {} : { isNative: found.isNative && found.mayRedirect }),
  };
}

/** Of interfaces that have some of another one's packets. */
const dividingKinds = ['vlan', 'macvlan', 'macvtap', 'ipvlan', 'ipvtap'];

/** /sys may show the interfaces of another network namespace, which may have the same names. */
function driverOf({ name, index }: NetworkLink): string | undefined {
  try {
    const folder = `/sys/class/net/${name}`;
    if (Number(readFileSync(`${folder}/ifindex`, 'utf8')) !== index) return undefined;
    return basename(readlinkSync(`${folder}/device/driver`));
  } catch {
    return undefined;
  }
}

function put(program: () => BpfProgram, link: NetworkLink): XdpState {
  try {
    const other = putAtXdp(program(), link);
    if (other === undefined) return { state: 'attached' };
    return { state: 'refused', why: `since the program ${other} is at XDP there` };
  } catch (cause) {
    // One of ours that could not be replaced is of other tables.
    clearXdp(link);
    const reason = cause instanceof Error ? cause.message : String(cause);
    return { state: 'refused', why: `since it is refused: ${reason.split('\n', 1)[0]}` };
  }
}

/** Without those that take nothing: what is redirected there would be lost. */
function withTakers(
  states: ReadonlyMap<string, XdpState>,
  known: { readonly byName: ReadonlyMap<string, NetworkLink>; readonly features: FeatureList },
): ReadonlyMap<string, XdpState> {
  const why = 'since it takes nothing that others redirect to it';
  return new Map(
    [...states].map(([name, state]) => {
      const index = known.byName.get(name)?.index ?? 0;
      const takes = known.features?.get(index)?.takesRedirected ?? true;
      return [name, state.state === 'refused' || takes ? state : { state: 'refused', why }];
    }),
  );
}

/** What has no address of six bytes gets one that nobody has. */
function macOf(address: Uint8Array): Uint8Array {
  return address.length === MAC_ADDRESS_BYTES ? address : new Uint8Array(MAC_ADDRESS_BYTES);
}

function asText([name, { mac, isAtXdp }]: [string, FastPathPort]) {
  return [name, [...mac], isAtXdp];
}
