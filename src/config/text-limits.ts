/** What a config text may consist of, judged before a tree is made of it. */
import { CST } from 'yaml';

/**
 * UTF-16 code units. Ten thousand firewall rules with prefixes and ports are 1.2 million; reading
 * them takes about a second and a half, during which the process does nothing else.
 */
export const CONFIG_TEXT_LENGTH_MAX = 2 * 1024 * 1024;
/** Words, marks and spaces. Bounds the time that a text without sense takes. */
export const CONFIG_TOKENS_MAX = 1_000_000;
/** Collections within collections. The deepest value of the schema has eight around it. */
export const CONFIG_DEPTH_MAX = 16;

/** Longer keys are in no schema, and would fill messages. */
export const CONFIG_KEY_LENGTH_MAX = 255;

export interface TextObjection {
  readonly offset: number;
  readonly expected: string;
  readonly found: string;
}

/**
 * Control characters (all but line feed, tab, and a carriage return before a line feed), characters
 * that turn the direction of writing and so show a text that is not there, halves of characters,
 * and a byte order mark behind the first place.
 */
const refusedCharacter =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what they are refused by
  /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]|\r(?!\n)|(?!^)\ufeff|\p{Surrogate}/u;

/** @returns the first objection to the length or the characters of a text */
export function findRefusedCharacter(text: string): TextObjection | undefined {
  if (text.length > CONFIG_TEXT_LENGTH_MAX) {
    const expected = `at most ${CONFIG_TEXT_LENGTH_MAX} characters`;
    return { offset: CONFIG_TEXT_LENGTH_MAX, expected, found: `${text.length}` };
  }
  const match = refusedCharacter.exec(text);
  if (match === null) return undefined;
  const code = match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
  const expected = 'text without control characters';
  return { offset: match.index, expected, found: `U+${code}` };
}

/** Constructs of YAML that a config does not have, each with what to write instead. */
const refusedTokens: Readonly<Record<string, { expected: string; found: string }>> = {
  alias: { expected: 'every value written out', found: 'an alias (`*name`)' },
  anchor: { expected: 'every value written out', found: 'an anchor (`&name`)' },
  tag: { expected: 'a value without a tag', found: 'a tag (`!name`)' },
  'directive-line': { expected: 'no directives', found: 'a directive (`%…`)' },
  'explicit-key-ind': { expected: '`key: value`', found: 'a complex key (`?`)' },
  'block-scalar-header': {
    expected: 'a value on one line',
    found: 'a block of lines (`|` or `>`)',
  },
  'doc-end': { expected: 'one document', found: 'the end of a document (`...`)' },
};

/** What may stand in front of a document's first mark or value. */
const betweenDocuments = ['byte-order-mark', 'doc-mode', 'space', 'newline', 'comment'];

/** Judges one word of the lexer after the other. */
export class TextLimits {
  private tokenCount = 0;
  private isDocumentOpen = false;
  private isScalarNext = false;

  /**
   * @param lexeme as yaml's Lexer yields it
   * @param offset where it begins in the text
   * @param depth how many collections are open
   */
  judge(
    lexeme: string,
    { offset, depth }: { readonly offset: number; readonly depth: number },
  ): TextObjection | undefined {
    this.tokenCount++;
    if (this.tokenCount > CONFIG_TOKENS_MAX) {
      return { offset, expected: `at most ${CONFIG_TOKENS_MAX} words and marks`, found: 'more' };
    }
    if (depth > CONFIG_DEPTH_MAX) {
      const expected = `at most ${CONFIG_DEPTH_MAX} levels of mappings and lists`;
      return { offset, expected, found: 'more' };
    }
    const type = this.isScalarNext ? 'plain' : (CST.tokenType(lexeme) ?? 'plain');
    this.isScalarNext = type === 'scalar';
    if (type === 'doc-start' && this.isDocumentOpen) {
      return { offset, expected: 'one document', found: 'another document (`---`)' };
    }
    if (!betweenDocuments.includes(type)) this.isDocumentOpen = true;
    const isText = ['plain', 'single-quoted-scalar', 'double-quoted-scalar'].includes(type);
    if (isText && lexeme.includes('\n')) {
      return {
        offset,
        expected: 'a value on one line',
        found: 'one that goes on in the next line',
      };
    }
    const refused = refusedTokens[type];
    return refused === undefined ? undefined : { offset, ...refused };
  }
}
