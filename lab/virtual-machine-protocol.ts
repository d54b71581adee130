/** What host and guest of a virtual machine tell each other, and where things lie in the guest. */

/** Where the repository stands inside the machine. */
export const GUEST_REPOSITORY = '/gatehouse';
/** Node inside the machine. */
export const GUEST_NODE = '/bin/node';
/** The {@link GuestTask} as JSON. */
export const GUEST_TASK = '/task.json';

/** What the machine's first program is to do. */
export interface GuestTask {
  /** Absolute path of the script inside the machine. */
  readonly script: string;
  /** Files of kernel modules inside the machine, in the order of loading. */
  readonly modules: readonly string[];
  /** What the script gets as {@link Guest.input}. */
  readonly input: unknown;
}

/** What a script inside the machine gets. It exports `run(guest: Guest): void | Promise<void>`. */
export interface Guest {
  /** The host's `input`, through JSON. */
  readonly input: unknown;
  /** Sends a JSON value to the host. */
  report(message: unknown): void;
}

/** One line of JSON from the guest to the host. `end` is the last one. */
export type GuestLine =
  | { readonly kind: 'start'; readonly release: string }
  | { readonly kind: 'message'; readonly message: unknown }
  | { readonly kind: 'end'; readonly error?: string };
