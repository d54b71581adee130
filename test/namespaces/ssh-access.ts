/** A real SSH server on the gateway of a lab, and a client on its laptop that it lets in. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandResult } from '../../src/linux/command-runner.ts';
import { addresses, type GatehouseLab, output, TIMEOUT_MS } from './gatehouse-lab.ts';
import { mountedOver } from './mounted-over.ts';

/** A connection within a lab takes a tenth of it. What a firewall swallows never ends by itself. */
const ATTEMPT_MS = 2_000;

export class SshAccess {
  readonly #place: GatehouseLab;
  readonly #keyFile: string;

  private constructor(place: GatehouseLab, keyFile: string) {
    this.#place = place;
    this.#keyFile = keyFile;
  }

  /** The server listens on port 22 of the gateway's LAN address alone, within the lab. */
  static async start(place: GatehouseLab): Promise<SshAccess> {
    const folder = join(place.lab.directory, 'ssh');
    const home = join(folder, 'home');
    mkdirSync(join(home, '.ssh'), { recursive: true, mode: 0o700 });
    const hostKey = join(folder, 'host-key');
    const keyFile = join(folder, 'user-key');
    await makeKey(place, hostKey);
    const publicKey = await makeKey(place, keyFile);
    writeFileSync(join(home, '.ssh/authorized_keys'), `${publicKey}\n`, { mode: 0o600 });
    // The server looks for root's keys at root's home, and this one is the lab's.
    const accounts = readFileSync('/etc/passwd', 'utf8');
    const passwd = join(folder, 'passwd');
    writeFileSync(passwd, accounts.replace(/^(root:(?:[^:]*:){4})[^:]*:.*$/m, `$1${home}:/bin/sh`));
    const server = place.gateway.spawn(
      mountedOver(
        [{ shown: passwd, at: '/etc/passwd' }],
        [
          ...(['dropbear', '-F', '-E', '-s', '-r', hostKey] as const),
          ...['-p', `${addresses.gatewayLan}:22`, '-P', join(folder, 'pid')],
        ],
      ),
    );
    await server.waitForOutput(/Not backgrounding/, TIMEOUT_MS);
    return new SshAccess(place, keyFile);
  }

  /** Over a new connection, to the end of the command. */
  run(...words: readonly string[]): Promise<CommandResult> {
    return this.#connect(words, TIMEOUT_MS);
  }

  /** Whether a new connection is let in. */
  async opens(): Promise<boolean> {
    const result = await this.#connect(['echo', 'let', 'in'], ATTEMPT_MS);
    return result.stdout === 'let in\n';
  }

  #connect(words: readonly string[], timeoutMs: number): Promise<CommandResult> {
    const client = ['dbclient', '-y', '-y', '-T', '-i', this.#keyFile] as const;
    const argv = [...client, `root@${addresses.gatewayLan}`, ...words] as const;
    return this.#place.laptop.run(argv, { timeoutMs });
  }
}

/** @returns the public key's line */
async function makeKey(place: GatehouseLab, file: string): Promise<string> {
  const shown = await output(place.gateway, 'dropbearkey', '-t', 'ed25519', '-f', file);
  const line = shown.split('\n').find((one) => one.startsWith('ssh-ed25519 '));
  if (line === undefined) throw new Error(`dropbearkey printed no public key: ${shown}`);
  return line;
}
