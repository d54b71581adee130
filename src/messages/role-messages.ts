/**
 * What the core and its role processes say to each other. Both sides validate what arrives: a role
 * that a stranger has taken over can say nothing else, and nothing here is code or a command line.
 *
 * Counters travel as decimal text, since JSON has no 64-bit integers.
 */
import Type, { type Static, type TSchema } from 'typebox';
import { Value } from 'typebox/value';

/** One line of JSON; the largest table of counts has 1.3 MB. What is longer ends the role. */
export const MESSAGE_BYTES_MAX = 4 * 1024 * 1024;
/** What a gateway's tables of protocols hold: protocol-counters.bpf.c has the sum. */
const PROTOCOL_COUNT_MAX = 8_192;
const LOG_TEXT_LENGTH_MAX = 4_096;
/** What the config can name, and our own socket. */
const LISTEN_PLACES_MAX = 17;

const strict = { additionalProperties: false } as const;
const Counter = Type.String({ pattern: '^[0-9]{1,20}$' });
const RequestId = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 });

function message<K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) {
  return Type.Object({ kind: Type.Literal(kind), ...properties }, strict);
}

const ListenPlace = Type.Union([
  Type.Object({ path: Type.String({ pattern: '^/', maxLength: 107 }) }, strict),
  Type.Object(
    { host: Type.String({ maxLength: 45 }), port: Type.Integer({ minimum: 0, maximum: 65_535 }) },
    strict,
  ),
]);

const ProtocolCount = Type.Object(
  {
    interface: Type.String({ maxLength: 32 }),
    direction: Type.Union([Type.Literal('ingress'), Type.Literal('egress')]),
    protocol: Type.String({ maxLength: 32 }),
    packets: Counter,
    bytes: Counter,
  },
  strict,
);

/** From the core to a role. `begin` comes first and once. */
const CoreMessageSchema = Type.Union([
  message('begin', {
    version: Type.String({ maxLength: 64 }),
    /** The account that the role becomes after it has opened what needs privileges. */
    user: Type.String({ pattern: '^[a-z_][a-z0-9_-]{0,31}$' }),
    listen: Type.Array(ListenPlace, { maxItems: LISTEN_PLACES_MAX }),
  }),
  message('ping', {}),
  message('protocol-counts', {
    id: RequestId,
    counts: Type.Array(ProtocolCount, { maxItems: PROTOCOL_COUNT_MAX }),
    uncountedPackets: Counter,
  }),
  message('refused', { id: RequestId, reason: Type.String({ maxLength: LOG_TEXT_LENGTH_MAX }) }),
]);
export type CoreMessage = Static<typeof CoreMessageSchema>;

/** From a role to the core. */
const RoleMessageSchema = Type.Union([
  message('ready', {
    addresses: Type.Array(Type.String({ maxLength: 256 }), { maxItems: LISTEN_PLACES_MAX }),
  }),
  message('pong', {}),
  message('get-protocol-counts', { id: RequestId }),
  /** The role is about to end, and this is why. */
  message('failing', { reason: Type.String({ maxLength: LOG_TEXT_LENGTH_MAX }) }),
  message('log', { text: Type.String({ maxLength: LOG_TEXT_LENGTH_MAX }) }),
]);
export type RoleMessage = Static<typeof RoleMessageSchema>;

/** @returns undefined for anything that is not exactly such a message */
export function asCoreMessage(value: unknown): CoreMessage | undefined {
  return Value.Check(CoreMessageSchema, value) ? value : undefined;
}

/** @returns undefined for anything that is not exactly such a message */
export function asRoleMessage(value: unknown): RoleMessage | undefined {
  return Value.Check(RoleMessageSchema, value) ? value : undefined;
}
