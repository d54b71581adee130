/** Programs that see other files in the place of the machine's, in a mount namespace. */
import type { Argv } from '../../src/linux/command-runner.ts';

export interface FileInPlace {
  /** What is seen: a file, or a folder for a folder. */
  readonly shown: string;
  /** Where. It must exist. */
  readonly at: string;
}

/** The only way to mount and then become the program; its words are arguments, never its text. */
const script = `
while [ "$1" != -- ]; do
  mount --bind "$1" "$2" || exit 1
  shift 2
done
shift
exec "$@"`;

/** The command, with these files in their places and the machine's own untouched. */
export function mountedOver(files: readonly FileInPlace[], argv: Argv): Argv {
  const pairs = files.flatMap(({ shown, at }) => [shown, at]);
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', ...pairs, '--', ...argv];
}
