/** Texts that hold any character of Unicode, for property tests. */
import fc from 'fast-check';

const SURROGATES_START = 0xd800;
const SURROGATE_COUNT = 0x800;
const CODE_POINT_MAX = 0x10ffff;

/**
 * Any code point but halves of pairs, as fast-check's unit `binary` draws them. That one makes a
 * table of them all first, which takes more than a second.
 */
export const anyCharacter = fc
  .nat(CODE_POINT_MAX - SURROGATE_COUNT)
  .map(
    (number) => String.fromCodePoint(number < SURROGATES_START ? number : number + SURROGATE_COUNT),
    numberOf,
  );

export function anyText(lengths: { readonly maxLength?: number } = {}): fc.Arbitrary<string> {
  return fc.string({ ...lengths, unit: anyCharacter });
}

/** The way back, for shrinking. @throws Error for what is no such character, as fast-check asks */
function numberOf(character: unknown): number {
  if (typeof character !== 'string' || !character.isWellFormed() || [...character].length !== 1) {
    throw new Error('no character');
  }
  const codePoint = character.codePointAt(0) ?? 0;
  return codePoint < SURROGATES_START ? codePoint : codePoint - SURROGATE_COUNT;
}
