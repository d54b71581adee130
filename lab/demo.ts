/**
 * `npm start`: a home in network namespaces with Gatehouse in the middle, for looking at. An
 * internet, the gateway, and two machines that get their address by a real DHCP client and then
 * talk to the internet. The product's API answers on loopback. Ctrl-C takes all of it away.
 */
import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { RunningProcess } from '../src/linux/command-runner.ts';
import { Lab, type LabHost } from './lab.ts';
import { startDhcpServer, startNat } from './stand-ins.ts';
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
  // Before the network stands, so that a taken port costs nothing.
  const front = await listenOnLoopback(port);
  try {
    await using lab = await Lab.start(homeTopology, { name: 'demo' });
    const socketPath = join(lab.directory, 'api.sock');
    const gateway = lab.host('gateway');
    const product = await startProduct(gateway, socketPath);
    forwardConnections(front, socketPath);
    await startDhcpServer(lab, gateway);
    await startNat(gateway);
    const machines = await Promise.all(['laptop', 'phone'].map((name) => joinLan(lab.host(name))));
    if (!signal.aborted) print(welcome(lab, machines, front));
    await untilEnded(signal, product);
    print('\nTaking the network down.\n');
  } finally {
    front.close();
  }
}

async function listenOnLoopback(port: number): Promise<Server> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Error(`cannot listen on 127.0.0.1:${port} (${code}); choose another by --port`, {
      cause,
    });
  }
  return server;
}

async function startProduct(gateway: LabHost, socketPath: string): Promise<RunningProcess> {
  const interfaces = ['--interface', 'wan0', '--interface', 'br-lan'];
  const product = gateway.spawn([
    gatehouse,
    'run',
    ...interfaces,
    '--listen',
    `unix:${socketPath}`,
  ]);
  await product.waitForOutput(/API on/, READY_TIMEOUT_MS);
  return product;
}

/** A path of a Unix socket is seen from every network namespace, a TCP port only from its own. */
function forwardConnections(front: Server, socketPath: string): void {
  front.on('connection', (client) => {
    const upstream = connect(socketPath);
    client.on('error', () => upstream.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
    upstream.on('close', () => client.destroy());
    client.pipe(upstream).pipe(client);
  });
}

interface Machine {
  readonly name: string;
  readonly address: string;
  readonly namespacePath: string;
}

/** Gets an address as any machine does, then talks to the internet once a second. */
async function joinLan(host: LabHost): Promise<Machine> {
  const client = host.spawn(['udhcpc', '-f', '-i', 'eth0', '-s', dhcpClientScript]);
  const [, address = ''] = await client.waitForOutput(
    /lease of ([0-9.]+) obtained/,
    READY_TIMEOUT_MS,
  );
  // udhcpc tells of the lease before its script has set the address and the route.
  const route = ['ip', 'route', 'get', REMOTE_ADDRESS] as const;
  await waitFor(
    `a route from ${host.name} to the internet`,
    async () => (await host.run(route, { timeoutMs: READY_TIMEOUT_MS })).success,
    { timeoutMs: READY_TIMEOUT_MS },
  );
  const ping = host.spawn(['ping', '-i', '1', REMOTE_ADDRESS]);
  await ping.waitForOutput(/bytes from/, READY_TIMEOUT_MS);
  return machineOf(host, address);
}

function machineOf(host: LabHost, address: string): Machine {
  return { name: host.name, address, namespacePath: host.namespacePath };
}

function welcome(lab: Lab, machines: readonly Machine[], front: Server): string {
  const place = front.address();
  const port = typeof place === 'object' && place !== null ? place.port : 0;
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

Played by Debian's packages until Gatehouse does it itself: DHCP (udhcpd), NAT (nft masquerade).

Gatehouse:  http://127.0.0.1:${port}/                   who answers
            http://127.0.0.1:${port}/inspection/stats   packets and bytes by protocol
Log in:     no account is needed yet; only this machine can reach it.

Ctrl-C ends it and leaves nothing behind.
`;
}

async function untilEnded(signal: AbortSignal, product: RunningProcess): Promise<void> {
  const failure = product.exited.then((exit) => {
    // Ctrl-C reaches the product as well when it shares our terminal.
    if (signal.aborted) return;
    const how = exit.signal ?? `code ${exit.code}`;
    throw new Error(`gatehouse ended by itself (${how}): ${product.output().stderr}`);
  });
  const aborted = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.race([failure, aborted]);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { port: { type: 'string' } } });
  const port = Number(values.port ?? PORT_DEFAULT);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new Error(`--port ${JSON.stringify(values.port)} is no port`);
  }
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => controller.abort());
  }
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
