/**
 * What the verbs of the command line can do to the world. src/main.ts gives the real one; tests
 * give one in memory. Nothing here throws for what the world does: the results say it.
 */

import type { NftResult } from '../firewall/nft.ts';
import type { NftDocument } from '../firewall/nft-document.ts';
import type { ActionResult } from '../gateway/action-result.ts';
import type { BackupOptions } from '../gateway/backup-options.ts';
import type { MachineFinding } from '../gateway/machine-finding.ts';
import type { ControlConnection } from '../messages/control-messages.ts';

export type FileResult =
  | { readonly text: string }
  /** `absent`: there is no such file. The reason names the file. */
  | { readonly text?: never; readonly absent: boolean; readonly reason: string };

export type { ActionResult, BackupOptions };
/** One requirement of the program on the machine. */
export type Finding = MachineFinding;

export interface CliWorld {
  readonly version: string;
  /** To standard output, as it is. */
  print(text: string): void;
  /** To standard error. */
  complain(text: string): void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The account that asks: $SUDO_USER, $LOGNAME or the name of the user's id. */
  readonly author: string;
  /** Standard output is a terminal. */
  readonly isTerminal: boolean;
  /** A whole file as strict UTF-8, at most the size of a config. `-` is standard input. */
  readFile(path: string): FileResult;
  /** A new file, durably; refuses to replace one. @param mode such as 0o600 */
  writeNewFile(path: string, text: string, mode: number): ActionResult;
  /** @param runtimeFolder `paths.runtime` of the config */
  connect(runtimeFolder: string): Promise<ControlConnection>;
  /** `nft -c`: what the kernel says of it. Undefined where nft or the right to ask is missing. */
  checkRuleset(document: NftDocument): Promise<NftResult | undefined>;
  /** Each requirement of kernel, packages and rights. */
  examineMachine(paths: { readonly state: string; readonly runtime: string }): Promise<Finding[]>;
  /** A config for this machine, with comments that say what was chosen and why. */
  proposeConfig(): Promise<ActionResult & { readonly text?: string }>;
  /** Without a core: the minimal ruleset of the config, or of the last one that was in force. */
  loadSafeRuleset(options: {
    readonly configFile: string;
    readonly stateFolder: string;
    readonly author: string;
  }): Promise<ActionResult>;
  makeBackup(options: BackupOptions): Promise<ActionResult>;
  /** Only while no core runs. What was there before is kept under another name. */
  restoreBackup(options: BackupOptions): Promise<ActionResult>;
}
