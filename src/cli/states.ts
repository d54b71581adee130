/** `gatehouse states`: the sessions of the NAT, or the end of some of them. */
import {
  type SessionSummary,
  STATES_PER_ANSWER_MAX,
  type StateFilter,
} from '../messages/control-messages.ts';
import { parseIpAddress } from '../net/ip-address.ts';
import type { CommandOf, Instance } from './arguments.ts';
import { askCore, authorOf, openCore } from './ask-core.ts';
import { done, type Outcome } from './outcome.ts';
import { protocolInWords } from './protocol-names.ts';
import { alignColumns, bytesInWords } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

export async function states(command: CommandOf<'states'>, world: CliWorld): Promise<Outcome> {
  return 'kill' in command ? kill(command, world) : list(command, world);
}

interface Listed {
  readonly sessions: readonly SessionSummary[];
  readonly examinedCount: number;
  /** There are no others that fit. */
  readonly isWhole: boolean;
}

async function list(
  command: Instance & { readonly filter: StateFilter; readonly limit: number },
  world: CliWorld,
): Promise<Outcome> {
  const { listed, failure } = await collect(command, world);
  if (listed === undefined) return failure;
  const { isWhole, examinedCount } = listed;
  const sessions = sorted(listed.sessions);
  const complaints = isWhole
    ? []
    : [`gatehouse: there may be more than ${command.limit}: --limit lists more`];
  return done(
    sessions.length === 0 ? ['no session'] : alignColumns([head, ...rowsOf(sessions)]),
    {
      states: sessions.map((session) => ({
        ...session,
        protocolName: protocolInWords(session.protocol),
      })),
      isWhole,
      examinedCount,
    },
    { complaints },
  );
}

type Collected =
  | { readonly listed: Listed; readonly failure?: never }
  | { readonly listed?: never; readonly failure: Outcome };

/** Asks answer by answer, so that the running instance never holds its breath. */
async function collect(
  { filter, limit, ...instance }: Instance & { filter: StateFilter; limit: number },
  world: CliWorld,
): Promise<Collected> {
  const core = await openCore(world, instance);
  if (core.failure !== undefined) return { failure: core.failure };
  const sessions: SessionSummary[] = [];
  let examinedCount = 0;
  try {
    for (let cursor: string | undefined; ; ) {
      const most = Math.min(limit - sessions.length, STATES_PER_ANSWER_MAX);
      const from = cursor === undefined ? {} : { cursor };
      const asked = await core.ask({
        question: { kind: 'get-states', filter, limit: most, ...from },
        expects: 'states',
      });
      if (asked.answer === undefined) return { failure: asked.failure };
      const { answer } = asked;
      for (const session of answer.states) sessions.push(session);
      examinedCount += answer.examinedCount;
      cursor = answer.nextCursor;
      const isWhole = cursor === undefined;
      if (isWhole || sessions.length >= limit) {
        return { listed: { sessions, examinedCount, isWhole } };
      }
    }
  } finally {
    core.close();
  }
}

async function kill(
  { kill: filter, ...instance }: Instance & { readonly kill: StateFilter | 'all' },
  world: CliWorld,
): Promise<Outcome> {
  const asked = await askCore(world, {
    instance,
    question: { kind: 'kill-states', filter, author: authorOf(world) },
    expects: 'states-killed',
  });
  if (asked.answer === undefined) return asked.failure;
  const { killedCount } = asked.answer;
  const line = killedCount === 1 ? 'one session was ended' : `${killedCount} sessions were ended`;
  return done([line], { killedCount });
}

/** The table has no order: by addresses the sessions of a device stand together. */
function sorted(sessions: readonly SessionSummary[]): SessionSummary[] {
  const keyed = sessions.map((session) => {
    const { initiator, responder } = session;
    const numbers = [initiator, responder].flatMap(({ address, port }) => [
      numberOf(address),
      BigInt(port),
    ]);
    return { session, numbers };
  });
  keyed.sort((one, other) => {
    const index = one.numbers.findIndex((number, at) => number !== other.numbers[at]);
    const [left = 0n, right = 0n] = [one.numbers[index], other.numbers[index]];
    return left < right ? -1 : left > right ? 1 : 0;
  });
  return keyed.map(({ session }) => session);
}

/** IPv4 before IPv6, and what nobody knows behind them. */
function numberOf(text: string): bigint {
  const address = parseIpAddress(text);
  return address === undefined ? UNKNOWN | BigInt(`0x${text.slice(1)}`) : address.bits;
}

const UNKNOWN = 1n << 128n;

const head = ['proto', 'from', 'to', 'via', 'state', 'bytes'] as const;

/** In 80 columns, whatever the addresses are, where there is one outside address. */
function rowsOf(sessions: readonly SessionSummary[]): (readonly string[])[] {
  const externals = new Set(sessions.map((session) => externalOf(session)?.address));
  externals.delete(undefined);
  const isSeveral = externals.size > 1;
  return sessions.map((session) => {
    const { protocol, initiator, responder, state, initiatorBytes, responderBytes } = session;
    const external = externalOf(session);
    return [
      protocolInWords(protocol),
      endpoint(initiator),
      endpoint(responder),
      external === undefined ? '' : isSeveral ? endpoint(external) : portOf(external),
      state,
      bytesInWords(initiatorBytes + responderBytes),
    ];
  });
}

/** Of a hairpin, that of whoever opened it. */
function externalOf({ initiator, responder }: SessionSummary) {
  return initiator.external ?? responder.external;
}

/** Protocols without ports have 0. */
function endpoint({ address, port }: { readonly address: string; readonly port: number }): string {
  if (port === 0) return address;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function portOf({ port }: { readonly port: number }): string {
  return port === 0 ? '' : `${port}`;
}
