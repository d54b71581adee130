/** Whether a change of the config cuts the way by which whoever asks for it comes in. */
import type { Config } from '../config/schema.ts';
import { judgePacket, type PacketFacts, type Verdict } from '../firewall/judge-packet.ts';
import type { Ruleset } from '../firewall/ruleset.ts';
import {
  formatIpAddress,
  type IpAddress,
  isLoopback,
  isSameAddress,
  parseIpAddress,
} from '../net/ip-address.ts';
import { type Prefix, parseInterfaceAddress, prefixHasAddress } from '../net/prefix.ts';
import { interfaceOfNetwork, planConfiguration } from './firewall-plan.ts';

export interface AccessLossOptions {
  /** The TCP connection by which whoever asks is here; addresses as sshd writes them. */
  readonly access: {
    readonly clientAddress: string;
    readonly gatewayAddress: string;
    readonly gatewayPort: number;
  };
  readonly current: Config;
  readonly next: Config;
  readonly nextRuleset: Ruleset;
}

/**
 * Would a new connection from the same client to the same address and port still come in? Doubt
 * does not block a change: undefined also for texts that are no addresses, where the current config
 * does not let such a connection in either, and for an IPv6 client without a zone as long as one of
 * the interfaces that it may come by stays open, since no config says where IPv6 addresses are.
 * Loopback is never lost.
 *
 * @returns undefined, or why not, as a sentence without a full stop
 */
export function findAccessLoss(options: AccessLossOptions): string | undefined {
  const { access, current, next, nextRuleset } = options;
  const client = parseZonedAddress(access.clientAddress);
  const gateway = parseZonedAddress(access.gatewayAddress)?.address;
  if (client === undefined || gateway === undefined) return undefined;
  if (client.address.family !== gateway.family) return undefined;
  const own = ownAddresses(current);
  const isLocal = (address: IpAddress) => isLoopback(address) || isAmong(own, address);
  if (isLocal(client.address) || isLoopback(gateway)) return undefined;

  const connection = { client, gateway, port: access.gatewayPort };
  const currentRuleset = planConfiguration(current, { safe: false });
  const ways = findWays(client, current, next).filter(
    ({ before }) => judgeConnection(currentRuleset, connection, before).action === 'accept',
  );
  if (ways.length === 0) return undefined;
  if (isAmong(own, gateway) && !isAmong(ownAddresses(next), gateway)) {
    return `${formatIpAddress(gateway)} is no longer an address of the gateway`;
  }
  const losses = ways.map(({ after, why }) =>
    after === undefined
      ? why
      : describeRefusal(judgeConnection(nextRuleset, connection, after), connection),
  );
  return losses.includes(undefined) ? undefined : losses[0];
}

interface ZonedAddress {
  readonly address: IpAddress;
  /** The interface by which it is reached, for a link-local address. */
  readonly zone?: string;
}

interface Connection {
  readonly client: ZonedAddress;
  readonly gateway: IpAddress;
  readonly port: number;
}

/** Reads `10.77.0.9`, `::ffff:10.77.0.9` (which is the same), `2001:db8::9` and `fe80::9%lan0`. */
function parseZonedAddress(text: string): ZonedAddress | undefined {
  const [addressText = '', zone, ...rest] = text.split('%');
  const address = parseIpAddress(addressText);
  if (address === undefined || rest.length > 0 || zone === '') return undefined;
  return { address: withoutMapping(address), ...(zone === undefined ? {} : { zone }) };
}

/** RFC 4291 §2.5.5.2: how a socket for both families shows an IPv4 address. */
function withoutMapping(address: IpAddress): IpAddress {
  const isMapped = address.family === 6 && address.bits >> 32n === 0xffffn;
  return isMapped ? { family: 4, bits: BigInt.asUintN(32, address.bits) } : address;
}

function isAmong(addresses: readonly IpAddress[], address: IpAddress): boolean {
  return addresses.some((one) => isSameAddress(one, address));
}

function ownAddresses({ wan, networks, gatekeeper, grantor }: Config): IpAddress[] {
  const withPrefix = [wan?.address, ...Object.values(networks).map(({ address }) => address)];
  const alone = [gatekeeper?.back.address, grantor?.address];
  return [
    ...withPrefix.map((text) => parseInterfaceAddress(text ?? '')?.address),
    ...alone.map((text) => parseIpAddress(text ?? '')),
  ].filter((address) => address !== undefined);
}

/** A network or the WAN, as packets see it. */
interface Entrance {
  /** Its path in the config. */
  readonly path: string;
  /** As rules name it: the only port, or the bridge. */
  readonly interface: string;
  readonly ports: readonly string[];
  readonly prefix: Prefix | undefined;
}

function entrancesOf({ wan, networks }: Config): Entrance[] {
  const inside = Object.entries(networks).map(([name, network]) => ({
    path: `networks.${name}`,
    interface: interfaceOfNetwork(name, network),
    ports: network.interfaces,
    prefix: parseInterfaceAddress(network.address)?.prefix,
  }));
  if (wan === undefined) return inside;
  const prefix = parseInterfaceAddress(wan.address)?.prefix;
  return [...inside, { path: 'wan', interface: wan.interface, ports: [wan.interface], prefix }];
}

/** By which interface the client comes today, and by which it comes after the change. */
interface Way {
  readonly before: string;
  /** Absent: by none, for this reason. */
  readonly after?: string;
  readonly why?: string;
}

/** An interface that no rule names. */
const UNNAMED_INTERFACE = '';

function findWays({ address, zone }: ZonedAddress, current: Config, next: Config): Way[] {
  const before = entrancesOf(current);
  const after = entrancesOf(next);
  const samePorts = (one: Entrance) => after.find((other) => sharePort(one, other));
  if (zone !== undefined) {
    const known = before.find((one) => one.interface === zone || one.ports.includes(zone));
    const bare = { path: '', interface: zone, ports: [zone], prefix: undefined };
    const successor = samePorts(known ?? bare);
    const name = known === undefined ? zone : known.interface;
    return [{ before: name, after: (successor ?? known ?? bare).interface }];
  }
  if (address.family === 4) {
    return [wayBetween(address, entranceFor(address, before), entranceFor(address, after))];
  }
  const ways = before.map((one) => ({
    before: one.interface,
    after: (samePorts(one) ?? one).interface,
  }));
  return ways.length > 0 ? ways : [{ before: UNNAMED_INTERFACE, after: UNNAMED_INTERFACE }];
}

function wayBetween(
  client: IpAddress,
  before: Entrance | undefined,
  after: Entrance | undefined,
): Way {
  if (before === undefined) {
    return { before: UNNAMED_INTERFACE, after: after?.interface ?? UNNAMED_INTERFACE };
  }
  const who = `${formatIpAddress(client)} comes by ${before.ports.join(' or ')}`;
  if (after === undefined) {
    return { before: before.interface, why: `${who}, and \`${before.path}\` is no longer there` };
  }
  if (!sharePort(before, after)) {
    const why = `${who}, which would not belong to \`${after.path}\``;
    return { before: before.interface, why };
  }
  return { before: before.interface, after: after.interface };
}

function sharePort(one: Entrance, other: Entrance): boolean {
  return one.ports.some((port) => other.ports.includes(port));
}

/** The smallest network that holds the address; else the WAN, which leads everywhere. */
function entranceFor(address: IpAddress, entrances: readonly Entrance[]): Entrance | undefined {
  const holding = entrances.filter(
    ({ prefix }) => prefix !== undefined && prefixHasAddress(prefix, address),
  );
  const [smallest] = holding.sort((a, b) => (b.prefix?.length ?? 0) - (a.prefix?.length ?? 0));
  return smallest ?? entrances.find(({ path }) => path === 'wan');
}

function judgeConnection(ruleset: Ruleset, connection: Connection, inputInterface: string) {
  const packet: PacketFacts = {
    inputInterface,
    source: connection.client.address,
    destination: connection.gateway,
    protocol: 'tcp',
    destinationPort: connection.port,
    connection: 'new',
    toThisHost: true,
  };
  return judgePacket(ruleset, packet);
}

function describeRefusal({ action, by }: Verdict, { client, port }: Connection) {
  if (action === 'accept') return undefined;
  const packet = `TCP to port ${port} from ${formatIpAddress(client.address)}`;
  const { kind, name } = by?.origin ?? { kind: 'built-in', name: 'rest' };
  if (kind === 'built-in' && name === 'rest') return `no rule accepts ${packet}`;
  const rule = kind === 'rule' ? `rule ${name}` : `the built-in rule ${name}`;
  return `${rule} ${action}s ${packet}`;
}
