/** The words cannot be understood; the message says which, and what would be right. */
import type { VerbName } from './verbs.ts';

export class UsageError extends Error {
  override readonly name = 'UsageError';
  /** Whose help tells more. */
  readonly verb: VerbName | undefined;
  /** The words ask for JSON, so the error is told in JSON. */
  readonly wantsJson: boolean;

  constructor(message: string, options: { verb?: VerbName | undefined; wantsJson?: boolean } = {}) {
    super(message);
    this.verb = options.verb;
    this.wantsJson = options.wantsJson ?? false;
  }
}
