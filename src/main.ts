/**
 * The composition root: the only file that knows every concrete class. It reads the command line,
 * joins kernel programs, counters and HTTP interface, and takes all of it down again.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { protocolCountersObject } from './abi/protocol-counters.generated.ts';
import { type ApiSources, createApiServer } from './api/server.ts';
import { removeDeadSocket, startListening } from './api/server-listening.ts';
import {
  type ListenAddress,
  parseCommandLine,
  type RunCommand,
  UsageError,
  usage,
} from './cli/arguments.ts';
import { Supervision } from './gateway/supervision.ts';
import { attachedTcProgramId, attachTc, type TcAttachment } from './linux/attach.ts';
import { type BpfObject, loadBpfObject } from './linux/bpf-object.ts';
import {
  claimInterface,
  isInterfacePresent,
  type NamedInterface,
} from './linux/interface-claim.ts';
import { interfaceIndex } from './linux/libc.ts';
import { dieWithParent, dropPrivileges } from './linux/privileges.ts';
import { type CoreConnection, connectToCore } from './linux/role-process.ts';
import { RoleSupervisor } from './linux/role-supervisor.ts';
import { connectServiceNotifier, type ServiceNotifier } from './linux/service-notifier.ts';
import type { CoreMessage, RoleMessage } from './messages/role-messages.ts';
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
      await run(command);
      return;
    case 'role':
      await runApiRole();
  }
}

/** Runs until SIGINT or SIGTERM, then takes down all that it put up, in reverse. */
async function run({ interfaces, listen, user }: RunCommand): Promise<void> {
  const ended = nextEndSignal();
  const undoing: (() => void | Promise<void>)[] = [];
  const errors: unknown[] = [];
  try {
    const manager = connectServiceNotifier(process.env);
    const places = interfaces.map((name) => ({ name, index: interfaceIndex(name) }));
    for (const place of places) undoing.push(claimInterface(place));
    const object = loadBpfObject(protocolCountersObject, adoption(places));
    undoing.push(() => object.close());
    for (const place of places) attachCounters(object, place, undoing);
    const api = superviseApi({
      answer: (question) => answer(question, object, places),
      listen,
      user,
    });
    undoing.push(() => api.stop());
    const address = await Promise.race([api.address, ended]);
    if (address !== undefined) {
      process.stdout.write(`counting on ${interfaces.join(', ')}; API on ${address}\n`);
      undoing.push(announce(manager));
    }
    await ended;
  } catch (error) {
    errors.push(error);
  }
  // One that fails keeps none of the others up.
  for (const undo of undoing.reverse()) {
    try {
      await undo();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
  if (errors.length > 0) throw errors[0];
}

/** Tells systemd that we are ready and, as often as it asks for, that we live. */
function announce(manager: ServiceNotifier): () => void {
  manager.notify('READY=1');
  const { watchdogEveryMs } = manager;
  const feed = () => manager.notify('WATCHDOG=1');
  const timer = watchdogEveryMs === undefined ? undefined : setInterval(feed, watchdogEveryMs);
  return () => {
    clearInterval(timer);
    manager.notify('STOPPING=1');
  };
}

interface ApiRole {
  /** Where it answers, when it does so for the first time. */
  readonly address: Promise<string>;
  stop(): Promise<void>;
}

/** Keeps the api role running. It fails as a whole only if the first process never gets ready. */
function superviseApi(options: {
  readonly answer: (question: RoleMessage) => CoreMessage | undefined;
  readonly listen: ListenAddress;
  readonly user: string;
}): ApiRole {
  const { answer, listen, user } = options;
  const first = Promise.withResolvers<string>();
  let isReady = false;
  const node = [process.execPath, '--disable-warning=ExperimentalWarning'] as const;
  const supervisor = new RoleSupervisor({
    supervision: new Supervision(['api']),
    now: () => performance.now(),
    roles: {
      api: {
        argv: [...node, fileURLToPath(import.meta.url), 'role', 'api'],
        begin: { kind: 'begin', version, user, listen },
        answer,
      },
    },
    onReady: (_role, address) => {
      isReady = true;
      first.resolve(address);
    },
    onStatus: (statuses) => {
      for (const { role, phase, lastExit } of statuses) {
        if (phase !== 'waiting' || lastExit === undefined) continue;
        if (isReady) report(`role ${role} ended (${lastExit}) and is started again`);
        else first.reject(new Error(lastExit));
      }
    },
    report,
  });
  supervisor.start();
  const stop = async (): Promise<void> => {
    await supervisor.stop();
    // The role could not: it had no right to the folder any more.
    if (isReady && 'path' in listen) await removeDeadSocket(listen.path);
  };
  return { address: first.promise, stop };
}

/** The core's side of the api role: what it may know. */
function answer(
  question: RoleMessage,
  object: BpfObject<typeof protocolCountersObject>,
  places: readonly NamedInterface[],
): CoreMessage | undefined {
  if (question.kind !== 'get-protocol-counts') return undefined;
  const names = new Map(places.map(({ name, index }) => [index, name]));
  const counts = protocolCounts(object.maps.protocolCounters.entries(), names);
  const uncounted = object.maps.uncountedPackets.lookup(0) ?? [];
  return {
    kind: 'protocol-counts',
    id: question.id,
    counts: counts.map((row) => ({
      ...row,
      packets: row.packets.toString(),
      bytes: row.bytes.toString(),
    })),
    uncountedPackets: uncounted.reduce((sum, count) => sum + count, 0n).toString(),
  };
}

/** The api role: binds its address as root, then has no rights but to ask the core. */
async function runApiRole(): Promise<void> {
  // Ctrl-C reaches the whole group of processes; the core decides what ends.
  process.on('SIGINT', () => {});
  const parentId = process.ppid;
  const core = await connectToCore(() => process.exit());
  try {
    const server = createApiServer(apiSources(core), {
      reportError: (error) => core.send({ kind: 'log', text: error.message.slice(0, 4_096) }),
    });
    const { address } = await startListening(server, core.begin.listen);
    dropPrivileges(core.begin.user);
    dieWithParent(parentId);
    core.send({ kind: 'ready', address });
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

/** What a killed instance left attached goes on counting in the same maps. */
function adoption(places: readonly NamedInterface[]): { adoptMapsOf?: number } {
  const ids = places.map(({ name }) => attachedTcProgramId({ interface: name }, 'ingress'));
  const id = ids.find((candidate) => candidate !== undefined);
  return id === undefined ? {} : { adoptMapsOf: id };
}

/** The handlers stay, so that a second signal does not end the process while it takes down. */
function nextEndSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.on('SIGINT', () => resolve());
    process.on('SIGTERM', () => resolve());
  });
}

/** Adds to `undoing` one by one, so that the caller can undo what stood before a failure. */
function attachCounters(
  object: BpfObject<typeof protocolCountersObject>,
  place: NamedInterface,
  undoing: (() => void | Promise<void>)[],
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
function detach(attachment: TcAttachment, { index }: NamedInterface): void {
  try {
    attachment.detach();
  } catch (error) {
    if (isInterfacePresent(index)) throw error;
  }
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
