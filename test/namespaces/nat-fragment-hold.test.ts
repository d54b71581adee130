/** How the core holds fragments that come before their first (RFC 4787 REQ-14). */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import type { LabHost } from '../../lab/lab.ts';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import type { CoreStatus } from '../../src/messages/control-messages.ts';
import {
  GatehouseLab,
  gatehouse,
  kill,
  addresses as labAddresses,
  output,
  TIMEOUT_MS,
  untilReady,
} from './gatehouse-lab.ts';
import { mountedOver } from './mounted-over.ts';
import { ARRIVAL_MS, addresses, describeNat, endpointOf, type NatLab } from './nat-lab.ts';
import { fragmentsOf, udpPacket } from './nat-packets.ts';

const { external } = addresses;
const FORWARDED_PORT = 5_300;
const LARGEST_DATAGRAM = 65_507;
const FRAGMENT_BYTES = 1_480;
const HOLD_INTERFACE = 'gatehouse-hold';

let identification = 20_000;

/** Of a datagram, in order; the Ethernet frames are as large as they may be. */
function fragments(datagram: {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly payload: Uint8Array;
}): Uint8Array<ArrayBuffer>[] {
  identification += 1;
  const count = Math.ceil((datagram.payload.length + 8) / FRAGMENT_BYTES) - 1;
  const sizes = Array.from({ length: count }, () => FRAGMENT_BYTES);
  return fragmentsOf(udpPacket(datagram), { sizes, identification });
}

function sendAll(
  host: LabHost,
  { to }: { readonly to: Endpoint },
  all: readonly Uint8Array[],
): void {
  using raw = RawSocket.open(host);
  for (const fragment of all) raw.send(to.address, fragment);
}

/** @param route `to` is how the sender knows the receiver */
interface Route {
  readonly host: LabHost;
  readonly from: UdpSocket;
  readonly to: Endpoint;
  readonly receiver: UdpSocket;
}

/** A datagram whose fragments come in reverse. @returns whom the receiver sees */
async function assertCarriedInReverse(route: Route, bytes = 10_000): Promise<Endpoint> {
  const payload = randomBytes(bytes);
  const { host, to, receiver } = route;
  const all = fragments({ from: endpointOf(route.from), to, payload });
  sendAll(host, { to }, all.toReversed());
  const datagram = await receiver.nextDatagram(ARRIVAL_MS);
  assert.ok(datagram.payload.equals(payload));
  return datagram.from;
}

function counterOf({ nat }: CoreStatus, name: string): number {
  return nat.counters.find((counter) => counter.name === name)?.count ?? 0;
}

async function statusOf(place: NatLab): Promise<CoreStatus> {
  const answer = await place.ask({ kind: 'get-status' });
  return answer.kind === 'status' ? answer.status : assert.fail(answer.kind);
}

const config = {
  portForwards: [`{ protocol: udp, port: ${FORWARDED_PORT}, to: ${addresses.bob}:53 }`],
};

describeNat({ name: 'nathold', config }, (place) => {
  for (const bytes of [10_000, LARGEST_DATAGRAM]) {
    test(`survive-65 RFC 4787 REQ-14: ${bytes} bytes in reverse pass in and out`, async () => {
      using alice = place().udp('alice');
      using server = place().udp('server');
      const mapped = await place().externalEndpoint(alice, server);
      const inward = { host: place().host('server'), from: server, to: mapped, receiver: alice };
      assert.deepEqual(await assertCarriedInReverse(inward, bytes), endpointOf(server));
      const to = endpointOf(server);
      const outward = { host: place().host('alice'), from: alice, to, receiver: server };
      assert.deepEqual(await assertCarriedInReverse(outward, bytes), mapped);
    });
  }

  test('survive-65 RFC 4787 REQ-14: every fragment but the first was held and went back', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const to = await place().externalEndpoint(alice, server);
    const before = await statusOf(place());
    const host = place().host('server');
    await assertCarriedInReverse({ host, from: server, to, receiver: alice });
    const after = await statusOf(place());
    const grown = ['fragmentHeld', 'fragmentReturned'].map(
      (name) => counterOf(after, name) - counterOf(before, name),
    );
    assert.deepEqual(grown, [6, 6]);
    assert.equal(counterOf(after, 'droppedFragmentUnreturned'), 0);
  });

  test('survive-65 RFC 4787 REQ-14: a datagram of which all comes twice is delivered', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const to = await place().externalEndpoint(alice, server);
    const payload = randomBytes(10_000);
    const all = fragments({ from: endpointOf(server), to, payload });
    const [first, second, ...others] = all;
    assert.ok(first && second);
    // The first comes once: with it the datagram is whole, and another one would begin anew.
    const order = [...others, ...others, second, second, first];
    sendAll(place().host('server'), { to }, order);
    assert.ok((await alice.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  });

  test('survive-65 RFC 4787 REQ-14: datagrams whose fragments are mixed are all delivered', async () => {
    using alice = place().udp('alice');
    using server = place().udp('server');
    const to = await place().externalEndpoint(alice, server);
    const payloads = Array.from({ length: 20 }, () => randomBytes(4_000));
    const all = payloads.map((payload) => fragments({ from: endpointOf(server), to, payload }));
    const mixed = [2, 1, 0].flatMap((index) => all.map((one) => one[index] ?? assert.fail()));
    sendAll(place().host('server'), { to }, mixed);
    // Which of them is whole first is nobody's promise.
    const missing = new Set(payloads.map((payload) => payload.toString('hex')));
    for (const _ of payloads) {
      const { payload } = await alice.nextDatagram(ARRIVAL_MS);
      assert.ok(missing.delete(payload.toString('hex')), 'a datagram that nobody sent, or twice');
    }
  });

  test('survive-65 RFC 4787 REQ-14: fragments in reverse pass a port forward', async () => {
    using bob = place().udp('bob', 53);
    using stranger = place().udp('stranger');
    const to = { address: external, port: FORWARDED_PORT };
    const route = { host: place().host('stranger'), from: stranger, to, receiver: bob };
    assert.deepEqual(await assertCarriedInReverse(route), endpointOf(stranger));
  });

  test('survive-65 survive-62 RFC 4787 REQ-14: fragments in reverse pass between hosts inside by their external endpoints', async () => {
    using alice = place().udp('alice');
    using bob = place().udp('bob');
    using server = place().udp('server');
    const aliceOutside = await place().externalEndpoint(alice, server);
    const to = await place().externalEndpoint(bob, server);
    const route = { host: place().host('alice'), from: alice, to, receiver: bob };
    assert.deepEqual(await assertCarriedInReverse(route), aliceOutside);
  });

  test("survive-65 fragments in reverse for the gateway's own sockets reach them", async () => {
    using own = UdpSocket.open(place().host('gateway'), { address: external });
    using server = place().udp('server');
    const to = await place().externalEndpoint(own, server);
    assert.deepEqual(to, endpointOf(own));
    const host = place().host('server');
    await assertCarriedInReverse({ host, from: server, to, receiver: own });
  });

  test('survive-65 fragments in reverse that a guest has not asked for do not reach the guest', async () => {
    using guest = place().udp('guest');
    using server = place().udp('server');
    using stranger = place().udp('stranger');
    const to = await place().externalEndpoint(guest, server);
    const unasked = fragments({ from: endpointOf(stranger), to, payload: randomBytes(10_000) });
    sendAll(place().host('stranger'), { to }, unasked.toReversed());
    const host = place().host('server');
    await assertCarriedInReverse({ host, from: server, to, receiver: guest });
    assert.deepEqual(guest.drain(), []);
  });
});

/** The laptop talks with a socket of the internet. */
class Conversation implements Disposable {
  readonly inside: UdpSocket;
  readonly outside: UdpSocket;
  /** How the internet sees the laptop. */
  readonly mapped: Endpoint;
  readonly #internet: LabHost;

  private constructor(
    internet: LabHost,
    ends: Pick<Conversation, 'inside' | 'outside' | 'mapped'>,
  ) {
    this.#internet = internet;
    this.inside = ends.inside;
    this.outside = ends.outside;
    this.mapped = ends.mapped;
  }

  static async open({ laptop, internet }: GatehouseLab): Promise<Conversation> {
    const inside = UdpSocket.open(laptop, { address: labAddresses.laptop });
    const outside = UdpSocket.open(internet, { address: labAddresses.internet });
    inside.send(endpointOf(outside), 'who am I');
    const { from: mapped } = await outside.nextDatagram(ARRIVAL_MS);
    return new Conversation(internet, { inside, outside, mapped });
  }

  fragments(bytes: number): { readonly payload: Buffer; readonly all: readonly Uint8Array[] } {
    const payload = randomBytes(bytes);
    const from = endpointOf(this.outside);
    return { payload, all: fragments({ from, to: this.mapped, payload }) };
  }

  send(all: readonly Uint8Array[]): void {
    sendAll(this.#internet, { to: this.mapped }, all);
  }

  async assertCarried(order: 'in order' | 'in reverse'): Promise<void> {
    const { payload, all } = this.fragments(10_000);
    this.send(order === 'in order' ? all : all.toReversed());
    assert.ok((await this.inside.nextDatagram(ARRIVAL_MS)).payload.equals(payload));
  }

  [Symbol.dispose](): void {
    this.inside.close();
    this.outside.close();
  }
}

/** A gateway that translates; nothing of the product runs on it yet. */
async function startLab(name: string): Promise<GatehouseLab> {
  const place = await GatehouseLab.start(name);
  const networks = `{ lan: { interfaces: [lan0], address: ${labAddresses.gatewayLan}/24 } }`;
  place.writeConfig({ networks });
  return place;
}

test('survive-65 fragments whose first never comes are given up, and make room for others', async () => {
  await using place = await startLab('holdflood');
  await place.run();
  using conversation = await Conversation.open(place);
  const pieces = Array.from({ length: 3_000 }, () => {
    const [, middle] = conversation.fragments(4_000).all;
    return middle ?? assert.fail();
  });
  for (let sent = 0; sent < pieces.length; sent += 250) {
    conversation.send(pieces.slice(sent, sent + 250));
    await conversation.assertCarried('in reverse');
  }
  const full = await place.status();
  assert.ok(counterOf(full, 'droppedFragmentNoRoom') > 0, JSON.stringify(full.nat.counters));
  const isOver = (status: CoreStatus) => counterOf(status, 'droppedFragmentLate') >= 1_000;
  await place.awaitStatus('the end of the time', isOver);
  await conversation.assertCarried('in reverse');
});

test('the interface of held fragments says nothing by itself and has no addresses', async () => {
  await using place = await startLab('holdquiet');
  const { gateway } = place;
  for (const name of ['all', 'default']) {
    await output(gateway, 'sysctl', '-w', `net.ipv6.conf.${name}.disable_ipv6=0`);
  }
  await place.run();
  await place.awaitHealth();
  const words = ['ip', '-json', '-stats', 'address', 'show', 'dev', HOLD_INTERFACE] as const;
  const [shown] = JSON.parse(await output(gateway, ...words)) as ShownInterface[];
  assert.ok(shown);
  assert.ok(shown.flags.includes('UP'));
  assert.deepEqual([shown.addr_info, shown.stats64.tx.packets], [[], 0]);
  using conversation = await Conversation.open(place);
  await conversation.assertCarried('in reverse');
});

interface ShownInterface {
  readonly flags: readonly string[];
  readonly addr_info: readonly unknown[];
  readonly stats64: { readonly tx: { readonly packets: number } };
}

test('fragments in order pass while the core is dead, and in any order when it runs again', async () => {
  await using place = await startLab('holdkill');
  const core = await place.run();
  using conversation = await Conversation.open(place);
  await kill(core);
  await conversation.assertCarried('in order');
  await place.run();
  await conversation.assertCarried('in order');
  await conversation.assertCarried('in reverse');
});

test('an interface that somebody deletes is told, and made again with the next change', async () => {
  await using place = await startLab('holdgone');
  await place.run();
  await place.awaitHealth();
  using conversation = await Conversation.open(place);
  await output(place.gateway, 'ip', 'link', 'delete', HOLD_INTERFACE);
  const told = /fragments that come before their first are lost: gatehouse-hold is gone/;
  const status = await place.awaitStatus('the problem', ({ problems }) =>
    problems.some((problem) => told.test(problem)),
  );
  assert.ok(status.alarms.some(({ text }) => told.test(text)));
  await conversation.assertCarried('in order');
  await place.install(`${place.readConfig()}# Changed.\n`);
  await place.awaitHealth();
  await conversation.assertCarried('in reverse');
});

test('when the NAT gets other tables, fragments in any order go on to pass', async () => {
  await using place = await startLab('holdtables');
  await place.run();
  const text = place.readConfig().replace('sessions: 1024', 'sessions: 4096');
  await place.install(text);
  const status = await place.awaitHealth();
  assert.equal(status.nat.sessions?.max, 4_096);
  using conversation = await Conversation.open(place);
  await conversation.assertCarried('in order');
  await conversation.assertCarried('in reverse');
});

test('without /dev/net/tun everything but fragments before their first works, and status says why', async () => {
  await using place = await startLab('holdnotun');
  const empty = place.writeOther('no-device', '');
  const argv = [gatehouse, 'run', '--config', place.configFile] as const;
  const core = place.gateway.spawn(mountedOver([{ shown: empty, at: '/dev/net/tun' }], argv));
  await untilReady(core);
  using conversation = await Conversation.open(place);
  await conversation.assertCarried('in order');
  const { all } = conversation.fragments(10_000);
  conversation.send(all.toReversed());
  await conversation.assertCarried('in order');
  assert.deepEqual(conversation.inside.drain(), []);
  const told = /fragments that come before their first are lost: cannot make the TAP device/;
  const { problems, nat } = await waitFor('the status', () => place.status(), {
    timeoutMs: TIMEOUT_MS,
  });
  assert.ok(
    problems.some((problem) => told.test(problem)),
    problems.join('\n'),
  );
  assert.equal(nat.state, 'on');
});
