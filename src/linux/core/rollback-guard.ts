/**
 * Watches over a change that is not confirmed yet. It does nothing while the core lives. When the
 * core dies and nothing starts it again, the guard rolls the change back at its deadline, so that
 * an administrator who is locked out gets back in.
 *
 * The core holds the other end of its standard input: a line `done` means that the change has
 * ended, the end of the stream without it that the core has died.
 */
// check-ignore layers: the guard is this program itself, and outlives whoever started it
import { type ChildProcess, spawn } from 'node:child_process';

export interface GuardedInstance {
  readonly configFile: string;
  readonly stateFolder: string;
}

/** The core's last words to its guard. */
export const DONE = 'done\n';

/** The core's end of a guard. */
export class RollbackGuard {
  readonly #child: ChildProcess;

  /**
   * @param program how this program is started, without its words
   * @param onFailure when there is none: the change is then safe only while the core lives
   */
  constructor(
    program: readonly [string, ...string[]],
    { configFile, stateFolder }: GuardedInstance,
    onFailure: (reason: string) => void,
  ) {
    const [file, ...first] = program;
    const words = ['role', 'rollback-guard', configFile, stateFolder];
    this.#child = spawn(file, [...first, ...words], {
      stdio: ['pipe', 'ignore', 'inherit'],
      // Ctrl-C is for the core.
      detached: true,
      cwd: '/',
    });
    this.#child.on('error', (error) => onFailure(error.message));
    this.#child.on('exit', (code) => {
      if (code !== 0) onFailure(`ended with code ${code}`);
    });
    this.#child.stdin?.on('error', () => {});
    // It may outlive this process.
    this.#child.unref();
  }

  /** The change has ended. */
  dismiss(): void {
    this.#child.stdin?.end(DONE);
  }
}
