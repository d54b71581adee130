/**
 * What the command line says to the running core, over the Unix socket `control.sock` in the
 * runtime folder, which only root can open. The core validates every request all the same, and the
 * command line every answer: either may be of another version.
 */
import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { Value } from 'typebox/value';

/** One line of JSON: a config of 2 MiB and the printed ruleset of 10,000 rules, escaped. */
export const CONTROL_MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
/** In the runtime folder. */
export const CONTROL_SOCKET_NAME = 'control.sock';
/** Most revisions in one answer: their diffs may be long. */
export const REVISIONS_PER_ANSWER_MAX = 200;
/** For which an entry of an address table may be added: a year. */
export const ENTRY_MS_MAX = 365 * 24 * 60 * 60 * 1_000;
/** Most sessions in one answer: a quarter of a megabyte, made in a few milliseconds. */
export const STATES_PER_ANSWER_MAX = 1_000;

/**
 * How far a session of the NAT is. `unconfirmed`: the ruleset has let no packet of it through. TCP
 * is `opening`, `established` or `closing`; all else `unanswered` until both ends have sent.
 */
export const sessionStates = [
  'unconfirmed',
  'opening',
  'established',
  'closing',
  'unanswered',
  'answered',
] as const;

const CONFIG_TEXT_LENGTH_MAX = 2 * 1024 * 1024;
/** Of a refusal's reason; the rest is cut off. */
export const REASON_LENGTH_MAX = 64 * 1024;
const NOTE_LENGTH_MAX = 1_024;

const strict = { additionalProperties: false } as const;
const RequestId = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 });
const Milliseconds = Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Who asks, for history and log: one printable line. */
const Author = Type.String({ pattern: '^[^\\p{C}\\p{Zl}\\p{Zp}]{1,64}$' });
const ChangeId = Type.String({ pattern: '^[a-z0-9-]{1,36}$' });
const ConfigText = Type.String({ maxLength: CONFIG_TEXT_LENGTH_MAX });
const Note = Type.String({ maxLength: NOTE_LENGTH_MAX });
/** A place in a long list, as the core gave it. */
const Cursor = Type.String({ pattern: '^[0-9a-z.]{1,32}$' });
const Name = Type.String({ minLength: 1, maxLength: 64 });
/** As sshd writes it: a link-local one names its interface. */
const IpAddressText = Type.String({
  pattern: '^[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.:-]{1,15})?$',
});

function message<K extends string, P extends Record<string, TSchema>>(kind: K, properties: P) {
  return Type.Object({ kind: Type.Literal(kind), id: RequestId, ...properties }, strict);
}

/** An address or network: `10.77.0.9` or `2001:db8:77::/64`. */
const PrefixText = Type.String({ pattern: '^[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?$' });
const TableName = Type.String({ pattern: '^[A-Za-z_][A-Za-z0-9_]{0,31}$' });
const Port = Type.Integer({ minimum: 0, maximum: 65_535 });

const stateFilterFields = {
  /** Inside; the other end is the remote one. */
  device: Type.Optional(PrefixText),
  remote: Type.Optional(PrefixText),
  /** Of either end, as the inside or as the outside sees it; ICMP queries: the identifier. */
  port: Type.Optional(Port),
  /** IANA's number. */
  protocol: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
  state: Type.Optional(Type.Enum([...sessionStates])),
};
/** All of it must be so. */
const StateFilter = Type.Object(stateFilterFields, strict);
export type StateFilter = Static<typeof StateFilter>;
const StateFilterOfSome = Type.Object(stateFilterFields, { ...strict, minProperties: 1 });

/** The TCP connection by which whoever asks reaches the gateway: $SSH_CONNECTION, for example. */
const AccessPath = Type.Object(
  {
    clientAddress: IpAddressText,
    gatewayAddress: IpAddressText,
    gatewayPort: Type.Integer({ minimum: 1, maximum: 65_535 }),
  },
  strict,
);
export type AccessPath = Static<typeof AccessPath>;

const windowAndForce = {
  author: Author,
  /** The change is rolled back unless it is confirmed within this time. */
  windowMs: Milliseconds,
  /** Also when it cuts the asker's own access, or overwrites an edited config file. */
  forced: Type.Boolean(),
  access: Type.Optional(AccessPath),
};

export const controlRequestSchema = Type.Union([
  message('get-status', {}),
  /** The address tables of the config in force. */
  message('get-tables', {}),
  message('get-table', { table: TableName }),
  /** One that is there gets the new time. */
  message('add-table-entry', {
    table: TableName,
    prefix: PrefixText,
    /** Then it goes by itself. */
    forMs: Type.Optional(Type.Integer({ minimum: 1, maximum: ENTRY_MS_MAX })),
    author: Author,
  }),
  message('remove-table-entry', { table: TableName, prefix: PrefixText, author: Author }),
  message('get-running', {}),
  message('apply', { configText: ConfigText, ...windowAndForce }),
  /** As `apply`, with the config text of a revision. */
  message('apply-revision', { revision: Count, ...windowAndForce }),
  /** Without a change's id: the one under way. */
  message('confirm', { changeId: Type.Optional(ChangeId), author: Author }),
  message('rollback', { changeId: Type.Optional(ChangeId), author: Author }),
  /** The newest first, those below `before`. */
  message('get-revisions', {
    before: Type.Optional(Count),
    limit: Type.Integer({ minimum: 1, maximum: REVISIONS_PER_ANSWER_MAX }),
  }),
  message('get-revision', { revision: Count }),
  message('set-safe-mode', { on: Type.Boolean(), author: Author }),
  /** Sessions of the NAT, in no order that means anything. */
  message('get-states', {
    filter: StateFilter,
    /** Where the answer before this one ended. */
    cursor: Type.Optional(Cursor),
    limit: Type.Integer({ minimum: 1, maximum: STATES_PER_ANSWER_MAX }),
  }),
  /** All of them only by that word. */
  message('kill-states', {
    filter: Type.Union([StateFilterOfSome, Type.Literal('all')]),
    author: Author,
  }),
]);
export type ControlRequest = Static<typeof controlRequestSchema>;

const RevisionSummary = Type.Object(
  {
    revision: Count,
    author: Type.String({ maxLength: 64 }),
    /** Milliseconds since 1970 by the wall clock, which may have been wrong. */
    recordedAt: Type.Number(),
    linesAdded: Count,
    linesRemoved: Count,
  },
  strict,
);
export type RevisionSummary = Static<typeof RevisionSummary>;

const SessionAddress = {
  /** `?` and eight hexadecimal digits: of IPv6, and nobody knows the address any more. */
  address: Type.String({ pattern: '^(?:[0-9a-f:.]{2,45}|\\?[0-9a-f]{8})$' }),
  port: Port,
};
const SessionEnd = Type.Object(
  {
    ...SessionAddress,
    /** How the other side sees it, where that is another. */
    external: Type.Optional(Type.Object(SessionAddress, strict)),
  },
  strict,
);
const SessionSummary = Type.Object(
  {
    protocol: Type.Integer({ minimum: 0, maximum: 255 }),
    /** `outbound`: to the WAN. `inbound`: by a mapping. `hairpin`: both ends are inside. */
    direction: Type.Enum(['outbound', 'inbound', 'hairpin', 'routed']),
    state: Type.Enum([...sessionStates]),
    initiator: SessionEnd,
    responder: SessionEnd,
    ageSeconds: Count,
    /** When no further packet comes. */
    expiresInSeconds: Count,
    /** Sent by it, from the IP header on. */
    initiatorBytes: Count,
    responderBytes: Count,
  },
  strict,
);
export type SessionSummary = Static<typeof SessionSummary>;

/** As src/firewall/ has it. */
const TABLE_ADDRESSES_MAX = 10_000;

const TableEntry = Type.Object(
  {
    prefix: PrefixText,
    /** `config`: always. `added`: by command. */
    origin: Type.Enum(['config', 'added']),
    expiresInMs: Type.Optional(Milliseconds),
  },
  strict,
);
export type TableEntry = Static<typeof TableEntry>;

const RoleHealth = Type.Object(
  {
    role: Name,
    phase: Type.Enum(['waiting', 'starting', 'running', 'stopped']),
    restartCount: Count,
    lastExit: Type.Optional(Note),
    /** In this phase. */
    forMs: Milliseconds,
  },
  strict,
);

const ChangeUnderWay = Type.Object(
  {
    changeId: ChangeId,
    author: Author,
    phase: Name,
    /** Until it is rolled back; only while it waits to be confirmed. */
    rollbackInMs: Type.Optional(Milliseconds),
  },
  strict,
);

/** The NAT in the kernel, by which forwarded packets go. */
const NatStatus = Type.Object(
  {
    /** `off`: the kernel does not take it. `unused`: there is nothing to forward. */
    state: Type.Enum(['on', 'off', 'unused']),
    /** Unless it is on. */
    reason: Type.Optional(Note),
    interfaces: Type.Array(
      Type.Object({ name: Name, state: Type.Enum(['attached', 'absent', 'failed']) }, strict),
      { maxItems: 256 },
    ),
    externalAddresses: Type.Array(Type.String({ maxLength: 15 }), { maxItems: 16 }),
    /** Where packets of judged sessions take the short way, and why there. */
    fastPath: Type.Optional(
      Type.Array(
        Type.Object({ name: Name, at: Type.Enum(['xdp', 'tc', 'off']), reason: Note }, strict),
        {
          maxItems: 256,
        },
      ),
    ),
    /** Left out, since the WAN has the same addresses. */
    overlappingNetworks: Type.Array(Name, { maxItems: 64 }),
    /** Nearly: packets go on while it is counted. */
    sessions: Type.Optional(Type.Object({ open: Count, max: Count }, strict)),
    mappings: Type.Optional(Count),
    /** Of the tables that grow with the config. */
    memoryBytes: Type.Optional(Count),
    /** Those that are not zero, by the names of docs/nat.md. */
    counters: Type.Array(Type.Object({ name: Name, count: Count }, strict), { maxItems: 64 }),
  },
  strict,
);
export type NatStatus = Static<typeof NatStatus>;

export const coreStatusSchema = Type.Object(
  {
    version: Name,
    pid: Count,
    uptimeMs: Milliseconds,
    configFile: Type.String({ maxLength: 4_096 }),
    stateFolder: Type.String({ maxLength: 4_096 }),
    /** Of the config that is in force; absent before the first is recorded. */
    revision: Type.Optional(Count),
    /** Everything below is as it should be. */
    healthy: Type.Boolean(),
    /** What is not as it should be, one sentence each. */
    problems: Type.Array(Note, { maxItems: 256 }),
    /** What happened since the start that a person should know, the newest last. */
    alarms: Type.Array(Type.Object({ atMs: Type.Number(), text: Note }, strict), { maxItems: 100 }),
    /** `config`: that of the config. `posture`: everything refused. `unknown`: see the problems. */
    ruleset: Type.Enum(['config', 'safe', 'posture', 'unknown']),
    ruleCount: Count,
    forwarding: Type.Boolean(),
    safeMode: Type.Optional(
      Type.Object({ sinceMs: Type.Number(), author: Type.String({ maxLength: 64 }) }, strict),
    ),
    change: Type.Optional(ChangeUnderWay),
    roles: Type.Array(RoleHealth, { maxItems: 16 }),
    interfaces: Type.Array(
      Type.Object({ name: Name, state: Type.Enum(['counting', 'absent', 'failed']) }, strict),
      { maxItems: 256 },
    ),
    nat: NatStatus,
    apiAddresses: Type.Array(Type.String({ maxLength: 256 }), { maxItems: 32 }),
    /** What the config asks for and this version does not do yet. */
    notInForce: Type.Array(Note, { maxItems: 64 }),
  },
  strict,
);
export type CoreStatus = Static<typeof coreStatusSchema>;

/** Why a request was not done. Nothing has changed. */
const RefusalCode = Type.Enum([
  /** The config has problems; the reason lists them, one a line. */
  'config-problems',
  /** nft refuses the ruleset; the reason names the rule. */
  'ruleset-refused',
  'busy',
  'no-such-change',
  'no-such-revision',
  /** The list has changed its shape; it can be asked for from its beginning. */
  'no-such-cursor',
  'no-such-table',
  'no-such-entry',
  /** The table has as many entries as it can have, or all tables have. */
  'table-full',
  'window-out-of-range',
  'cuts-own-access',
  /** The config file holds edits that are neither in force nor in the request. */
  'config-file-edited',
  /** It cannot be changed while the program runs. */
  'needs-restart',
  /** The disk does not take it. */
  'storage',
  'failed',
]);
export type RefusalCode = Static<typeof RefusalCode>;

export const controlAnswerSchema = Type.Union([
  message('status', { status: coreStatusSchema }),
  message('running', {
    configFile: Type.String({ maxLength: 4_096 }),
    configText: ConfigText,
    rulesetText: Type.String(),
    /** What it was compiled for. */
    forwardedTraffic: Type.Enum(['conntrack', 'sessions']),
  }),
  message('change', {
    changeId: ChangeId,
    outcome: Type.Enum(['applied', 'confirmed', 'rolled-back']),
    /** For `applied`: until it is rolled back. */
    rollbackInMs: Type.Optional(Milliseconds),
    /** For `confirmed`. */
    revision: Type.Optional(Count),
  }),
  message('revisions', {
    revisions: Type.Array(RevisionSummary, { maxItems: REVISIONS_PER_ANSWER_MAX }),
  }),
  message('revision', {
    summary: RevisionSummary,
    configText: ConfigText,
    configDiff: Type.String(),
    rulesetText: Type.String(),
  }),
  message('safe-mode', { on: Type.Boolean() }),
  message('tables', {
    tables: Type.Array(
      Type.Object({ name: TableName, configuredCount: Count, addedCount: Count }, strict),
      { maxItems: 256 },
    ),
  }),
  message('table', {
    table: TableName,
    entries: Type.Array(TableEntry, { maxItems: 2 * TABLE_ADDRESSES_MAX }),
  }),
  message('table-entry', {
    table: TableName,
    prefix: PrefixText,
    outcome: Type.Enum(['added', 'renewed', 'removed']),
    expiresInMs: Type.Optional(Milliseconds),
    /** Another entry that it lies in; of one that was removed also the same one, by the config. */
    coveredBy: Type.Optional(PrefixText),
    /** Also when gatehouse restarts: the disk has it. */
    isKept: Type.Boolean(),
  }),
  message('states', {
    states: Type.Array(SessionSummary, { maxItems: STATES_PER_ANSWER_MAX }),
    /** Absent at the end of the table. */
    nextCursor: Type.Optional(Cursor),
    /** Sessions that were looked at, whether the filter fits them or not. */
    examinedCount: Count,
  }),
  message('states-killed', { killedCount: Count }),
  message('refused', { code: RefusalCode, reason: Type.String({ maxLength: REASON_LENGTH_MAX }) }),
]);
export type ControlAnswer = Static<typeof controlAnswerSchema>;

type WithoutId<Message> = Message extends { id: number } ? Omit<Message, 'id'> : never;
/** A request without its number, which the connection gives it. */
export type ControlQuestion = WithoutId<ControlRequest>;
/** An answer without the number of its request. */
export type ControlReply = WithoutId<ControlAnswer>;

/** A connection to the core that lives, whoever carries it. */
export interface ControlClient {
  /**
   * @param withinMs instead of the usual time, which is that of the largest config
   * @throws Error when the core does not answer in time, or nonsense
   */
  ask(question: ControlQuestion, withinMs?: number): Promise<ControlAnswer>;
  close(): void;
}

export type ControlConnection =
  | { readonly client: ControlClient }
  /** `stopped`: nobody listens. `denied`: not root. `failed`: it is there and does not answer. */
  | {
      readonly client?: never;
      readonly why: 'stopped' | 'denied' | 'failed';
      readonly reason: string;
    };

/** @returns undefined for anything that is not exactly such a message */
export function asControlRequest(value: unknown): ControlRequest | undefined {
  return Value.Check(controlRequestSchema, value) ? value : undefined;
}

/** @returns undefined for anything that is not exactly such a message */
export function asControlAnswer(value: unknown): ControlAnswer | undefined {
  answerValidator ??= compileAnswer();
  return answerValidator.Check(value) ? value : undefined;
}

/**
 * Compiled at its first use, in some ten milliseconds: it reads a thousand sessions in two, where
 * Value.Check takes a hundred.
 */
let answerValidator: ReturnType<typeof compileAnswer> | undefined;

function compileAnswer() {
  return Compile(controlAnswerSchema);
}
