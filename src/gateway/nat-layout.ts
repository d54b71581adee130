/**
 * What the NAT's tables look like, as a number. A later version of the program takes the tables of
 * an earlier one over, with everything in them, where they mean the same; where a field has another
 * place, or a flag another bit, sessions start anew.
 */
import {
  NatFragment,
  NatFragmentAction,
  NatFragmentKey,
  NatGenerationLine,
  NatGenerationPlaces,
  NatHost,
  NatMapping,
  NatMappingBucket,
  NatMappingFlags,
  NatPlace,
  NatSession,
  NatSessionBucket,
  NatSessionFlags,
  NatSessionState,
  NatSessionVersion,
  NatSettings,
  NatWork,
} from '../abi/layouts.generated.ts';

const structs = [
  ...[NatSession, NatSessionBucket, NatMapping, NatMappingBucket, NatHost, NatSettings, NatWork],
  ...[NatFragment, NatFragmentKey, NatGenerationLine],
];
const enums = [
  ...[NatSessionFlags, NatSessionState, NatSessionVersion, NatPlace],
  ...[NatMappingFlags, NatFragmentAction, NatGenerationPlaces],
];
/** 32 bits, never 0. */
export const natLayout: number = digestOf([
  structs.map(({ cName, sizeBytes, fields }) => [cName, sizeBytes, Object.values(fields)]),
  enums,
]);

/** FNV-1a of the text of a value, which has no characters beyond ASCII. */
export function digestOf(value: unknown): number {
  const text = JSON.stringify(value);
  let digest = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    digest = Math.imul(digest ^ text.charCodeAt(index), 0x01000193) >>> 0;
  }
  return digest === 0 ? 1 : digest;
}
