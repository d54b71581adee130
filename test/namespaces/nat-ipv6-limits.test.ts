/** IPv6 where quotas are used up, strangers flood, and the core dies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UdpSocket } from '../../lab/udp-socket.ts';
import { waitFor } from '../../lab/wait-for.ts';
import { icmpError, ping, udp } from '../../src/testing/nat-packets.ts';
import { kill } from './gatehouse-lab.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { describeFastPath, Flow, later } from './nat-flow.ts';
import { hasProtocol, sendPackets } from './nat-ipv6-packets.ts';
import { ARRIVAL_MS, endpointOf, ipv6Addresses } from './nat-lab.ts';

const { alice, gatewayGuests, server } = ipv6Addresses;
const UNREACHABLE = 1;
const ADMINISTRATIVELY_PROHIBITED = 1;
const ICMPV6 = 58;
const SESSIONS_PER_HOST = 40;
/** The smallest table. */
const SESSIONS = 1_024;
const FLOOD_PACKETS = 5_000;
/** Of each kind at once, before as many a second count. */
const STRANGERS_BURST = 50;

const config = { nat: `sessionsPerHost: ${SESSIONS_PER_HOST}`, sessions: SESSIONS } as const;

describeFastPath({ name: 'natsixlimit', ipv6: true, config }, (place, fastPath) => {
  const judged = (from: 'alice' | 'bob' = 'alice') =>
    Flow.judged(place(), { fastPath, family: 6, from });

  test('survive-60 a host with too many sessions is told so, and nobody else notices', async () => {
    using flow = await judged();
    using outside = place().udp6('server');
    const sockets = Array.from({ length: SESSIONS_PER_HOST + 1 }, () => place().udp6('guest'));
    await using _closed = later(async () => {
      for (const socket of sockets) socket.close();
    });
    for (const socket of sockets) socket.send(endpointOf(outside), 'one more');
    const refused = () => {
      for (const socket of sockets) {
        const error = socket.takeError();
        if (error !== undefined) return error;
        socket.send(endpointOf(outside), 'one more');
      }
      return undefined;
    };
    const { type, code, offender } = await waitFor('a refusal', refused, { timeoutMs: ARRIVAL_MS });
    const told = { type: UNREACHABLE, code: ADMINISTRATIVELY_PROHIBITED, offender: gatewayGuests };
    assert.deepEqual({ type, code, offender }, told);
    await flow.assertPasses();
    using other = await judged('bob');
    await other.assertPasses();
  });

  test('survive-61 a flood of sources that nobody has ends no flow and no connection', async () => {
    using flow = await judged();
    const { inside, outside } = await openConnection(place(), { family: 6 });
    const { port } = endpointOf(flow.inside);
    const frames = Array.from({ length: FLOOD_PACKETS }, (_, index) =>
      udp(`[2001:db8:115::${index.toString(16)}]:9 > [${alice}]:${port}`),
    );
    sendPackets(place(), 'isp', frames);
    flow.inside.drain();
    await waitFor('the end of the flood', () => flow.inside.drain().length === 0, {
      timeoutMs: ARRIVAL_MS,
    });
    await flow.assertPasses();
    await assertConnected(inside, outside);
    using other = await judged('bob');
    await other.assertPasses();
    inside.reset();
    outside.close();
  });

  test('RFC 6583: who pings all addresses of a network fills no table of neighbours', async () => {
    const before = await place().output('gateway', 'ip', '-6', 'neigh', 'show', 'dev', 'lan0');
    const frames = Array.from({ length: 1_000 }, (_, index) =>
      ping(`${ipv6Addresses.stranger} > 2001:db8:77::1:${index.toString(16)}`, {
        identifier: index + 1,
      }),
    );
    sendPackets(place(), 'stranger', frames);
    using flow = await judged();
    await flow.assertPasses();
    const after = await place().output('gateway', 'ip', '-6', 'neigh', 'show', 'dev', 'lan0');
    const added = after.split('\n').length - before.split('\n').length;
    assert.ok(added < 2 * STRANGERS_BURST, `${added} neighbours more`);
  });

  test('survive-64 errors about no session cross not even in a flood', async () => {
    using flow = await judged();
    const inLan = await place().captureAlice();
    const quoted = udp(`[${alice}]:77 > [${server}]:78`);
    const error = icmpError(`${ipv6Addresses.stranger} > ${alice}`, { type: 1, quoted });
    sendPackets(place(), 'stranger', Array<Uint8Array>(500).fill(error));
    await flow.assertPasses();
    const arrived = (await inLan.packets(['icmpv6.type'], 'icmpv6.type == 1')).length;
    assert.equal(arrived, 0);
    assert.ok(!(await inLan.end()).some((frame) => hasProtocol(frame, ICMPV6) && frame[54] === 1));
  });

  test('survive-83 flows go on and new ones open when the core is dead, and when it is back', async () => {
    using flow = await judged();
    const { inside, outside } = await openConnection(place(), { family: 6 });
    await kill(place().core);
    await flow.assertPasses();
    await assertConnected(inside, outside);
    using young = UdpSocket.open(place().host('bob'), { address: ipv6Addresses.bob });
    using remote = place().udp6('server');
    await place().externalEndpoint(young, remote);
    await place().run();
    await place().awaitHealth();
    await flow.assertPasses();
    await assertConnected(inside, outside);
    young.send(endpointOf(remote), 'still there');
    assert.equal(`${(await remote.nextDatagram(ARRIVAL_MS)).payload}`, 'still there');
    using _other = await judged();
    inside.reset();
    outside.close();
  });
});
