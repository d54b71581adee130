/** The one shape of a check, and of what it finds. */
import type { Repository } from './repository.ts';

export interface Finding {
  /** Path from the repository's root with `/`, for example `src/net/prefix.ts`. */
  readonly path: string;
  /** Counts from 1; absent when the finding is about the file as a whole. */
  readonly line?: number;
  /** What is wrong and why that matters, in one or two sentences. */
  readonly message: string;
}

/** One check. It reads the repository, changes nothing, and returns everything that it found. */
export interface Check {
  /** Short and in kebab-case: the user names it in `npm run check -- NAME`. */
  readonly name: string;
  run(repository: Repository): Promise<Finding[]>;
}
