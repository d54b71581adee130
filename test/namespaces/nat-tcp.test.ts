/** TCP between real kernels in unusual sequences, and with a forger beside it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RawSocket } from '../../lab/raw-socket.ts';
import { TcpListener, TcpSocket } from '../../lab/tcp-socket.ts';
import { tcpFrame } from '../../src/testing/packet-builder.ts';
import { assertConnected, openConnection } from './nat-connection.ts';
import { ARRIVAL_MS, addresses, describeNat } from './nat-lab.ts';

const FLAGS = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;
const ETHERNET_HEADER_BYTES = 14;
const HEADERS_BYTES = 40;
const HALF_OF_ALL_NUMBERS = 2 ** 31;
const ALL_NUMBERS = 2 ** 32;

// So slow that whatever both ends send at once meets on the way.
const impaired = { server: { delayMs: 30 } };

describeNat({ name: 'nattcp', impaired }, (place) => {
  test('survive-66 RFC 5382 REQ-2: both ends may open at once', async () => {
    const port = 40_200;
    const { mapped } = await openConnection(place(), { port, shared: true });
    const capture = await place().captureWan();
    const server = TcpSocket.open(place().host('server'), {
      address: addresses.server,
      port: 7_100,
    });
    const alice = TcpSocket.open(place().host('alice'), { port }, { shared: true });
    server.connect(mapped);
    alice.connect(server.local);
    await Promise.all([server.whenConnected(ARRIVAL_MS), alice.whenConnected(ARRIVAL_MS)]);
    await assertConnected(alice, server);
    const syns = await capture.packets(
      ['ip.src'],
      'tcp.port == 7100 && tcp.flags.syn == 1 && tcp.flags.ack == 0',
    );
    const sources = syns.map((packet) => packet['ip.src']);
    assert.deepEqual(new Set(sources), new Set([addresses.external, addresses.server]));
  });

  test('survive-66 a server that was asked too early opens by the SYN of the one that it asked', async () => {
    const server = TcpSocket.open(place().host('server'), {
      address: addresses.server,
      port: 7_101,
    });
    server.connect({ address: addresses.external, port: 40_201 });
    const alice = await TcpSocket.connected(place().host('alice'), {
      from: { port: 40_201 },
      to: server.local,
      timeoutMs: ARRIVAL_MS,
    });
    await server.whenConnected(ARRIVAL_MS);
    await assertConnected(alice, server);
  });

  test('a connection that one end has finished still carries what the other sends', async () => {
    const { inside, outside } = await openConnection(place());
    inside.finish();
    assert.equal(await outside.whenOver(ARRIVAL_MS), 'ended');
    for (let count = 1; count <= 20; count += 1) {
      outside.write('more');
      await inside.waitForBytes(4 * count, ARRIVAL_MS);
    }
    outside.finish();
    assert.equal(await inside.whenOver(ARRIVAL_MS), 'ended');
  });

  test('survive-67 forged segments out of the window change nothing', async () => {
    const { inside, outside, mapped } = await openConnection(place());
    const capture = await place().captureWan();
    await assertConnected(inside, outside);
    const [last] = (
      await capture.packets(
        ['tcp.seq_raw', 'tcp.len'],
        `ip.src == ${addresses.server} && tcp.len > 0`,
      )
    ).toReversed();
    const next = Number(last?.['tcp.seq_raw']) + Number(last?.['tcp.len']);
    using isp = RawSocket.open(place().host('isp'));
    for (const flags of [FLAGS.rst, FLAGS.rst | FLAGS.ack, FLAGS.syn, FLAGS.fin | FLAGS.ack]) {
      for (const distance of [1_000_000, HALF_OF_ALL_NUMBERS, ALL_NUMBERS - 1_000_000]) {
        const frame = tcpFrame({
          source: addresses.server,
          sourcePort: 7_000,
          destination: mapped.address,
          destinationPort: mapped.port,
          flags,
          sequence: (next + distance) % ALL_NUMBERS,
        });
        const end = ETHERNET_HEADER_BYTES + HEADERS_BYTES;
        isp.send(mapped.address, frame.subarray(ETHERNET_HEADER_BYTES, end));
      }
    }
    for (let count = 0; count < 3; count += 1) await assertConnected(inside, outside);
    outside.reset();
    assert.equal(await inside.whenOver(ARRIVAL_MS), 'ECONNRESET');
  });

  for (const [what, port, said] of [
    ['FTP', 21, 'PORT 10,77,0,10,200,10\r\n'],
    ['SIP', 5_060, sipRequest()],
    ['IRC', 6_667, 'PRIVMSG bob :\u0001DCC SEND file 172818442 51210 9\u0001\r\n'],
  ] as const) {
    test(`survive-88 RFC 5382 REQ-6: what looks like ${what} is neither changed nor believed`, async () => {
      using listener = TcpListener.open(place().host('alice'), {
        address: addresses.alice,
        port: 51_210,
      });
      const { inside, outside, mapped } = await openConnection(place(), { serverPort: port });
      inside.write(said);
      const received = await outside.waitForBytes(said.length, ARRIVAL_MS);
      assert.equal(received.toString('latin1'), said);
      const to = { address: mapped.address, port: 51_210 };
      using _connecting = TcpSocket.connecting(place().host('server'), { to });
      // Later, on the same way.
      await assertConnected(outside, inside);
      assert.equal(listener.take(), undefined);
    });
  }
});

function sipRequest(): string {
  return [
    'REGISTER sip:203.0.113.10 SIP/2.0',
    'Via: SIP/2.0/TCP 10.77.0.10:51210',
    'Contact: <sip:alice@10.77.0.10:51210;transport=tcp>',
    'Content-Length: 0',
    '\r\n',
  ].join('\r\n');
}
