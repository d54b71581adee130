/**
 * The comment of each nft rule says where the rule comes from, so that its counter, its refusal and
 * its row in a listing are found again:
 *
 *     rule block_tv/4: homework first
 *     ^kind ^name   ^part ^what a person wrote
 */

export interface RuleOrigin {
  /** `rule`: the config's list. `service`: offered by the gateway. `built-in`: always there. */
  readonly kind: 'rule' | 'service' | 'built-in';
  readonly name: string;
  /** Tells apart several nft rules of one origin. */
  readonly part?: string;
  readonly text?: string;
}

/** nft keeps 127 bytes of a comment; kind, name and part take up to 63 of them. */
export const COMMENT_TEXT_BYTES_MAX = 64;

/**
 * One line that can be printed: no control or format characters, which could turn the text on a
 * terminal around, and neither `"` nor `\`, since nft prints comments between quotes that it does
 * not escape.
 */
export function isCommentText(text: string): boolean {
  if (text === '' || !/^[^\p{C}\p{Zl}\p{Zp}"\\]+$/u.test(text)) return false;
  return utf8Bytes(text) <= COMMENT_TEXT_BYTES_MAX;
}

export function formatRuleComment({ kind, name, part, text }: RuleOrigin): string {
  const origin = part === undefined ? `${kind} ${name}` : `${kind} ${name}/${part}`;
  return text === undefined ? origin : `${origin}: ${text}`;
}

const pattern =
  /^(rule|service|built-in) ([A-Za-z_][A-Za-z0-9_-]{0,31})(?:\/([a-z0-9-]{1,20}))?(?:: (.+))?$/u;

/** @returns undefined for a comment that somebody else wrote */
export function parseRuleComment(comment: string): RuleOrigin | undefined {
  const [, kind, name, part, text] = pattern.exec(comment) ?? [];
  if (kind === undefined || name === undefined) return undefined;
  if (text !== undefined && !isCommentText(text)) return undefined;
  return {
    kind: kind as RuleOrigin['kind'],
    name,
    ...(part === undefined ? {} : { part }),
    ...(text === undefined ? {} : { text }),
  };
}

function utf8Bytes(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x1_0000 ? 3 : 4;
  }
  return bytes;
}
