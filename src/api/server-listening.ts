/** Where a server answers: a port of loopback, or a file of the file system. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type BigIntStats, linkSync, lstatSync, rmSync, statSync } from 'node:fs';
import type { Server } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';

export type ListenPlace =
  /** A Unix socket; 98 bytes at most, since it is made under a name of 9 bytes more. */
  | { readonly path: string }
  /** Port 0 takes a free one. */
  | { readonly host: string; readonly port: number };

export interface Listening {
  /** `http://127.0.0.1:8080`, `unix:/run/gatehouse/api.sock`: with the port that was taken. */
  readonly address: string;
  /** Ends the server and its connections, and removes the socket's file if it is still ours. */
  close(): void;
}

/**
 * A Unix socket that a dead process left is replaced; a living server's, or a file of another
 * kind, is not.
 *
 * @throws Error that names the place and the reason, for example EADDRINUSE
 */
export async function startListening(server: Server, place: ListenPlace): Promise<Listening> {
  try {
    return await ('path' in place ? listenAtPath(server, place.path) : listenAtPort(server, place));
  } catch (cause) {
    end(server);
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    const text = 'path' in place ? formatPath(place.path) : formatPort(place);
    throw new Error(`cannot listen on ${text}: ${code}`, { cause });
  }
}

async function listenAtPort(
  server: Server,
  place: { readonly host: string; readonly port: number },
): Promise<Listening> {
  server.listen(place.port, place.host);
  await once(server, 'listening');
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : place.port;
  return { address: formatPort({ host: place.host, port }), close: () => end(server) };
}

/**
 * A server of Node removes the path that it was given when it closes, whatever is there by then.
 * So it is given a name of its own, which then becomes the path; linking, unlike renaming, fails
 * when somebody was quicker.
 */
async function listenAtPath(server: Server, path: string): Promise<Listening> {
  // libuv calls a missing folder EACCES.
  statSync(dirname(path));
  await removeDeadSocket(path);
  const birthPath = `${path}.${randomBytes(4).toString('hex')}`;
  server.listen(birthPath);
  await once(server, 'listening');
  try {
    linkSync(birthPath, path);
  } catch (cause) {
    throw (cause as NodeJS.ErrnoException).code === 'EEXIST' ? addressInUse() : cause;
  }
  rmSync(birthPath);
  const made = look(path);
  const close = (): void => {
    // Until the server has ended, its file's number belongs to no other.
    if (made !== undefined && isSame(made, look(path))) rmSync(path, { force: true });
    end(server);
  };
  return { address: formatPath(path), close };
}

/** How a path answers that somebody has: full, of another kind of socket, no socket at all. */
const takenCodes = new Set(['EAGAIN', 'EPROTOTYPE', 'ECONNREFUSED']);

/**
 * Removes the file of a Unix socket whose server has ended.
 *
 * @throws Error EADDRINUSE when anything is there but the socket of a dead process
 */
export async function removeDeadSocket(path: string): Promise<void> {
  const before = look(path);
  if (before === undefined) return;
  const probe = connect(path);
  try {
    await once(probe, 'connect');
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    if (!takenCodes.has(code)) throw cause;
    // What somebody else has put there meanwhile lives.
    const isDead = code === 'ECONNREFUSED' && before.isSocket();
    if (isDead && isUntouched(before, look(path))) return rmSync(path, { force: true });
  } finally {
    probe.destroy();
  }
  throw addressInUse();
}

function look(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

function isSame(one: BigIntStats, other: BigIntStats | undefined): boolean {
  return one.dev === other?.dev && one.ino === other.ino;
}

/** A file that is removed may leave its number to the next one at once, but not its time. */
function isUntouched(one: BigIntStats, other: BigIntStats | undefined): boolean {
  return isSame(one, other) && one.ctimeNs === other?.ctimeNs;
}

function addressInUse(): Error {
  return Object.assign(new Error('address already in use'), { code: 'EADDRINUSE' });
}

function end(server: Server): void {
  server.close();
  server.closeAllConnections();
}

function formatPath(path: string): string {
  return `unix:${path}`;
}

function formatPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
