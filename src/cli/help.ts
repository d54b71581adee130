/** `gatehouse help`: what there is, from the table of verbs. */
import type { CommandOf } from './arguments.ts';
import { exitCodeTable } from './exit-codes.ts';
import { done, type Outcome } from './outcome.ts';
import { alignColumns, wrapText } from './terminal-text.ts';
import {
  findVerb,
  globalOptions,
  globalOptionsOf,
  type OptionDescription,
  positionalsOf,
  type VerbDescription,
  verbs,
} from './verbs.ts';

/** As wide as the narrowest terminal in use. */
const WIDTH = 80;

export function help({ topic }: CommandOf<'help'>): Outcome {
  const verb = topic === undefined ? undefined : findVerb(topic);
  const document = {
    verbs: verb === undefined ? verbs : [verb],
    globalOptions,
    exitCodes: exitCodeTable,
  };
  return done(verb === undefined ? overview() : explain(verb), document);
}

/** `apply [FILE] [--confirm DURATION] [--force]`, without global options. */
export function synopsisOf(verb: VerbDescription): string {
  const { name, options } = verb;
  const words = positionalsOf(verb).map((one) => (one.required ? one.name : `[${one.name}]`));
  const flags = options.map((option) => `[${flagOf(option)}]`);
  return [name, ...words, ...flags].join(' ');
}

/** `--confirm DURATION`. */
export function flagOf({ name, value }: OptionDescription): string {
  return value === undefined ? `--${name}` : `--${name} ${value}`;
}

function overview(): string[] {
  return [
    'gatehouse owns the gate of a network: home and edge gateway, firewall, DDoS shield',
    '',
    'usage: gatehouse VERB [ARGUMENT] [OPTIONS]',
    '',
    'verbs (gatehouse help VERB tells more):',
    ...table(verbs.map(({ name, summary }) => [name, summary])),
    '',
    ...optionLines('options of every verb:', globalOptions),
    '',
    ...exitCodeLines(),
  ];
}

function explain(verb: VerbDescription): string[] {
  const { options } = verb;
  const places = positionalsOf(verb);
  const description = verb.description.flatMap((paragraph) => ['', ...wrapText(paragraph, WIDTH)]);
  const argument: readonly string[] =
    places.length === 0
      ? []
      : [
          '',
          places.length === 1 ? 'argument:' : 'arguments:',
          ...table(places.map(({ name, description: text }) => [name, text])),
        ];
  const own = options.length === 0 ? [] : ['', ...optionLines('options:', options)];
  return [
    ...usageLines(verb),
    ...description,
    ...argument,
    ...own,
    '',
    ...optionLines('options of every verb:', globalOptionsOf(verb)),
    '',
    ...exitCodeLines(),
  ];
}

/** Not broken between an option and its value. */
function usageLines(verb: VerbDescription): string[] {
  const held = synopsisOf(verb).replace(/ (?=[^[\]]*\])/g, NO_BREAK_SPACE);
  const [first = '', ...rest] = wrapText(`usage: gatehouse ${held}`, WIDTH);
  return [first, ...rest.map((line) => `  ${line}`)].map((line) =>
    line.replaceAll(NO_BREAK_SPACE, ' '),
  );
}

const NO_BREAK_SPACE = '\u00a0';

function optionLines(head: string, options: readonly OptionDescription[]): string[] {
  const rows = options.map((option): [string, string] => {
    const end = option.default === undefined ? '' : ` (default ${option.default})`;
    return [flagOf(option), `${option.description}${end}`];
  });
  return [head, ...table(rows)];
}

function exitCodeLines(): string[] {
  return ['exit codes:', ...table(exitCodeTable.map(({ code, meaning }) => [`${code}`, meaning]))];
}

/** Two columns; the second one is broken between words. */
function table(rows: readonly (readonly [string, string])[]): string[] {
  const labelWidth = Math.max(...rows.map(([label]) => label.length));
  const textWidth = WIDTH - labelWidth - 4;
  const broken = rows.flatMap(([label, text]) =>
    wrapText(text, textWidth).map((line, index) => [index === 0 ? label : '', line]),
  );
  return alignColumns(broken).map((line) => `  ${line}`);
}
