/** Calls and comments that have no place here, each with what to do instead. */
import type { Check, Finding } from './check.ts';
import { isPure, isTest } from './layers.ts';
import { importsOf, isScript, type Source, sourceOf, type Token } from './source.ts';

interface Ban {
  appliesTo(path: string): boolean;
  /** Texts of tokens in a row; `.` also stands for `?.`. */
  readonly calls: readonly (readonly string[])[];
  readonly message: string;
}

const leftOut =
  'leaves tests out: a test runs or is deleted; one that lacks something fails and says so';

const bans: readonly Ban[] = [
  {
    appliesTo: isPure,
    calls: [
      ['Date', '.', 'now'],
      ['new', 'Date', '(', ')'],
      ['new', 'Date', ';'],
      ['Date', '(', ')'],
      ['Temporal', '.', 'Now'],
      ['performance', '.'],
    ],
    message: 'reads the clock: pure code is given `now`, so that tests script the time',
  },
  {
    appliesTo: () => true,
    calls: [['Math', '.', 'random']],
    message: 'cannot be repeated: take a seeded source of randomness as an argument',
  },
  {
    appliesTo: isPure,
    calls: [['crypto', '.']],
    message: 'differs from run to run: pure code is given its randomness',
  },
  {
    appliesTo: isPure,
    calls: [
      ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'].map((name) => [name, '(']),
      ['Atomics', '.', 'wait'],
    ],
    message: 'waits: pure code returns nextDeadline() and is called when the time has come',
  },
  {
    appliesTo: isPureProduct,
    calls: [['console', '.']],
    message: 'prints: pure code returns an event or a command, and src/linux/ reports it',
  },
  {
    appliesTo: isPureProduct,
    calls: [
      ['process', '.'],
      ['fetch', '('],
      ['new', 'WebSocket'],
      ['globalThis'],
      ['Buffer', '.'],
    ],
    message: 'reaches the machine: only src/linux/ acts; pure code returns commands',
  },
  {
    appliesTo: isTest,
    calls: [['setTimeout', '(']],
    message: 'sleeps: a test waits for the condition that it needs, with a limit',
  },
  {
    appliesTo: () => true,
    calls: [
      ['eval', '('],
      ['new', 'Function'],
      ['Function', '('],
    ],
    message:
      'runs text as code: nothing here needs that, and what strangers send must never get it',
  },
  {
    appliesTo: () => true,
    calls: [['as', 'any']],
    message: 'switches the type checker off: narrow from unknown instead',
  },
  {
    appliesTo: isTest,
    calls: ['skip', 'todo', 'only'].map((name) => ['.', name, '(']),
    message: leftOut,
  },
];

const shellCalls = ['exec', 'execSync'];

export const bannedCallsCheck: Check = {
  name: 'banned-calls',
  async run(repository) {
    return repository.paths.filter(isScript).flatMap((path) => {
      const source = sourceOf(repository, path);
      return [
        ...bannedCalls(path, source.tokens),
        ...shells(source).map((finding) => ({ path, ...finding })),
        ...sleepImports(path, source),
        ...leftOutByOption(path, source.tokens),
        ...silencedCheckers(source).map((finding) => ({ path, ...finding })),
      ];
    });
  },
};

/** A test of pure code may print and use Node; the clock and randomness it scripts all the same. */
function isPureProduct(path: string): boolean {
  return isPure(path) && !isTest(path);
}

function bannedCalls(path: string, tokens: readonly Token[]): Finding[] {
  const applicable = bans.filter((ban) => ban.appliesTo(path));
  return tokens.flatMap((token, index) =>
    applicable.flatMap(({ calls, message }) =>
      calls
        .filter((call) => stands(call, tokens, index))
        .map((call) => ({ path, line: token.line, message: `${call.join(' ')}: ${message}` })),
    ),
  );
}

/** Whether `call` begins at `index` and is neither another object's member nor a declaration. */
function stands(call: readonly string[], tokens: readonly Token[], index: number): boolean {
  const previous = tokens[index - 1]?.text;
  const member = ['.', '?.', 'function', 'new'].includes(previous ?? '');
  if (member && call[0] !== '.') return false;
  return call.every((text, offset) => {
    const token = tokens[index + offset];
    if (token === undefined || token.kind === 'string') return false;
    return token.text === text || (text === '.' && token.text === '?.');
  });
}

type FindingHere = Omit<Finding, 'path'>;

function shells(source: Source): FindingHere[] {
  const { tokens } = source;
  const imported = importsOf(source).flatMap(({ specifier, names, line }) =>
    specifier === 'node:child_process'
      ? names.filter((name) => shellCalls.includes(name)).map((name) => ({ name, line }))
      : [],
  );
  const options = tokens.filter(
    ({ text, kind }, index) =>
      kind === 'word' &&
      text === 'shell' &&
      tokens[index + 1]?.text === ':' &&
      isShell(tokens[index + 2]),
  );
  const message = 'starts a shell: give the arguments as a list, so that no text becomes a command';
  return [
    ...imported.map(({ name, line }) => ({ line, message: `${name}: ${message}` })),
    ...options.map(({ line }) => ({ line, message: `shell: ${message}` })),
  ];
}

/** A value that asks for a shell; a type or `false` does not. */
function isShell(value: Token | undefined): boolean {
  return value?.text === 'true' || value?.kind === 'string';
}

function sleepImports(path: string, source: Source): Finding[] {
  if (!isTest(path) && !isPure(path)) return [];
  const message = 'imports node:timers: a test waits for the condition that it needs, with a limit';
  return importsOf(source)
    .filter(({ specifier }) => specifier?.startsWith('node:timers'))
    .map(({ line }) => ({ path, line, message }));
}

/** `test('…', { skip: true }, …)`. The same words in other options mean something else. */
function leftOutByOption(path: string, tokens: readonly Token[]): Finding[] {
  if (!isTest(path)) return [];
  return tokens.flatMap(({ text, line }, index) => {
    const isKey = ['skip', 'todo', 'only'].includes(text) && tokens[index + 1]?.text === ':';
    if (!isKey || !testFunctions.includes(calleeAround(tokens, index) ?? '')) return [];
    return [{ path, line, message: `${text}: ${leftOut}` }];
  });
}

const testFunctions = ['test', 'it', 'describe', 'suite'];

/** The function whose argument is the object literal that the token at `index` stands in. */
function calleeAround(tokens: readonly Token[], index: number): string | undefined {
  let depth = 0;
  let levels = 0;
  for (let at = index - 1; at >= 0; at--) {
    const text = tokens[at]?.text ?? '';
    if (tokens[at]?.kind !== 'punctuation') continue;
    if (')]}'.includes(text)) depth++;
    if (!'([{'.includes(text)) continue;
    if (depth > 0) depth--;
    else if (text !== (levels === 0 ? '{' : '(')) return undefined;
    else if (levels++ === 1) return tokens[at - 1]?.text;
  }
  return undefined;
}

const suppressions = [
  {
    pattern: /@ts-(ignore|expect-error|nocheck)\b/,
    message: 'silences the type checker, and every later mistake on that line with it',
  },
  {
    pattern: /biome-ignore\S*\s+[^:]*(:\s*(<explanation>)?\s*(\*\/)?)?$/,
    message: 'silences a rule without saying why: write `biome-ignore RULE: the reason`',
  },
  { pattern: /eslint-disable/, message: 'belongs to a linter that is not used here' },
];

function silencedCheckers({ comments }: Source): FindingHere[] {
  return comments.flatMap(({ text, line }) =>
    suppressions
      .filter(({ pattern }) => text.split('\n').some((part) => pattern.test(part.trimEnd())))
      .map(({ pattern, message }) => ({ line, message: `${pattern.exec(text)?.[0]}: ${message}` })),
  );
}
