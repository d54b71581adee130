/** Words → verb, options and positional, by the table of verbs and nothing else. */
import { quoted } from '../config/config-problem.ts';
import { suggest } from '../config/suggest.ts';
import { UsageError } from './usage-error.ts';
import {
  findVerb,
  globalOptions,
  globalOptionsOf,
  type NamedVerb,
  type OptionDescription,
  type OptionName,
  positionalsOf,
  verbs,
  versionOption,
} from './verbs.ts';

/** More words than any verb has a use for. */
const WORDS_MAX = 64;
/** What the kernel takes as a path, and longer than every other value. */
const WORD_LENGTH_MAX = 4_096;

/** The words of one command line, told apart but not yet understood. */
export class CommandWords {
  /** Undefined when there is none. */
  verb: NamedVerb | undefined;
  /** Besides the verb, in order. */
  readonly positionals: string[] = [];
  readonly #values = new Map<string, string>();
  readonly #switches = new Set<string>();

  /** @throws UsageError */
  constructor(words: readonly string[]) {
    if (words.length > WORDS_MAX) throw new UsageError(`more than ${WORDS_MAX} words`);
    const long = words.find((word) => word.length > WORD_LENGTH_MAX || word.includes('\0'));
    if (long !== undefined) {
      throw new UsageError(`${quoted(long)} is no word of at most ${WORD_LENGTH_MAX} characters`);
    }
    const rest = [...words];
    let onlyPlain = false;
    for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
      if (word === '--' && !onlyPlain) onlyPlain = true;
      else if (onlyPlain || word === '-' || !word.startsWith('-')) this.#addPlain(word);
      else this.#addOption(word, rest);
    }
  }

  get positional(): string | undefined {
    return this.positionals[0];
  }

  text(name: OptionName): string | undefined {
    return this.#values.get(name);
  }

  has(name: OptionName): boolean {
    return this.#switches.has(name) || this.#values.has(name);
  }

  fail(message: string): UsageError {
    return new UsageError(message, { verb: this.verb?.name });
  }

  #addPlain(word: string): void {
    if (this.verb === undefined) this.verb = this.#verbNamed(word);
    else this.#addPositional(this.verb, word);
  }

  #verbNamed(word: string): NamedVerb {
    const verb = findVerb(word);
    if (verb !== undefined) {
      this.#judgeEarlyOptions(verb);
      return verb;
    }
    const names = verbs.map(({ name }) => name);
    throw this.fail(`there is no verb ${quoted(word)}${hint(word, names)}`);
  }

  #addPositional(verb: NamedVerb, word: string): void {
    const { name } = verb;
    const places = positionalsOf(verb);
    const place = places[this.positionals.length];
    if (place === undefined) {
      const [only] = places;
      if (only === undefined) throw this.fail(`${name} takes no ${quoted(word)}`);
      if (places.length > 1) throw this.fail(`${name} takes no further ${quoted(word)}`);
      throw this.fail(`${name} takes one ${only.name}, and ${quoted(word)} is another`);
    }
    if (word === '') throw this.fail(`the ${place.name} of ${name} is empty`);
    this.positionals.push(word);
  }

  /** `gatehouse --json run`. */
  #judgeEarlyOptions(verb: NamedVerb): void {
    const early = [...this.#switches].filter((name) => name !== versionOption.name);
    const unfit = early.find((name) => !globalOptionsOf(verb).some((one) => one.name === name));
    if (unfit !== undefined) {
      throw new UsageError(`${verb.name} takes no --${unfit}`, { verb: verb.name });
    }
  }

  #addOption(word: string, rest: string[]): void {
    const [, name = '', given] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    const option = this.#find(word === '-h' ? 'help' : name, word);
    if (option.value === undefined) {
      if (given !== undefined) throw this.fail(`--${option.name} takes no value`);
      this.#switches.add(option.name);
      return;
    }
    const next = rest[0]?.startsWith('-') === true && rest[0] !== '-' ? undefined : rest[0];
    const value = given ?? next;
    if (value === undefined || value === '') {
      throw this.fail(`--${option.name} needs a ${option.value}`);
    }
    if (given === undefined) rest.shift();
    if (this.#values.has(option.name)) throw this.fail(`--${option.name} is given twice`);
    this.#values.set(option.name, value);
  }

  #find(name: string, word: string): OptionDescription {
    const known = this.#options();
    const option = word.startsWith('--') || word === '-h' ? known.find(named(name)) : undefined;
    if (option !== undefined) return option;
    if (this.verb === undefined && verbs.some(({ options }) => options.some(named(name)))) {
      throw this.fail(`--${name} belongs to a verb: write it after the verb`);
    }
    const names = known.map((one) => one.name);
    const meant = suggest(name, names);
    const where = this.verb === undefined ? 'there is no option' : `${this.verb.name} takes no`;
    const shown = quoted(word.startsWith('--') ? `--${name}` : word);
    const end = meant === undefined ? '' : `; did you mean --${meant}?`;
    throw this.fail(`${where} ${shown}${end}`);
  }

  #options(): readonly OptionDescription[] {
    if (this.verb === undefined) return [...globalOptions, versionOption];
    return [...this.verb.options, ...globalOptionsOf(this.verb)];
  }
}

function named(name: string): (option: OptionDescription) => boolean {
  return (option) => option.name === name;
}

function hint(word: string, candidates: readonly string[]): string {
  const meant = suggest(word, candidates);
  return meant === undefined ? '' : `; did you mean ${meant}?`;
}
