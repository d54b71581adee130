/** Settings of the kernel without which the NAT would meet the gateway's own traffic. */
import { POOL_PORTS } from '../../config/schema-nat.ts';
import { PORT_MAX } from '../../net/port-range.ts';
import { type KernelSetting, writeKernelSetting } from '../kernel-settings.ts';

const always: readonly KernelSetting[] = [
  // Ports of the gateway's own connections lie above those that the NAT hands out.
  { path: 'net/ipv4/ip_local_port_range', value: `${POOL_PORTS.last + 1} ${PORT_MAX}` },
  // What goes back to the network that it came from (hairpinning) is no mistake of its sender.
  { path: 'net/ipv4/conf/all/send_redirects', value: '0' },
  // A source route would lead around the rules.
  { path: 'net/ipv4/conf/all/accept_source_route', value: '0' },
  // Two hosts on one bridge do not speak through the gateway.
  { path: 'net/bridge/bridge-nf-call-iptables', value: '0', mayBeAbsent: true },
  // No part of the kernel opens ports because of what packets contain (NAT slipstreaming).
  { path: 'net/netfilter/nf_conntrack_helper', value: '0', mayBeAbsent: true },
];

/**
 * Strict and loose reverse path filters are left as they are: hairpinned packets pass both, since
 * their source is rewritten behind the look at it.
 *
 * @param insideInterfaces those that are there
 * @param tell what could not be set, or undefined when all could
 */
export function writeNatKernelSettings(
  insideInterfaces: readonly string[],
  tell: (text: string | undefined) => void,
): void {
  const own = insideInterfaces.map((name) => ({
    path: `net/ipv4/conf/${name}/send_redirects`,
    value: '0',
    // The interface may go away meanwhile.
    mayBeAbsent: true,
  }));
  const failures: string[] = [];
  for (const setting of [...always, ...own]) {
    try {
      writeKernelSetting(setting);
    } catch (cause) {
      failures.push(cause instanceof Error ? cause.message : String(cause));
    }
  }
  tell(failures.length === 0 ? undefined : failures.join('; '));
}
