/** Rules that are there whatever the config says. */
import type { Match, RulesetRule, Statement } from './ruleset.ts';

export interface BuiltIn {
  readonly name: string;
  readonly part?: string;
  /** What tells it apart from others of the same part: the name of a network, for example. */
  readonly text?: string;
  readonly matches: readonly Match[];
  /** Default: accept. */
  readonly statement?: Statement;
}

export function builtIn({ name, part, text, matches, statement = accept }: BuiltIn): RulesetRule {
  const origin = {
    kind: 'built-in',
    name,
    ...(part === undefined ? {} : { part }),
    ...(text === undefined ? {} : { text }),
  } as const;
  return { origin, matches, statement };
}

export const accept: Statement = { kind: 'accept' };
export const drop: Statement = { kind: 'drop' };

/** The last of every chain that refuses what it does not know. */
export const dropTheRest = builtIn({ name: 'rest', matches: [], statement: drop });

/** The first where conntrack knows which packets belong to something that was let through. */
export const connectionRules = [
  builtIn({
    name: 'established',
    matches: [{ kind: 'connection', states: ['established', 'related'] }],
  }),
  builtIn({
    name: 'invalid',
    matches: [{ kind: 'connection', states: ['invalid'] }],
    statement: drop,
  }),
];
