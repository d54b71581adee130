/** What happens at each limit: whoever is over it is told, and nobody else notices. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { RawSocket } from '../../lab/raw-socket.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import {
  ARRIVAL_MS,
  addresses,
  describeNat,
  endpointOf,
  type HostName,
  type NatLab,
} from './nat-lab.ts';
import { udpPacket } from './nat-packets.ts';

const PORTS = { first: 2_000, last: 2_039 } as const;
const PORT_COUNT = PORTS.last - PORTS.first + 1;
const MAPPINGS_PER_HOST = 24;
const SESSIONS_PER_HOST = 40;
const UNANSWERED_PER_MAPPING = 16;
/** The smallest table. */
const SESSIONS = 1_024;
const FLOOD_PACKETS = 5_000;

const UNREACHABLE = 3;
const ADMINISTRATIVELY_PROHIBITED = 13;

/** Sends again, since the NAT may learn of it by the first packet, and drop that one. */
async function assertRefused(socket: UdpSocket, gateway: string, to: Endpoint): Promise<void> {
  const attempt = () => {
    socket.send(to, 'one too many');
    return socket.takeError();
  };
  const { type, code, offender } = await waitFor('a refusal', attempt, { timeoutMs: ARRIVAL_MS });
  assert.deepEqual(
    { type, code, offender },
    { type: UNREACHABLE, code: ADMINISTRATIVELY_PROHIBITED, offender: gateway },
  );
}

async function assertConnects(place: NatLab, from: HostName): Promise<void> {
  const { inside, outside } = await openConnection(place, { from });
  await assertConnected(inside, outside);
}

/** Of the benchmarking networks, which nobody here has (RFC 2544). */
function strangersAddress(index: number): string {
  return `198.18.${index >> 8}.${index & 255}`;
}

async function countOf(place: NatLab, name: string): Promise<number> {
  const answer = await place.ask({ kind: 'get-status' });
  assert.ok(answer.kind === 'status');
  return answer.status.nat.counters.find((one) => one.name === name)?.count ?? 0;
}

describeNat(
  {
    name: 'natlimits',
    config: {
      nat: [
        `portRange: ${PORTS.first}-${PORTS.last}, mappingsPerHost: ${MAPPINGS_PER_HOST}`,
        `sessionsPerHost: ${SESSIONS_PER_HOST}`,
      ].join(', '),
    },
  },
  (place) => {
    const open = (host: 'alice' | 'bob' | 'guest', count: number) => {
      const outsideTheRange = { alice: 40_000, bob: 41_000, guest: 42_000 }[host];
      const indexes = Array.from({ length: count }, (_, index) => index);
      return indexes.map((index) => place().udp(host, outsideTheRange + index));
    };
    const sockets: UdpSocket[] = [];
    const seen: Endpoint[] = [];
    let server: UdpSocket;

    before(() => {
      server = place().udp('server');
    });

    const take = async (host: 'alice' | 'bob' | 'guest', count: number) => {
      for (const socket of open(host, count)) {
        sockets.push(socket);
        seen.push(await place().externalEndpoint(socket, server));
      }
    };

    test('survive-60 RFC 5508 REQ-8: a host that has all mappings that it may have is told, others go on', async () => {
      await take('alice', MAPPINGS_PER_HOST);
      using more = place().udp('alice', 43_000);
      await assertRefused(more, addresses.gatewayLan, endpointOf(server));
      await take('bob', 1);
    });

    test('survive-59 when all ports are taken, nobody shares one, and whoever asks is told', async () => {
      await take('guest', PORT_COUNT - sockets.length);
      assert.equal(new Set(seen.map(({ port }) => port)).size, PORT_COUNT);
      assert.ok(seen.every(({ port }) => port >= PORTS.first && port <= PORTS.last));
      using more = place().udp('bob', 43_000);
      await assertRefused(more, addresses.gatewayLan, endpointOf(server));
      for (const [index, socket] of sockets.entries()) {
        assert.deepEqual(await place().externalEndpoint(socket, server), seen[index]);
      }
    });

    test('survive-59 each protocol has all ports to itself', async () => {
      await assertConnects(place(), 'bob');
    });

    test('survive-60 a host that has all sessions that it may have is told, others go on', async () => {
      const [guest] = sockets.slice(-1);
      assert.ok(guest);
      const connection = await openConnection(place(), { from: 'bob' });
      const remote = (index: number) => ({ address: strangersAddress(index), port: 9 });
      for (let index = 0; index < SESSIONS_PER_HOST; index += 1) guest.send(remote(index), 'x');
      await assertRefusedAmongErrors(guest);
      await assertConnected(connection.inside, connection.outside);
      await assertConnects(place(), 'bob');
      const [alice] = sockets;
      assert.ok(alice);
      assert.deepEqual(await place().externalEndpoint(alice, server), seen[0]);
    });
  },
);

/** The provider says of most of them that nobody is there. */
async function assertRefusedAmongErrors(socket: UdpSocket): Promise<void> {
  for (;;) {
    const { code, offender } = await socket.nextError(ARRIVAL_MS);
    if (offender !== addresses.gatewayGuests) continue;
    assert.equal(code, ADMINISTRATIVELY_PROHIBITED);
    return;
  }
}

describeNat(
  {
    name: 'natfloods',
    config: {
      nat: [
        `sessionsPerHost: ${4 * SESSIONS}`,
        `unansweredPerMapping: ${UNANSWERED_PER_MAPPING}`,
      ].join(', '),
      sessions: SESSIONS,
    },
  },
  (place) => {
    test('survive-61 a flood of strangers to a mapped port takes no room from anybody', async () => {
      const connection = await openConnection(place(), { from: 'alice' });
      using alice = place().udp('alice');
      using server = place().udp('server');
      const mapped = await place().externalEndpoint(alice, server);
      using isp = RawSocket.open(place().host('isp'));
      const before = await countOf(place(), 'unansweredLimit');
      for (let index = 0; index < FLOOD_PACKETS; index += 1) {
        const from = { address: strangersAddress(index), port: 1_024 + index };
        isp.send(mapped.address, udpPacket({ from, to: mapped, payload: Buffer.from('flood') }));
      }
      alice.drain();
      await assertConnected(connection.inside, connection.outside);
      await assertConnects(place(), 'alice');
      using bob = place().udp('bob');
      await place().externalEndpoint(bob, server);
      const after = await countOf(place(), 'unansweredLimit');
      assert.ok(after - before > FLOOD_PACKETS / 2, `${after - before}`);
    });

    test('survive-61 when a flood from inside fills the table, answered sessions stay and new ones find room', async () => {
      using server = place().udp('server');
      using bob = place().udp('bob');
      const connections = [
        await openConnection(place(), { from: 'bob' }),
        await openConnection(place(), { from: 'alice' }),
      ];
      const seen = await place().externalEndpoint(bob, server);
      using raw = RawSocket.open(place().host('alice'));
      for (let index = 0; index < FLOOD_PACKETS; index += 1) {
        const to = { address: strangersAddress(index), port: 9 };
        const from = { address: addresses.alice, port: 30_000 };
        raw.send(to.address, udpPacket({ from, to, payload: Buffer.from('flood') }));
      }
      for (const connection of connections)
        await assertConnected(connection.inside, connection.outside);
      assert.deepEqual(await place().externalEndpoint(bob, server), seen);
      await assertConnects(place(), 'bob');
      await assertConnects(place(), 'alice');
      assert.ok((await countOf(place(), 'sessionsEvicted')) > 0);
    });
  },
);
