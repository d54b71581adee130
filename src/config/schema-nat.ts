/** The section `nat`: external addresses, limits and times of the address translation. */
import { type FieldOptions, integer, listOf, oneOf, section, text } from './schema-fields.ts';

/** Beside the WAN's own address: the programs in the kernel know sixteen. */
export const MORE_EXTERNALS_MAX = 15;
/**
 * Ports that the NAT hands out. The kernel gives the gateway's own connections those above, so
 * that the two never meet.
 */
export const POOL_PORTS = { first: 1_024, last: 61_439 } as const;

const filterings = [
  'endpoint-independent',
  'address-dependent',
  'address-and-port-dependent',
] as const;

export function natFiltering(options: FieldOptions<(typeof filterings)[number]>) {
  return oneOf(filterings, options);
}

const oneToOneSchema = section(
  {
    external: text('ipv4-address', { description: 'The address that the internet sees.' }),
    internal: text('ipv4-address', { description: 'The host inside that owns it alone.' }),
    filtering: natFiltering({
      description: 'Who may begin: everybody, or only who was talked to (RFC 4787).',
      default: 'address-and-port-dependent',
    }),
  },
  { description: 'One address for one host.' },
);

/** @param minimum what the standard asks for, where it does */
function timeout(description: string, { usual, minimum = '1s' }: TimeoutLimits) {
  return text('time-span', {
    description,
    default: usual,
    formatMinimum: minimum,
    formatMaximum: '7d',
  });
}

interface TimeoutLimits {
  readonly usual: string;
  readonly minimum?: string;
}

const timeoutsSchema = section(
  {
    udp: timeout('UDP (RFC 4787 REQ-5 asks for two minutes).', { usual: '5m', minimum: '2m' }),
    udpUnanswered: timeout('UDP that came from outside and that nobody inside answered.', {
      usual: '30s',
    }),
    tcpEstablished: timeout('TCP that is established (RFC 5382 REQ-5).', {
      usual: '124m',
      minimum: '124m',
    }),
    tcpOpening: timeout('TCP that is not established yet (RFC 5382 REQ-5).', {
      usual: '4m',
      minimum: '4m',
    }),
    tcpClosing: timeout('TCP that both sides closed, or one reset (RFC 5382 REQ-5).', {
      usual: '4m',
      minimum: '4m',
    }),
    icmp: timeout('ICMP queries (RFC 5508 REQ-2).', { usual: '60s', minimum: '60s' }),
    other: timeout('Protocols without ports: GRE, ESP, SCTP, IP in IP.', { usual: '10m' }),
  },
  { description: 'How long a session lives after its last packet.', default: {} },
);

export const natSchema = section(
  {
    externalAddresses: listOf(
      text('ipv4-address', { description: 'An address that leads to this gateway.' }),
      {
        description:
          "External addresses besides the WAN's own. Each host inside has one of them all, " +
          'always the same.',
        default: [],
        maxItems: MORE_EXTERNALS_MAX,
      },
    ),
    oneToOne: listOf(oneToOneSchema, {
      description: 'External addresses that belong to one host each, with all ports.',
      default: [],
      maxItems: MORE_EXTERNALS_MAX,
    }),
    portRange: text('port-range', {
      description: `External ports of hosts, from ${POOL_PORTS.first} to ${POOL_PORTS.last}.`,
      default: `${POOL_PORTS.first}-${POOL_PORTS.last}`,
    }),
    sessions: integer({
      description:
        'Sessions that have room, about 140 bytes each, taken at the start; up to twice as many ' +
        'may fit.',
      default: 1_000_000,
      minimum: 1_024,
      maximum: 16_777_216,
      unit: 'sessions',
    }),
    sessionsPerHost: integer({
      description: 'Sessions that one host inside may have.',
      default: 65_536,
      minimum: 16,
      maximum: 16_777_216,
      unit: 'sessions',
    }),
    mappingsPerHost: integer({
      description: 'External ports that one host inside may have, all protocols together.',
      default: 16_384,
      minimum: 16,
      maximum: 196_608,
      unit: 'mappings',
    }),
    unansweredPerMapping: integer({
      description: 'Sessions of one mapping that strangers opened and nobody inside answered.',
      default: 1_024,
      minimum: 16,
      maximum: 1_048_576,
      unit: 'sessions',
    }),
    timeouts: timeoutsSchema,
  },
  { description: 'How addresses are translated between networks and WAN.', default: {} },
);
