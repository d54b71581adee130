/** What a person typed, as a value. Pure: printing and exiting is the caller's. */
import { parseArgs } from 'node:util';

/** A Unix socket, or a port of loopback. */
export type ListenAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

export interface RunCommand {
  readonly verb: 'run';
  readonly interfaces: readonly string[];
  readonly listen: ListenAddress;
  /** The account that processes without privileges run as. */
  readonly user: string;
}

export type CliCommand =
  | RunCommand
  /** How the core starts its role processes; not for people. */
  | { readonly verb: 'role'; readonly role: 'api' }
  | { readonly verb: 'help' }
  | { readonly verb: 'version' };

/** The words cannot be understood; the message says which and what would be. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const usage = `Usage:
  gatehouse run --interface NAME [--interface NAME …] [--listen ADDRESS] [--user ACCOUNT]
      Counts packets by protocol on the interfaces until it is ended by Ctrl-C or SIGTERM, and
      answers on ADDRESS: unix:/path/of/socket, or HOST:PORT on loopback
      (default 127.0.0.1:8080). Needs root; what answers runs as ACCOUNT (default gatehouse).
  gatehouse version
  gatehouse help
`;

/** Linux holds the name in 16 bytes, the terminating zero included (IFNAMSIZ). */
const INTERFACE_NAME_LENGTH_MAX = 15;
/** More interfaces than a gateway has; their counters fit the kernel's table. */
const INTERFACE_COUNT_MAX = 7;
/** sun_path holds 108 bytes with the terminating zero; while it is made its name is 9 longer. */
const SOCKET_PATH_BYTES_MAX = 98;

/** @throws UsageError */
export function parseCommandLine(words: readonly string[]): CliCommand {
  const [verb, ...rest] = words;
  switch (verb) {
    case 'run':
      return parseRun(rest);
    case 'version':
    case '--version':
      requireNoMore(verb, rest);
      return { verb: 'version' };
    case 'role':
      if (rest.length !== 1 || rest[0] !== 'api') throw new UsageError('there is no such role');
      return { verb: 'role', role: 'api' };
    case undefined:
      return { verb: 'help' };
    case 'help':
    case '--help':
      requireNoMore(verb, rest);
      return { verb: 'help' };
    default:
      throw new UsageError(`there is no verb ${JSON.stringify(verb)}`);
  }
}

function requireNoMore(verb: string, rest: readonly string[]): void {
  if (rest.length > 0) throw new UsageError(`${verb} takes no ${JSON.stringify(rest[0])}`);
}

function parseRun(words: readonly string[]): CliCommand {
  const values = parseRunOptions(words);
  const interfaces = values.interface ?? [];
  if (interfaces.length === 0) throw new UsageError('run needs at least one --interface');
  if (interfaces.length > INTERFACE_COUNT_MAX) {
    throw new UsageError(`run takes at most ${INTERFACE_COUNT_MAX} interfaces`);
  }
  for (const name of interfaces) {
    if (!isInterfaceName(name)) {
      throw new UsageError(`--interface ${JSON.stringify(name)} is no interface name`);
    }
  }
  const listen = parseListenAddress(values.listen ?? '127.0.0.1:8080');
  const user = values.user ?? 'gatehouse';
  if (!ACCOUNT.test(user)) throw new UsageError(`--user ${JSON.stringify(user)} is no account`);
  return { verb: 'run', interfaces: [...new Set(interfaces)], listen, user };
}

/** Debian's rule for names of accounts (adduser's NAME_REGEX). */
const ACCOUNT = /^[a-z_][a-z0-9_-]{0,31}$/;

function parseRunOptions(words: readonly string[]): {
  interface?: string[];
  listen?: string;
  user?: string;
} {
  try {
    return parseArgs({
      args: [...words],
      options: {
        interface: { type: 'string', multiple: true },
        listen: { type: 'string' },
        user: { type: 'string' },
      },
    }).values;
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The kernel's rule (dev_valid_name): no slash, no white space, neither `.` nor `..`. */
function isInterfaceName(name: string): boolean {
  const length = Buffer.byteLength(name);
  if (length < 1 || length > INTERFACE_NAME_LENGTH_MAX) return false;
  return /^[^/\s:\0]+$/.test(name) && name !== '.' && name !== '..';
}

/**
 * Only loopback and Unix sockets: there is no login yet.
 *
 * @throws UsageError
 */
function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length);
    if (!path.startsWith('/') || Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
      const bound = `an absolute path of at most ${SOCKET_PATH_BYTES_MAX} bytes`;
      throw new UsageError(`--listen ${JSON.stringify(text)}: unix: needs ${bound}`);
    }
    return { path };
  }
  const match = /^(127\.0\.0\.1|\[::1\]):([0-9]{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port > 65_535) {
    const forms = 'unix:/path, 127.0.0.1:PORT or [::1]:PORT';
    throw new UsageError(`--listen ${JSON.stringify(text)} is none of ${forms}`);
  }
  return { host: match[1].replace(/[[\]]/g, ''), port };
}
