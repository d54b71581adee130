/** Flows that live on when the core dies or is replaced, and end cleanly when the address goes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { end, kill, saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { ARRIVAL_MS, addresses, describeNat, endpointOf, type NatLab } from './nat-lab.ts';

const { external, otherExternal } = addresses;
const FORWARDED_PORT = 8_080;
const IPERF_PORT = 5_201;
const TICK_MS = 2;

const config = {
  portForwards: [`{ protocol: tcp, port: ${FORWARDED_PORT}, to: ${addresses.bob}:80 }`],
};

/** A datagram each way every few milliseconds. */
class Stream implements Disposable {
  readonly #place: NatLab;
  readonly #alice: UdpSocket;
  readonly #server: UdpSocket;
  readonly #mapped: Endpoint;
  readonly #timer: NodeJS.Timeout;
  #sent = 0;
  readonly #arrived = { out: 0, in: 0 };

  private constructor(
    place: NatLab,
    ends: { alice: UdpSocket; server: UdpSocket; mapped: Endpoint },
  ) {
    this.#place = place;
    this.#alice = ends.alice;
    this.#server = ends.server;
    this.#mapped = ends.mapped;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  static async start(place: NatLab): Promise<Stream> {
    const alice = place.udp('alice');
    const server = place.udp('server');
    const mapped = await place.externalEndpoint(alice, server);
    return new Stream(place, { alice, server, mapped });
  }

  /** How many of each direction have arrived. */
  arrived(): { readonly out: number; readonly in: number } {
    for (const { from } of this.#server.drain()) {
      assert.deepEqual(from, this.#mapped);
      this.#arrived.out += 1;
    }
    this.#arrived.in += this.#alice.drain().length;
    return this.#arrived;
  }

  /** Waits until many more have arrived. */
  async go(count: number): Promise<void> {
    const { out } = this.arrived();
    const goal = out + count;
    const until = ({ out }: { readonly out: number }) => out >= goal;
    await waitFor('datagrams', () => this.arrived(), { timeoutMs: ARRIVAL_MS, until });
  }

  async assertNothingLost(): Promise<void> {
    clearInterval(this.#timer);
    assert.ok(this.#sent > 100);
    const sent = this.#sent;
    const observe = async () => ({ sent, ...this.arrived(), nat: await this.#natCounters() });
    const until = (seen: { out: number; in: number }) => seen.out >= sent && seen.in >= sent;
    const seen = await waitFor('the last datagrams', observe, { timeoutMs: ARRIVAL_MS, until });
    assert.deepEqual({ out: seen.out, in: seen.in }, { out: sent, in: sent });
  }

  /** For the message of a test that fails. */
  async #natCounters(): Promise<unknown> {
    const answer = await this.#place.ask({ kind: 'get-status' }).catch(String);
    return typeof answer === 'object' && answer.kind === 'status' ? answer.status.nat : answer;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#alice.close();
    this.#server.close();
  }

  #tick(): void {
    this.#alice.send(endpointOf(this.#server), `${this.#sent}`);
    this.#server.send(this.#mapped, `${this.#sent}`);
    this.#sent += 1;
    this.arrived();
  }
}

/** New flows of each kind: out, from a third party, by a port forward, between hosts inside. */
async function assertNewFlows(place: NatLab): Promise<void> {
  const { inside, outside } = await openConnection(place);
  await assertConnected(inside, outside);
  using alice = place.udp('alice');
  using bob = place.udp('bob');
  using server = place.udp('server');
  using stranger = place.udp('stranger');
  const mapped = await place.externalEndpoint(alice, server);
  for (const other of [stranger, bob]) {
    other.send(mapped, 'hello');
    const { from } = await alice.nextDatagram(ARRIVAL_MS);
    alice.send(from, 'welcome');
    assert.deepEqual((await other.nextDatagram(ARRIVAL_MS)).from, mapped);
  }
  using listener = TcpListener.open(place.host('bob'), { address: addresses.bob, port: 80 });
  await TcpSocket.connected(place.host('stranger'), {
    to: { address: external, port: FORWARDED_PORT },
    timeoutMs: ARRIVAL_MS,
  });
  await listener.next(ARRIVAL_MS);
}

describeNat({ name: 'natsurvival', config }, (place) => {
  test('survive-83 survive-81 when the core is killed and started again, new flows open all the time, and none loses anything', async () => {
    const iperfServer = ['iperf3', '-s', '-1', '-p', `${IPERF_PORT}`, '--forceflush'] as const;
    await place()
      .host('server')
      .spawn(iperfServer)
      .waitForOutput(/listening/, TIMEOUT_MS);
    const { inside, outside } = await openConnection(place());
    using stream = await Stream.start(place());
    const iperf = place()
      .host('alice')
      .run(['iperf3', '-c', addresses.server, '-p', `${IPERF_PORT}`, '-b', '50M', '-t', '2'], {
        timeoutMs: TIMEOUT_MS,
      });
    await stream.go(100);
    await kill(place().core);
    await stream.go(200);
    await assertConnected(inside, outside);
    await assertNewFlows(place());
    const result = await iperf;
    assert.ok(result.success, saidBy(result));

    await place().run();
    await place().awaitHealth();
    await stream.go(200);
    await assertConnected(inside, outside);
    await assertNewFlows(place());
    await stream.assertNothingLost();
  });

  test('survive-81 a core that is killed at any moment of its start leaves the NAT as it was', async () => {
    const { inside, outside } = await openConnection(place());
    using stream = await Stream.start(place());
    await kill(place().core);
    // The stream is the clock: from half started to just about ready.
    for (const datagrams of [100, 200, 300, 400]) {
      const starting = place().spawn();
      await stream.go(datagrams);
      await kill(starting);
    }
    await place().run();
    await place().awaitHealth();
    await assertConnected(inside, outside);
    await stream.assertNothingLost();
  });

  test('survive-81 an orderly restart loses no flow either', async () => {
    const { inside, outside } = await openConnection(place());
    using stream = await Stream.start(place());
    await stream.go(100);
    assert.equal(await end(place().core), 0);
    await stream.go(100);
    await place().run();
    await place().awaitHealth();
    await stream.go(200);
    await assertConnected(inside, outside);
    await stream.assertNothingLost();
  });

  test('survive-81 a change of the config leaves flows alone', async () => {
    const { inside, outside } = await openConnection(place());
    using stream = await Stream.start(place());
    await stream.go(100);
    const portForwards = [`{ protocol: udp, port: 5300, to: ${addresses.bob}:53 }`];
    await place().install({ portForwards });
    await stream.go(100);
    await place().install({});
    await stream.go(100);
    await assertConnected(inside, outside);
    await stream.assertNothingLost();
  });

  test('survive-77 when the WAN address changes, old connections are reset and new flows work', async () => {
    const { inside } = await openConnection(place());
    using alice = place().udp('alice');
    using server = place().udp('server');
    assert.equal((await place().externalEndpoint(alice, server)).address, external);

    await place().output('gateway', 'sysctl', '-w', 'net.ipv4.conf.wan0.promote_secondaries=1');
    const [add, remove] = [`${otherExternal}/24`, `${external}/24`];
    await place().output('gateway', 'ip', 'address', 'add', add, 'dev', 'wan0');
    await place().output('gateway', 'ip', 'address', 'del', remove, 'dev', 'wan0');
    await place().install({ wanAddress: otherExternal });

    assert.equal((await place().externalEndpoint(alice, server)).address, otherExternal);
    const { inside: renewed, outside: seen } = await openConnection(place());
    await assertConnected(renewed, seen);
    inside.write('anybody there?');
    assert.equal(await inside.whenOver(ARRIVAL_MS), 'ECONNRESET');
  });
});
