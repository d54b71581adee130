/** Meaning of portForwards, api and paths: who can reach what from outside. */
import { type Endpoint, formatEndpoint, parseEndpoint } from '../net/endpoint.ts';
import { isLoopback, isSameAddress, isUnspecified } from '../net/ip-address.ts';
import {
  formatPortRange,
  PORT_MAX,
  type PortRange,
  parsePortRange,
  portRangesOverlap,
} from '../net/port-range.ts';
import { isHostAddress, prefixHasAddress } from '../net/prefix.ts';
import { type ConfigPath, formatConfigPath } from './config-path.ts';
import { quoted } from './config-problem.ts';
import { type GatewayFacts, placed } from './gateway-facts.ts';
import {
  clashesAmong,
  itemsOf,
  type MeaningProblems,
  type Placed,
  type Sound,
  type SoundConfig,
} from './meaning.ts';
import type { Config } from './schema.ts';

export function judgeAccess(
  config: SoundConfig,
  facts: GatewayFacts,
  problems: MeaningProblems,
): void {
  judgePortForwards(config, facts, problems);
  judgeListen(config, facts, problems);
  judgeTls(config, problems);
  const { state, runtime } = config.paths ?? {};
  if (state !== undefined && state === runtime) {
    const expected = 'a folder of its own';
    const found = `${quoted(runtime)}, which is \`paths.state\` already`;
    problems.add({ path: ['paths', 'runtime'], expected, found });
  }
}

interface PortForward {
  readonly path: ConfigPath;
  readonly protocol: 'tcp' | 'udp' | undefined;
  readonly ports: PortRange;
}

function judgePortForwards(config: SoundConfig, facts: GatewayFacts, problems: MeaningProblems) {
  const items = itemsOf(config.portForwards, ['portForwards']);
  const [first] = items;
  if (first !== undefined && config.wan === undefined) {
    const expected = 'no port forwards without `wan`';
    problems.add({ path: first.path.slice(0, 1), expected, found: `${items.length}` });
  }
  for (const item of items) judgeDestination(item, facts, problems);
  const forwards = items.flatMap(({ path, value }): PortForward[] => {
    const ports = portsOf(value.port);
    return ports === undefined ? [] : [{ path, protocol: value.protocol, ports }];
  });
  for (const { earlier, later } of clashesAmong(forwards, isSameWayIn)) {
    const other = formatConfigPath(earlier.path);
    const found = `${formatPortRange(later.ports)}, which \`${other}\` takes`;
    problems.add({ path: [...later.path, 'port'], expected: 'ports of its own', found });
  }
  for (const { path, protocol, ports } of forwards) {
    const listener = protocol === 'tcp' ? listenerOutside(ports, facts) : undefined;
    if (listener === undefined) continue;
    const expected = 'ports that the API does not listen on';
    const found = `${formatPortRange(ports)}, which \`${formatConfigPath(listener.path)}\` takes`;
    problems.add({ path: [...path, 'port'], expected, found });
  }
}

type SoundForward = Sound<Config['portForwards'][number]>;

function judgeDestination(
  { path, value }: Placed<SoundForward>,
  { networks, areNetworksKnown, ownAddresses }: GatewayFacts,
  problems: MeaningProblems,
): void {
  const at = [...path, 'to'];
  const [to] = placed(at, value.to, parseEndpoint);
  if (to === undefined) return;
  const { address, port } = to.value;
  const found = quoted(value.to ?? '');
  const network = networks.find((one) => prefixHasAddress(one.value.prefix, address));
  const own = ownAddresses.find((one) => isSameAddress(one.value, address));
  if (own !== undefined) {
    const expected = 'another host than the gateway itself';
    const whose = `the address of \`${formatConfigPath(own.path)}\``;
    problems.add({ path: at, expected, found: `${found}, ${whose}` });
  } else if (network === undefined && areNetworksKnown) {
    const names = networks.map(({ name }) => `\`${name}\``).join(', ');
    const expected = names === '' ? 'a host in a network (there is none)' : `a host in ${names}`;
    problems.add({ path: at, expected, found });
  } else if (network !== undefined && !isHostAddress({ address, prefix: network.value.prefix })) {
    problems.add({ path: at, expected: `a host in \`${network.name}\``, found });
  }
  const ports = portsOf(value.port);
  if (ports !== undefined && port + (ports.last - ports.first) > PORT_MAX) {
    const count = ports.last - ports.first + 1;
    problems.add({ path: at, expected: `${count} ports up to ${PORT_MAX}`, found });
  }
}

function portsOf(port: number | string | undefined): PortRange | undefined {
  return port === undefined ? undefined : parsePortRange(String(port));
}

function isSameWayIn(one: PortForward, other: PortForward): boolean {
  return one.protocol === other.protocol && portRangesOverlap(one.ports, other.ports);
}

/** Where the API itself takes one of these ports on the WAN's address. */
function listenerOutside(
  ports: PortRange,
  { listen, wan }: GatewayFacts,
): Placed<Endpoint> | undefined {
  return listen.find(({ value: { address, port } }) => {
    const isOutside = wan !== undefined && isSameAddress(wan.value.address, address);
    const taken = { first: port, last: port };
    return (isOutside || isUnspecified(address)) && portRangesOverlap(ports, taken);
  });
}

function judgeListen(config: SoundConfig, facts: GatewayFacts, problems: MeaningProblems): void {
  const { listen, ownAddresses, networks, areNetworksKnown } = facts;
  for (const { path, value } of listen) {
    const { address } = value;
    const found = quoted(formatEndpoint(value));
    if (config.api?.tls?.mode === 'off' && !isLoopback(address)) {
      const expected = 'a loopback address, since `api.tls.mode` is `off`';
      problems.add({ path, expected, found });
    }
    const isOwn = ownAddresses.some((own) => isSameAddress(own.value, address));
    if (isOwn || isLoopback(address) || isUnspecified(address)) continue;
    // A machine without networks has addresses of its own that no config names.
    if (networks.length === 0 || !areNetworksKnown) continue;
    const expected = 'an address that this machine has by its config, or a loopback address';
    problems.add({ path, expected, found });
  }
  for (const { earlier, later } of clashesAmong(listen, isSameSocket)) {
    const other = formatEndpoint(earlier.value);
    const found = `${quoted(formatEndpoint(later.value))}, which ${other} takes`;
    problems.add({ path: later.path, expected: 'an endpoint of its own', found });
  }
}

function isSameSocket(
  { value: one }: Placed<Endpoint>,
  { value: other }: Placed<Endpoint>,
): boolean {
  if (one.port !== other.port || one.address.family !== other.address.family) return false;
  const everywhere = isUnspecified(one.address) || isUnspecified(other.address);
  return everywhere || isSameAddress(one.address, other.address);
}

/** Which keys belong to which mode; a key that another mode ignores would mislead. */
const tlsKeys = [
  { mode: 'files', key: 'certificate' },
  { mode: 'files', key: 'key' },
  { mode: 'acme', key: 'domains' },
] as const;

function judgeTls(config: SoundConfig, problems: MeaningProblems): void {
  const tls = config.api?.tls;
  if (tls?.mode === undefined) return;
  for (const { mode, key } of tlsKeys) {
    const path = ['api', 'tls', key];
    const isThere = tls[key] !== undefined;
    if (tls.mode === mode && !isThere) {
      problems.add({
        path,
        expected: `the key \`${key}\` with mode \`${mode}\``,
        found: 'nothing',
      });
    }
    if (tls.mode !== mode && isThere) {
      const expected = `no \`${key}\` unless the mode is \`${mode}\``;
      problems.add({ path, expected, found: `mode \`${tls.mode}\``, atKey: true });
    }
  }
}
