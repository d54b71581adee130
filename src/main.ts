/**
 * The composition root: the only file that knows every concrete class. It reads the command line,
 * joins kernel programs, counters and HTTP interface, and takes all of it down again.
 */
import { once } from 'node:events';
import { lstatSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { protocolCountersObject } from './abi/protocol-counters.generated.ts';
import { createApiServer } from './api/server.ts';
import { type ListenAddress, parseCommandLine, UsageError, usage } from './cli/arguments.ts';
import { attachTc, type TcAttachment } from './linux/attach.ts';
import { type BpfObject, loadBpfObject } from './linux/bpf-object.ts';
import { interfaceIndex } from './linux/libc.ts';
import { protocolCounts } from './traffic/protocol-counts.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

const { version } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
) as { version: string };

async function main(words: readonly string[]): Promise<void> {
  const command = parseCommandLine(words);
  switch (command.verb) {
    case 'help':
      process.stdout.write(usage);
      return;
    case 'version':
      process.stdout.write(`gatehouse ${version}\n`);
      return;
    case 'run':
      await run(command.interfaces, command.listen);
  }
}

/** Runs until SIGINT or SIGTERM. */
async function run(interfaces: readonly string[], listen: ListenAddress): Promise<void> {
  const ended = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  using object = loadBpfObject(protocolCountersObject);
  const names = new Map(interfaces.map((name) => [interfaceIndex(name), name]));
  const server = createApiServer({
    version,
    protocolCounts: () => protocolCounts(object.maps.protocolCounters.entries(), names),
    uncountedPackets: () =>
      (object.maps.uncountedPackets.lookup(0) ?? []).reduce((sum, count) => sum + count, 0n),
  });
  const attachments: TcAttachment[] = [];
  try {
    for (const name of interfaces) attachCounters(object, name, attachments);
    await startListening(server, listen);
    process.stdout.write(`counting on ${interfaces.join(', ')}; API on ${formatListen(listen)}\n`);
    await ended;
  } finally {
    for (const attachment of attachments) attachment.detach();
    server.close();
    server.closeAllConnections();
  }
}

/** Adds to `attached` one by one, so that the caller can undo what stood before a failure. */
function attachCounters(
  object: BpfObject<typeof protocolCountersObject>,
  name: string,
  attached: TcAttachment[],
): void {
  const { countProtocolsTcIngress, countProtocolsTcEgress } = object.programs;
  attached.push(attachTc(countProtocolsTcIngress, { interface: name }, 'ingress'));
  attached.push(attachTc(countProtocolsTcEgress, { interface: name }, 'egress'));
}

async function startListening(server: Server, listen: ListenAddress): Promise<void> {
  if (listen.kind === 'unix') {
    // A socket file outlives a killed process and would refuse the address to this one.
    if (lstatSync(listen.path, { throwIfNoEntry: false })?.isSocket()) rmSync(listen.path);
    server.listen(listen.path);
  } else {
    server.listen(listen.port, listen.host);
  }
  await once(server, 'listening');
}

function formatListen(listen: ListenAddress): string {
  if (listen.kind === 'unix') return `unix:${listen.path}`;
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
  return `http://${host}:${listen.port}`;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError;
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`gatehouse: ${message}\n${isUsage ? `\n${usage}` : ''}`);
  process.exitCode = isUsage ? EXIT_USAGE : EXIT_FAILURE;
}
