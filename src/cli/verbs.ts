/**
 * Every verb of the command line. Parsing, help, shell completion and docs/command-line.md come
 * from this table.
 */
import { REVISIONS_PER_ANSWER_MAX, sessionStates } from '../messages/control-messages.ts';
import { protocolNumbers } from './protocol-names.ts';

/** What a shell offers in a word's place: files, folders, nothing, or these words. */
export type Completion = 'file' | 'folder' | 'nothing' | readonly string[];

export interface OptionDescription {
  /** Without dashes. */
  readonly name: string;
  /** The placeholder of its value; absent for a switch. */
  readonly value?: string;
  /** A phrase, small at its beginning, without a full stop. */
  readonly description: string;
  readonly default?: string;
  readonly completes: Completion;
}

export interface PositionalDescription {
  readonly name: string;
  readonly required: boolean;
  readonly description: string;
  readonly completes: Completion;
}

export interface VerbDescription {
  readonly name: string;
  /** A phrase for the list of verbs. */
  readonly summary: string;
  /** Paragraphs. */
  readonly description: readonly string[];
  readonly positional?: PositionalDescription;
  /** Those that follow it, none of them required. */
  readonly further?: readonly PositionalDescription[];
  /** Its own ones, besides the global ones. */
  readonly options: readonly OptionDescription[];
  /** The keys of what `--json` prints when it is done; absent where there is no `--json`. */
  readonly document?: readonly string[];
}

export const CONFIG_FILE_DEFAULT = '/etc/gatehouse/gatehouse.yaml';
export const CONFIG_FILE_VARIABLE = 'GATEHOUSE_CONFIG';
export const WINDOW_DEFAULT = '60s';
export const HISTORY_LIMIT_DEFAULT = 20;
export const STATES_LIMIT_DEFAULT = 100;
/** As many as a table has by default. More would not fit into one string of JSON. */
export const STATES_LIMIT_MAX = 1_000_000;
export const USER_DEFAULT = 'gatehouse';
export const DEMO_PORT_DEFAULT = 8080;
export const tableActions = ['show', 'add', 'remove'] as const;
export const shells = ['bash', 'zsh', 'fish'] as const;

/** They stand before the verb or after it. */
export const globalOptions = [
  {
    name: 'config',
    value: 'FILE',
    description: `the config file; before the default comes $${CONFIG_FILE_VARIABLE}`,
    default: CONFIG_FILE_DEFAULT,
    completes: 'file',
  },
  {
    name: 'runtime',
    value: 'FOLDER',
    description: "where the running instance is found, instead of the config's `paths.runtime`",
    completes: 'folder',
  },
  {
    name: 'json',
    description: 'print one JSON document on standard output, also for errors',
    completes: 'nothing',
  },
  { name: 'help', description: 'print what the verb does', completes: 'nothing' },
] as const satisfies readonly OptionDescription[];

/** A flag without a verb. */
export const versionOption = {
  name: 'version',
  description: 'print the version',
  completes: 'nothing',
} as const satisfies OptionDescription;

const termsOfChange = [
  {
    name: 'confirm',
    value: 'DURATION',
    description: 'roll the change back unless it is confirmed within this time',
    default: WINDOW_DEFAULT,
    completes: ['30s', '60s', '5m', '10m'],
  },
  {
    name: 'force',
    description: 'apply it even if it cuts your own access or replaces edits of the config file',
    completes: 'nothing',
  },
  {
    name: 'access',
    value: 'CONNECTION',
    description: 'the connection by which you are here; default: $SSH_CONNECTION',
    completes: 'nothing',
  },
] as const satisfies readonly OptionDescription[];

const documentOfChange = ['changeId', 'outcome', 'rollbackInMs', 'revision', 'notes'];

/** Of `apply` and `rollback --to`. */
const aboutAccess =
  'A change that would cut the connection by which you are here is refused, unless forced. The ' +
  'connection is "CLIENT PORT GATEWAY PORT" as in $SSH_CONNECTION. sudo removes that variable, ' +
  'so give it: --access "$SSH_CONNECTION"';

const fileToTake = {
  name: 'FILE',
  required: false,
  description: 'a config; `-` is standard input; default: the config file',
  completes: 'file',
} as const satisfies PositionalDescription;

const change = {
  name: 'CHANGE',
  required: false,
  description: 'the name of the change, so that no other one is meant; default: the one under way',
  completes: 'nothing',
} as const satisfies PositionalDescription;

const backupFile = {
  name: 'FILE',
  required: true,
  description: 'the backup',
  completes: 'file',
} as const satisfies PositionalDescription;

const passphraseFile = {
  name: 'passphrase-file',
  value: 'FILE',
  description: 'a file whose first line is the passphrase; `-` is standard input',
  completes: 'file',
} as const satisfies OptionDescription;

const programVerbs = [
  {
    name: 'run',
    summary: 'run the gateway in the foreground',
    description: [
      'Runs until SIGTERM or Ctrl-C, in whatever network namespace it is started in. What it ' +
        'puts into the kernel stays when it ends: packets are forwarded on, and the next start ' +
        'takes over. Needs root; the processes that answer strangers run as ACCOUNT.',
    ],
    options: [
      {
        name: 'user',
        value: 'ACCOUNT',
        description: 'the account of processes without privileges',
        default: USER_DEFAULT,
        completes: 'nothing',
      },
    ],
  },
  {
    name: 'demo',
    summary: 'run a home network in network namespaces, to look at',
    description: [
      'Brings up an internet, a gateway that is this program, and machines behind it; tells how ' +
        'to enter them; takes all of it away on Ctrl-C. Needs root, and touches nothing else.',
    ],
    options: [
      {
        name: 'port',
        value: 'PORT',
        description: 'the port on 127.0.0.1 where the API answers; 0 takes a free one',
        default: `${DEMO_PORT_DEFAULT}`,
        completes: 'nothing',
      },
    ],
  },
  {
    name: 'status',
    summary: 'tell how the running instance does',
    description: [
      'What is in force, what waits to be confirmed, which processes run, what is wrong, and ' +
        'what happened since the start. Exits with 6 when something is not as it should be.',
    ],
    options: [],
    document: ['status'],
  },
  {
    name: 'doctor',
    summary: 'check what the program needs of this machine',
    description: [
      'Each requirement of kernel, packages and rights, what was found, and what to do about it. ' +
        'Exits with 6 when something is missing. The program need not run.',
    ],
    options: [],
    document: ['findings', 'missingCount', 'limitedCount'],
  },
] as const satisfies readonly VerbDescription[];

const configVerbs = [
  {
    name: 'init',
    summary: 'write a config for this machine',
    description: [
      'Looks at the interfaces and writes a config with comments that say what was chosen and ' +
        'why. Never replaces a file.',
    ],
    options: [
      {
        name: 'output',
        value: 'FILE',
        description: 'where to write it; `-` prints it; default: the config file',
        completes: 'file',
      },
    ],
    document: ['file', 'configText', 'notes'],
  },
  {
    name: 'check',
    summary: 'find the problems of a config, without changing anything',
    description: [
      'Reads the config, makes its ruleset, and asks the kernel whether it would take it, where ' +
        'that is allowed. Problems are printed one a line, as FILE:LINE:COLUMN: what is wrong. ' +
        'Also names what the config asks for and this version does not do yet.',
    ],
    positional: fileToTake,
    options: [],
    document: ['file', 'ruleCount', 'kernel', 'notes'],
  },
  {
    name: 'diff',
    summary: 'show how a config differs from what is in force',
    description: [
      'Two unified differences: of the config text, and of the ruleset. Exits with 6 when there ' +
        'is a difference.',
    ],
    positional: fileToTake,
    options: [],
    document: ['file', 'different', 'configDiff', 'rulesetDiff'],
  },
  {
    name: 'rules',
    summary: 'print the ruleset that is in force',
    description: ['As nft prints it; the comment of each rule says where it comes from.'],
    positional: {
      name: 'FILE',
      required: false,
      description: 'with --planned: a config; `-` is standard input; default: the config file',
      completes: 'file',
    },
    options: [
      {
        name: 'planned',
        description: 'print the ruleset that a config would have, without a running instance',
        completes: 'nothing',
      },
    ],
    document: ['rulesetText'],
  },
] as const satisfies readonly VerbDescription[];

const changeVerbs = [
  {
    name: 'apply',
    summary: 'put a config in force, to be confirmed in time',
    description: [
      'Checks the config, puts it in force as one transaction, and rolls it back unless ' +
        '`gatehouse confirm` follows in time, also when the program or the machine dies ' +
        'meanwhile. Does not wait and does not ask.',
      aboutAccess,
    ],
    positional: fileToTake,
    options: [
      ...termsOfChange,
      {
        name: 'revision',
        value: 'NUMBER',
        description: 'apply the config of this revision instead of a file',
        completes: 'nothing',
      },
    ],
    document: documentOfChange,
  },
  {
    name: 'confirm',
    summary: 'keep the change that was applied',
    description: ['Ends the confirm timer and records the change as a revision.'],
    positional: change,
    options: [],
    document: documentOfChange,
  },
  {
    name: 'rollback',
    summary: 'undo the change that was applied, or go back to a revision',
    description: [
      'Without --to: undoes the change that waits to be confirmed, now. With --to: applies the ' +
        'config of an earlier revision, with a confirm timer as any other change.',
      aboutAccess,
    ],
    positional: change,
    options: [
      {
        name: 'to',
        value: 'REVISION',
        description: 'the revision to go back to, as `gatehouse history` numbers it',
        completes: 'nothing',
      },
      ...termsOfChange,
    ],
    document: documentOfChange,
  },
  {
    name: 'history',
    summary: 'list the revisions, or show one',
    description: [
      'The newest first: number, time, author, lines added and removed. With a number: that ' +
        "revision's difference to the one before, and its config.",
    ],
    positional: {
      name: 'REVISION',
      required: false,
      description: 'the number of a revision, to show it',
      completes: 'nothing',
    },
    options: [
      {
        name: 'limit',
        value: 'NUMBER',
        description: `how many to list, 1 to ${REVISIONS_PER_ANSWER_MAX}`,
        default: `${HISTORY_LIMIT_DEFAULT}`,
        completes: 'nothing',
      },
    ],
    document: ['revisions', 'revision', 'configText', 'configDiff', 'rulesetText'],
  },
  {
    name: 'safe',
    summary: 'the panic button: put a minimal ruleset in force at once',
    description: [
      'SSH and the API from inside networks, DHCP and DNS, and inside networks to the internet; ' +
        'none of the rules of the config. Stays in force, also across a reboot, until ' +
        '`gatehouse safe --off`. Works without a running instance and with a broken config.',
    ],
    options: [
      {
        name: 'off',
        description: 'put the ruleset of the config back in force; needs a running instance',
        completes: 'nothing',
      },
    ],
    document: ['on', 'byCore', 'notes'],
  },
] as const satisfies readonly VerbDescription[];

const trafficVerbs = [
  {
    name: 'states',
    summary: 'list the sessions of the NAT, or end some of them',
    description: [
      'One line a session: protocol, who opened it, to whom, by which port outside (`via`), how ' +
        'far it is, and the bytes of both directions. Addresses are those inside. The options ' +
        'that pick sessions can be combined: all of them must fit. --json tells more.',
      'Sessions of IPv6 keep digests of addresses. What they stand for is known of the newest ' +
        '131,072 addresses; a session with another one shows `?` and the digest, and is picked ' +
        'by a whole address, not by a network.',
      'With --kill the sessions that were picked end at once. The next packet of a TCP ' +
        'connection is answered with a reset; other traffic may open a new session, where the ' +
        'rules let it. TCP that is older than the gateway and silent since its start is reset by ' +
        'its next packet, too.',
    ],
    options: [
      {
        name: 'device',
        value: 'ADDRESS',
        description: "the inside end's; a network such as 10.77.0.0/24 means all in it",
        completes: 'nothing',
      },
      {
        name: 'remote',
        value: 'ADDRESS',
        description: "the other end's, or its network",
        completes: 'nothing',
      },
      {
        name: 'port',
        value: 'PORT',
        description: "either end's, as inside or outside sees it; of ICMP the identifier",
        completes: 'nothing',
      },
      {
        name: 'protocol',
        value: 'PROTOCOL',
        description: `${Object.keys(protocolNumbers).join(', ')}, or its number`,
        completes: Object.keys(protocolNumbers),
      },
      {
        name: 'state',
        value: 'STATE',
        description: `how far it is: ${sessionStates.join(', ')}`,
        completes: sessionStates,
      },
      {
        name: 'limit',
        value: 'NUMBER',
        description: `how many to list, 1 to ${STATES_LIMIT_MAX}, which take 1.5 GB of memory`,
        default: `${STATES_LIMIT_DEFAULT}`,
        completes: 'nothing',
      },
      {
        name: 'kill',
        description: 'end the sessions that the other options pick, instead of listing them',
        completes: 'nothing',
      },
      {
        name: 'all',
        description: 'with --kill and nothing picked: end every session',
        completes: 'nothing',
      },
    ],
    document: ['states', 'isWhole', 'examinedCount', 'killedCount'],
  },
] as const satisfies readonly VerbDescription[];

const tableVerbs = [
  {
    name: 'table',
    summary: 'show the address tables, or add to one and remove from it',
    description: [
      '`table show` lists the tables of the config; with a NAME, what is in that one. `table ' +
        'add` and `table remove` change it at once, without a change of the config: when the ' +
        'command has ended, the rules that name the table judge every forwarded packet by what ' +
        'is in it now, also those of open sessions.',
      'What was added stays across changes of the config and restarts, until it is removed or ' +
        'its time is over. What the config says is always in the table. Of addresses that ' +
        'overlap all count: one is in the table as long as one of them is.',
    ],
    positional: {
      name: 'COMMAND',
      required: true,
      description: tableActions.join(', '),
      completes: tableActions,
    },
    further: [
      {
        name: 'NAME',
        required: false,
        description: 'the table, as the config names it',
        completes: 'nothing',
      },
      {
        name: 'ADDRESS',
        required: false,
        description: 'an address or a prefix, such as 192.0.2.7 or 2001:db8::/32',
        completes: 'nothing',
      },
    ],
    options: [
      {
        name: 'for',
        value: 'DURATION',
        description: 'with add: until this time is over; what is there already gets the new time',
        completes: ['10m', '1h', '1d'],
      },
    ],
    document: [
      ...['tables', 'table', 'entries', 'prefix', 'outcome', 'expiresInMs', 'coveredBy', 'isKept'],
    ],
  },
] as const satisfies readonly VerbDescription[];

const otherVerbs = [
  {
    name: 'backup',
    summary: 'write config and state to a file',
    description: ['Never replaces a file. With a passphrase it is encrypted.'],
    positional: backupFile,
    options: [passphraseFile],
    document: ['file', 'notes'],
  },
  {
    name: 'restore',
    summary: 'bring config and state back from a backup',
    description: ['Only while no instance runs. What was there before is kept under another name.'],
    positional: backupFile,
    options: [passphraseFile],
    document: ['file', 'notes'],
  },
  {
    name: 'completion',
    summary: 'print the completion script of a shell',
    description: ['The page docs/command-line.md says where each shell looks for it.'],
    positional: {
      name: 'SHELL',
      required: true,
      description: shells.join(', '),
      completes: shells,
    },
    options: [],
    document: ['shell', 'script'],
  },
  {
    name: 'version',
    summary: 'print the version',
    description: ['Also as `gatehouse --version`.'],
    options: [],
    document: ['version'],
  },
  {
    name: 'help',
    summary: 'print what there is, or what a verb does',
    description: ['Also as `gatehouse VERB --help`.'],
    positional: {
      name: 'VERB',
      required: false,
      description: 'the verb to tell about',
      completes: [
        ...[...programVerbs, ...configVerbs, ...changeVerbs].map(({ name }) => name),
        ...[...trafficVerbs, ...tableVerbs].map(({ name }) => name),
        ...['backup', 'restore', 'completion', 'version', 'help'],
      ],
    },
    options: [],
    document: ['verbs', 'globalOptions', 'exitCodes'],
  },
] as const satisfies readonly VerbDescription[];

const table = [
  ...programVerbs,
  ...configVerbs,
  ...changeVerbs,
  ...trafficVerbs,
  ...tableVerbs,
  ...otherVerbs,
] as const;

export type VerbName = (typeof table)[number]['name'];
/** Every option of every verb. */
export type OptionName =
  | (typeof table)[number]['options'][number]['name']
  | (typeof globalOptions)[number]['name']
  | (typeof versionOption)['name'];

export type NamedVerb = VerbDescription & { readonly name: VerbName };

/** In the order of help and docs. */
export const verbs: readonly NamedVerb[] = table;

export function findVerb(name: string): NamedVerb | undefined {
  return verbs.find((verb) => verb.name === name);
}

/** Its words besides options, in order. */
export function positionalsOf({ positional, further = [] }: VerbDescription) {
  return positional === undefined ? [] : [positional, ...further];
}

/** Whether `--json` has a meaning: not for what runs until it is ended. */
export function takesJson(verb: VerbDescription): boolean {
  return verb.document !== undefined;
}

/** The global options of a verb. */
export function globalOptionsOf(verb: VerbDescription): readonly OptionDescription[] {
  return globalOptions.filter(({ name }) => name !== 'json' || takesJson(verb));
}
