/** Where packets of judged sessions take the short way. */
import type { Config } from '../config/schema.ts';
import type { OtherFirewall } from './machine-facts.ts';

export interface FastPath {
  readonly at: 'xdp' | 'tc' | 'off';
  /** Completes "at tc, …". */
  readonly reason: string;
}

/** What an interface is, as far as its fast path depends on it. */
export interface PortFacts {
  /** Of the machine's hardware; virtual interfaces have none. */
  readonly driver?: string;
  readonly isWireless: boolean;
  /** What a program made it as: `veth`, `bridge`. */
  readonly kind?: string;
  /** The queueing discipline at its root. */
  readonly queueing: string;
  /** An interface that has a part of its packets: a VLAN on it, or the bridge that it is in. */
  readonly sharedWith?: string;
  /** Its driver runs programs at XDP that redirect. Undefined: the kernel does not tell. */
  readonly isNative?: boolean;
}

/** Whether our program is at XDP there. */
export type XdpState =
  | { readonly state: 'attached' }
  /** `why` completes "at tc, …". */
  | { readonly state: 'refused'; readonly why: string };

/**
 * Where packets of judged sessions that come by an interface shall go fast.
 *
 * @param facts absent while the interface is not there
 */
export function fastPathOf(
  { dataplane }: Config,
  interfaceName: string,
  facts?: PortFacts,
): FastPath {
  const asked = dataplane.interfaces[interfaceName]?.fastPath ?? dataplane.fastPath;
  switch (asked) {
    case 'off':
    case 'tc':
      return { at: asked, reason: asTheConfigSays };
    case 'xdp':
      return { at: 'xdp', reason: facts?.kind === 'veth' ? vethWarning : asTheConfigSays };
    case 'auto': {
      const obstacle = obstacleAtXdp(facts);
      if (obstacle !== undefined) return { at: 'tc', reason: obstacle };
      return { at: 'xdp', reason: 'since its driver has it' };
    }
  }
}

const asTheConfigSays = 'as the config says';
/** What a peer leaves to the device is never computed. */
const vethWarning = `${asTheConfigSays}; its peer must compute its checksums itself`;

/** The same for all, where those at XDP that would be alone are at tc. */
export function fastPathsOf(
  config: Config,
  ports: ReadonlyMap<string, PortFacts | undefined>,
): ReadonlyMap<string, FastPath> {
  const planned = [...ports].map(
    ([name, facts]) => [name, fastPathOf(config, name, facts)] as const,
  );
  if (planned.filter(([, { at }]) => at === 'xdp').length !== 1) return new Map(planned);
  const alone: FastPath = { at: 'tc', reason: 'since at XDP it would be alone' };
  return new Map(planned.map(([name, path]) => [name, path.at === 'xdp' ? alone : path]));
}

/** What became of a plan. */
export function fastPathInForce(planned: FastPath, xdp: XdpState | undefined): FastPath {
  if (planned.at !== 'xdp' || xdp?.state === 'attached') return planned;
  return { at: 'tc', reason: xdp?.why ?? 'until its program is at XDP' };
}

/** Drivers of virtual machines hand over super-packets, which have to be cut for XDP. */
const virtualDrivers = ['virtio_net', 'hv_netvsc', 'vmxnet3', 'xen_netfront', 'vif', 'netvsc'];
/** Disciplines that delay nothing on purpose. What is redirected at XDP passes all of them by. */
const plainQueueing = ['noqueue', 'noop', 'mq', 'pfifo_fast', 'pfifo', 'fq', 'fq_codel'];

/** Why an interface is not at XDP of itself. */
function obstacleAtXdp(facts: PortFacts | undefined): string | undefined {
  if (facts === undefined) return 'until it is there';
  const { driver, kind, queueing, sharedWith } = facts;
  if (facts.isWireless) return 'since it is wireless';
  if (driver === undefined || kind !== undefined) {
    return `since it is a virtual interface${kind === undefined ? '' : ` (${kind})`}`;
  }
  if (virtualDrivers.includes(driver)) return `since it is a virtual machine's (${driver})`;
  if (sharedWith !== undefined) return `since ${sharedWith} has packets of it, too`;
  if (!plainQueueing.includes(queueing)) return `since its packets queue (${queueing})`;
  if (facts.isNative === undefined) return 'since the kernel does not tell what its driver can do';
  return facts.isNative ? undefined : `since its driver (${driver}) has no native XDP`;
}

/** What of the kernel may want to see forwarded packets, which it does not see on the fast path. */
export interface FastPathFacts {
  readonly others: readonly OtherFirewall[];
  /** IPsec may encrypt forwarded packets, or refuse them. */
  readonly isIpsecUsed: boolean;
  /** Routes depend on packet marks, which a program's question for a route does not tell. */
  readonly isRoutedByMark: boolean;
}

/** @returns why there is no fast path at all, by the first obstacle found; or undefined */
export function obstacleIn(facts: FastPathFacts): string | undefined {
  const firewall = firewallIn(facts.others);
  if (firewall !== undefined) return firewall;
  if (facts.isIpsecUsed) return 'since IPsec policies may apply to forwarded packets';
  if (facts.isRoutedByMark) return 'since routing rules go by packet marks';
  return undefined;
}

/** What passes the rules of others by must not be fast: they hold, too. */
function firewallIn(others: readonly OtherFirewall[]): string | undefined {
  const [first, ...more] = others.filter(({ seesForwarded }) => seesForwarded);
  if (first === undefined) return undefined;
  const table = first.table.slice(0, TABLE_SHOWN_MAX);
  const owner = first.owner === undefined ? '' : ` (${first.owner})`;
  const rest = more.length === 0 ? '' : ` and ${more.length} more`;
  return `since table ${table}${owner}${rest} may judge forwarded packets`;
}

/** Longer names are cut, so that the sentence fits into a note of the status. */
const TABLE_SHOWN_MAX = 200;
