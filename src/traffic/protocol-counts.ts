/** Turns the kernel's protocol counters into rows for people and programs. Pure. */
import type { ProtocolCounter, ProtocolCounterKey } from '../abi/layouts.generated.ts';
import { PacketDirection } from '../abi/layouts.generated.ts';

export interface ProtocolCount {
  readonly interface: string;
  readonly direction: 'ingress' | 'egress';
  /** `arp`, `other`, or IP version and protocol: `ipv4/udp`, `ipv6/58` */
  readonly protocol: string;
  readonly packets: bigint;
  readonly bytes: bigint;
}

const ETHER_TYPE_IPV4 = 0x0800;
const ETHER_TYPE_ARP = 0x0806;
const ETHER_TYPE_IPV6 = 0x86dd;

/** Names of the IANA registry of protocol numbers for what a home network carries. */
const ipProtocolNames: ReadonlyMap<number, string> = new Map([
  [1, 'icmp'],
  [2, 'igmp'],
  [6, 'tcp'],
  [17, 'udp'],
  [47, 'gre'],
  [50, 'esp'],
  [58, 'icmpv6'],
  [132, 'sctp'],
]);

/**
 * @param entries keys and, for each, one counter a CPU
 * @param interfaceNames by index; an interface that has gone appears as `#<index>`
 * @returns rows ordered by interface, direction and falling bytes
 */
export function protocolCounts(
  entries: Iterable<readonly [ProtocolCounterKey, readonly ProtocolCounter[]]>,
  interfaceNames: ReadonlyMap<number, string>,
): ProtocolCount[] {
  const rows = [...entries].map(([key, perCpu]) => ({
    interface: interfaceNames.get(key.interfaceIndex) ?? `#${key.interfaceIndex}`,
    direction:
      key.direction === PacketDirection.egress ? ('egress' as const) : ('ingress' as const),
    protocol: protocolName(key),
    packets: perCpu.reduce((sum, counter) => sum + counter.packets, 0n),
    bytes: perCpu.reduce((sum, counter) => sum + counter.bytes, 0n),
  }));
  return rows.sort(
    (a, b) =>
      compare(a.interface, b.interface) ||
      compare(a.direction, b.direction) ||
      compare(b.bytes, a.bytes) ||
      compare(a.protocol, b.protocol),
  );
}

function compare<T extends string | bigint>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function protocolName(key: ProtocolCounterKey): string {
  if (key.etherType === ETHER_TYPE_ARP) return 'arp';
  const version =
    key.etherType === ETHER_TYPE_IPV4
      ? 'ipv4'
      : key.etherType === ETHER_TYPE_IPV6
        ? 'ipv6'
        : undefined;
  if (version === undefined) return 'other';
  return `${version}/${ipProtocolNames.get(key.ipProtocol) ?? key.ipProtocol}`;
}
