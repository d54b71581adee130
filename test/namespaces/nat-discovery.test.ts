/** What others' programs find out about the NAT: coturn's client and server of RFC 5780. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { Endpoint } from '../../lab/lab-socket.ts';
import { saidBy, TIMEOUT_MS } from './gatehouse-lab.ts';
import { addresses, describeNat, type HostName, NatLab } from './nat-lab.ts';

const STUN_PORT = 3_478;
/** For natdiscovery's question, on a port that a neighbour uses as well. */
const SHARED_PORT = 40_000;

/** On two addresses and two ports, as RFC 5780 needs it. */
async function startStunServer(place: NatLab): Promise<void> {
  const file = (name: string) => join(place.lab.directory, name);
  const server = place
    .host('server')
    .spawn([
      ...(['turnserver', '-n', '--stun-only', '--no-tls', '--no-dtls', '--no-cli'] as const),
      ...['-L', addresses.server, '-L', addresses.serverToo, '-p', `${STUN_PORT}`, '-m', '1'],
      ...['--log-file', 'stdout', '--simple-log', '--pidfile', file('turnserver.pid')],
      ...['--userdb', file('turndb')],
    ]);
  await server.waitForOutput(/Total General servers: \d/, TIMEOUT_MS);
}

/** @param flag `-m`: mapping, `-f`: filtering, `-H`: hairpinning */
async function discover(
  place: NatLab,
  host: HostName,
  ...flags: readonly ['-m' | '-f' | '-H', ...string[]]
): Promise<string> {
  const argv = ['turnutils_natdiscovery', ...flags, addresses.server] as const;
  const result = await place.host(host).run(argv, { timeoutMs: TIMEOUT_MS });
  assert.ok(result.success, saidBy(result));
  return result.stdout;
}

/** As the STUN server sees whoever asks. */
function reflexive(said: string): Endpoint[] {
  const found = [...said.matchAll(/UDP reflexive addr: ([\d.]+):(\d+)/g)];
  return found.map(([, address = '', port]) => ({ address, port: Number(port) }));
}

async function occupySharedPort(place: NatLab): Promise<void> {
  using neighbour = place.udp('bob', SHARED_PORT);
  // An answer is not needed: that it has passed shows in the NAT's choice for the next.
  neighbour.send({ address: addresses.server, port: STUN_PORT }, 'not STUN');
}

function discoverMapping(place: NatLab): Promise<string> {
  const local = ['-L', addresses.alice, '-l', `${SHARED_PORT}`];
  return discover(place, 'alice', '-m', ...local);
}

describeNat({ name: 'natdiscovery' }, (place) => {
  before(() => startStunServer(place()));

  test('RFC 4787 REQ-1: natdiscovery finds endpoint-independent mapping, though a neighbour has the port', async () => {
    await occupySharedPort(place());
    const said = await discoverMapping(place());
    assert.match(said, /NAT with Endpoint Independent Mapping!/);
    const seen = reflexive(said);
    assert.equal(seen.length, 2);
    assert.deepEqual(seen[0], seen[1]);
    assert.equal(seen[0]?.address, addresses.external);
  });

  test('RFC 4787 REQ-2: all sockets of a host are seen at the same address', async () => {
    const lists = await Promise.all([1, 2, 3].map(() => discover(place(), 'alice', '-m')));
    const seen = lists.flatMap(reflexive).map(({ address }) => address);
    assert.deepEqual([...new Set(seen)], [addresses.external]);
  });

  test('RFC 4787 REQ-8: natdiscovery finds endpoint-independent filtering', async () => {
    const said = await discover(place(), 'alice', '-f');
    assert.match(said, /NAT with Endpoint Independent Filtering!/);
  });

  test('RFC 4787 REQ-8: natdiscovery finds address and port dependent filtering for guests', async () => {
    const said = await discover(place(), 'guest', '-f');
    assert.match(said, /NAT with Address and Port Dependent Filtering!/);
  });

  test('survive-62 RFC 4787 REQ-9: natdiscovery finds hairpinning', async () => {
    const said = await discover(place(), 'alice', '-H');
    assert.match(said, /successful hairpinning/);
    assert.doesNotMatch(said, /receive timeout/);
  });
});

/** That the tests above can fail. */
describe("with the kernel's own masquerading instead", () => {
  test('natdiscovery finds none of it', async () => {
    await using place = await NatLab.start({
      name: 'natmasquerade',
      checksumOffload: 'on',
      translator: 'masquerade',
    });
    await startStunServer(place);
    await occupySharedPort(place);
    const said = await Promise.all([
      discoverMapping(place),
      discover(place, 'alice', '-f'),
      discover(place, 'alice', '-H'),
    ]);
    assert.match(said[0], /NAT with Address( and Port)? Dependent Mapping!/);
    assert.match(said[1], /NAT with Address and Port Dependent Filtering!/);
    assert.match(said[2], /receive timeout/);
    assert.doesNotMatch(said[2], /successful hairpinning/);
  });
});
