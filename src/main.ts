/**
 * The composition root: the only file that knows every concrete class. It reads the command line
 * and gives each verb, and each role process, what it acts by. Each process loads only what it
 * needs: a role without rights has no use for the core's code, and a verb is to answer at once.
 */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ApiSources } from './api/server.ts';
import { UsageError } from './cli/usage-error.ts';
import type { CliWorld } from './cli/world.ts';
import type { CoreConnection } from './linux/role-process.ts';

const EXIT_FAILURE = 1;

const { version } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** This program again, for the processes that the core starts. */
const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
const program = [...node, fileURLToPath(import.meta.url)] as const;

async function main(words: readonly string[]): Promise<number> {
  // Not for people: how the core starts its own processes.
  if (words[0] === 'role') return runRole(words.slice(1));
  try {
    const { parseCommandLine } = await import('./cli/arguments.ts');
    const { withSshConnection } = await import('./linux/ssh-connection.ts');
    const environment = withSshConnection(process.env);
    const command = parseCommandLine(words, environment);
    switch (command.verb) {
      case 'run':
        return await run(resolve(command.config), command.user);
      case 'demo':
        return runDemo(command.port);
      default: {
        const { runVerb } = await import('./cli/run-verb.ts');
        return await runVerb(command, await openWorld(environment));
      }
    }
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const { tellUsageError } = await import('./cli/run-verb.ts');
    return tellUsageError(error, { print, complain, isTerminal });
  }
}

async function run(configFile: string, user: string): Promise<number> {
  const { runCore } = await import('./linux/core/core-process.ts');
  const onApiReady = (addresses: readonly string[]) => print(`API on ${addresses.join(', ')}\n`);
  try {
    await runCore({ program, version, configFile, user, log: report, onApiReady }, print);
    return 0;
  } catch (error) {
    report(error);
    const [{ exitCodes }, { ConfigProblemsError }] = await Promise.all([
      import('./cli/exit-codes.ts'),
      import('./linux/core/core.ts'),
    ]);
    return error instanceof ConfigProblemsError ? exitCodes.configProblems : exitCodes.failed;
  }
}

/** Becomes the demo, which is no part of the program and knows it only from outside. */
function runDemo(port: number): never {
  // check-ignore layers: a program of its own, which is started and not imported
  const script = fileURLToPath(new URL('../lab/demo.ts', import.meta.url));
  process.execve?.(node[0], [...node, script, '--port', `${port}`], process.env);
  throw new Error(`cannot become ${script}`);
}

async function runRole([role, ...words]: readonly string[]): Promise<number> {
  if (role === 'api') {
    await runApiRole();
    return 0;
  }
  if (role === 'rollback-guard') {
    const [configFile, stateFolder] = words;
    if (configFile !== undefined && stateFolder !== undefined) {
      const { guardChange } = await import('./linux/core/guard-process.ts');
      await guardChange({ configFile, stateFolder }, report);
      return 0;
    }
  }
  throw new Error('there is no such role');
}

/** The api role: binds its addresses as root, then has no rights but to ask the core. */
async function runApiRole(): Promise<void> {
  // Ctrl-C reaches the whole group of processes; the core decides what ends.
  process.on('SIGINT', () => {});
  const parentId = process.ppid;
  const [{ connectToCore }, { dieWithParent, dropPrivileges }, server, listening] =
    await Promise.all([
      import('./linux/role-process.ts'),
      import('./linux/privileges.ts'),
      import('./api/server.ts'),
      import('./api/server-listening.ts'),
    ]);
  const core = await connectToCore(() => process.exit());
  try {
    const addresses: string[] = [];
    for (const place of core.begin.listen) {
      const http = server.createApiServer(apiSources(core), {
        reportError: (error) => core.send({ kind: 'log', text: error.message.slice(0, 4_096) }),
      });
      addresses.push((await listening.startListening(http, place)).address);
    }
    dropPrivileges(core.begin.user);
    dieWithParent(parentId);
    core.send({ kind: 'ready', addresses });
  } catch (error) {
    core.fail(messageOf(error));
  }
}

function apiSources(core: CoreConnection): ApiSources {
  return {
    version: core.begin.version,
    protocolCounts: async () => {
      const { counts, uncountedPackets } = await core.ask('get-protocol-counts');
      return {
        protocols: counts.map((row) => ({
          ...row,
          packets: BigInt(row.packets),
          bytes: BigInt(row.bytes),
        })),
        uncountedPackets: BigInt(uncountedPackets),
      };
    },
  };
}

async function openWorld(environment: NodeJS.ProcessEnv): Promise<CliWorld> {
  const { authorOf, readTextFile, writeNewTextFile } = await import('./linux/console.ts');
  const backups = { version, schema: 0, now: () => new Date() };
  return {
    version,
    print,
    complain,
    environment,
    author: authorOf(environment),
    isTerminal,
    readFile: readTextFile,
    writeNewFile: writeNewTextFile,
    connect: async (runtimeFolder) => {
      const { connectToControl } = await import('./linux/core/control-client.ts');
      return connectToControl(runtimeFolder);
    },
    checkRuleset: async (document) => {
      if (process.geteuid?.() !== 0) return undefined;
      const result = await (await import('./linux/nft.ts')).openNft().check(document);
      return !result.success && result.reason === 'missing' ? undefined : result;
    },
    examineMachine: async (paths) => {
      return (await import('./linux/examine-machine.ts')).examineMachine(paths);
    },
    proposeConfig: async () => (await import('./linux/propose-config.ts')).proposeConfig(),
    loadSafeRuleset: async (options) => {
      return (await import('./linux/core/load-safe-ruleset.ts')).loadSafeRuleset(options);
    },
    makeBackup: async (options) => {
      return (await import('./linux/backup/make-backup.ts')).makeBackup(options, backups);
    },
    restoreBackup: async (options) => {
      return (await import('./linux/backup/restore-backup.ts')).restoreBackup(options, backups);
    },
  };
}

const isTerminal = process.stdout.isTTY === true;

function print(text: string): void {
  process.stdout.write(text);
}

function complain(text: string): void {
  process.stderr.write(text);
}

function report(error: unknown): void {
  complain(`gatehouse: ${messageOf(error)}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// Nobody reads what we print any more: no reason to end, and none to leave things half done.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  report(error);
  process.exitCode = EXIT_FAILURE;
}
