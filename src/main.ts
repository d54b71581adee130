/**
 * The composition root: the only file that knows every concrete class. It reads the command line,
 * joins kernel programs, counters and HTTP interface, and takes all of it down again.
 */
import { ftruncateSync, mkdirSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { protocolCountersObject } from './abi/protocol-counters.generated.ts';
import { type ApiSources, createApiServer } from './api/server.ts';
import { startListening } from './api/server-listening.ts';
import { type ListenAddress, parseCommandLine, UsageError, usage } from './cli/arguments.ts';
import { attachTc, type TcAttachment } from './linux/attach.ts';
import { type BpfObject, loadBpfObject } from './linux/bpf-object.ts';
import { LinuxError } from './linux/ffi.ts';
import { tryLockFile } from './linux/file-lock.ts';
import { interfaceIndex } from './linux/libc.ts';
import { protocolCounts } from './traffic/protocol-counts.ts';

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;

/** Whose are the interfaces: a lock for each, held as long as programs of ours are attached. */
const CLAIMS_FOLDER = '/run/gatehouse';

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

/** Runs until SIGINT or SIGTERM, then takes down all that it put up, in reverse. */
async function run(interfaces: readonly string[], listen: ListenAddress): Promise<void> {
  const ended = nextEndSignal();
  const undoing: (() => void)[] = [];
  const errors: unknown[] = [];
  try {
    const places = interfaces.map((name) => ({ name, index: interfaceIndex(name) }));
    for (const place of places) undoing.push(claimInterface(place));
    const object = loadBpfObject(protocolCountersObject);
    undoing.push(() => object.close());
    for (const place of places) attachCounters(object, place, undoing);
    const server = createApiServer(apiSources(object, places), { reportError: report });
    const listening = await startListening(server, listen);
    undoing.push(() => listening.close());
    server.on('error', report);
    process.stdout.write(`counting on ${interfaces.join(', ')}; API on ${listening.address}\n`);
    await ended;
  } catch (error) {
    errors.push(error);
  }
  // One that fails keeps none of the others up.
  for (const undo of undoing.reverse()) {
    try {
      undo();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
  if (errors.length > 0) throw errors[0];
}

/** The handlers stay, so that a second signal does not end the process while it takes down. */
function nextEndSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.on('SIGINT', () => resolve());
    process.on('SIGTERM', () => resolve());
  });
}

interface Interface {
  readonly name: string;
  readonly index: number;
}

/**
 * Keeps a second instance in this network namespace off an interface: attaching would take the
 * place of the first one's programs. The claim of a killed process is nobody's, and so its place
 * can be taken over.
 *
 * @returns gives the claim up
 */
function claimInterface({ name, index }: Interface): () => void {
  mkdirSync(CLAIMS_FOLDER, { recursive: true, mode: 0o700 });
  const namespace = statSync('/proc/self/ns/net').ino;
  const path = `${CLAIMS_FOLDER}/network-${namespace}-interface-${index}.lock`;
  const lock = tryLockFile(path, 'existing') ?? tryLockFile(path, 'create');
  if (lock === undefined) {
    throw new Error(`cannot count on ${name}: process ${claimHolder(path)} does so already`);
  }
  ftruncateSync(lock.fd);
  writeSync(lock.fd, `${process.pid}\n`);
  return () => {
    // While it is locked: afterwards the file may be somebody else's.
    rmSync(path, { force: true });
    lock.release();
  };
}

function claimHolder(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return 'of unknown number';
  }
}

/** Adds to `undoing` one by one, so that the caller can undo what stood before a failure. */
function attachCounters(
  object: BpfObject<typeof protocolCountersObject>,
  place: Interface,
  undoing: (() => void)[],
): void {
  const { countProtocolsTcIngress, countProtocolsTcEgress } = object.programs;
  for (const [program, direction] of [
    [countProtocolsTcIngress, 'ingress'],
    [countProtocolsTcEgress, 'egress'],
  ] as const) {
    const attachment = attachTc(program, { interface: place.name }, direction);
    undoing.push(() => detach(attachment, place));
  }
}

/** What was attached to an interface that has gone went with it. */
function detach(attachment: TcAttachment, { index }: Interface): void {
  try {
    attachment.detach();
  } catch (error) {
    if (isPresent(index)) throw error;
  }
}

/** By its index, since an interface may have been renamed, or replaced by another of its name. */
function isPresent(index: number): boolean {
  const table = readFileSync('/proc/self/net/dev', 'utf8');
  return [...table.matchAll(/^ *([^\s:]+):/gm)].some(([, name = '']) => {
    try {
      return interfaceIndex(name) === index;
    } catch (error) {
      // It went after the table was read.
      if (error instanceof LinuxError && error.code === 'ENODEV') return false;
      throw error;
    }
  });
}

function apiSources(
  object: BpfObject<typeof protocolCountersObject>,
  places: readonly Interface[],
): ApiSources {
  const names = new Map(places.map(({ name, index }) => [index, name]));
  return {
    version,
    protocolCounts: () => protocolCounts(object.maps.protocolCounters.entries(), names),
    uncountedPackets: () =>
      (object.maps.uncountedPackets.lookup(0) ?? []).reduce((sum, count) => sum + count, 0n),
  };
}

function report(error: unknown): void {
  process.stderr.write(`gatehouse: ${messageOf(error)}\n`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// Nobody reads what we print any more: no reason to end, and none to leave programs attached.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

try {
  await main(process.argv.slice(2));
} catch (error) {
  report(error);
  const isUsage = error instanceof UsageError;
  if (isUsage) process.stderr.write(`\n${usage}`);
  process.exitCode = isUsage ? EXIT_USAGE : EXIT_FAILURE;
}
