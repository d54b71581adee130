/** The files that checks look at: the working tree without what git ignores, or a test's own. */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** 64 MiB: half a million paths. */
const LISTING_BYTES_MAX = 64 * 1024 * 1024;

export interface Repository {
  /** Absolute folder. Only checks that start another program need it. */
  readonly root: string;
  /** Paths of files from the root with `/`, sorted. */
  readonly paths: readonly string[];
  /** True for a file, and for a folder that holds one (with or without a final `/`). */
  has(path: string): boolean;
  /** The text of one of {@link paths}. */
  text(path: string): string;
}

/**
 * Opens the working tree at `root`: committed files and new ones, without ignored ones. Needs git,
 * since only git knows what is ignored.
 */
export function openRepository(root: string): Repository {
  const listed = listFiles(root);
  const paths = [...new Set(listed.split('\0'))].filter(
    (path) => path !== '' && isFile(join(root, path)),
  );
  return repositoryOver(root, paths, (path) => readFileSync(join(root, path), 'utf8'));
}

/** A repository of the given files, held in memory. `root` is a folder that does not exist. */
export function repositoryOf(files: Readonly<Record<string, string>>): Repository {
  const texts = new Map(Object.entries(files));
  return repositoryOver('/nowhere', [...texts.keys()], (path) => texts.get(path) ?? '');
}

function repositoryOver(
  root: string,
  unsorted: readonly string[],
  read: (path: string) => string,
): Repository {
  const paths = unsorted.toSorted();
  const known = new Set(paths.flatMap((path) => [path, ...foldersOf(path)]));
  const texts = new Map<string, string>();
  return {
    root,
    paths,
    has: (path) => known.has(path.replace(/\/$/, '')),
    text: (path) => {
      const text = texts.get(path) ?? read(path);
      texts.set(path, text);
      return text;
    },
  };
}

function listFiles(root: string): string {
  const command = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  try {
    return execFileSync('git', command, {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: LISTING_BYTES_MAX,
      stdio: 'pipe',
    });
  } catch (cause) {
    throw new Error(`cannot list the files of ${root} with git`, { cause });
  }
}

function foldersOf(path: string): string[] {
  const segments = path.split('/');
  return segments.slice(1).map((_, index) => segments.slice(0, index + 1).join('/'));
}

/** Deleted but still committed files, links to nowhere and submodules are not looked at. */
function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}
