/** What was found of one requirement of the program on the machine. */
export interface MachineFinding {
  /** Stable, for scripts: `kernel-version`, `nft`. */
  readonly name: string;
  /** What is required, as a phrase: "Linux 6.1 or newer". */
  readonly requirement: string;
  /** `limited`: the program runs without it, and `detail` says what is missing then. */
  readonly verdict: 'met' | 'missing' | 'limited';
  /** What was found. */
  readonly detail: string;
  /** What a person can do about it; for `missing` and `limited`. */
  readonly remedy?: string;
}
