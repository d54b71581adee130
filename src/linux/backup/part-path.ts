/** Which files besides the config a backup may hold: those below the config's own folder. */
import { textFormats } from '../../config/text-formats.ts';

/** Relative, as the config itself may name files, and so without `..`. */
export function isPartPath(path: string): boolean {
  return !path.startsWith('/') && textFormats.file.parse(path) !== undefined;
}
