/** One question to the running instance, and whatever keeps it from being answered. */
import type {
  ControlAnswer,
  ControlClient,
  ControlQuestion,
  RefusalCode,
} from '../messages/control-messages.ts';
import type { Instance } from './arguments.ts';
import { exitCodes } from './exit-codes.ts';
import { locateInstance } from './locate-instance.ts';
import { configProblems, fail, type Outcome } from './outcome.ts';
import { messageOf } from './terminal-text.ts';
import type { CliWorld } from './world.ts';

type AnswerKind = Exclude<ControlAnswer['kind'], 'refused'>;

export type Asked<Kind extends AnswerKind> =
  | { readonly answer: Extract<ControlAnswer, { kind: Kind }>; readonly failure?: never }
  | (Unanswered & { readonly answer?: never });

interface Unanswered {
  readonly failure: Outcome;
  /** Nobody to ask; `failed`: somebody who does not answer; `refused`: it said no. */
  readonly why: 'stopped' | 'denied' | 'failed' | 'refused';
  readonly reason: string;
}

export interface Question<Kind extends AnswerKind> {
  readonly question: ControlQuestion;
  readonly expects: Kind;
  /** Shorter than the connection's own limit. */
  readonly withinMs?: number;
}

/** A running instance that answers more than one question. It must be closed. */
export interface OpenCore {
  ask<Kind extends AnswerKind>(question: Question<Kind>): Promise<Asked<Kind>>;
  close(): void;
  readonly failure?: never;
}

export async function askCore<Kind extends AnswerKind>(
  world: CliWorld,
  { instance, ...question }: Question<Kind> & { readonly instance: Instance },
): Promise<Asked<Kind>> {
  const core = await openCore(world, instance);
  if (core.failure !== undefined) return core;
  try {
    return await core.ask(question);
  } finally {
    core.close();
  }
}

export async function openCore(
  world: CliWorld,
  instance: Instance,
): Promise<OpenCore | (Unanswered & { readonly answer?: never })> {
  const { runtime, doubt } = locateInstance(instance, world);
  const connection = await world.connect(runtime);
  if (connection.client === undefined) {
    const { why } = connection;
    const reason = doubt === undefined ? connection.reason : `${connection.reason} (${doubt})`;
    const failure = fail({ exitCode: exitCodes.notRunning, code: why, message: reason });
    return { failure, why, reason };
  }
  const { client } = connection;
  return { ask: (question) => askOver(client, question), close: () => client.close() };
}

async function askOver<Kind extends AnswerKind>(
  client: ControlClient,
  { question, expects, withinMs }: Question<Kind>,
): Promise<Asked<Kind>> {
  try {
    const answer = await client.ask(question, withinMs);
    if (answer.kind === 'refused') return refusedBy(answer);
    // The kind was compared, which the compiler does not see through the type parameter.
    if (answer.kind === expects)
      return { answer: answer as Extract<typeof answer, { kind: Kind }> };
    return unanswered(question, `it answered ${answer.kind}`);
  } catch (error) {
    return unanswered(question, messageOf(error));
  }
}

/** The world's name for whoever asks, as the core takes it: one printable line. */
export function authorOf(world: CliWorld): string {
  const printable = world.author.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '');
  let author = '';
  for (const character of printable) {
    if (author.length + character.length > AUTHOR_LENGTH_MAX) break;
    author += character;
  }
  return author === '' ? 'unknown' : author;
}

/** As src/messages/control-messages.ts has it. */
const AUTHOR_LENGTH_MAX = 64;

/** Whether it was done is unknown: the question may have arrived. */
function unanswered({ kind }: ControlQuestion, why: string) {
  const reason = `the running instance did not answer ${kind}: ${why}`;
  const message = `${reason}; gatehouse status tells what is in force now`;
  const failure = fail({ exitCode: exitCodes.failed, code: 'no-answer', message });
  return { failure, why: 'failed', reason } as const;
}

/** What to do about a refusal, where its reason does not say it. */
const remedies: { readonly [Code in RefusalCode]?: string } = {
  'cuts-own-access': '--force applies it all the same, and the confirm timer still brings it back',
};

function refusedBy({ code, reason }: { code: RefusalCode; reason: string }) {
  const remedy = remedies[code];
  const message = remedy === undefined ? reason : `${reason}: ${remedy}`;
  const isAboutConfig = code === 'config-problems' || code === 'ruleset-refused';
  const exitCode = isAboutConfig ? exitCodes.configProblems : exitCodes.refused;
  const failure =
    code === 'config-problems' ? configProblems(reason) : fail({ exitCode, code, message });
  return { failure, why: 'refused', reason } as const;
}
