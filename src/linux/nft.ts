/**
 * nft as a program, one child for each request: nft 1.0.6 dies of some input, and then takes
 * nothing of ours with it (docs/decisions/0016-nft-as-a-program-or-library.md).
 *
 * A document reaches it as a file in memory, whole before nft starts and gone when we are. Its own
 * `-f -` opens /dev/stdin anew, which fails for the sockets that Node gives its children, and calls
 * a document that was cut short in a pipe a success.
 */
import { findRefusedRule } from '../firewall/find-refused-rule.ts';
import type { Nft, NftFailure, NftListing, NftResult } from '../firewall/nft.ts';
import { formatNftDocument, type NftDocument } from '../firewall/nft-document.ts';
import { type NftTable, parseListing } from '../firewall/nft-table.ts';
import { parseRuleComment } from '../firewall/rule-comment.ts';
import { TABLE_FAMILY, TABLE_NAME } from '../firewall/ruleset.ts';
import { type Argv, type CommandResult, describeFailure, runCommand } from './command-runner.ts';
import { type MemoryFile, makeMemoryFile } from './memory-file.ts';

export interface NftOptions {
  /** File of the network namespace whose rules are meant. Default: our own. */
  readonly networkNamespace?: string;
  /** Default: `nft`, wherever it is in the path. */
  readonly program?: string;
  /** nft is killed after this time. Default: by the length of what it has to do. */
  readonly timeoutMs?: number;
  /** Called with every command before it starts, for a log. */
  readonly onCommand?: (argv: Argv) => void;
}

/** 10,000 rules take two to four seconds on two slow cores, and are given a minute. */
const TIMEOUT_MS = 10_000;
const TIMEOUT_MS_PER_COMMAND = 5;
/** The same are listed in one second. */
const LIST_TIMEOUT_MS = 15_000;
/** nft is silent when all is well, and says a line for an error. */
const MESSAGES_BYTES_MAX = 64 * 1024;
/** 10,000 rules are listed in 5 to 8 MB. */
const LISTING_BYTES_MAX = 32 * 1024 * 1024;
/** What of nft's words is handed on. */
const MESSAGE_CHARACTERS_MAX = 500;

export function openNft(options: NftOptions = {}): Nft {
  return new NftProgram(options);
}

class NftProgram implements Nft {
  readonly #options: NftOptions;

  constructor(options: NftOptions) {
    this.#options = options;
  }

  async check(document: NftDocument): Promise<NftResult> {
    return this.#explained(await this.#send(document, 'check'), document);
  }

  async apply(document: NftDocument): Promise<NftResult> {
    return this.#explained(await this.#send(document, 'apply'), document);
  }

  async list(): Promise<NftListing> {
    const argv = ['-j', 'list', 'table', TABLE_FAMILY, TABLE_NAME];
    const { command, result } = await this.#run(argv, {
      outputBytesMax: LISTING_BYTES_MAX,
      usualTimeoutMs: LIST_TIMEOUT_MS,
    });
    if (result.success && !result.truncated) return readListing(result.stdout);
    const isAbsent = result.code === 1 && /^Error: No such file or directory$/m.test(result.stderr);
    if (isAbsent) return { success: true, table: undefined };
    return failureOf(command, result, 'unchanged');
  }

  /** Adds the name of the rule that is at fault to a refusal. */
  async #explained(result: NftResult, document: NftDocument): Promise<NftResult> {
    if (result.success || result.reason !== 'refused') return result;
    const refused = await findRefusedRule(document, result.message, (part) =>
      this.#send(part, 'check'),
    );
    if (refused === undefined) return result;
    const { comment } = refused;
    return { ...result, rule: parseRuleComment(comment)?.name ?? comment, comment };
  }

  async #send(document: NftDocument, action: 'check' | 'apply'): Promise<NftResult> {
    let file: MemoryFile;
    try {
      file = makeMemoryFile('nft-document', Buffer.from(formatNftDocument(document)));
    } catch (cause) {
      // No file descriptor or no memory is left.
      const message = `cannot run nft: ${cause instanceof Error ? cause.message : cause}`;
      return { success: false, reason: 'missing', message, rulesInPlace: 'unchanged' };
    }
    try {
      const argv = ['-j', ...(action === 'check' ? ['-c'] : []), '-f', file.path];
      const { command, result } = await this.#run(argv, {
        outputBytesMax: MESSAGES_BYTES_MAX,
        usualTimeoutMs: TIMEOUT_MS + TIMEOUT_MS_PER_COMMAND * document.nftables.length,
      });
      if (result.success && !result.truncated) return { success: true };
      return failureOf(command, result, action === 'check' ? 'unchanged' : 'unknown');
    } finally {
      file.close();
    }
  }

  async #run(
    argv: readonly string[],
    options: { readonly outputBytesMax: number; readonly usualTimeoutMs: number },
  ) {
    const { outputBytesMax, usualTimeoutMs } = options;
    const { program = 'nft', timeoutMs = usualTimeoutMs } = this.#options;
    const { networkNamespace, onCommand } = this.#options;
    const command: Argv = [program, ...argv];
    const result = await runCommand(command, {
      timeoutMs,
      outputBytesMax,
      // One that outlived us could bring back our old rules after our successor's new ones.
      killWithParent: true,
      ...(networkNamespace === undefined ? {} : { networkNamespace }),
      ...(onCommand === undefined ? {} : { onCommand }),
    });
    return { command, result };
  }
}

function readListing(text: string): NftListing {
  try {
    const table: NftTable = parseListing(text);
    return { success: true, table };
  } catch (cause) {
    const message = `nft printed no listing: ${cause instanceof Error ? cause.message : cause}`;
    return { success: false, reason: 'crashed', message, rulesInPlace: 'unchanged' };
  }
}

/** @param otherwise whether nft may have changed the rules before it ended without a word */
function failureOf(
  command: Argv,
  result: CommandResult,
  otherwise: NftFailure['rulesInPlace'],
): NftFailure {
  const reason = reasonOf(result);
  const isSure = reason === 'refused' || reason === 'missing';
  return {
    success: false,
    reason,
    // The file's number changes each time, which would make one trouble look like many.
    message: `${result.truncated ? 'printed without end: ' : ''}${describeFailure(command, result)}`
      .replaceAll(/\/proc\/\d+\/fd\/\d+/g, 'DOCUMENT')
      // One that has gone mad may print anything.
      .replaceAll(/[^\P{C}\n]/gu, '?')
      .slice(0, MESSAGE_CHARACTERS_MAX),
    rulesInPlace: isSure ? 'unchanged' : otherwise,
  };
}

/** From here on a code tells of a signal: 128 and its number, as a wrapper reports it. */
const SIGNAL_CODE_MIN = 129;

function reasonOf(result: CommandResult): NftFailure['reason'] {
  if (result.truncated) return 'too much output';
  if (result.timedOut) return 'hung';
  if (result.signal !== null) return 'crashed';
  if (result.error !== undefined || result.code === null) return 'missing';
  return result.code >= SIGNAL_CODE_MIN ? 'crashed' : 'refused';
}
