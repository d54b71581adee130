/**
 * `npm start`: a home in network namespaces with Gatehouse in the middle, for looking at. An
 * internet, the gateway, and two machines that get their address by a real DHCP client and then
 * talk to the internet. The product's API answers on loopback. Ctrl-C takes all of it away.
 */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { RunningProcess } from '../src/linux/command-runner.ts';
import { Lab, type LabHost } from './lab.ts';
import { startDhcpServer } from './stand-ins.ts';
import { homeTopology } from './topologies/home.ts';
import { waitFor } from './wait-for.ts';

export interface DemoOptions {
  /** TCP port on 127.0.0.1 where the API answers; 0 takes a free one. */
  readonly port: number;
  /** Ends the demo. */
  readonly signal: AbortSignal;
  readonly print: (text: string) => void;
}

const PORT_DEFAULT = 8080;
const READY_TIMEOUT_MS = 20_000;
/** A server on the topology's internet. */
const REMOTE_ADDRESS = '203.0.113.80';

const gatehouse = fileURLToPath(new URL('../bin/gatehouse', import.meta.url));
const dhcpClientScript = fileURLToPath(new URL('./dhcp-client-script', import.meta.url));

/** Resolves when the demo was ended and nothing of it is left. */
export async function runDemo({ port, signal, print }: DemoOptions): Promise<void> {
  signal.addEventListener('abort', () => print('\nTaking the network down.\n'), { once: true });
  // Before the network stands, so that a taken port costs nothing.
  using front = await Front.listen(port);
  print(`Bringing a home network up. Gatehouse will answer at ${front.url}/\n`);
  if (signal.aborted) return;
  // A lab cannot be taken down before it stands, which takes a second.
  await using lab = await Lab.start(homeTopology, { name: 'demo' });
  // Once it is aborted nobody waits for the run: it fails as the lab ends its processes.
  await Promise.race([aborted(signal), runIn(lab, { front, signal, print })]);
}

/** Resolves at once if it is aborted already. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Starts all in the lab and then looks after the product. Once aborted it starts no more. */
async function runIn(
  lab: Lab,
  options: { front: Front; signal: AbortSignal; print: (text: string) => void },
): Promise<void> {
  const { front, signal, print } = options;
  const gateway = lab.host('gateway');
  const configFile = writeConfig(lab.directory);
  signal.throwIfAborted();
  const product = await startProduct(gateway, configFile);
  front.forwardTo(join(lab.directory, 'run/api.sock'));
  signal.throwIfAborted();
  await startDhcpServer(lab, gateway);
  signal.throwIfAborted();
  const joining = ['laptop', 'phone'].map((name) => joinLan(lab.host(name), signal));
  const machines = await Promise.all(joining);
  signal.throwIfAborted();
  print(welcome({ lab, machines, configFile, url: front.url }));
  const exit = await product.exited;
  const how = exit.signal ?? `code ${exit.code}`;
  throw new Error(`gatehouse ended by itself (${how}): ${product.output().stderr}`);
}

/** More than browsers in front of one page open. */
const CONNECTION_COUNT_MAX = 64;

const startingUp = 'The network is still coming up.\n';
const startingUpAnswer = `HTTP/1.1 503 Service Unavailable
Content-Type: text/plain
Content-Length: ${startingUp.length}
Retry-After: 1
Connection: close

${startingUp}`.replaceAll('\n', '\r\n');

/**
 * A port of this machine's loopback, behind which the product answers in a network namespace: the
 * path of a Unix socket is seen from every namespace, a TCP port only from its own.
 */
class Front {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #socketPath: string | undefined;

  private constructor(server: Server) {
    this.#server = server;
    server.maxConnections = CONNECTION_COUNT_MAX;
    server.on('connection', (client) => {
      this.#keep(client);
      if (this.#socketPath === undefined) client.once('data', () => client.end(startingUpAnswer));
      else this.#forward(client, this.#socketPath);
    });
  }

  /** @throws Error when the port is taken */
  static async listen(port: number): Promise<Front> {
    const front = new Front(createServer());
    try {
      await once(front.#server.listen(port, '127.0.0.1'), 'listening');
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      throw new Error(`cannot listen on 127.0.0.1:${port} (${code}); choose another by --port`, {
        cause,
      });
    }
    return front;
  }

  get url(): string {
    const place = this.#server.address();
    return `http://127.0.0.1:${typeof place === 'object' ? place?.port : place}`;
  }

  /** From now on; until then who asks is told to come back. */
  forwardTo(socketPath: string): void {
    this.#socketPath = socketPath;
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #forward(client: Socket, socketPath: string): void {
    const upstream = connect(socketPath);
    this.#keep(upstream);
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
    client.pipe(upstream).pipe(client);
  }

  /** Until it closes, or all of this does. */
  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    // What goes wrong on one side shows on the other by its end.
    socket.on('error', () => {});
  }
}

/** The config of the home's gateway, as its owner would write it. */
function writeConfig(folder: string): string {
  const path = join(folder, 'gatehouse.yaml');
  writeFileSync(
    path,
    `version: 1

wan:
  interface: wan0
  address: 198.51.100.1/24
  gateway: 198.51.100.254

networks:
  lan:
    interfaces: [lan0, lan1]        # bridged as br-lan
    address: 10.77.0.1/24
    dhcp: { range: 10.77.0.100-10.77.0.199, lease: 12h }

firewall:
  rules:
    - name: no_mail_from_inside
      action: reject
      from: lan
      to: wan
      protocol: tcp
      ports: [25]
      comment: only the provider's relay sends mail

paths:
  state: ${folder}/state
  runtime: ${folder}/run
`,
  );
  return path;
}

async function startProduct(gateway: LabHost, configFile: string): Promise<RunningProcess> {
  const product = gateway.spawn([gatehouse, 'run', '--config', configFile]);
  await product.waitForOutput(/API on/, READY_TIMEOUT_MS);
  return product;
}

interface Machine {
  readonly name: string;
  readonly address: string;
  readonly namespacePath: string;
}

/** Gets an address as any machine does, then talks to the internet once a second. */
async function joinLan(host: LabHost, signal: AbortSignal): Promise<Machine> {
  signal.throwIfAborted();
  const client = host.spawn(['udhcpc', '-f', '-i', 'eth0', '-s', dhcpClientScript]);
  const [, address = ''] = await client.waitForOutput(
    /lease of ([0-9.]+) obtained/,
    READY_TIMEOUT_MS,
  );
  // udhcpc tells of the lease before its script has set the address and the route.
  const route = ['ip', 'route', 'get', REMOTE_ADDRESS] as const;
  await waitFor(
    `a route from ${host.name} to the internet`,
    async () => {
      signal.throwIfAborted();
      return (await host.run(route, { timeoutMs: READY_TIMEOUT_MS, signal })).success;
    },
    { timeoutMs: READY_TIMEOUT_MS },
  );
  signal.throwIfAborted();
  const ping = host.spawn(['ping', '-i', '1', REMOTE_ADDRESS]);
  await ping.waitForOutput(/bytes from/, READY_TIMEOUT_MS);
  return machineOf(host, address);
}

function machineOf(host: LabHost, address: string): Machine {
  return { name: host.name, address, namespacePath: host.namespacePath };
}

function welcome(options: {
  lab: Lab;
  machines: readonly Machine[];
  configFile: string;
  url: string;
}): string {
  const { lab, machines, configFile, url } = options;
  const hosts = [
    machineOf(lab.host('internet'), REMOTE_ADDRESS),
    machineOf(lab.host('gateway'), '198.51.100.1, 10.77.0.1'),
    ...machines,
  ];
  const rows = hosts.map(({ name, address, namespacePath }) => {
    return `  ${name.padEnd(9)} ${address.padEnd(24)} nsenter --net=${namespacePath} bash`;
  });
  return `
A home network is up, with Gatehouse as its gateway. Machine, address, and how to enter it:
${rows.join('\n')}

Played by Debian's packages until Gatehouse does it itself: DHCP (udhcpd).

Gatehouse:  ${url}/                   who answers
            ${url}/inspection/stats   packets and bytes by protocol
Log in:     no account is needed yet; only this machine can reach it.

Its config is ${configFile}. Edit it, and:
  export GATEHOUSE_CONFIG=${configFile}
  bin/gatehouse status              how it does
  bin/gatehouse diff                what your edit changes, down to the rules
  bin/gatehouse apply               puts it in force for a minute
  bin/gatehouse confirm             keeps it; otherwise it is rolled back

Ctrl-C ends it and leaves nothing behind.
`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { port: { type: 'string' } } });
  const port = Number(values.port ?? PORT_DEFAULT);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Error(`--port ${JSON.stringify(values.port)} is no port`);
  }
  const controller = new AbortController();
  // They stay to the end, so that who is impatient does not break the cleaning off.
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => controller.abort());
  }
  // A terminal that was closed takes no words; the cleaning goes on without them.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  const print = (text: string): void => {
    process.stdout.write(text);
  };
  await runDemo({ port, signal: controller.signal, print });
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
