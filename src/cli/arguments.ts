/** What a person typed, as a value. Pure: printing and exiting is the caller's. */
import { quoted } from '../config/config-problem.ts';
import { suggest } from '../config/suggest.ts';
import {
  ENTRY_MS_MAX,
  REVISIONS_PER_ANSWER_MAX,
  type StateFilter,
  sessionStates,
} from '../messages/control-messages.ts';
import { parseDuration } from '../net/duration.ts';
import { parsePrefix } from '../net/prefix.ts';
import { type AccessPath, parseAccess, parseSshConnection } from './access-path.ts';
import { CommandWords } from './command-words.ts';
import { parseProtocol, protocolNumbers } from './protocol-names.ts';
import { UsageError } from './usage-error.ts';
import {
  CONFIG_FILE_DEFAULT,
  CONFIG_FILE_VARIABLE,
  DEMO_PORT_DEFAULT,
  findVerb,
  HISTORY_LIMIT_DEFAULT,
  STATES_LIMIT_DEFAULT,
  STATES_LIMIT_MAX,
  shells,
  tableActions,
  USER_DEFAULT,
  type VerbName,
  verbs,
  WINDOW_DEFAULT,
} from './verbs.ts';

export { UsageError };

/** Of every command. */
export interface Instance {
  /** Path of the config file. */
  readonly config: string;
  /** Instead of the config's `paths.runtime`. */
  readonly runtime?: string;
  /** How the words named the instance, to be repeated in commands that are proposed. */
  readonly instanceWords: readonly string[];
  /** One JSON document instead of text. */
  readonly json: boolean;
}

/** How a change is made. */
export interface ChangeTerms {
  readonly windowMs: number;
  readonly forced: boolean;
  readonly access?: AccessPath;
}

export type Shell = (typeof shells)[number];

/** `file` is a path, or `-` for standard input or output. */
interface OwnParts {
  /** `user`: the account that processes without privileges run as. */
  run: { readonly user: string };
  /** A TCP port of 127.0.0.1; 0 takes a free one. */
  demo: { readonly port: number };
  status: object;
  doctor: object;
  init: { readonly output: string };
  check: { readonly file: string };
  diff: { readonly file: string };
  /** `planned`: the file of a config; absent: what is in force. */
  rules: { readonly planned?: string };
  apply: { readonly source: { readonly file: string } | { readonly revision: number } } & {
    readonly terms: ChangeTerms;
  };
  confirm: { readonly changeId?: string };
  rollback: { readonly changeId?: string } & {
    readonly to?: { readonly revision: number; readonly terms: ChangeTerms };
  };
  history: { readonly revision?: number; readonly limit: number };
  safe: { readonly on: boolean };
  states:
    | { readonly filter: StateFilter; readonly limit: number }
    /** To be ended. */
    | { readonly kill: StateFilter | 'all' };
  table: TableCommand;
  backup: { readonly file: string; readonly passphraseFile?: string };
  restore: { readonly file: string; readonly passphraseFile?: string };
  completion: { readonly shellName: Shell };
  version: object;
  help: { readonly topic?: VerbName };
}

/** A table, and what of it; `forMs`: then it goes by itself. */
export type TableCommand =
  | { readonly action: 'show'; readonly table?: string }
  | {
      readonly action: 'add';
      readonly table: string;
      readonly prefix: string;
      readonly forMs?: number;
    }
  | { readonly action: 'remove'; readonly table: string; readonly prefix: string };

export type CommandOf<Verb extends VerbName> = { readonly verb: Verb } & Instance & OwnParts[Verb];
export type CliCommand = { [Verb in VerbName]: CommandOf<Verb> }[VerbName];
export type RunCommand = CommandOf<'run'>;
export type DemoCommand = CommandOf<'demo'>;

/** Of the process: $GATEHOUSE_CONFIG and $SSH_CONNECTION are looked at. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** @throws UsageError and nothing else, whatever the words are */
export function parseCommandLine(
  words: readonly string[],
  environment: Environment = process.env,
): CliCommand {
  try {
    return parse(words, environment);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message, { verb: error.verb, wantsJson: asksForJson(words) });
  }
}

/** Also of words that cannot be understood. */
function asksForJson(words: readonly string[]): boolean {
  const end = words.indexOf('--');
  return (end < 0 ? words : words.slice(0, end)).includes('--json');
}

function parse(words: readonly string[], environment: Environment): CliCommand {
  const given = new CommandWords(words);
  const instance = instanceOf(given, environment);
  const { verb } = given;
  if (verb === undefined) {
    const isVersion = given.has('version');
    return isVersion ? { verb: 'version', ...instance } : { verb: 'help', ...instance };
  }
  if (given.has('help')) return { verb: 'help', topic: verb.name, ...instance };
  if (given.has('version')) throw given.fail('--version stands without a verb');
  if (verb.positional?.required === true && given.positional === undefined) {
    throw given.fail(`${verb.name} needs a ${verb.positional.name}`);
  }
  return commandFor(verb.name, { given, instance, environment });
}

function instanceOf(given: CommandWords, environment: Environment): Instance {
  const config = given.text('config');
  // It is looked at more than once.
  if (config === '-') throw given.fail('--config takes no standard input: it needs a file');
  const runtime = given.text('runtime');
  const fromEnvironment = environment[CONFIG_FILE_VARIABLE] ?? '';
  return {
    config: config ?? (fromEnvironment === '' ? CONFIG_FILE_DEFAULT : fromEnvironment),
    ...(runtime === undefined ? {} : { runtime }),
    instanceWords: [
      ...(config === undefined ? [] : ['--config', config]),
      ...(runtime === undefined ? [] : ['--runtime', runtime]),
    ],
    json: given.has('json'),
  };
}

interface Understood {
  readonly given: CommandWords;
  readonly instance: Instance;
  readonly environment: Environment;
}

function commandFor(verb: VerbName, understood: Understood): CliCommand {
  const { given, instance } = understood;
  switch (verb) {
    case 'run':
      return { verb, user: userOf(given), ...instance };
    case 'demo':
      return { verb, port: numberOf(given, 'port', PORT) ?? DEMO_PORT_DEFAULT, ...instance };
    case 'init':
      return { verb, output: given.text('output') ?? instance.config, ...instance };
    case 'check':
    case 'diff':
      return { verb, file: given.positional ?? instance.config, ...instance };
    case 'rules':
      return { verb, ...plannedOf(understood), ...instance };
    case 'apply':
      return { verb, source: sourceOf(understood), terms: termsOf(understood), ...instance };
    case 'confirm':
      return { verb, ...changeIdOf(given), ...instance };
    case 'rollback':
      return { verb, ...rolledBackOf(understood), ...instance };
    case 'history':
      return { verb, ...historyOf(given), ...instance };
    case 'safe':
      return { verb, on: !given.has('off'), ...instance };
    case 'states':
      return { verb, ...statesOf(given), ...instance };
    case 'table':
      return { verb, ...tableOf(given), ...instance };
    case 'backup':
    case 'restore':
      return { verb, ...backupOf(given), ...instance };
    case 'completion':
      return { verb, shellName: shellOf(given), ...instance };
    case 'help':
      return { verb, ...topicOf(given), ...instance };
    case 'status':
    case 'doctor':
    case 'version':
      return { verb, ...instance };
  }
}

/** Debian's rule for names of accounts (adduser's NAME_REGEX). */
const ACCOUNT = /^[a-z_][a-z0-9_-]{0,31}$/;

function userOf(given: CommandWords): string {
  const user = given.text('user') ?? USER_DEFAULT;
  if (!ACCOUNT.test(user)) throw given.fail(`--user ${quoted(user)} is no account`);
  return user;
}

interface Range {
  readonly minimum: number;
  readonly maximum: number;
}

const PORT: Range = { minimum: 0, maximum: 65_535 };
const LIMIT: Range = { minimum: 1, maximum: REVISIONS_PER_ANSWER_MAX };
const STATES_LIMIT: Range = { minimum: 1, maximum: STATES_LIMIT_MAX };
const REVISION: Range = { minimum: 0, maximum: Number.MAX_SAFE_INTEGER };

function numberOf(
  given: CommandWords,
  option: 'port' | 'limit' | 'revision' | 'to',
  range: Range,
): number | undefined {
  const text = given.text(option);
  return text === undefined ? undefined : wholeNumber(given, { text, range, what: `--${option}` });
}

function wholeNumber(
  given: CommandWords,
  { text, range, what }: { text: string; range: Range; what: string },
): number {
  const { minimum, maximum } = range;
  const value = /^(?:0|[1-9][0-9]{0,15})$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  const right = range === REVISION ? 'number of a revision' : `number ${minimum} to ${maximum}`;
  throw given.fail(`${what} ${quoted(text)} is no ${right}`);
}

function plannedOf({ given, instance }: Understood): OwnParts['rules'] {
  if (given.has('planned')) return { planned: given.positional ?? instance.config };
  if (given.positional === undefined) return {};
  throw given.fail(`rules takes a FILE only with --planned`);
}

function sourceOf({ given, instance }: Understood): OwnParts['apply']['source'] {
  const revision = numberOf(given, 'revision', REVISION);
  if (revision === undefined) return { file: given.positional ?? instance.config };
  if (given.positional === undefined) return { revision };
  throw given.fail('apply takes a FILE or --revision, not both');
}

function termsOf({ given, environment }: Understood): ChangeTerms {
  const windowText = given.text('confirm') ?? WINDOW_DEFAULT;
  const windowMs = parseDuration(windowText);
  if (windowMs === undefined) {
    throw given.fail(`--confirm ${quoted(windowText)} is no duration such as 60s or 5m`);
  }
  const accessText = given.text('access');
  const access =
    accessText === undefined
      ? parseSshConnection(environment['SSH_CONNECTION'] ?? '')
      : parseAccess(accessText);
  if (accessText !== undefined && access === undefined) {
    const right = '"CLIENT PORT GATEWAY PORT" as in $SSH_CONNECTION';
    throw given.fail(`--access ${quoted(accessText)} is not ${right}`);
  }
  return { windowMs, forced: given.has('force'), ...(access === undefined ? {} : { access }) };
}

/** As the core gives them. */
const CHANGE_ID = /^[a-z0-9-]{1,36}$/;

function changeIdOf(given: CommandWords): { readonly changeId?: string } {
  const changeId = given.positional;
  if (changeId === undefined) return {};
  if (!CHANGE_ID.test(changeId)) throw given.fail(`${quoted(changeId)} is no name of a change`);
  return { changeId };
}

function rolledBackOf(understood: Understood): OwnParts['rollback'] {
  const { given } = understood;
  const revision = numberOf(given, 'to', REVISION);
  if (revision !== undefined) {
    if (given.positional === undefined) return { to: { revision, terms: termsOf(understood) } };
    throw given.fail('rollback takes a CHANGE or --to, not both');
  }
  const unfit = (['confirm', 'force', 'access'] as const).find((name) => given.has(name));
  if (unfit !== undefined) throw given.fail(`rollback takes --${unfit} only with --to`);
  return changeIdOf(given);
}

function historyOf(given: CommandWords): OwnParts['history'] {
  const limit = numberOf(given, 'limit', LIMIT);
  const text = given.positional;
  if (text === undefined) return { limit: limit ?? HISTORY_LIMIT_DEFAULT };
  if (limit !== undefined) throw given.fail('history takes a REVISION or --limit, not both');
  const revision = wholeNumber(given, { text, range: REVISION, what: 'REVISION' });
  return { revision, limit: HISTORY_LIMIT_DEFAULT };
}

function statesOf(given: CommandWords): OwnParts['states'] {
  const filter = stateFilterOf(given);
  const isPicking = Object.keys(filter).length > 0;
  if (!given.has('kill')) {
    if (given.has('all')) throw given.fail('states takes --all only with --kill');
    return { filter, limit: numberOf(given, 'limit', STATES_LIMIT) ?? STATES_LIMIT_DEFAULT };
  }
  if (given.has('limit')) throw given.fail('states takes --limit only without --kill');
  if (given.has('all') && isPicking) {
    throw given.fail('states --kill takes --all or options that pick sessions, not both');
  }
  if (given.has('all')) return { kill: 'all' };
  if (isPicking) return { kill: filter };
  throw given.fail('states --kill needs an option that picks sessions, such as --device, or --all');
}

function stateFilterOf(given: CommandWords): StateFilter {
  const device = addressOf(given, 'device');
  const remote = addressOf(given, 'remote');
  const port = numberOf(given, 'port', PORT);
  const protocol = protocolOf(given);
  const state = stateOf(given);
  return {
    ...(device === undefined ? {} : { device }),
    ...(remote === undefined ? {} : { remote }),
    ...(port === undefined ? {} : { port }),
    ...(protocol === undefined ? {} : { protocol }),
    ...(state === undefined ? {} : { state }),
  };
}

function addressOf(given: CommandWords, option: 'device' | 'remote'): string | undefined {
  const text = given.text(option);
  if (text === undefined || parsePrefix(text) !== undefined) return text;
  const right = 'no address such as 10.77.0.9, nor a network such as 10.77.0.0/24';
  throw given.fail(`--${option} ${quoted(text)} is ${right}`);
}

function protocolOf(given: CommandWords): number | undefined {
  const text = given.text('protocol');
  if (text === undefined) return undefined;
  const protocol = parseProtocol(text);
  if (protocol !== undefined) return protocol;
  const names = Object.keys(protocolNumbers).join(', ');
  throw given.fail(`--protocol ${quoted(text)} is none of ${names}, nor a number 0 to 255`);
}

function stateOf(given: CommandWords): StateFilter['state'] {
  const text = given.text('state');
  const state = sessionStates.find((one) => one === text);
  if (text === undefined || state !== undefined) return state;
  throw given.fail(`--state ${quoted(text)} is none of ${sessionStates.join(', ')}`);
}

const TABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]{0,31}$/;

function tableOf(given: CommandWords): TableCommand {
  const [word = '', table, text] = given.positionals;
  const action = tableActions.find((one) => one === word);
  if (action === undefined) {
    throw given.fail(`table ${quoted(word)}: there is table ${tableActions.join(', table ')}`);
  }
  if (table !== undefined && !TABLE_NAME.test(table)) {
    throw given.fail(`${quoted(table)} is no name of a table`);
  }
  const forText = given.text('for');
  if (forText !== undefined && action !== 'add') {
    throw given.fail(`table ${action} takes no --for`);
  }
  if (action === 'show') {
    if (text !== undefined) throw given.fail('table show takes a NAME, and nothing behind it');
    return { action, ...(table === undefined ? {} : { table }) };
  }
  if (table === undefined || text === undefined) {
    throw given.fail(`table ${action} needs a NAME and an ADDRESS`);
  }
  const parsed = parsePrefix(text);
  if (parsed === undefined) {
    const right = 'no address such as 192.0.2.7, nor a prefix such as 192.0.2.0/24';
    throw given.fail(`${quoted(text)} is ${right}`);
  }
  const entry = { table, prefix: text };
  if (action === 'remove') return { action, ...entry };
  return { action, ...entry, ...timeOf(given, forText) };
}

function timeOf(given: CommandWords, text: string | undefined): { readonly forMs?: number } {
  if (text === undefined) return {};
  const forMs = parseDuration(text) ?? 0;
  if (forMs >= 1 && forMs <= ENTRY_MS_MAX) return { forMs };
  throw given.fail(`--for ${quoted(text)} is no duration such as 10m, of at most a year`);
}

function backupOf(given: CommandWords): OwnParts['backup'] {
  const { verb, positional: file = '' } = given;
  if (file === '' || file === '-') throw given.fail(`${verb?.name} needs the path of a FILE`);
  const passphraseFile = given.text('passphrase-file');
  return { file, ...(passphraseFile === undefined ? {} : { passphraseFile }) };
}

function shellOf(given: CommandWords): Shell {
  const word = given.positional ?? '';
  const shell = shells.find((one) => one === word);
  if (shell !== undefined) return shell;
  throw given.fail(`there is no completion for ${quoted(word)}: there is ${shells.join(', ')}`);
}

function topicOf(given: CommandWords): OwnParts['help'] {
  const word = given.positional;
  if (word === undefined) return {};
  const topic = findVerb(word)?.name;
  if (topic !== undefined) return { topic };
  const names = verbs.map(({ name }) => name);
  const meant = suggest(word, names);
  const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
  throw given.fail(`there is no verb ${quoted(word)}${hint}`);
}
