/** Whose programs are at XDP, and for how long. What they do: nat-fast-path.test.ts. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { startPacketSink } from '../../lab/packet-sink.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { CoreStatus } from '../../src/messages/control-messages.ts';
import { addresses, GatehouseLab, kill, output, TIMEOUT_MS } from './gatehouse-lab.ts';

const ECHO_PORT = 7;
const ports = ['lan0', 'wan0'] as const;
type Port = (typeof ports)[number];

let place: GatehouseLab;

before(async () => {
  place = await GatehouseLab.start('natxdp');
  for (const host of [place.laptop, place.internet]) {
    // Real checksums, and an end that takes what is redirected to it.
    await output(host, 'ethtool', '-K', 'eth0', 'tx', 'off', 'gro', 'on');
  }
});

after(() => place.stop());

beforeEach(async () => {
  await place.reset();
  for (const name of ports) {
    await output(place.gateway, 'ip', 'link', 'set', 'dev', name, 'xdpdrv', 'off');
  }
});

function configText(fastPath: string, options: { readonly networks?: string } = {}): string {
  const { networks = '{ lan: { interfaces: [lan0], address: 10.77.0.1/24 } }' } = options;
  return `${place.config({ networks })}dataplane: { fastPath: ${fastPath} }\n`;
}

async function run(fastPath: string) {
  place.writeOther('gatehouse.yaml', configText(fastPath));
  const running = await place.run();
  await place.awaitHealth();
  return running;
}

interface Shown {
  readonly name: string;
  readonly id: number;
}

/** As `ip` tells it. */
async function programAt(name: Port): Promise<Shown | undefined> {
  const text = await output(place.gateway, 'ip', '-json', '-details', 'link', 'show', 'dev', name);
  const [link] = JSON.parse(text) as [{ xdp?: { prog: { id: number; name: string } } }];
  const program = link.xdp?.prog;
  return program && { name: program.name, id: program.id };
}

async function programs(): Promise<readonly (Shown | undefined)[]> {
  return [await programAt('lan0'), await programAt('wan0')];
}

type Paths = NonNullable<CoreStatus['nat']['fastPath']>;

function awaitPaths(description: string, until: (paths: Paths) => boolean): Promise<Paths> {
  const ask = async () => (await place.status()).nat.fastPath ?? [];
  return waitFor(description, ask, { timeoutMs: TIMEOUT_MS, until });
}

const areAll =
  (where: 'xdp' | 'tc') =>
  (paths: Paths): boolean =>
    paths.length === ports.length && paths.every(({ at }) => at === where);

/** There and back, a few times. */
async function exchange(): Promise<void> {
  using inside = UdpSocket.open(place.laptop);
  const local = { address: addresses.internet, port: ECHO_PORT };
  using outside = UdpSocket.open(place.internet, local);
  for (let round = 0; round < 8; round++) {
    inside.send(local, `question ${round}`);
    const { from } = await outside.nextDatagram(TIMEOUT_MS);
    outside.send(from, `answer ${round}`);
    assert.equal(`${(await inside.nextDatagram(TIMEOUT_MS)).payload}`, `answer ${round}`);
  }
}

async function countAtXdp(): Promise<number> {
  const { nat } = await place.status();
  return nat.counters.find(({ name }) => name === 'fastXdp')?.count ?? 0;
}

test('of itself, a virtual interface has its fast path at tc, and says why', async () => {
  await run('auto');
  const paths = await awaitPaths('the fast path at tc', areAll('tc'));
  for (const { reason } of paths) assert.match(reason, /virtual interface \(veth\)/);
  assert.deepEqual(await programs(), [undefined, undefined]);
});

test('programs at XDP stay when the core dies, and go on, until the next one has its own', async () => {
  const running = await run('xdp');
  const paths = await awaitPaths('the fast path at XDP', areAll('xdp'));
  for (const { reason } of paths) assert.match(reason, /as the config says; .* checksums/);
  const before = await programs();
  assert.deepEqual(
    before.map((program) => program?.name),
    ['nat_inside_xdp', 'nat_wan_xdp'],
  );
  await exchange();
  const counted = await countAtXdp();
  assert.ok(counted > 0, 'packets go at XDP');
  await kill(running);
  assert.deepEqual(await programs(), before);
  await exchange();
  await run('xdp');
  assert.ok((await countAtXdp()) > counted, 'packets went at XDP while the core was dead');
  const replaced = await programs();
  for (const [index, program] of replaced.entries()) {
    assert.equal(program?.name, before[index]?.name);
    assert.notEqual(program?.id, before[index]?.id);
  }
  await exchange();
});

test('nothing is at XDP any more when the config asks for tc, or for nothing', async () => {
  await run('xdp');
  await awaitPaths('the fast path at XDP', areAll('xdp'));
  await place.install(configText('tc'));
  await awaitPaths('the fast path at tc', areAll('tc'));
  assert.deepEqual(await programs(), [undefined, undefined]);
  await exchange();
  await place.install(configText('xdp'));
  await awaitPaths('the fast path at XDP', areAll('xdp'));
  await place.install(configText('xdp', { networks: '{}' }));
  assert.deepEqual(await programs(), [undefined, undefined]);
});

test('what a killed core left at XDP goes when the next one is not asked for it', async () => {
  const running = await run('xdp');
  await awaitPaths('the fast path at XDP', areAll('xdp'));
  await kill(running);
  await run('tc');
  assert.deepEqual(await programs(), [undefined, undefined]);
});

test("somebody else's program at XDP stays, and is named; ours comes when it goes", async () => {
  const sink = startPacketSink({
    interface: 'wan0',
    networkNamespace: place.gateway.namespacePath,
  });
  const other = await programAt('wan0');
  await run('xdp');
  const reason = 'since the program sink_frame is at XDP there';
  const paths = await awaitPaths('another program to be named', (all) =>
    all.some((one) => one.reason === reason),
  );
  assert.deepEqual(paths.map(({ name, at }) => `${name} ${at}`).toSorted(), [
    'lan0 xdp',
    'wan0 tc',
  ]);
  assert.deepEqual(await programAt('wan0'), other);
  sink.stop();
  await awaitPaths('the fast path at XDP', areAll('xdp'));
  await exchange();
});
