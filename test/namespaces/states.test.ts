/** `gatehouse states` on a running gateway: what crosses it is listed, picked, and ended. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import type { UdpSocket } from '../../lab/udp-socket.ts';
import { protocolInWords } from '../../src/cli/protocol-names.ts';
import type { CommandResult } from '../../src/linux/command-runner.ts';
import {
  type SessionSummary,
  STATES_PER_ANSWER_MAX,
  type StateFilter,
} from '../../src/messages/control-messages.ts';
import { exitCodes, gatehouse, kill, saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';
import { ARRIVAL_MS, addresses, NatLab } from './nat-lab.ts';
import { ipv6Addresses } from './nat-lab-ipv6.ts';

const { alice, bob, server, external } = addresses;
const SERVICE = 8_000;
const TCP = 6;
const UDP = 17;

let place: NatLab;

before(async () => {
  place = await NatLab.start({ name: 'states', checksumOffload: 'on', ipv6: true });
});

after(() => place.stop());

/** A command line on the gateway's console. */
function command(...words: string[]): Promise<CommandResult> {
  const configFile = join(place.lab.directory, 'gatehouse/gatehouse.yaml');
  const argv = [gatehouse, '--config', configFile, 'states', ...words] as const;
  return place.host('gateway').run(argv, { timeoutMs: TIMEOUT_MS });
}

/** @returns what it printed */
async function states(...words: string[]): Promise<string> {
  const result = await command(...words);
  assert.equal(result.code, exitCodes.done, saidBy(result));
  return result.stdout;
}

/** Asked as the command line does, without the time that a new process takes. */
async function listed(filter: StateFilter = {}): Promise<readonly SessionSummary[]> {
  const answer = await place.ask({ kind: 'get-states', filter, limit: STATES_PER_ANSWER_MAX });
  assert.ok(answer.kind === 'states', JSON.stringify(answer));
  return answer.states;
}

/** `10.77.0.10 tcp`, sorted. */
async function found(filter: StateFilter = {}): Promise<string[]> {
  const sessions = await listed(filter);
  return sessions
    .map(({ initiator, protocol }) => `${initiator.address} ${protocolInWords(protocol)}`)
    .sort();
}

/** A TCP connection and a UDP flow of a host, both of which the server has answered. */
async function talk(host: 'alice' | 'bob', listener: TcpListener) {
  const timeoutMs = ARRIVAL_MS;
  const tcp = await TcpSocket.connected(place.host(host), { to: listener.local, timeoutMs });
  const { connection: tcpAtServer } = await listener.next(timeoutMs);
  const udp = place.udp(host);
  const udpAtServer = place.udp('server');
  const flow = { tcp, tcpAtServer, udp, udpAtServer };
  await exchangeTcp(flow);
  await exchangeUdp(flow);
  return {
    ...flow,
    [Symbol.dispose]: () => {
      for (const socket of [tcp, tcpAtServer, udp, udpAtServer]) socket.close();
    },
  };
}

type Flow = Omit<Awaited<ReturnType<typeof talk>>, typeof Symbol.dispose>;

/** Something there, the same back, and nothing lost of what came before. */
async function exchangeTcp({ tcp, tcpAtServer }: Flow): Promise<void> {
  const there = tcpAtServer.received().length;
  const back = tcp.received().length;
  tcp.write('request');
  await tcpAtServer.waitForBytes(there + 7, ARRIVAL_MS);
  tcpAtServer.write('answer');
  await tcp.waitForBytes(back + 6, ARRIVAL_MS);
}

async function exchangeUdp({ udp, udpAtServer }: Flow): Promise<void> {
  udp.send(udpAtServer.local, 'request');
  const { from } = await udpAtServer.nextDatagram(ARRIVAL_MS);
  udpAtServer.send(from, 'answer');
  assert.equal(`${(await udp.nextDatagram(ARRIVAL_MS)).payload}`, 'answer');
}

function listen(): TcpListener {
  return TcpListener.open(place.host('server'), { address: server, port: SERVICE });
}

test('sessions of two hosts are listed and picked by device, remote, port, protocol, state', async () => {
  await states('--kill', '--all');
  using listener = listen();
  using ofAlice = await talk('alice', listener);
  using ofBob = await talk('bob', listener);
  const all = [`${alice} tcp`, `${alice} udp`, `${bob} tcp`, `${bob} udp`];
  assert.deepEqual(await found(), all);
  const [aliceTcp] = await listed({ device: alice, protocol: TCP });
  const { port } = ofAlice.tcp.local;
  assert.deepEqual(
    [aliceTcp?.direction, aliceTcp?.state, aliceTcp?.initiator, aliceTcp?.responder],
    [
      ...['outbound', 'established'],
      { address: alice, port, external: { address: external, port } },
      { address: server, port: SERVICE },
    ],
  );
  // Seven and six bytes, with the headers of some segments.
  assert.ok((aliceTcp?.initiatorBytes ?? 0) > 3 * 40 + 7);
  assert.ok((aliceTcp?.responderBytes ?? 0) > 2 * 40 + 6);
  const json: unknown = JSON.parse(await states('--json', '--device', alice, '--protocol', 'tcp'));
  const { ageSeconds: _age, expiresInSeconds: _end, ...rest } = aliceTcp ?? assert.fail('none');
  assert.partialDeepStrictEqual(json, {
    states: [{ ...rest, protocolName: 'tcp' }],
    isWhole: true,
  });
  const text = await states('--device', bob, '--protocol', 'udp');
  const { port: bobPort } = ofBob.udp.local;
  const to = `${server}:${ofBob.udpAtServer.local.port}`;
  assert.match(text, RegExp(`^udp +${bob}:${bobPort} +${to} +\\d+ +answered +\\d+$`, 'm'));
  for (const [filter, expected] of [
    [{ device: bob }, all.slice(2)],
    [{ device: '10.77.0.0/24' }, all],
    [{ device: server }, []],
    [{ remote: server }, all],
    [{ remote: alice }, []],
    [{ port: SERVICE }, [all[0], all[2]]],
    [{ port, protocol: TCP }, [all[0]]],
    [{ protocol: UDP }, [all[1], all[3]]],
    [{ state: 'established' }, [all[0], all[2]]],
    [{ state: 'answered', device: alice }, [all[1]]],
  ] as const) {
    assert.deepEqual(await found(filter), expected, JSON.stringify(filter));
  }
});

test('the sessions of a device are ended: its TCP is reset, and the others go on', async () => {
  await states('--kill', '--all');
  using listener = listen();
  using ofAlice = await talk('alice', listener);
  using ofBob = await talk('bob', listener);
  assert.equal(await states('--kill', '--device', alice), '2 sessions were ended\n');
  assert.deepEqual(await found(), [`${bob} tcp`, `${bob} udp`]);
  ofAlice.tcp.write('still there?');
  assert.equal(await ofAlice.tcp.whenOver(ARRIVAL_MS), 'ECONNRESET');
  assert.equal(`${ofAlice.tcpAtServer.received()}`, 'request');
  await exchangeTcp(ofBob);
  await exchangeUdp(ofBob);
  assert.deepEqual(await found({ device: alice }), []);
  // What needs no handshake begins anew.
  await exchangeUdp(ofAlice);
  assert.deepEqual(await found({ device: alice }), [`${alice} udp`]);
});

test('a server that goes on in an ended connection reaches nobody', async () => {
  await states('--kill', '--all');
  using listener = listen();
  using ofAlice = await talk('alice', listener);
  const { port } = ofAlice.tcp.local;
  const words = ['--port', `${port}`, '--protocol', 'tcp', '--remote', server] as const;
  assert.equal(await states('--kill', ...words), 'one session was ended\n');
  ofAlice.tcpAtServer.write('anybody there?');
  await exchangeUdp(ofAlice);
  assert.deepEqual(await found(), [`${alice} udp`]);
  assert.equal(`${ofAlice.tcp.received()}`, 'answer');
});

test('nothing is ended where nothing was picked', async () => {
  await states('--kill', '--all');
  using listener = listen();
  using ofAlice = await talk('alice', listener);
  const refused = await command('--kill');
  assert.equal(refused.code, exitCodes.usage);
  assert.match(refused.stderr, /needs an option that picks sessions/);
  assert.equal(await states('--kill', '--device', bob), '0 sessions were ended\n');
  assert.equal((await listed()).length, 2);
  await exchangeTcp(ofAlice);
});

/** Of a host, answered by the server. */
async function talkByIpv6(host: 'alice' | 'bob'): Promise<UdpSocket> {
  using remote = place.udp6('server');
  const socket = place.udp6(host);
  await place.externalEndpoint(socket, remote);
  return socket;
}

test('sessions of IPv6 are listed, picked and ended by their addresses, after a restart, too', async () => {
  await states('--kill', '--all');
  using ofAlice = await talkByIpv6('alice');
  using ofBob = await talkByIpv6('bob');
  const all = [`${ipv6Addresses.alice} udp`, `${ipv6Addresses.bob} udp`];
  assert.deepEqual(await found(), all);
  await kill(place.core);
  await place.run();
  const [session] = await listed({ device: ipv6Addresses.alice });
  const { port } = ofAlice.local;
  assert.deepEqual(session?.initiator, { address: ipv6Addresses.alice, port });
  assert.deepEqual([session?.direction, session?.state], ['routed', 'answered']);
  for (const [filter, expected] of [
    [{ remote: ipv6Addresses.server }, all],
    [{ device: '2001:db8::/32' }, all],
    [{ device: ipv6Addresses.server }, []],
    [{ device: '10.77.0.0/24' }, []],
    [{ port: ofBob.local.port }, all.slice(1)],
  ] as const) {
    assert.deepEqual(await found(filter), expected, JSON.stringify(filter));
  }
  const text = await states('--device', ipv6Addresses.bob);
  assert.ok(text.includes(`[${ipv6Addresses.bob}]:${ofBob.local.port}`), text);
  assert.equal(await states('--kill', '--device', ipv6Addresses.bob), 'one session was ended\n');
  assert.deepEqual(await found(), all.slice(0, 1));
});
