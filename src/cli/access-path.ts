/** The TCP connection by which a person is here, so that the core can refuse to cut it. */
import type { AccessPath } from '../messages/control-messages.ts';
import { parseIpAddress } from '../net/ip-address.ts';

export type { AccessPath };

/**
 * What sshd writes into $SSH_CONNECTION: `CLIENT PORT GATEWAY PORT`, with `%eth0` behind an address
 * that has a zone.
 *
 * @returns undefined for everything else
 */
export function parseSshConnection(text: string): AccessPath | undefined {
  const [client = '', clientPort = '', gateway = '', port = '', more] = text.trim().split(/\s+/);
  if (more !== undefined || portOf(clientPort) === undefined) return undefined;
  const clientAddress = addressOf(client);
  const gatewayAddress = addressOf(gateway);
  const gatewayPort = portOf(port);
  if (clientAddress === undefined || gatewayAddress === undefined || gatewayPort === undefined) {
    return undefined;
  }
  return { clientAddress, gatewayAddress, gatewayPort };
}

/** As {@link parseSshConnection}, or without the client's port: `CLIENT GATEWAY PORT`. */
export function parseAccess(text: string): AccessPath | undefined {
  const [client = '', ...rest] = text.trim().split(/\s+/);
  const anyPort = '1';
  return parseSshConnection(
    rest.length === 2 ? [client, anyPort, ...rest].join(' ') : [client, ...rest].join(' '),
  );
}

/** The zone is an interface's name, which the core looks up. */
function addressOf(text: string): string | undefined {
  const [address = '', zone = 'none', ...more] = text.split('%');
  const isZone = /^[A-Za-z0-9_.:-]{1,15}$/.test(zone);
  return parseIpAddress(address) !== undefined && isZone && more.length === 0 ? text : undefined;
}

function portOf(text: string): number | undefined {
  const port = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : Number.NaN;
  return port <= 65_535 ? port : undefined;
}
