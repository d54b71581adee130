/** Where packets of judged sessions take the short way. */
import type { Config } from '../config/schema.ts';
import type { OtherFirewall } from './machine-facts.ts';

export interface FastPath {
  readonly at: 'tc' | 'off';
  readonly reason: string;
}

/** What the config asks for at an interface. */
export function fastPathOf({ dataplane }: Config, interfaceName: string): FastPath {
  const asked = dataplane.interfaces[interfaceName]?.fastPath ?? dataplane.fastPath;
  switch (asked) {
    case 'off':
      return { at: 'off', reason: 'as the config says' };
    case 'tc':
      return { at: 'tc', reason: 'as the config says' };
    case 'auto':
    case 'xdp':
      return { at: 'tc', reason: 'since there is none at XDP yet' };
  }
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
